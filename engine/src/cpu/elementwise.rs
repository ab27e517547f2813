//! Functions of the elements at one place of some operands: `unary`, `unary_backward` and `binary`.

use super::{
    Cpu, Shared,
    convert::{Cast, WIDEST, load, store},
    simd::{Kernel, Level, Simd},
    strided::{Strided, TASK},
};
use crate::{DType, Element, Result, Tensor};

/// A function of `N` numbers.
pub(super) trait Elementwise<const N: usize>: Copy + Sync {
    /// Whether it is a few instructions, and therefore compiled for half types as well.
    const SHORT: bool = false;

    /// Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// As [`Simd`].
    unsafe fn of<S: Simd>(self, x: [S::V; N]) -> S::V;
}

/// Fills `out` with `function` of the operands, broadcast to its shape: rows, or all elements as one, cut into tasks.
pub(super) fn run<T: Element, const N: usize>(
    function: impl Elementwise<N>,
    operands: [&Tensor; N],
    out: &Tensor,
    cpu: &Cpu,
) -> Result<()> {
    let flat = operands.iter().all(|x| x.shape() == out.shape() && x.layout().is_contiguous());
    let rows = |x: &Tensor| if flat { Strided::<T>::flat(x, cpu) } else { Strided::broadcast(x, out.shape(), cpu) };
    let operands = operands.into_iter().map(rows).collect::<Result<Vec<_>>>()?;
    let Some(&Strided { len: columns, rows, .. }) = operands.first() else { return Ok(()) };
    let base = Shared(cpu.ptr::<T>(out)?);
    let pieces = columns.div_ceil(TASK);
    let together = (TASK / columns).max(1);
    cpu.pool.for_each(rows.div_ceil(together) * pieces, |task| {
        let low = task % pieces * TASK;
        let len = TASK.min(columns - low);
        let first = task / pieces * together;
        for row in first..(first + together).min(rows) {
            // SAFETY: the pieces lie in their rows, and each task writes its own part of the output.
            unsafe {
                let at = |x: &Strided<T>| (x.base.get().add(x.offset(row) + low * x.step).cast_const(), x.step);
                piece(cpu.level, function, std::array::from_fn(|i| at(&operands[i])), base.get().add(row * columns + low), len);
            }
        }
    });
    Ok(())
}

/// Elements of a half type that are functions' arguments at a time: they and the results stay in L1.
const BLOCK: usize = 1024;

/// `y = function(x)` for `len` elements, of half types by blocks of f32 where the function is long: those are compiled for f32 alone. (Conversions
/// beside a long function gain nothing either: they want the same units of the processor.)
///
/// # Safety
/// `x` and `y` are valid for `len`.
unsafe fn piece<T: Element, F: Elementwise<N>, const N: usize>(
    level: Level,
    function: F,
    x: [(*const T, usize); N],
    y: *mut T,
    len: usize,
) {
    if F::SHORT {
        return level.run(Piece { function, x, y, len });
    }
    if T::DTYPE == DType::F32 {
        return level.run(Piece::<f32, F, N> { function, x: x.map(|(from, step)| (from.cast(), step)), y: y.cast(), len });
    }
    let mut blocks = [[0f32; BLOCK]; N];
    let base = blocks.as_mut_ptr().cast::<f32>();
    // SAFETY: there are as many blocks.
    let block = |i: usize| unsafe { base.add(i * BLOCK) };
    for low in (0..len).step_by(BLOCK) {
        let len = BLOCK.min(len - low);
        for (i, (from, step)) in x.into_iter().enumerate() {
            // SAFETY: the caller's word.
            level.run(Cast { src: unsafe { from.add(low * step) }, step, dst: block(i), len });
        }
        level.run(Piece { function, x: std::array::from_fn(|i| (block(i).cast_const(), 1)), y: base, len });
        // SAFETY: the caller's word.
        level.run(Cast { src: base.cast_const(), step: 1, dst: unsafe { y.add(low) }, len });
    }
}

/// A function of `len` numbers, made by who vouches for the pointers; the result may be in an operand's place.
pub(super) struct Piece<T, F, const N: usize> {
    pub function: F,
    /// Where each operand begins, and the distance of its elements.
    pub x: [(*const T, usize); N],
    pub y: *mut T,
    pub len: usize,
}

impl<T: Element, F: Elementwise<N>, const N: usize> Kernel for Piece<T, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // One loop for whole vectors, and, once more, for one that the rest is copied to: a second copy of all functions would be for nothing.
        let full = self.len / S::LANES * S::LANES;
        let rest = self.len - full;
        let (mut edges, mut edge) = ([[T::from_f32(0.0); WIDEST]; N], [T::from_f32(0.0); WIDEST]);
        let (mut x, mut y, mut len) = (self.x, self.y, full);
        loop {
            for j in (0..len).step_by(S::LANES) {
                // SAFETY: whoever made it says that `x` and `y` are valid for `len`; so are the edges for a vector.
                unsafe {
                    let mut values = [S::splat(0.0); N];
                    for (value, (from, step)) in values.iter_mut().zip(x) {
                        *value = load::<S, T>(from.add(j * step), step, S::LANES);
                    }
                    store::<S, T>(y.add(j), self.function.of::<S>(values), S::LANES);
                }
            }
            if rest == 0 || y == edge.as_mut_ptr() {
                break;
            }
            for (edge, (from, step)) in edges.iter_mut().zip(self.x) {
                // SAFETY: as above.
                (0..rest).for_each(|i| edge[i] = unsafe { *from.add((full + i) * step) });
            }
            (x, y, len) = (edges.each_ref().map(|edge| (edge.as_ptr(), 1)), edge.as_mut_ptr(), S::LANES);
        }
        // SAFETY: as above.
        unsafe { self.y.add(full).copy_from_nonoverlapping(edge.as_ptr(), rest) };
    }
}
