//! A strided view copied into row-major order and converted.
//!
//! Where another dimension than the last is dense in memory, blocks of both are copied, so that each cache line is read once.

use super::{
    Cpu, Shared,
    convert::Cast,
    strided::{Strided, TASK, row_offset},
};
use crate::{DType, Element, Result, Tensor, ops::copy::Copy, with_element};

/// Side of a block of a transposing copy: 16 f32 are a cache line.
const BLOCK: usize = 16;

pub fn run(_: &Copy, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let ([Some(x)], [out]) = (inputs, outputs) else { return Ok(()) };
    with_element!(x.dtype(), T => with_element!(out.dtype(), U => typed::<T, U>(x, out, cpu)))
}

/// Through f32 between floats and small integers, through f64 where 24 bits are not enough.
#[inline(always)]
fn convert<T: Element, U: Element>(x: T) -> U {
    if T::DTYPE == DType::I32 || U::DTYPE == DType::I32 { U::from_f64(x.to_f64()) } else { U::from_f32(x.to_f32()) }
}

fn typed<T: Element, U: Element>(x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let rank = x.rank();
    let strides = x.layout().strides();
    let dense = (0..rank.saturating_sub(1)).find(|&d| strides[d] == 1 && x.shape()[d] > 1);
    match dense {
        Some(d) if strides[rank - 1] > 1 && x.shape()[rank - 1] > 1 => transposing::<T, U>(x, d, out, cpu),
        _ => rows::<T, U>(x, out, cpu),
    }
}

fn rows<T: Element, U: Element>(x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let rows = if x.layout().is_contiguous() { Strided::<T>::flat(x, cpu)? } else { Strided::new(x, cpu)? };
    let base = Shared(cpu.ptr::<U>(out)?);
    let pieces = rows.len.div_ceil(TASK);
    let together = (TASK / rows.len).max(1);
    cpu.pool.for_each(rows.rows.div_ceil(together) * pieces, |task| {
        let low = task % pieces * TASK;
        let len = TASK.min(rows.len - low);
        let first = task / pieces * together;
        for row in first..(first + together).min(rows.rows) {
            // SAFETY: the piece lies in the row, and each task writes its own part of the output.
            unsafe {
                let src = rows.base.get().add(rows.offset(row) + low * rows.step);
                let dst = base.get().add(row * rows.len + low);
                if T::DTYPE == U::DTYPE && rows.step == 1 {
                    dst.copy_from_nonoverlapping(src.cast(), len);
                } else if T::DTYPE.is_float() && U::DTYPE.is_float() {
                    cpu.level.run(Cast { src, step: rows.step, dst, len });
                } else {
                    for j in 0..len {
                        dst.add(j).write(convert(*src.add(j * rows.step)));
                    }
                }
            }
        }
    });
    Ok(())
}

/// Dimension `d` has stride 1 in `x`, the last has it in `out`.
fn transposing<T: Element, U: Element>(x: &Tensor, d: usize, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let last = x.rank() - 1;
    let (m, n) = (x.shape()[d], x.shape()[last]);
    let outer: Vec<usize> = (0..last).filter(|&i| i != d).chain([d, last]).collect();
    // Both views list the outer dimensions first, then the pair.
    let (from, to) = (x.layout().permute(&outer)?, out.layout().permute(&outer)?);
    let (step, row) = (from.strides()[last], to.strides()[last - 1]);
    let (src, dst) = (Shared(cpu.ptr::<T>(x)?), Shared(cpu.ptr::<U>(out)?));
    let blocks = m.div_ceil(BLOCK);
    cpu.pool.for_each(x.elements() / (m * n) * blocks, |task| {
        let (low, high) = (task % blocks * BLOCK, m.min((task % blocks + 1) * BLOCK));
        let (a, b) = (row_offset(&from, 2, task / blocks), row_offset(&to, 2, task / blocks));
        for j0 in (0..n).step_by(BLOCK) {
            for i in low..high {
                for j in j0..n.min(j0 + BLOCK) {
                    // SAFETY: indices lie in the layouts, and each task writes its own rows.
                    unsafe { dst.get().add(b + i * row + j).write(convert(*src.get().add(a + i + j * step))) };
                }
            }
        }
    });
    Ok(())
}
