//! Functions of the elements at one place of some operands: `unary`, `unary_backward` and `binary`.

use half::{bf16, f16};

use super::{
    Cpu, Shared,
    convert::{Cast, WIDEST},
    simd::{Kernel, Level, Simd},
    strided::{Strided, TASK},
};
use crate::{DType, Element, Result, Tensor};

/// A function of `N` numbers.
pub(super) trait Elementwise<const N: usize>: Copy + Sync {
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

/// Elements that are functions' arguments at a time where they do not lie side by side: they and the results stay in L1.
const BLOCK: usize = 1024;

/// `y = function(x)` for `len` elements.
///
/// # Safety
/// `x` and `y` are valid for `len`.
unsafe fn piece<T: Element, const N: usize>(
    level: Level,
    function: impl Elementwise<N>,
    x: [(*const T, usize); N],
    y: *mut T,
    len: usize,
) {
    if x.iter().all(|&(_, step)| step == 1) {
        return level.run(Piece { function, dtype: T::DTYPE, x: x.map(|(from, _)| from.cast()), y: y.cast(), len });
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
        let x = std::array::from_fn(|i| block(i).cast_const().cast());
        level.run(Piece { function, dtype: DType::F32, x, y: base.cast(), len });
        // SAFETY: the caller's word.
        level.run(Cast { src: base.cast_const(), step: 1, dst: unsafe { y.add(low) }, len });
    }
}

/// A function of `len` numbers side by side, made by who vouches for the pointers; the result may be in an operand's place. Which float they are
/// is asked at each vector: functions are long, and are compiled once for all.
pub(super) struct Piece<F, const N: usize> {
    pub function: F,
    pub dtype: DType,
    pub x: [*const u8; N],
    pub y: *mut u8,
    pub len: usize,
}

/// The vector from element `j` on.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn take<S: Simd>(dtype: DType, from: *const u8, j: usize) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        match dtype {
            DType::BF16 => S::load_bf16(from.cast::<bf16>().add(j)),
            DType::F16 => S::load_f16(from.cast::<f16>().add(j)),
            _ => S::load(from.cast::<f32>().add(j)),
        }
    }
}

/// As [`take`], the other way.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn put<S: Simd>(dtype: DType, to: *mut u8, j: usize, y: S::V) {
    // SAFETY: passed on from the caller.
    unsafe {
        match dtype {
            DType::BF16 => S::store_bf16(to.cast::<bf16>().add(j), y),
            DType::F16 => S::store_f16(to.cast::<f16>().add(j), y),
            _ => S::store(to.cast::<f32>().add(j), y),
        }
    }
}

impl<F: Elementwise<N>, const N: usize> Kernel for Piece<F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // One loop for whole vectors, and, once more, for one that the rest is copied to: a second copy of all functions would be for nothing.
        let (size, full) = (self.dtype.size(), self.len / S::LANES * S::LANES);
        let (start, rest) = (full * size, (self.len - full) * size);
        let (mut edges, mut edge) = ([[0f32; WIDEST]; N], [0f32; WIDEST]);
        let (mut x, mut y, mut len) = (self.x, self.y, full);
        loop {
            for j in (0..len).step_by(S::LANES) {
                // SAFETY: whoever made it says that `x` and `y` are valid for `len`; so are the edges for a vector.
                unsafe {
                    let mut values = [S::splat(0.0); N];
                    for (value, from) in values.iter_mut().zip(x) {
                        *value = take::<S>(self.dtype, from, j);
                    }
                    put::<S>(self.dtype, y, j, self.function.of::<S>(values));
                }
            }
            if rest == 0 || y == edge.as_mut_ptr().cast() {
                break;
            }
            for (edge, from) in edges.iter_mut().zip(self.x) {
                // SAFETY: as above.
                unsafe { edge.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(from.add(start), rest) };
            }
            (x, y, len) = (edges.each_ref().map(|edge| edge.as_ptr().cast()), edge.as_mut_ptr().cast(), S::LANES);
        }
        // SAFETY: as above.
        unsafe { self.y.add(start).copy_from_nonoverlapping(edge.as_ptr().cast(), rest) };
    }
}
