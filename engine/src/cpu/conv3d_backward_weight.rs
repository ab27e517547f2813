//! Gradient of the tube convolution's weight: the blocked product of the gradient's channels with patches gathered straight from the video.
//!
//! `dweight[o, p] = Σ gradient[position, o] · patch[position, p]`: the positions are summed over, a chunk of them at a time, so that the panels
//! of gathered patches stay small whatever the batch.

#[cfg(target_arch = "x86_64")]
use super::transpose::{SIDE, interleave};
use super::{
    Cpu, Shared,
    epilogue::{Epilogue, Residual},
    panels::{panel_bytes, steps},
    patches::Patches,
    product::{Product, Rows, panel_width},
    simd::{Kernel, Simd},
    strided::Strided,
    with_float,
};
use crate::{DType, Element, Result, Tensor, ops::conv3d_backward_weight::Conv3dBackwardWeight};

/// Positions of a chunk: two steps of the blocked product.
const CHUNK: usize = 768;
/// Positions that a task packs: even, for pairs of them are words.
const TASK: usize = 32;

pub fn run(op: &Conv3dBackwardWeight, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(video) = inputs[0] else { return Ok(()) };
    let (out, bytes) = (&outputs[0], video.dtype() == DType::U8);
    #[cfg(target_arch = "x86_64")]
    if super::panels::in_pairs(out.dtype(), cpu) {
        use half::bf16;
        return if bytes {
            typed::<u8, bf16, bf16, _>(op, inputs, out, super::pairs::Pairs, cpu)
        } else {
            typed::<bf16, bf16, bf16, _>(op, inputs, out, super::pairs::Pairs, cpu)
        };
    }
    with_float!("conv3d_backward_weight", out.dtype(), T => {
        if bytes {
            typed::<u8, T, f32, _>(op, inputs, out, |rows| rows, cpu)
        } else {
            typed::<T, T, f32, _>(op, inputs, out, |rows| rows, cpu)
        }
    })
}

/// Patches of a video of `V` are packed as `D`; `source` makes rows of a product from those of the gradient.
fn typed<V: Element, T: Element, D: Element, R: Rows>(
    op: &Conv3dBackwardWeight,
    inputs: &[Option<&Tensor>],
    out: &Tensor,
    source: impl Fn(Strided<T>) -> R,
    cpu: &Cpu,
) -> Result<()> {
    let [Some(video), Some(gradient)] = *inputs else { return Ok(()) };
    let g = gradient.shape();
    let tubes = [g[1], g[2], g[3]];
    let positions = g[0] * tubes.iter().product::<usize>();
    let (m, n) = (g[4] / op.conv.groups, out.elements() / g[4]);
    let panels = cpu.memory.allocate(panel_bytes(cpu, n, steps(T::DTYPE, CHUNK.min(positions), cpu)))?;
    let rows = rows(gradient)?;
    // No position is a chunk, too: of zeros.
    let chunks = || (0..positions.max(1)).step_by(CHUNK).map(|first| (first, CHUNK.min(positions - first)));
    // Of a single chunk the sums are the result; over several they are f32 whatever the element type.
    let direct = T::DTYPE == DType::F32 || positions <= CHUNK;
    let sums = if direct { None } else { Some(cpu.memory.allocate(out.elements() * size_of::<f32>())?) };
    for group in 0..op.conv.groups {
        let patches = Patches::<V>::new(&op.conv, video, group, op.kernel, tubes, cpu)?;
        for (first, count) in chunks() {
            pack::<V, D>(&patches, first, count, n, Shared(panels.ptr().cast()), cpu)?;
            let channels = rows.narrow(0, first, count)?.narrow(1, group * m, m)?.transpose()?;
            let source = source(Strided::new(&channels, cpu)?);
            let chunk =
                Chunk { source: &source, size: [m, n, steps(T::DTYPE, count, cpu)], panels: Shared(panels.ptr().cast()), first };
            let to = group * m * n;
            // SAFETY: the group's rows of the result, or of the sums.
            unsafe {
                match &sums {
                    None => chunk.add_to(cpu.ptr::<T>(out)?.add(to), cpu)?,
                    Some(sums) => chunk.add_to(sums.ptr().cast::<f32>().add(to), cpu)?,
                }
            }
        }
    }
    sums.map_or(Ok(()), |sums| write::<T>(sums.ptr().cast(), out, cpu))
}

/// The product of a chunk of positions.
struct Chunk<'a, R> {
    source: &'a R,
    /// Channels, elements of a patch, and steps along the positions.
    size: [usize; 3],
    panels: Shared<f32>,
    /// Its first position.
    first: usize,
}

impl<R: Rows> Chunk<'_, R> {
    /// Adds the product to what the chunks before it have made of `[m, n]`; the first writes it.
    ///
    /// # Safety
    /// `to` is valid for them.
    unsafe fn add_to<T: Element>(&self, to: *mut T, cpu: &Cpu) -> Result<()> {
        let ([m, n, k], to) = (self.size, Shared(to));
        let offset = |row: usize| row * n;
        // Each element is read, once, before it is written.
        let residual = (self.first > 0).then_some(Residual { base: to, offset: &offset, step: 1 });
        let epilogue = Epilogue { alpha: 1.0, function: None, bias: None, residual, out: to, stride: n };
        Product { rows: self.source, batch: 1, m, n, k, panels: self.panels, epilogue }.run(cpu)
    }
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

/// Patches `first..first + count` as the panels of a product that sums over them: `[n/NR][count][NR]` of f32, or words of the bf16 of two patches.
fn pack<V: Element, D: Element>(
    patches: &Patches<'_, V>,
    first: usize,
    count: usize,
    n: usize,
    panels: Shared<f32>,
    cpu: &Cpu,
) -> Result<()> {
    let width = panel_width(cpu);
    let padded = n.next_multiple_of(width);
    let steps = steps(D::DTYPE, count, cpu);
    // The last task also writes the steps that fill up a tile.
    cpu.with_scratch(count.div_ceil(TASK), TASK * padded, |task, scratch| {
        let (low, rows) = (task * TASK, TASK.min(count - task * TASK));
        let last = low + rows == count;
        let (dst, panels) = (scratch.ptr().cast::<D>(), panels.get());
        cpu.level.run(Gather { patches, first, low, rows, last, n, scratch: dst, stride: padded, panels, steps });
    })
}

/// Whole patches, one after the other, and then side by side.
struct Gather<'a, V, D> {
    patches: &'a Patches<'a, V>,
    first: usize,
    /// Of the patches from `first` on, and how many.
    low: usize,
    rows: usize,
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "of pairs alone"))]
    last: bool,
    n: usize,
    /// `[rows][stride]`
    scratch: *mut D,
    stride: usize,
    panels: *mut f32,
    steps: usize,
}

impl<V: Element, D: Element> Kernel for Gather<'_, V, D> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let width = 2 * S::LANES;
        // SAFETY: the scratch holds `rows` of `stride`; each task writes its own steps of every panel.
        unsafe {
            self.scratch.write_bytes(0, self.rows * self.stride);
            self.patches.gather_as((self.first + self.low, self.rows), (0, self.n), (self.scratch, self.stride));
            for panel in 0..self.stride / width {
                let (src, dst) = (self.scratch.add(panel * width), self.panels.add(panel * self.steps * width));
                #[cfg(target_arch = "x86_64")]
                if D::DTYPE == DType::BF16 {
                    let steps = if self.last { self.steps } else { (self.low + self.rows) / 2 };
                    for step in self.low / 2..steps {
                        let row = |i: usize| (i < self.rows).then(|| src.add(i * self.stride).cast::<u16>().cast_const());
                        let (dst, i) = (dst.add(step * width), 2 * step - self.low);
                        let Some(even) = row(i) else {
                            dst.write_bytes(0, width);
                            continue;
                        };
                        for j in (0..width).step_by(SIDE) {
                            interleave(even.add(j), row(i + 1).map(|odd| odd.add(j)), SIDE, dst.add(j));
                        }
                    }
                    continue;
                }
                for row in 0..self.rows {
                    let (src, dst) = (src.add(row * self.stride).cast::<f32>(), dst.add((self.low + row) * width));
                    dst.copy_from_nonoverlapping(src, width);
                }
            }
        }
    }
}
