//! Gradients of the depthwise 3D convolution, channels last, a vector of channels at a time: that of the operand by the convolution's own
//! kernel with the mirrored weight, that of the weight as sums over rows of columns, in blocks.

use super::{
    Cpu, Shared,
    columns::{ROWS, sum_blocks},
    conv3d_depthwise,
    convert::{load, store},
    layer_norm_backward::write_parameters,
    simd::{Kernel, Simd},
    with_float,
};
use crate::{
    DType, Element, Result, Tensor,
    ops::{conv3d_depthwise::Conv3dDepthwise, conv3d_depthwise_backward::Conv3dDepthwiseBackward},
};

pub fn run(op: &Conv3dDepthwiseBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("conv3d_depthwise_backward", outputs[0].dtype(), T => typed::<T>(op, inputs, outputs, cpu))
}

fn typed<T: Element>(op: &Conv3dDepthwiseBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), Some(weight), Some(gradient)] = *inputs else { return Ok(()) };
    let weight = weight.cast(DType::F32)?.contiguous()?;
    let kernel: [usize; 3] = std::array::from_fn(|d| weight.shape()[d]);
    if outputs[0].elements() > 0 {
        operand::<T>(op.padding, kernel, &weight, gradient, &outputs[0], cpu)?;
    }
    let grid = |x: &Tensor| -> Result<Grid<T>> {
        Ok(Grid {
            base: Shared(cpu.ptr::<T>(x)?),
            size: std::array::from_fn(|d| x.shape()[d]),
            strides: std::array::from_fn(|d| x.layout().strides()[d]),
        })
    };
    let plan = Plan { padding: op.padding, x: grid(x)?, gradient: grid(gradient)?, kernel };
    let rows = plan.gradient.size[..3].iter().product::<usize>();
    let sums = sum_blocks(cpu, rows, weight.elements(), 0, |block, sums, _| {
        for row in block * ROWS..((block + 1) * ROWS).min(rows) {
            cpu.level.run(Weight { plan: &plan, index: plan.gradient.index(row), sums });
        }
    })?;
    write_parameters::<T>(&sums, weight.elements(), &outputs[1..], cpu)
}

/// `dx[t] = Σᵢ weight[i]·gradient[t + p − i]`: the convolution of the gradient with the mirrored weight and `k − 1 − p` zeros on each side, or,
/// where that is negative, of the gradient without what lies outside the operand.
fn operand<T: Element>(
    padding: [usize; 3],
    kernel: [usize; 3],
    weight: &Tensor,
    gradient: &Tensor,
    dx: &Tensor,
    cpu: &Cpu,
) -> Result<()> {
    let taps: usize = kernel.iter().product();
    let values = weight.to_f32_vec()?;
    // Reversed taps are the mirror image along all three axes at once.
    let rows = values.chunks(values.len() / taps).rev();
    let mirrored = Tensor::from_slice(weight.device(), weight.shape(), &rows.flatten().copied().collect::<Vec<f32>>())?;
    let mut gradient = gradient.clone();
    for axis in 0..3 {
        let outside = (padding[axis] + 1).saturating_sub(kernel[axis]);
        gradient = gradient.narrow(1 + axis, outside, gradient.shape()[1 + axis] - 2 * outside)?;
    }
    let op = Conv3dDepthwise { padding: std::array::from_fn(|axis| (kernel[axis] - 1).saturating_sub(padding[axis])) };
    conv3d_depthwise::typed::<T>(&op, &[Some(&gradient), Some(&mirrored)], dx, cpu)
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
        let [_, nt, nh, _, channels] = p.x.size;
        let steps = [p.gradient.strides[4], p.x.strides[4]];
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
                        let sums = self.sums.add((i * kh + j) * kw * channels + c);
                        let at = [gradient, x];
                        // Whole vectors of channels side by side are the rule: loads without a choice, and more than one chain of sums.
                        if lanes < S::LANES || steps != [1, 1] {
                            (0..kw).for_each(|k| self.columns::<S, 1, 1>(at, k, sums, lanes, steps));
                        } else if kw == 3 {
                            self.columns::<S, 3, 2>(at, 0, sums, S::LANES, [1, 1]);
                        } else {
                            (0..kw).for_each(|k| self.columns::<S, 1, 4>(at, k, sums, S::LANES, [1, 1]));
                        }
                    }
                }
            }
        }
    }
}

impl<T: Element> Weight<'_, T> {
    /// `sums[k] += Σ gradient[w]·x[w + k − p₂]` for `K` taps from `first` on: `U` columns at a time, in as many chains of sums, so that each
    /// column is loaded once for all taps and the latency of one sum is hidden behind the others.
    ///
    /// # Safety
    /// `gradient` and `at` are rows of the plan's at the same channel, whose channels lie at `steps`; `sums` has all taps.
    #[inline(always)]
    unsafe fn columns<S: Simd, const K: usize, const U: usize>(
        &self,
        [gradient, at]: [*const T; 2],
        first: usize,
        sums: *mut f32,
        lanes: usize,
        steps: [usize; 2],
    ) {
        /// Columns of the operand under `U` columns of the gradient: enough for every `K` and `U` above.
        const WINDOW: usize = 4;
        let p = self.plan;
        let (width, columns, pad) = (p.gradient.size[3], p.x.size[3], p.padding[2]);
        // Column w of the gradient meets column w + k − p₂ of the operand; `low..high` meets no padding.
        let low = pad.saturating_sub(first).min(width);
        let high = (columns + pad).saturating_sub(first + K - 1).clamp(low, width);
        // SAFETY: columns outside the operand are left out; the rest is the caller's word.
        unsafe {
            let [across_gradient, across_x] = [p.gradient.strides[3], p.x.strides[3]];
            let mut chains = [[S::splat(0.0); K]; U];
            let whole = low + (high - low) / U * U;
            for w in (low..whole).step_by(U) {
                let mut window = [S::splat(0.0); WINDOW];
                for (n, x) in window.iter_mut().enumerate().take(K + U - 1) {
                    *x = load::<S, T>(at.add((w + n + first - pad) * across_x), steps[1], lanes);
                }
                for (u, chain) in chains.iter_mut().enumerate() {
                    let g = load::<S, T>(gradient.add((w + u) * across_gradient), steps[0], lanes);
                    for (k, sum) in chain.iter_mut().enumerate() {
                        *sum = S::fma(g, window[u + k], *sum);
                    }
                }
            }
            for w in (0..low).chain(whole..width) {
                for (k, sum) in chains[0].iter_mut().enumerate() {
                    // Padding is left out, not multiplied: 0 times an infinite gradient is no number.
                    let column = (w + first + k).wrapping_sub(pad);
                    if column < columns {
                        let g = load::<S, T>(gradient.add(w * across_gradient), steps[0], lanes);
                        *sum = S::fma(g, load::<S, T>(at.add(column * across_x), steps[1], lanes), *sum);
                    }
                }
            }
            for k in 0..K {
                let mut total = chains[0][k];
                for chain in &chains[1..] {
                    total = S::add(total, chain[k]);
                }
                let to = sums.add((first + k) * p.x.size[4]);
                store::<S, f32>(to, S::add(load::<S, f32>(to, 1, lanes), total), lanes);
            }
        }
    }
}
