//! A strided view copied into row-major order and converted.
//!
//! Where another dimension than the last is dense in memory, blocks of both are copied, so that each cache line is read once.

use super::{
    Cpu, Shared,
    convert::elements,
    strided::{Strided, TASK, row_offset},
    with_word,
};
use crate::{Element, Result, Tensor, ops::copy::Copy};

/// Side of a block of a transposing copy: 16 f32 are a cache line.
const BLOCK: usize = 16;

pub fn run(_: &Copy, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let ([Some(x)], [out]) = (inputs, outputs) else { return Ok(()) };
    let rank = x.rank();
    let strides = x.layout().strides();
    let dense = (0..rank.saturating_sub(1)).find(|&d| strides[d] == 1 && x.shape()[d] > 1);
    with_word!("copy", x.dtype(), W => match dense {
        Some(d) if strides[rank - 1] > 1 && x.shape()[rank - 1] > 1 => transposing::<W>(x, d, out, cpu),
        _ => rows::<W>(x, out, cpu),
    })
}

/// Where elements of an output lie, whatever their type.
struct Output {
    base: Shared<u8>,
    size: usize,
}

impl Output {
    fn new(out: &Tensor, cpu: &Cpu) -> Result<Self> {
        let size = out.dtype().size();
        Ok(Output { base: Shared(with_word!("copy", out.dtype(), W => cpu.ptr::<W>(out).map(|p| p.cast::<u8>()))?), size })
    }

    /// Element `i` of the view.
    ///
    /// # Safety
    /// There is one.
    unsafe fn at(&self, i: usize) -> *mut u8 {
        // SAFETY: the caller's word.
        unsafe { self.base.get().add(i * self.size) }
    }
}

fn rows<W: Element>(x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let rows = if x.layout().is_contiguous() { Strided::<W>::flat(x, cpu)? } else { Strided::new(x, cpu)? };
    let to = Output::new(out, cpu)?;
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
                let dst = to.at(row * rows.len + low);
                if x.dtype() != out.dtype() {
                    elements(cpu.level, (x.dtype(), src.cast(), rows.step), (out.dtype(), dst), len);
                } else if rows.step == 1 {
                    dst.cast::<W>().copy_from_nonoverlapping(src, len);
                } else {
                    (0..len).for_each(|j| dst.cast::<W>().add(j).write(*src.add(j * rows.step)));
                }
            }
        }
    });
    Ok(())
}

/// Dimension `d` has stride 1 in `x`, the last has it in `out`. Elements that are converted are first put in order.
fn transposing<W: Element>(x: &Tensor, d: usize, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let last = x.rank() - 1;
    let (m, n) = (x.shape()[d], x.shape()[last]);
    let outer: Vec<usize> = (0..last).filter(|&i| i != d).chain([d, last]).collect();
    // Both views list the outer dimensions first, then the pair.
    let (from, to) = (x.layout().permute(&outer)?, out.layout().permute(&outer)?);
    let (step, row) = (from.strides()[last], to.strides()[last - 1]);
    let (src, dst) = (Shared(cpu.ptr::<W>(x)?), Output::new(out, cpu)?);
    let (blocks, converted) = (m.div_ceil(BLOCK), x.dtype() != out.dtype());
    let room = if converted { BLOCK * n * size_of::<W>() / size_of::<f32>() + 1 } else { 0 };
    cpu.with_scratch(x.elements() / (m * n) * blocks, room, |task, scratch| {
        let (low, high) = (task % blocks * BLOCK, m.min((task % blocks + 1) * BLOCK));
        let (a, b) = (row_offset(&from, 2, task / blocks), row_offset(&to, 2, task / blocks));
        // SAFETY: indices lie in the layouts, each task writes its own rows, and the scratch holds a block of them.
        unsafe {
            let ordered = |i: usize| {
                if converted { scratch.ptr().cast::<W>().add((i - low) * n) } else { dst.at(b + i * row).cast() }
            };
            for j0 in (0..n).step_by(BLOCK) {
                for i in low..high {
                    for j in j0..n.min(j0 + BLOCK) {
                        ordered(i).add(j).write(*src.get().add(a + i + j * step));
                    }
                }
            }
            if converted {
                for i in low..high {
                    elements(cpu.level, (x.dtype(), ordered(i).cast(), 1), (out.dtype(), dst.at(b + i * row)), n);
                }
            }
        }
    })
}
