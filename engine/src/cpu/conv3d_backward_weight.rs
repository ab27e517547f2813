//! Gradient of the tube convolution's weight: the blocked product of the gradient's channels with patches gathered straight from the video.
//!
//! `dweight[o, p] = Σ gradient[position, o] · patch[position, p]`: the positions are summed over, a chunk of them at a time, so that the panels
//! of gathered patches stay small whatever the batch.

use super::{
    Cpu, Shared,
    patches::Patches,
    product::{Product, Residual, Rows, panel_bytes, panel_width},
    simd::{Kernel, Simd},
    strided::Strided,
    with_float,
};
use crate::{Element, Result, Tensor, ops::conv3d_backward_weight::Conv3dBackwardWeight};

/// Positions of a chunk: two steps of the blocked product.
const CHUNK: usize = 768;
/// Positions that a task packs.
const TASK: usize = 32;

pub fn run(op: &Conv3dBackwardWeight, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(video) = inputs[0] else { return Ok(()) };
    with_float!("conv3d_backward_weight", outputs[0].dtype(), T => {
        if video.dtype() == outputs[0].dtype() {
            typed::<T, T>(op, inputs, &outputs[0], cpu)
        } else {
            typed::<u8, T>(op, inputs, &outputs[0], cpu)
        }
    })
}

fn typed<V: Element, T: Element>(op: &Conv3dBackwardWeight, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let [Some(video), Some(gradient)] = *inputs else { return Ok(()) };
    let g = gradient.shape();
    let tubes = [g[1], g[2], g[3]];
    let positions = g[0] * tubes.iter().product::<usize>();
    let (m, n) = (g[4] / op.conv.groups, out.elements() / g[4]);
    // Sums over chunks are f32 whatever the element type.
    let sums = cpu.memory.allocate(out.elements() * size_of::<f32>())?;
    let panels = cpu.memory.allocate(panel_bytes(cpu, n, CHUNK.min(positions)))?;
    // SAFETY: one f32 for each element of the result.
    unsafe { sums.ptr().cast::<f32>().write_bytes(0, out.elements()) };
    let rows = rows(gradient)?;
    for group in 0..op.conv.groups {
        let patches = Patches::<V>::new(&op.conv, video, group, op.kernel, tubes, cpu)?;
        // SAFETY: the group's rows of the sums.
        let to = Shared(unsafe { sums.ptr().cast::<f32>().add(group * m * n) });
        for first in (0..positions).step_by(CHUNK) {
            let count = CHUNK.min(positions - first);
            pack(&patches, first, count, n, Shared(panels.ptr().cast()), cpu)?;
            let channels = rows.narrow(0, first, count)?.narrow(1, group * m, m)?.transpose()?;
            let offset = |row: usize| row * n;
            Product {
                rows: &Strided::<T>::new(&channels, cpu)?,
                batch: 1,
                m,
                n,
                k: count,
                panels: Shared(panels.ptr().cast()),
                alpha: 1.0,
                function: None,
                bias: None,
                // Each element is read, once, before it is written.
                residual: Some(Residual { base: to, offset: &offset, step: 1 }),
                out: to,
                out_stride: n,
            }
            .run(cpu)?;
        }
    }
    write::<T>(sums.ptr().cast(), out, cpu)
}

/// A gradient `[B, T', H', W', O]` as `[positions, O]`.
pub(super) fn rows(gradient: &Tensor) -> Result<Tensor> {
    let g = gradient.shape();
    let shape = [g[..4].iter().product(), g[4]];
    gradient.reshape(&shape).or_else(|_| gradient.contiguous()?.reshape(&shape))
}

/// Rounds f32 sums into a result.
pub(super) fn write<T: Element>(sums: *const f32, out: &Tensor, cpu: &Cpu) -> Result<()> {
    const PIECE: usize = 64 * 1024;
    let (sums, base, n) = (Shared(sums.cast_mut()), Shared(cpu.ptr::<T>(out)?), out.elements());
    cpu.pool.for_each(n.div_ceil(PIECE), |piece| {
        for i in piece * PIECE..((piece + 1) * PIECE).min(n) {
            // SAFETY: the sums are as many as the result's elements, and each piece is its own.
            unsafe { base.get().add(i).write(T::from_f32(*sums.get().add(i))) };
        }
    });
    Ok(())
}

/// Patches `first..first + count` as the panels `[n/NR][count][NR]` of a product that sums over them.
fn pack<V: Element>(
    patches: &Patches<'_, V>,
    first: usize,
    count: usize,
    n: usize,
    panels: Shared<f32>,
    cpu: &Cpu,
) -> Result<()> {
    let width = panel_width(cpu);
    let padded = n.next_multiple_of(width);
    cpu.with_scratch(count.div_ceil(TASK), TASK * padded, |task, scratch| {
        let (low, scratch) = (task * TASK, scratch.ptr().cast::<f32>());
        let rows = TASK.min(count - low);
        // SAFETY: the scratch holds the task's rows; each task writes its own rows of every panel.
        unsafe {
            scratch.write_bytes(0, rows * padded);
            cpu.level.run(Gather { patches, first: first + low, rows, n, dst: scratch, stride: padded });
            for panel in 0..padded / width {
                let dst = panels.get().add((panel * count + low) * width);
                for row in 0..rows {
                    dst.add(row * width).copy_from_nonoverlapping(scratch.add(row * padded + panel * width), width);
                }
            }
        }
    })
}

/// Whole patches, one after the other.
struct Gather<'a, V> {
    patches: &'a Patches<'a, V>,
    first: usize,
    rows: usize,
    n: usize,
    dst: *mut f32,
    stride: usize,
}

impl<V: Element> Kernel for Gather<'_, V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: `dst` holds `rows` of `stride`.
        unsafe { self.patches.gather::<S>(self.first, self.rows, 0, self.n, self.dst, self.stride) };
    }
}
