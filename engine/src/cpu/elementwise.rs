//! Functions of the elements at one place of some operands: `unary`, `unary_backward` and `binary`.

use super::{
    Cpu, Shared,
    product::store,
    simd::{Kernel, Simd},
    strided::{Strided, TASK, load_f32, vectors},
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
    cpu.with_scratch(rows.div_ceil(together) * pieces, N * TASK, |task, scratch| {
        let low = task % pieces * TASK;
        let len = TASK.min(columns - low);
        let first = task / pieces * together;
        for row in first..(first + together).min(rows) {
            let mut x = [std::ptr::null(); N];
            // SAFETY: the pieces lie in their rows, and each task writes its own part of the output.
            unsafe {
                for (i, (x, operand)) in x.iter_mut().zip(&operands).enumerate() {
                    *x = operand.row(row, low, len, scratch.ptr().cast::<f32>().add(i * TASK));
                }
                cpu.level.run(Piece { function, x, y: base.get().add(row * columns + low), len });
            }
        }
    })
}

/// A part of a row.
struct Piece<F, T, const N: usize> {
    function: F,
    x: [*const f32; N],
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
                for (x, from) in x.iter_mut().zip(self.x) {
                    *x = load_f32::<S>(from.add(j), lanes);
                }
                store::<S, T>(self.y.add(j), self.function.of::<S>(x), lanes);
            },
        );
    }
}
