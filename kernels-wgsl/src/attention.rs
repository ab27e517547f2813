//! Softmax attention along one axis of a grid of tokens.

use tubelet_engine::{Result, Tensor, ops::attention::Attention};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

/// A grid `[B, X, Y, …]` as `[B, O, L, …]`: the axis that is attended along comes after the other one.
pub(crate) fn along(axis: usize, x: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..x.rank()).collect();
    order[1..3].copy_from_slice(&[3 - axis, axis]);
    x.detach().permute(&order)
}

/// How far apart the rows (all but the last dimension) of a contiguous `[B, X, Y, heads, D]` are, in the order of [`along`].
pub(crate) fn rows(axis: usize, x: &Tensor) -> [usize; 4] {
    let s = x.shape();
    let along_y = [s[1] * s[2] * s[3], s[2] * s[3], s[3], 1];
    [along_y[0], along_y[3 - axis], along_y[axis], 1]
}

/// The sizes of a grid in the order of [`along`] as the kernels know them: how many workgroups' worth of heads, too.
pub(crate) fn sizes<'a>(kernel: Kernel<'a>, q: &Tensor, k: &Tensor, v: &Tensor) -> Kernel<'a> {
    kernel
        .size("others", q.shape()[1])
        .size("queries", q.shape()[2])
        .size("keys", k.shape()[2])
        .size("heads", q.shape()[3])
        .size("width", q.shape()[4])
        .size("value_width", v.shape()[4])
}

/// Numbers of channels that an invocation owns, and the room for all of them.
pub(crate) fn owned(width: usize, lanes: u32) -> u32 {
    (width as u32).div_ceil(lanes).max(1)
}

pub fn run(op: &Attention, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let [q, k, v] =
        [along(op.axis, operand(inputs, 0)?)?, along(op.axis, operand(inputs, 1)?)?, along(op.axis, operand(inputs, 2)?)?];
    let (width, value_width, queries) = (q.shape()[4], v.shape()[4], q.shape()[2]);
    let tiled = width <= TILED_WIDTH && value_width <= TILED_WIDTH && queries >= TILED_QUERIES / 2;
    let (lanes, source) = match tiled {
        true => (64, include_str!("attention_tiled.wgsl")),
        false => (gpu.row_lanes(), include_str!("attention.wgsl")),
    };
    let kernel = Kernel::new(if tiled { "attention_tiled" } else { "attention" }, source)
        .lanes(lanes)
        .strided("q", &q)
        .strided("k", &k)
        .strided("v", &v)
        .write("y", &outputs[0])
        .write_optional("lse", outputs.get(1))
        .sizes("out", &rows(op.axis, &outputs[0]))
        .number("scale", op.scale);
    let kernel = sizes(kernel, &q, &k, &v);
    let sequences = count(&[q.shape()[0], q.shape()[1], q.shape()[3]]);
    if tiled {
        let width = width.next_multiple_of(16).max(16) as u32;
        kernel.constant("WIDTH", width).launch(sequences * queries.div_ceil(TILED_QUERIES), gpu)
    } else {
        let (width, own) = (owned(width, lanes) * lanes, owned(value_width, lanes));
        kernel.constant("WIDTH", width).constant("OWN", own).launch(sequences * queries, gpu)
    }
}

/// As in `attention_tiled.wgsl`.
const TILED_QUERIES: usize = 16;
const TILED_WIDTH: usize = 64;
