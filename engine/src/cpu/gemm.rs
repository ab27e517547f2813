//! Matrix product: rows copied (or converted) from a strided operand, into the blocked product.

use std::sync::Arc;

use super::{
    Cpu, Shared,
    product::{Product, Residual, Rows, Weight, pack_panels, panel_bytes, panel_width},
    simd::Simd,
    strided::{Strided, row_offset},
    with_float,
};
use crate::{DType, Element, HostBuffer, Operand, Result, Tensor, memory, ops::gemm::Gemm};

/// Panels of a weight `[N, K]`, as f32.
pub fn prepare(weight: &Tensor, cpu: &Cpu) -> Result<Tensor> {
    let s = weight.shape();
    if s.rank() != 2 {
        return Ok(weight.clone());
    }
    let buffer = cpu.memory.allocate(panel_bytes(cpu, s[0], s[1]))?;
    with_float!("gemm", weight.dtype(), T => pack::<T>(weight, 0, s[0], s[1], &buffer, cpu))?;
    Ok(weight.with_prepared(Operand::GemmWeight, Arc::new(buffer)))
}

/// Packs one `[n, k]` matrix of a weight as the `batch`-th.
fn pack<T: Element>(weight: &Tensor, batch: usize, n: usize, k: usize, dst: &HostBuffer, cpu: &Cpu) -> Result<()> {
    let strides = weight.layout().strides();
    let (stride, step) = (strides[strides.len() - 2], strides[strides.len() - 1]);
    let offsets: Vec<usize> = (0..k).map(|k| k * step).collect();
    // SAFETY: the batch's matrix lies in the layout, and the panels in `dst`.
    unsafe {
        let base = Shared(cpu.ptr::<T>(weight)?.add(row_offset(weight.layout(), 2, batch)));
        let first = batch * n.div_ceil(panel_width(cpu));
        pack_panels(cpu, dst, first, n, &Weight { base, stride, offsets: &offsets });
    }
    Ok(())
}

impl<T: Element> Rows for Strided<T> {
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
    with_float!("gemm", outputs[0].dtype(), T => typed::<T>(op, inputs, &outputs[0], cpu))
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
