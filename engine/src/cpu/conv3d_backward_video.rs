//! Gradient of the tube convolution's video: the gradient of each patch by the blocked product, then every voxel adds up what its patches hold.
//!
//! Patches are held a slab of time steps at a time. A row of voxels belongs to one task, which visits the patches over it in their order.

use super::{
    Cpu, Shared,
    conv3d_backward_weight::{rows, write},
    epilogue::Epilogue,
    panels::{self, Weight, pack_panels, panel_bytes},
    product::{Product, Rows},
    strided::Strided,
    with_float,
};
use crate::{Element, Result, Tensor, ops::conv3d_backward_video::Conv3dBackwardVideo};

/// f32 of a slab of patches, about: 16 MiB.
const SLAB: usize = 4 << 20;

pub fn run(op: &Conv3dBackwardVideo, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let out = &outputs[0];
    #[cfg(target_arch = "x86_64")]
    if panels::in_pairs(out.dtype(), cpu) {
        return typed(op, inputs, out, super::pairs::Pairs, cpu);
    }
    with_float!("conv3d_backward_video", out.dtype(), T => typed::<T, _>(op, inputs, out, |rows| rows, cpu))
}

/// `source` makes rows of a product from those of the gradient.
fn typed<T: Element, R: Rows>(
    op: &Conv3dBackwardVideo,
    inputs: &[Option<&Tensor>],
    out: &Tensor,
    source: impl Fn(Strided<T>) -> R,
    cpu: &Cpu,
) -> Result<()> {
    let [Some(gradient), Some(weight)] = *inputs else { return Ok(()) };
    let (g, w) = (gradient.shape(), weight.shape());
    let (weight, rows) = (weight.contiguous()?, rows(gradient)?);
    let (n, k) = (w[1..].iter().product::<usize>(), g[4] / op.conv.groups);
    let plane = g[2] * g[3];
    let steps = (SLAB / (plane * n).max(1)).clamp(1, g[1].max(1));
    let patches = cpu.memory.allocate((steps * plane * n).max(1) * size_of::<f32>())?;
    let sums = cpu.memory.allocate(out.elements() * size_of::<f32>())?;
    // SAFETY: one f32 for each element of the result.
    unsafe { sums.ptr().cast::<f32>().write_bytes(0, out.elements()) };
    let panels = cpu.memory.allocate(panel_bytes(cpu, n, panels::steps(T::DTYPE, k, cpu)))?;
    let offsets: Vec<usize> = (0..k).map(|o| o * n).collect();
    for group in 0..op.conv.groups {
        // SAFETY: the group's rows lie in the weight, and the panels in their buffer.
        unsafe {
            let base = Shared(cpu.ptr::<T>(&weight)?.add(group * k * n));
            pack_panels(cpu, &panels, 0, n, &Weight { base, stride: 1, offsets: &offsets });
        }
        for batch in 0..g[0] {
            for first in (0..g[1]).step_by(steps) {
                let count = steps.min(g[1] - first);
                let slab = rows.narrow(0, (batch * g[1] + first) * plane, count * plane)?.narrow(1, group * k, k)?;
                Product::<_, f32> {
                    rows: &source(Strided::new(&slab, cpu)?),
                    batch: 1,
                    m: count * plane,
                    n,
                    k: panels::steps(T::DTYPE, k, cpu),
                    panels: Shared(panels.ptr().cast()),
                    epilogue: Epilogue {
                        alpha: 1.0,
                        function: None,
                        bias: None,
                        residual: None,
                        out: Shared(patches.ptr().cast()),
                        stride: n,
                    },
                }
                .run(cpu)?;
                let slab = Slab {
                    op,
                    kernel: [w[1], w[2], w[3]],
                    channels: w[4],
                    tubes: [g[1], g[2], g[3]],
                    steps: (first, count),
                    patches: Shared(patches.ptr().cast()),
                };
                let video = Shared(sums.ptr().cast::<f32>());
                cpu.pool.for_each(op.size[0] * op.size[1], |row| {
                    // SAFETY: each task adds to its own row of voxels.
                    unsafe {
                        slab.fold(
                            row,
                            group,
                            video.get().add((batch * op.size[0] * op.size[1] + row) * op.size[2] * w[4] * op.conv.groups),
                        )
                    };
                });
            }
        }
    }
    write::<T>(sums.ptr().cast(), out, cpu)
}

/// Gradients of the patches of some time steps of one batch element.
struct Slab<'a> {
    op: &'a Conv3dBackwardVideo,
    kernel: [usize; 3],
    channels: usize,
    tubes: [usize; 3],
    /// The first step and their number.
    steps: (usize, usize),
    /// `[steps, H', W', kt, kh, kw, C]`
    patches: Shared<f32>,
}

impl Slab<'_> {
    /// The tubes along `axis` that reach position `at`, with the position in each.
    fn reaching(&self, axis: usize, at: usize) -> impl Iterator<Item = (usize, usize)> {
        let conv = &self.op.conv;
        let (stride, offset, size) = (conv.stride[axis], conv.offset[axis], self.kernel[axis]);
        let padded = at + conv.padding[axis];
        let last = padded.checked_sub(offset).map_or(0, |p| p / stride + 1).min(self.tubes[axis]);
        (0..last).rev().map(move |tube| (tube, padded - offset - tube * stride)).take_while(move |&(_, i)| i < size)
    }

    /// Adds what the patches over row `row` (time, then height) of voxels hold.
    ///
    /// # Safety
    /// `voxels` is the row, `[W, groups·C]`, and no other task's.
    unsafe fn fold(&self, row: usize, group: usize, voxels: *mut f32) {
        let [_, height, width] = self.op.size;
        let ([_, kh, kw], c, conv) = (self.kernel, self.channels, &self.op.conv);
        let scale = |channel: usize| conv.scale.get(group * c + channel).copied().unwrap_or(1.0);
        for (t, i) in self.reaching(0, row / height) {
            let Some(step) = t.checked_sub(self.steps.0).filter(|&step| step < self.steps.1) else { continue };
            for (h, j) in self.reaching(1, row % height) {
                for w in 0..self.tubes[2] {
                    let patch = (step * self.tubes[1] + h) * self.tubes[2] + w;
                    let run = ((patch * self.kernel[0] + i) * kh + j) * kw * c;
                    for k in 0..kw {
                        let column = (w * conv.stride[2] + conv.offset[2] + k).checked_sub(conv.padding[2]);
                        let Some(column) = column.filter(|&column| column < width) else { continue };
                        for channel in 0..c {
                            // SAFETY: the run lies in the slab, the column in the row.
                            unsafe {
                                let voxel = voxels.add((column * conv.groups + group) * c + channel);
                                *voxel += scale(channel) * *self.patches.get().add(run + k * c + channel);
                            }
                        }
                    }
                }
            }
        }
    }
}
