//! Matrix product: rows copied (or converted) from a strided operand, into the blocked product.

use std::sync::Arc;

use super::{
    Cpu, Shared,
    product::{Product, Residual, Rows, pack_panels, panel_bytes},
    simd::Simd,
};
use crate::{DType, Element, HostBuffer, Layout, Operand, Result, Tensor, memory, ops::gemm::Gemm, with_element};

/// Panels of a weight `[N, K]`, as f32.
pub fn prepare(weight: &Tensor, cpu: &Cpu) -> Result<Tensor> {
    let s = weight.shape();
    if s.rank() != 2 {
        return Ok(weight.clone());
    }
    let buffer = cpu.memory.allocate(panel_bytes(cpu, s[0], s[1]))?;
    with_element!(weight.dtype(), T => pack::<T>(weight, 0, s[0], s[1], &buffer, cpu)?);
    Ok(weight.with_prepared(Operand::GemmWeight, Arc::new(buffer)))
}

/// Packs one `[n, k]` matrix of a weight as the `batch`-th.
fn pack<T: Element>(weight: &Tensor, batch: usize, n: usize, k: usize, dst: &HostBuffer, cpu: &Cpu) -> Result<()> {
    let base = Shared(cpu.ptr::<T>(weight)?);
    let strides = weight.layout().strides();
    let (sn, sk) = (strides[strides.len() - 2], strides[strides.len() - 1]);
    let start = row_offset(weight.layout(), 2, batch);
    let panels = n.div_ceil(super::product::panel_width(cpu));
    // SAFETY: indices lie in the layout.
    pack_panels(cpu, dst, batch * panels, n, k, |j, kk| unsafe { (*base.get().add(start + j * sn + kk * sk)).to_f32() });
    Ok(())
}

/// Where row `i` begins, counting the positions of all but the last `tail` dimensions in row-major order.
fn row_offset(layout: &Layout, tail: usize, mut i: usize) -> usize {
    let rank = layout.shape().rank() - tail;
    let mut offset = 0;
    for d in (0..rank).rev() {
        offset += i % layout.shape()[d] * layout.strides()[d];
        i /= layout.shape()[d];
    }
    offset
}

/// Row starts of an operand `[…, M, K]`.
struct Strided<'a, T> {
    base: Shared<T>,
    layout: &'a Layout,
    /// The distance of rows, where it is the same for all.
    uniform: Option<usize>,
    step: usize,
}

impl<'a, T: Element> Strided<'a, T> {
    fn new(x: &'a Tensor, cpu: &Cpu) -> Result<Self> {
        let layout = x.layout();
        let (rows, k) = (x.elements() / x.shape()[x.rank() - 1].max(1), x.shape()[x.rank() - 1]);
        let uniform = layout.reshape(&[rows, k]).ok().filter(|_| k > 0).map(|flat| flat.strides()[0]);
        Ok(Strided { base: Shared(cpu.ptr(x)?), layout, uniform, step: layout.strides()[x.rank() - 1] })
    }

    #[inline(always)]
    fn offset(&self, i: usize) -> usize {
        match self.uniform {
            Some(stride) => i * stride,
            None => row_offset(self.layout, 1, i),
        }
    }
}

impl<T: Element> Rows for Strided<'_, T> {
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, k0: usize, kc: usize, dst: *mut f32, stride: usize) {
        for r in 0..count {
            // SAFETY: rows and columns lie in the layout; `dst` is valid by the caller's word.
            unsafe {
                let src = self.base.get().add(self.offset(first + r) + k0 * self.step);
                let dst = dst.add(r * stride);
                if T::DTYPE == DType::F32 && self.step == 1 {
                    dst.copy_from_nonoverlapping(src.cast(), kc);
                } else {
                    for k in 0..kc {
                        dst.add(k).write((*src.add(k * self.step)).to_f32());
                    }
                }
            }
        }
    }
}

pub fn run(op: &Gemm, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_element!(outputs[0].dtype(), T => typed::<T>(op, inputs, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Gemm, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let [Some(x), Some(weight), ..] = *inputs else { return Ok(()) };
    let operand = |i: usize| inputs.get(i).copied().flatten();
    let (k, n) = (x.shape()[x.rank() - 1], out.shape()[out.rank() - 1]);
    let rows = out.elements() / n;
    let batch: usize = weight.shape()[..weight.rank() - 2].iter().product();
    let packed;
    let panels = if weight.prepared().is_some() {
        // Panels are f32 whatever the weight's element type.
        memory::host("cpu", weight.buffer())?.ptr().cast()
    } else {
        packed = cpu.memory.allocate(batch * panel_bytes(cpu, n, k))?;
        for b in 0..batch {
            pack::<T>(weight, b, n, k, &packed, cpu)?;
        }
        packed.ptr().cast()
    };
    let source = Strided::<T>::new(x, cpu)?;
    let bias = operand(2).map(Tensor::contiguous).transpose()?;
    let residual = operand(3).map(|r| Strided::<T>::new(r, cpu)).transpose()?;
    let residual_offset = |i: usize| residual.as_ref().map_or(0, |r| r.offset(i));
    Product {
        rows: &source,
        batch,
        m: rows / batch,
        n,
        k,
        panels: Shared(panels),
        alpha: op.alpha,
        function: op.function,
        bias: bias.as_ref().map(|bias| cpu.ptr::<T>(bias).map(Shared)).transpose()?,
        residual: residual.as_ref().map(|r| Residual { base: r.base, offset: &residual_offset, step: r.step }),
        out: Shared(cpu.ptr(out)?),
        out_stride: n,
    }
    .run(cpu)
}
