//! Gradients of the depthwise 3D convolution, channels last, a vector of channels at a time: that of the operand as a convolution with the
//! mirrored weight, that of the weight as sums over rows of columns, in blocks.

use super::{
    Cpu, Shared,
    columns::{ROWS, sum_blocks},
    layer_norm_backward::write_parameters,
    product::{load, store},
    simd::{Kernel, Simd},
};
use crate::{DType, Element, Result, Tensor, ops::conv3d_depthwise_backward::Conv3dDepthwiseBackward, with_element};

/// Columns of `dx` whose sums are in registers together.
const COLUMNS: usize = 7;

pub fn run(op: &Conv3dDepthwiseBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_element!(outputs[0].dtype(), T => typed::<T>(op, inputs, outputs, cpu))
}

fn typed<T: Element>(op: &Conv3dDepthwiseBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), Some(weight), Some(gradient)] = *inputs else { return Ok(()) };
    let weight = weight.cast(DType::F32)?.contiguous()?;
    let grid = |x: &Tensor| -> Result<Grid<T>> {
        Ok(Grid {
            base: Shared(cpu.ptr::<T>(x)?),
            size: std::array::from_fn(|d| x.shape()[d]),
            strides: std::array::from_fn(|d| x.layout().strides()[d]),
        })
    };
    let plan = Plan {
        padding: op.padding,
        x: grid(x)?,
        gradient: grid(gradient)?,
        kernel: std::array::from_fn(|d| weight.shape()[d]),
        weight: Shared(cpu.ptr::<f32>(&weight)?),
        dx: Shared(cpu.ptr::<T>(&outputs[0])?),
    };
    let rows = |grid: &Grid<T>| grid.size[..3].iter().product::<usize>();
    if outputs[0].elements() > 0 {
        cpu.pool.for_each(rows(&plan.x), |row| cpu.level.run(Operand { plan: &plan, index: plan.x.index(row) }));
    }
    let sums = sum_blocks(cpu, rows(&plan.gradient), weight.elements(), 0, |block, sums, _| {
        for row in block * ROWS..((block + 1) * ROWS).min(rows(&plan.gradient)) {
            cpu.level.run(Weight { plan: &plan, index: plan.gradient.index(row), sums });
        }
    })?;
    write_parameters::<T>(&sums, weight.elements(), &outputs[1..], cpu)
}

/// A tensor `[B, T, H, W, C]`.
struct Grid<T> {
    base: Shared<T>,
    size: [usize; 5],
    strides: [usize; 5],
}

impl<T> Grid<T> {
    /// Row `i` as `[b, t, h]`.
    fn index(&self, i: usize) -> [usize; 3] {
        let [_, t, h, ..] = self.size;
        [i / (t * h), i / h % t, i % h]
    }

    /// The first element of a row, at channel `c`.
    ///
    /// # Safety
    /// It lies in the tensor.
    #[inline(always)]
    unsafe fn row(&self, [b, t, h]: [usize; 3], c: usize) -> *const T {
        let s = &self.strides;
        // SAFETY: passed on from the caller.
        unsafe { self.base.get().add(b * s[0] + t * s[1] + h * s[2] + c * s[4]) }
    }
}

struct Plan<T> {
    padding: [usize; 3],
    x: Grid<T>,
    gradient: Grid<T>,
    kernel: [usize; 3],
    /// `[kt, kh, kw, C]`
    weight: Shared<f32>,
    dx: Shared<T>,
}

/// One row of `dx`: `[W, C]` at batch element, time and height.
struct Operand<'a, T> {
    plan: &'a Plan<T>,
    index: [usize; 3],
}

impl<T: Element> Kernel for Operand<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let [.., width, channels] = self.plan.x.size;
        for c in (0..channels).step_by(S::LANES) {
            for w in (0..width).step_by(COLUMNS) {
                // SAFETY: all indices lie in their layouts; a task writes its own row.
                unsafe { self.columns::<S>(c, S::LANES.min(channels - c), w, COLUMNS.min(width - w)) };
            }
        }
    }
}

impl<T: Element> Operand<'_, T> {
    /// Columns `w..w + count` of channels `c..c + lanes`.
    ///
    /// # Safety
    /// They lie in the operand.
    #[inline(always)]
    unsafe fn columns<S: Simd>(&self, c: usize, lanes: usize, w: usize, count: usize) {
        let p = self.plan;
        let ([b, t, h], [kt, kh, kw], [_, nt, nh, nw, _]) = (self.index, p.kernel, p.gradient.size);
        // SAFETY: taps outside the gradient are skipped; the rest is the caller's word.
        unsafe {
            let mut sums = [S::splat(0.0); COLUMNS];
            for i in 0..kt {
                let Some(t) = (t + p.padding[0]).checked_sub(i).filter(|&t| t < nt) else { continue };
                for j in 0..kh {
                    let Some(h) = (h + p.padding[1]).checked_sub(j).filter(|&h| h < nh) else { continue };
                    let row = p.gradient.row([b, t, h], c);
                    for k in 0..kw {
                        let at = ((i * kh + j) * kw + k) * p.x.size[4] + c;
                        let weight = load::<S, f32>(p.weight.get().add(at), 1, lanes);
                        for (column, sum) in sums.iter_mut().enumerate().take(count) {
                            let Some(at) = (w + column + p.padding[2]).checked_sub(k).filter(|&at| at < nw) else { continue };
                            let g = load::<S, T>(row.add(at * p.gradient.strides[3]), p.gradient.strides[4], lanes);
                            *sum = S::fma(g, weight, *sum);
                        }
                    }
                }
            }
            let [_, nt, nh, nw, channels] = p.x.size;
            for (column, &sum) in sums.iter().enumerate().take(count) {
                let at = (((b * nt + t) * nh + h) * nw + w + column) * channels + c;
                store::<S, T>(p.dx.get().add(at), sum, lanes);
            }
        }
    }
}

/// What one row of the gradient adds to `dweight`.
struct Weight<'a, T> {
    plan: &'a Plan<T>,
    index: [usize; 3],
    /// `[kt, kh, kw, C]`
    sums: *mut f32,
}

impl<T: Element> Kernel for Weight<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.plan;
        let ([b, t, h], [kt, kh, kw]) = (self.index, p.kernel);
        let [_, nt, nh, nw, channels] = p.x.size;
        for c in (0..channels).step_by(S::LANES) {
            let lanes = S::LANES.min(channels - c);
            // SAFETY: all indices lie in their layouts; the sums are this block's.
            unsafe {
                let gradient = p.gradient.row(self.index, c);
                for i in 0..kt {
                    let Some(t) = (t + i).checked_sub(p.padding[0]).filter(|&t| t < nt) else { continue };
                    for j in 0..kh {
                        let Some(h) = (h + j).checked_sub(p.padding[1]).filter(|&h| h < nh) else { continue };
                        let x = p.x.row([b, t, h], c);
                        for k in 0..kw {
                            // Columns w of the gradient that read column w + k − p₂ of the operand.
                            let low = p.padding[2].saturating_sub(k);
                            let high = (nw + p.padding[2]).saturating_sub(k).min(p.gradient.size[3]);
                            let mut sum = S::splat(0.0);
                            for w in low..high {
                                let g = load::<S, T>(gradient.add(w * p.gradient.strides[3]), p.gradient.strides[4], lanes);
                                let x = load::<S, T>(x.add((w + k - p.padding[2]) * p.x.strides[3]), p.x.strides[4], lanes);
                                sum = S::fma(g, x, sum);
                            }
                            let to = self.sums.add(((i * kh + j) * kw + k) * channels + c);
                            store::<S, f32>(to, S::add(load::<S, f32>(to, 1, lanes), sum), lanes);
                        }
                    }
                }
            }
        }
    }
}
