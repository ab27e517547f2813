//! Functions of the elements at one place of some operands: `unary`, `unary_backward` and `binary`.

use super::{
    Cpu, Shared,
    convert::{load, store},
    simd::{Kernel, Simd},
    strided::{Strided, TASK, vectors},
};
use crate::{Element, Result, Tensor};

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
            let (x, y) = unsafe {
                let at = |x: &Strided<T>| (x.base.get().add(x.offset(row) + low * x.step).cast_const(), x.step);
                (std::array::from_fn(|i| at(&operands[i])), base.get().add(row * columns + low))
            };
            cpu.level.run(Piece { function, x, y, len });
        }
    });
    Ok(())
}

/// A part of a row.
struct Piece<F, T, const N: usize> {
    function: F,
    /// Where each operand's piece begins, and the distance of its elements.
    x: [(*const T, usize); N],
    y: *mut T,
    len: usize,
}

impl<F: Elementwise<N>, T: Element, const N: usize> Kernel for Piece<F, T, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: `x` and `y` are valid for `len`.
        vectors::<S>(
            self.len,
            #[inline(always)]
            |j, lanes| unsafe {
                let mut x = [S::splat(0.0); N];
                for (x, (from, step)) in x.iter_mut().zip(self.x) {
                    *x = load::<S, T>(from.add(j * step), step, lanes);
                }
                store::<S, T>(self.y.add(j), self.function.of::<S>(x), lanes);
            },
        );
    }
}
