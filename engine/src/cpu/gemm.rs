//! Matrix product: rows copied (or converted) from a strided operand, into the blocked product.

use std::sync::Arc;

use super::{
    Cpu, Shared,
    convert::widen,
    epilogue::{Epilogue, Residual},
    panels::{Weight, pack_panels, panel_bytes, steps},
    product::{LDA, Product, Rows, blocks, panel_width},
    simd::Simd,
    strided::{Strided, row_offset},
    with_float,
};
use crate::{DType, Element, HostBuffer, Operand, Result, Tensor, memory, ops::gemm::Gemm};

/// Panels of a weight `[N, K]`: of f32, or of pairs of bf16 where the machine multiplies those.
pub fn prepare(weight: &Tensor, cpu: &Cpu) -> Result<Tensor> {
    let s = weight.shape();
    if s.rank() != 2 {
        return Ok(weight.clone());
    }
    let buffer = cpu.memory.allocate(panel_bytes(cpu, s[0], steps(weight.dtype(), s[1], cpu)))?;
    with_float!("gemm", weight.dtype(), T => pack::<T>(weight, 0, s[0], s[1], &buffer, cpu))?;
    Ok(weight.with_prepared(Operand::GemmWeight, Arc::new(buffer)))
}

/// Packs one `[n, k]` matrix of a weight as the `batch`-th.
fn pack<T: Element>(weight: &Tensor, batch: usize, n: usize, k: usize, dst: &HostBuffer, cpu: &Cpu) -> Result<()> {
    let strides = weight.layout().strides();
    let (stride, step) = (strides[strides.len() - 2], strides[strides.len() - 1]);
    let offsets: Vec<usize> = (0..k).map(|k| k * step).collect();
    let (first, offset) = (batch * n.div_ceil(panel_width(cpu)), row_offset(weight.layout(), 2, batch));
    // SAFETY: the batch's matrix lies in the layout, and the panels in `dst`.
    unsafe {
        let base = Shared(cpu.ptr::<T>(weight)?.add(offset));
        pack_panels(cpu, dst, first, n, &Weight { base, stride, offsets: &offsets });
    }
    Ok(())
}

impl<T: Element> Rows for Strided<T> {
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, steps: usize, dst: *mut f32) {
        for (k0, kc, dst) in blocks(steps, count, dst) {
            // SAFETY: rows and columns lie in the layout; `dst` is valid by the caller's word.
            unsafe {
                if self.step != 1 && self.side_by_side() {
                    let src = self.base.get().add(self.offset(first) + k0 * self.step);
                    turned::<S, T>((src, self.step), (kc, count), (dst, LDA));
                    continue;
                }
                for r in 0..count {
                    let src = self.base.get().add(self.offset(first + r) + k0 * self.step);
                    let dst = dst.add(r * LDA);
                    if T::DTYPE == DType::F32 && self.step == 1 {
                        dst.copy_from_nonoverlapping(src.cast(), kc);
                    } else {
                        widen::<S, T>(src, self.step, kc, dst);
                    }
                }
            }
        }
    }
}

/// `dst[r·stride + k] = src[k·step + r]` for `kc` and `count`: a transposed operand, as weight gradients have it. Neighbouring rows lie side by side, so a
/// cache line of them is read at once.
///
/// # Safety
/// The source must be valid for reads, `dst` for writes.
#[inline(always)]
unsafe fn turned<S: Simd, T: Element>(
    (src, step): (*const T, usize),
    (kc, count): (usize, usize),
    (dst, stride): (*mut f32, usize),
) {
    const LINE: usize = 16;
    for low in (0..count).step_by(LINE) {
        let rows = LINE.min(count - low);
        for k0 in (0..kc).step_by(LINE) {
            let steps = LINE.min(kc - k0);
            // SAFETY: the caller's word; with 16 lanes the machine has AVX-512.
            unsafe {
                let (src, dst) = (src.add(low + k0 * step), dst.add(low * stride + k0));
                #[cfg(target_arch = "x86_64")]
                if S::LANES == LINE {
                    let to = (dst, stride, steps);
                    if T::DTYPE == DType::F32 {
                        super::transpose::words((src.cast(), step), (steps, rows), to);
                        continue;
                    }
                    let mut block = [0f32; LINE * LINE];
                    for k in 0..steps {
                        widen::<S, T>(src.add(k * step), 1, rows, block.as_mut_ptr().add(k * LINE));
                    }
                    super::transpose::words((block.as_ptr(), LINE), (steps, rows), to);
                    continue;
                }
                for k in 0..steps {
                    (0..rows).for_each(|r| dst.add(r * stride + k).write((*src.add(k * step + r)).to_f32()));
                }
            }
        }
    }
}

pub fn run(op: &Gemm, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), ..] = *inputs else { return Ok(()) };
    #[cfg(target_arch = "x86_64")]
    if super::panels::in_pairs(x.dtype(), cpu) {
        return typed::<half::bf16, _>(op, inputs, &outputs[0], &super::pairs::Pairs(Strided::new(x, cpu)?), cpu);
    }
    with_float!("gemm", x.dtype(), T => typed::<T, _>(op, inputs, &outputs[0], &Strided::<T>::new(x, cpu)?, cpu))
}

/// The product of the rows of `source`, which are those of the first operand or made of them.
pub(super) fn typed<T: Element, R: Rows>(
    op: &Gemm,
    inputs: &[Option<&Tensor>],
    out: &Tensor,
    source: &R,
    cpu: &Cpu,
) -> Result<()> {
    let [Some(x), Some(weight), ..] = *inputs else { return Ok(()) };
    let operand = |i: usize| inputs.get(i).copied().flatten();
    let (k, n) = (x.shape()[x.rank() - 1], out.shape()[out.rank() - 1]);
    let rows = out.elements() / n;
    let batch: usize = weight.shape()[..weight.rank() - 2].iter().product();
    let steps = steps(T::DTYPE, k, cpu);
    let packed;
    let panels = if weight.prepared().is_some() {
        memory::host("cpu", weight.buffer())?.ptr().cast()
    } else {
        packed = cpu.memory.allocate(batch * panel_bytes(cpu, n, steps))?;
        for b in 0..batch {
            pack::<T>(weight, b, n, k, &packed, cpu)?;
        }
        packed.ptr().cast()
    };
    let bias = operand(2).map(Tensor::contiguous).transpose()?;
    let residual = operand(3).map(|r| Strided::<T>::new(r, cpu)).transpose()?;
    let residual_offset = |i: usize| residual.as_ref().map_or(0, |r| r.offset(i));
    Product {
        rows: source,
        batch,
        m: rows / batch,
        n,
        k: steps,
        panels: Shared(panels),
        epilogue: Epilogue {
            alpha: op.alpha,
            function: op.function,
            bias: bias.as_ref().map(|bias| cpu.ptr::<T>(bias).map(Shared)).transpose()?,
            residual: residual.as_ref().map(|r| Residual { base: r.base, offset: &residual_offset, step: r.step }),
            out: Shared(cpu.ptr(out)?),
            stride: n,
        },
    }
    .run(cpu)
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::{Device, cpu::testing, ops::gemm::gemm};

    /// Small integers in an order without short periods: every sum of products below is exact in f32.
    fn integers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i + seed).wrapping_mul(0x9E37_79B9) >> 7) as u8 % 9).map(|x| f32::from(x) - 4.0).collect()
    }

    fn devices() -> Vec<Device> {
        [1, 2, 3].into_iter().flat_map(testing::devices).collect()
    }

    /// Sizes around the blocks of rows, groups of panels and steps of K, which random shapes seldom reach.
    #[test]
    fn blocks_fit_together() {
        for (m, n, k) in [(1, 300, 800), (29, 129, 384), (197, 70, 385), (225, 161, 769), (460, 33, 16)] {
            let (x, w, bias, residual) = (integers(m * k, 1), integers(n * k, 2), integers(n, 3), integers(m * n, 4));
            let transposed: Vec<f32> = (0..n * k).map(|i| w[i % n * k + i / n]).collect();
            let product = |i: usize, j: usize| (0..k).map(|kk| x[i * k + kk] * w[j * k + kk]).sum::<f32>();
            let expected: Vec<f32> = (0..m * n).map(|i| residual[i] + 2.0 * product(i / n, i % n) + bias[i % n]).collect();
            for device in devices() {
                let tensor = |shape: &[usize], data: &[f32]| Tensor::from_slice(&device, shape, data).unwrap();
                let (x, w) = (tensor(&[m, k], &x), tensor(&[n, k], &w));
                let (bias, residual) = (tensor(&[n], &bias), tensor(&[m, n], &residual));
                let weights = [w.prepare(Operand::GemmWeight).unwrap(), w, tensor(&[k, n], &transposed).transpose().unwrap()];
                for w in weights {
                    let y = gemm(Gemm { alpha: 2.0, function: None }, &x, &w, Some(&bias), Some(&residual)).unwrap();
                    assert!(y.to_vec::<f32>().unwrap() == expected, "{m}×{n}×{k}, {}", device.backend().description());
                }
            }
        }
    }

    /// The same in bf16, where a step may take two elements; small integers are exact in it, and so are their sums here.
    #[test]
    fn halves_of_a_pair_fit_together() {
        for (m, n, k) in [(1, 70, 1), (29, 33, 385), (15, 129, 770), (197, 70, 1539)] {
            let (x, w) = (integers(m * k, 1), integers(n * k, 2));
            let transposed: Vec<f32> = (0..n * k).map(|i| w[i % n * k + i / n]).collect();
            let product = |i: usize, j: usize| (0..k).map(|kk| x[i * k + kk] * w[j * k + kk]).sum::<f32>();
            let expected: Vec<f32> = (0..m * n).map(|i| bf16::from_f32(product(i / n, i % n)).to_f32()).collect();
            for device in devices() {
                let halves = |data: &[f32]| data.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
                let tensor = |shape: &[usize], data: &[f32]| Tensor::from_slice(&device, shape, &halves(data)).unwrap();
                let (x, w) = (tensor(&[m, k], &x), tensor(&[n, k], &w));
                let weights = [w.prepare(Operand::GemmWeight).unwrap(), w, tensor(&[k, n], &transposed).transpose().unwrap()];
                for w in weights {
                    let y = gemm(Gemm::default(), &x, &w, None, None).unwrap();
                    assert!(y.to_f32_vec().unwrap() == expected, "{m}×{n}×{k}, {}", device.backend().description());
                }
            }
        }
    }

    #[test]
    fn weights_of_nothing_can_be_prepared() {
        let device = Device::cpu().unwrap();
        for shape in [[0, 5], [5, 0], [0, 0]] {
            Tensor::zeros(&device, DType::F32, &shape).unwrap().prepare(Operand::GemmWeight).unwrap();
        }
        assert!(Tensor::zeros(&device, DType::U8, &[2, 2]).unwrap().prepare(Operand::GemmWeight).is_err());
    }
}
