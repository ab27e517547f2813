//! Operands of any strides as rows of their last dimension.

use super::{Cpu, Shared, convert::widen, simd::Simd};
use crate::{DType, Element, Layout, Result, Tensor};

/// Elements of a task of an element-wise kernel: long enough to hide its start, short enough to share out evenly.
pub(super) const TASK: usize = 16 * 1024;

/// Where row `i` begins, counting the positions of all but the last `tail` dimensions in row-major order.
pub(super) fn row_offset(layout: &Layout, tail: usize, mut i: usize) -> usize {
    let rank = layout.shape().rank() - tail;
    let mut offset = 0;
    for d in (0..rank).rev() {
        offset += i % layout.shape()[d] * layout.strides()[d];
        i /= layout.shape()[d];
    }
    offset
}

/// The rows of an operand `[…, C]`.
pub(super) struct Strided<T> {
    pub base: Shared<T>,
    layout: Layout,
    /// The distance of rows, where it is the same for all.
    uniform: Option<usize>,
    /// The distance of elements in a row.
    pub step: usize,
    /// Elements of a row, C.
    pub len: usize,
    /// Rows in all.
    pub rows: usize,
}

impl<T: Element> Strided<T> {
    /// Rows of the last dimension; a scalar is one row of one.
    pub fn new(x: &Tensor, cpu: &Cpu) -> Result<Self> {
        let layout = if x.rank() == 0 { x.layout().reshape(&[1])? } else { *x.layout() };
        Strided::of(x, layout, cpu)
    }

    /// The tensor broadcast to `shape`.
    pub fn broadcast(x: &Tensor, shape: &[usize], cpu: &Cpu) -> Result<Self> {
        Strided::new(&x.broadcast_to(shape)?, cpu)
    }

    /// A contiguous operand as one long row.
    pub fn flat(x: &Tensor, cpu: &Cpu) -> Result<Self> {
        Strided::of(x, x.layout().reshape(&[x.elements()])?, cpu)
    }

    fn of(x: &Tensor, layout: Layout, cpu: &Cpu) -> Result<Self> {
        let last = layout.shape().rank() - 1;
        let len = layout.shape()[last];
        let rows: usize = layout.shape()[..last].iter().product();
        let uniform = layout.reshape(&[rows, len]).ok().filter(|_| len > 0).map(|flat| flat.strides()[0]);
        Ok(Strided { base: Shared(cpu.ptr(x)?), layout, uniform, step: layout.strides()[last], len, rows })
    }

    /// Where row `i` begins.
    #[inline(always)]
    pub fn offset(&self, i: usize) -> usize {
        match self.uniform {
            Some(stride) => i * stride,
            None => row_offset(&self.layout, 1, i),
        }
    }

    /// Whether all elements lie side by side.
    pub fn dense(&self) -> bool {
        self.step == 1 && self.uniform == Some(self.len)
    }

    /// Whether each row begins one element after the one before it: a transposed matrix.
    #[inline(always)]
    pub fn side_by_side(&self) -> bool {
        self.uniform == Some(1)
    }

    /// Row `i` as f32, in place if it lies so, else converted into `scratch`.
    ///
    /// # Safety
    /// The row exists; `scratch` is valid for its length.
    #[inline(always)]
    pub unsafe fn row<S: Simd>(&self, i: usize, scratch: *mut f32) -> *const f32 {
        // SAFETY: rows lie in the layout; the rest is the caller's word.
        unsafe {
            let src = self.base.get().add(self.offset(i));
            if T::DTYPE == DType::F32 && self.step == 1 {
                return src.cast();
            }
            widen::<S, T>(src, self.step, self.len, scratch);
            scratch
        }
    }
}

/// Calls `f(j, lanes)` for the vectors of a row of `len`.
#[inline(always)]
pub(super) fn vectors<S: Simd>(len: usize, mut f: impl FnMut(usize, usize)) {
    let full = len / S::LANES * S::LANES;
    for j in (0..full).step_by(S::LANES) {
        f(j, S::LANES);
    }
    if full < len {
        f(full, len - full);
    }
}

/// `lanes` f32 at `p`.
///
/// # Safety
/// They must be valid for reads.
#[inline(always)]
pub(super) unsafe fn load_f32<S: Simd>(p: *const f32, lanes: usize) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { if lanes == S::LANES { S::load(p) } else { S::load_first(p, lanes) } }
}
