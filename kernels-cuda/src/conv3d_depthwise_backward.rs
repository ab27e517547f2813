//! Gradients of the depthwise 3D convolution; see `conv3d_depthwise_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::conv3d_depthwise_backward::Conv3dDepthwiseBackward};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    conv3d_depthwise::{Direction, correlate},
    divisor::Divisor,
    product::stride,
};

module!("conv3d_depthwise_backward");

parameters!(Parameters {
    x: u64,
    gradient: u64,
    partial: u64,
    dweight: u64,
    stride: [i64; 5],
    gradient_stride: [i64; 5],
    kernel: [Divisor; 3],
    result: [Divisor; 2],
    size: [u32; 3],
    start: [i32; 3],
    width: u32,
    rows: u32,
    channels: u32,
    segments: u32,
    groups: u32,
    taps: u32,
    unused: u32,
});

/// Blocks that keep a large GPU busy.
const BUSY: usize = 512;
/// Rows that a block sums at once.
const ROWS: usize = 8;

pub(crate) fn run(
    cuda: &CudaBackend,
    op: &Conv3dDepthwiseBackward,
    inputs: &[Option<&Tensor>],
    outputs: &[Tensor],
) -> Result<()> {
    let name = "conv3d_depthwise_backward";
    let (x, weight, gradient) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, operand(name, inputs, 2)?);
    let (dx, dweight) = (result(name, outputs, 0)?, result(name, outputs, 1)?);
    let (mut start, mut back) = ([0; 3], [0; 3]);
    for axis in 0..3 {
        start[axis] = -(cuda.count(name, op.padding[axis])? as i32);
        // Tap k of the flipped weight reaches from `dx` what tap K - 1 - k reached from `y`.
        back[axis] = -start[axis] + 1 - cuda.count(name, weight.shape()[axis])? as i32;
    }
    if dx.elements() != 0 {
        correlate(cuda, &Direction { start: back, flipped: true }, [gradient, weight], [None, None], dx)?;
    }
    if dweight.elements() == 0 { Ok(()) } else { weight_gradient(cuda, start, x, gradient, dweight) }
}

fn weight_gradient(cuda: &CudaBackend, start: [i32; 3], x: &Tensor, gradient: &Tensor, dweight: &Tensor) -> Result<()> {
    let name = "conv3d_depthwise_backward";
    let dtype = cuda.float(name, x.dtype())?;
    let (g, w) = (gradient.shape(), dweight.shape());
    let (rows, channels, taps) = (g[..3].iter().product::<usize>(), w[3], w[..3].iter().product::<usize>());
    let (suffix, at_once) = match w[..3] {
        [3, 3, 3] => ("_3", taps),
        [3, 1, 1] => ("_1", taps),
        _ => ("", 1),
    };
    let (groups, parts) = (channels.div_ceil(32), taps / at_once);
    let segments = (BUSY / (groups * parts)).clamp(1, rows.div_ceil(ROWS).max(1));
    let partial = cuda.scratch(segments * dweight.elements() * 4)?;
    let divisor = |n: usize| Divisor::new(cuda, name, n);
    let small = |n: usize| cuda.count(name, n);
    let count = small(dweight.elements())?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        gradient: cuda.address(gradient)?,
        partial: partial.address,
        dweight: cuda.address(dweight)?,
        stride: [0, 1, 2, 3, 4].map(|d| stride(x, d) as i64),
        gradient_stride: [0, 1, 2, 3, 4].map(|d| stride(gradient, d) as i64),
        kernel: [divisor(w[0])?, divisor(w[1])?, divisor(w[2])?],
        result: [divisor(g[1])?, divisor(g[2])?],
        size: [small(x.shape()[1])?, small(x.shape()[2])?, small(x.shape()[3])?],
        start,
        width: small(g[3])?,
        rows: small(rows)?,
        channels: small(channels)?,
        segments: small(segments)?,
        groups: small(groups)?,
        taps: small(taps)?,
        unused: 0,
    };
    let blocks = groups * segments * parts;
    cuda.launch(&MODULE, &format!("conv3d_depthwise_backward_{dtype}{suffix}"), blocks, THREADS, &parameters)?;
    cuda.launch_each(&MODULE, &format!("conv3d_depthwise_backward_finish_{dtype}"), count, &parameters)
}
