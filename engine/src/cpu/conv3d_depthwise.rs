//! Depthwise 3D convolution, channels last: a vector of channels at a time, several columns at once, so that a weight is loaded once for
//! all of them and the loads of neighbouring taps hit L1.

use super::{
    Cpu, Shared,
    product::{load, store},
    simd::{Kernel, Simd},
};
use crate::{DType, Element, Result, Tensor, ops::conv3d_depthwise::Conv3dDepthwise, with_element};

/// Columns whose sums are in registers together.
const COLUMNS: usize = 7;

pub fn run(op: &Conv3dDepthwise, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_element!(outputs[0].dtype(), T => typed::<T>(op, inputs, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Conv3dDepthwise, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let [Some(x), Some(weight), ..] = *inputs else { return Ok(()) };
    let operand = |i: usize| inputs.get(i).copied().flatten();
    let weight = weight.cast(DType::F32)?.contiguous()?;
    let bias = operand(2).map(|bias| bias.cast(DType::F32)?.contiguous()).transpose()?;
    let residual = operand(3);
    let dims = |x: &Tensor| -> [usize; 5] { std::array::from_fn(|d| x.shape()[d]) };
    let strides = |x: &Tensor| -> [usize; 5] { std::array::from_fn(|d| x.layout().strides()[d]) };
    let plan = Plan {
        padding: op.padding,
        x: Shared(cpu.ptr::<T>(x)?),
        size: dims(x),
        strides: strides(x),
        kernel: std::array::from_fn(|d| weight.shape()[d]),
        weight: Shared(cpu.ptr::<f32>(&weight)?),
        bias: bias.as_ref().map(|bias| cpu.ptr::<f32>(bias).map(Shared)).transpose()?,
        residual: residual.map(|r| Ok((Shared(cpu.ptr::<T>(r)?), strides(r)))).transpose()?,
        out: Shared(cpu.ptr::<T>(out)?),
        out_size: dims(out),
    };
    let [b, t, h, ..] = plan.out_size;
    cpu.pool.for_each(b * t * h, |row| cpu.level.run(Row { plan: &plan, index: [row / (t * h), row / h % t, row % h] }));
    Ok(())
}

struct Plan<T> {
    padding: [usize; 3],
    x: Shared<T>,
    size: [usize; 5],
    strides: [usize; 5],
    kernel: [usize; 3],
    /// `[kt, kh, kw, C]`
    weight: Shared<f32>,
    bias: Option<Shared<f32>>,
    residual: Option<(Shared<T>, [usize; 5])>,
    out: Shared<T>,
    out_size: [usize; 5],
}

/// One row of output columns: `[W', C]` at batch element, time and height.
struct Row<'a, T> {
    plan: &'a Plan<T>,
    index: [usize; 3],
}

impl<T: Element> Kernel for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.plan;
        for c in (0..p.size[4]).step_by(S::LANES) {
            let lanes = S::LANES.min(p.size[4] - c);
            for w in (0..p.out_size[3]).step_by(COLUMNS) {
                // SAFETY: all indices lie in their layouts; a task writes its own row.
                unsafe { self.columns::<S>(c, lanes, w, COLUMNS.min(p.out_size[3] - w)) };
            }
        }
    }
}

impl<T: Element> Row<'_, T> {
    /// Columns `w..w + count` of channels `c..c + lanes`.
    ///
    /// # Safety
    /// They lie in the output.
    #[inline(always)]
    unsafe fn columns<S: Simd>(&self, c: usize, lanes: usize, w: usize, count: usize) {
        let p = self.plan;
        let ([b, t, h], [kt, kh, kw]) = (self.index, p.kernel);
        // SAFETY: taps outside the input are skipped; the rest is the caller's word.
        unsafe {
            let vector = |at: Shared<f32>, i: usize| load::<S, f32>(at.get().add(i), 1, lanes);
            let mut sums = [p.bias.map_or(S::splat(0.0), |bias| vector(bias, c)); COLUMNS];
            for i in 0..kt {
                let Some(ti) = (t + i).checked_sub(p.padding[0]).filter(|&t| t < p.size[1]) else { continue };
                for j in 0..kh {
                    let Some(hj) = (h + j).checked_sub(p.padding[1]).filter(|&h| h < p.size[2]) else { continue };
                    let row = p.x.get().add(b * p.strides[0] + ti * p.strides[1] + hj * p.strides[2] + c * p.strides[4]);
                    for k in 0..kw {
                        let weight = vector(p.weight, ((i * kh + j) * kw + k) * p.size[4] + c);
                        for (column, sum) in sums.iter_mut().enumerate().take(count) {
                            let at = w + column + k;
                            if at >= p.padding[2] && at - p.padding[2] < p.size[3] {
                                let x = load::<S, T>(row.add((at - p.padding[2]) * p.strides[3]), p.strides[4], lanes);
                                *sum = S::fma(x, weight, *sum);
                            }
                        }
                    }
                }
            }
            let [_, nt, nh, nw, channels] = p.out_size;
            for (column, &sum) in sums.iter().enumerate().take(count) {
                let mut y = sum;
                if let Some((residual, s)) = p.residual {
                    let at = b * s[0] + t * s[1] + h * s[2] + (w + column) * s[3] + c * s[4];
                    y = S::add(y, load::<S, T>(residual.get().add(at), s[4], lanes));
                }
                let at = (((b * nt + t) * nh + h) * nw + w + column) * channels + c;
                store::<S, T>(p.out.get().add(at), y, lanes);
            }
        }
    }
}
