//! Elements of any type as vectors of f32, and back.

use half::{bf16, f16};

use super::{
    simd::{Kernel, Level, Simd},
    strided::vectors,
};
use crate::{DType, Element, with_element};

/// The lanes of the widest vector.
pub(super) const WIDEST: usize = 16;

/// `lanes` elements of any type at a step, as f32; 0 in the lanes beyond.
///
/// # Safety
/// They must be valid for reads.
#[inline(always)]
pub(super) unsafe fn load<S: Simd, T: Element>(p: *const T, step: usize, lanes: usize) -> S::V {
    // SAFETY: passed on from the caller; vectors are loaded whole only where they are.
    unsafe {
        match (T::DTYPE, step == 1, lanes == S::LANES) {
            (DType::F32, true, true) => return S::load(p.cast()),
            (DType::F32, true, false) => return S::load_first(p.cast(), lanes),
            (DType::BF16, true, true) => return S::load_bf16(p.cast()),
            (DType::BF16, true, false) => return S::load_bf16_first(p.cast(), lanes),
            (DType::F16, true, true) => return S::load_f16(p.cast()),
            _ if step == 0 && lanes == S::LANES => return S::splat((*p).to_f32()),
            (DType::BF16, ..) => {
                let mut x = [bf16::ZERO; WIDEST];
                (0..lanes).for_each(|i| x[i] = p.cast::<bf16>().add(i * step).read());
                return S::load_bf16(x.as_ptr());
            }
            (DType::F16, ..) => {
                let mut x = [f16::ZERO; WIDEST];
                (0..lanes).for_each(|i| x[i] = p.cast::<f16>().add(i * step).read());
                return S::load_f16(x.as_ptr());
            }
            _ => {}
        }
        let mut x = [0f32; WIDEST];
        (0..lanes).for_each(|i| x[i] = (*p.add(i * step)).to_f32());
        S::load(x.as_ptr())
    }
}

/// [`load`] of the elements from `j` on of a row, given by where it begins and the distance of its elements. A function, because a closure in a
/// kernel may become a call without the kernel's instructions.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn load_at<S: Simd, T: Element>((row, step): (*const T, usize), j: usize, lanes: usize) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { load::<S, T>(row.add(j * step), step, lanes) }
}

/// The first `lanes` of a vector, rounded to the element type.
///
/// # Safety
/// They must be valid for writes.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, T: Element>(p: *mut T, y: S::V, lanes: usize) {
    // SAFETY: passed on from the caller; vectors are stored whole only where there is room.
    unsafe {
        match (T::DTYPE, lanes == S::LANES) {
            (DType::F32, true) => return S::store(p.cast(), y),
            (DType::F32, false) => return S::store_first(p.cast(), y, lanes),
            (DType::BF16, true) => return S::store_bf16(p.cast(), y),
            (DType::F16, true) => return S::store_f16(p.cast(), y),
            (DType::BF16, false) => return S::store_bf16_first(p.cast(), y, lanes),
            (DType::F16, false) => {
                let mut x = [f16::ZERO; WIDEST];
                S::store_f16(x.as_mut_ptr(), y);
                return p.cast::<f16>().copy_from_nonoverlapping(x.as_ptr(), lanes);
            }
            _ => {}
        }
        let mut x = [0f32; WIDEST];
        S::store(x.as_mut_ptr(), y);
        (0..lanes).for_each(|i| p.add(i).write(T::from_f32(x[i])));
    }
}

/// To bf16, rounded to nearest, ties to even, without branches, so that loops of it become vectors.
#[inline(always)]
pub(super) fn narrow(x: f32) -> bf16 {
    let bits = x.to_bits();
    // Half of what is cut off, less for a tie whose last bit is even; a NaN keeps its bits, and the one that makes it quiet.
    let rounded = if x.is_nan() { bits | 1 << 22 } else { bits + 0x7FFF + (bits >> 16 & 1) };
    bf16::from_bits((rounded >> 16) as u16)
}

/// `len` elements at a step to `to`, as f32.
///
/// # Safety
/// Both must be valid for `len`.
#[inline(always)]
pub(super) unsafe fn widen<S: Simd, T: Element>(from: *const T, step: usize, len: usize, to: *mut f32) {
    let full = len / S::LANES * S::LANES;
    // SAFETY: passed on from the caller.
    unsafe {
        if step == 1 {
            for j in (0..full).step_by(S::LANES) {
                S::store(to.add(j), load::<S, T>(from.add(j), 1, S::LANES));
            }
        }
        for j in if step == 1 { full } else { 0 }..len {
            to.add(j).write((*from.add(j * step)).to_f32());
        }
    }
}

/// `len` elements from one type to another.
pub(super) struct Cast<T, U> {
    pub src: *const T,
    pub step: usize,
    pub dst: *mut U,
    pub len: usize,
}

impl<T: Element, U: Element> Kernel for Cast<T, U> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        vectors::<S>(
            self.len,
            #[inline(always)]
            // SAFETY: who makes one says that both are valid for `len`.
            |j, lanes| unsafe { store::<S, U>(self.dst.add(j), load_at::<S, T>((self.src, self.step), j, lanes), lanes) },
        );
    }
}

/// Numbers that are converted at a time by [`elements`] where they go through f64.
const THROUGH: usize = 256;

/// `len` elements of one type, at a step, to another: to a float from what f32 holds by vectors, else through f64, which holds every element.
///
/// # Safety
/// Both are of these types, and valid for `len`.
pub(super) unsafe fn elements(
    level: Level,
    (from, src, step): (DType, *const u8, usize),
    (to, dst): (DType, *mut u8),
    len: usize,
) {
    macro_rules! casts {
        ($($from:ident $T:ty, $($to:ident $U:ty),*;)*) => {
            match (from, to) {
                $($((DType::$from, DType::$to) => {
                    return level.run(Cast::<$T, $U> { src: src.cast(), step, dst: dst.cast(), len });
                })*)*
                _ => {}
            }
        };
    }
    casts! {
        F32 f32, BF16 bf16, F16 f16;
        BF16 bf16, F32 f32, F16 f16;
        F16 f16, F32 f32, BF16 bf16;
        U8 u8, F32 f32, BF16 bf16, F16 f16;
    }
    let mut numbers = [0f64; THROUGH];
    for low in (0..len).step_by(THROUGH) {
        let count = THROUGH.min(len - low);
        let numbers = &mut numbers[..count];
        with_element!(from, T => numbers.iter_mut().enumerate().for_each(|(j, x)| {
            // SAFETY: the caller's word.
            *x = unsafe { *src.cast::<T>().add((low + j) * step) }.to_f64();
        }));
        with_element!(to, U => numbers.iter().enumerate().for_each(|(j, &x)| {
            // SAFETY: the caller's word.
            unsafe { dst.cast::<U>().add(low + j).write(U::from_f64(x)) }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;

    fn convert<T: Element, U: Element>(level: Level, from: &[T], to: &mut [U]) {
        level.run(Cast { src: from.as_ptr(), step: 1, dst: to.as_mut_ptr(), len: from.len().min(to.len()) });
    }

    /// Every number of the type, the numbers around the middle between each and the next, and parts of vectors.
    fn agrees<T: Element>(from_bits: impl Fn(u16) -> T) {
        let all: Vec<T> = (0..=u16::MAX).map(from_bits).chain([T::from_f32(1.5)]).collect();
        let near = |x: f32| {
            [0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
                .map(|more| f32::from_bits(x.to_bits().wrapping_add(more)))
        };
        let floats: Vec<f32> = all.iter().flat_map(|x| near(x.to_f32())).collect();
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            let mut widened = vec![0f32; all.len()];
            convert(level, &all, &mut widened);
            assert!(all.iter().zip(&widened).all(|(x, &y)| same(x.to_f32(), y)), "{level}: {} to f32", T::DTYPE);
            let mut narrowed = vec![T::from_f32(0.0); floats.len()];
            convert(level, &floats, &mut narrowed);
            let wrong = floats.iter().zip(&narrowed).find(|(x, y)| !same(T::from_f32(**x).to_f32(), y.to_f32()));
            assert!(wrong.is_none(), "{level}: f32 to {}: {wrong:?}", T::DTYPE);
        }
    }

    #[test]
    fn halves_are_converted_as_one_by_one() {
        agrees(bf16::from_bits);
        agrees(f16::from_bits);
    }
}
