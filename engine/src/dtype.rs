//! Element types.

use std::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 double precision. Only the reference backend computes in it (gradient checks by finite differences).
    F64,
    /// IEEE 754 single precision.
    F32,
    /// bfloat16: the upper half of an f32. Products accumulate in f32.
    BF16,
    /// IEEE 754 half precision. Products accumulate in f32.
    F16,
    /// Unsigned byte: video and images as they are decoded.
    U8,
    /// Signed 32-bit integer: class labels and gather indices.
    I32,
}

impl DType {
    /// Every element type, widest float first.
    pub const ALL: [DType; 6] = [DType::F64, DType::F32, DType::BF16, DType::F16, DType::U8, DType::I32];
    /// The element types that every backend computes in.
    pub const FLOATS: [DType; 3] = [DType::F32, DType::BF16, DType::F16];

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::BF16 | DType::F16 => 2,
            DType::U8 => 1,
        }
    }

    /// Whether elements are floating-point numbers.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::BF16 | DType::F16)
    }

    /// Lower-case name as in configuration files: `"f32"`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::U8 => "u8",
            DType::I32 => "i32",
        }
    }

    /// The distance from 1 to the next representable number, halved: the relative error of one rounding.
    /// Integers round to nothing, so theirs is 0.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            DType::F64 => f64::EPSILON / 2.0,
            DType::F32 => (f32::EPSILON / 2.0) as f64,
            DType::BF16 => 1.0 / 256.0,
            DType::F16 => 1.0 / 2048.0,
            DType::U8 | DType::I32 => 0.0,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type that is the element of some [`DType`].
///
/// # Safety
/// Implementors have no padding and accept every bit pattern. (`bytemuck::Pod` says the same, but `half` implements it only
/// together with six more crates.)
pub unsafe trait Element: Copy + Send + Sync + PartialEq + fmt::Debug + 'static {
    /// The matching element type.
    const DTYPE: DType;
    /// Rounds to nearest even; integers saturate.
    fn from_f32(x: f32) -> Self;
    /// Exact for every type but `f64` and `i32` beyond 2²⁴.
    fn to_f32(self) -> f32;
    /// Rounds to nearest even; integers saturate.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
}

macro_rules! element {
    ($type:ty, $dtype:ident, $from32:expr, $to32:expr, $from64:expr, $to64:expr) => {
        // SAFETY: a primitive number, or a transparent wrapper of u16.
        unsafe impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                $from32(x)
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to32(self)
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                $from64(x)
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to64(self)
            }
        }
    };
}
element!(f64, F64, f64::from, |x| x as f32, |x| x, |x| x);
element!(f32, F32, |x| x, |x| x, |x| x as f32, f64::from);
// `half` drops the low bits of an f64 before it rounds; by way of an f32 rounded to odd the result is rounded once.
element!(bf16, BF16, bf16::from_f32, bf16::to_f32, |x| bf16::from_f32(round_to_odd(x)), bf16::to_f64);
element!(f16, F16, narrow_f16, widen_f16, |x| narrow_f16(round_to_odd(x)), |x| f64::from(widen_f16(x)));
element!(u8, U8, |x: f32| x.round_ties_even() as u8, f32::from, |x: f64| x.round_ties_even() as u8, f64::from);
element!(i32, I32, |x: f32| x.round_ties_even() as i32, |x| x as f32, |x: f64| x.round_ties_even() as i32, f64::from);

/// A call, as [`widen_f16`]: at each conversion `half` asks for the processor's instruction and has the bit arithmetic beside it, which would be
/// inlined into every loop. Where it matters kernels convert vectors, by instructions of their level.
#[inline(never)]
fn narrow_f16(x: f32) -> f16 {
    f16::from_f32(x)
}

#[inline(never)]
fn widen_f16(x: f16) -> f32 {
    x.to_f32()
}

/// The neighbour of `x` among f32 whose last bit is 1, or `x` itself: further rounding to 22 bits or less then is as if from `x` (Boldo and
/// Melquiond, "When double rounding is odd").
fn round_to_odd(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || !near.is_finite() {
        return near;
    }
    let beyond = f64::from(near).abs() > x.abs();
    f32::from_bits((near.to_bits() - u32::from(beyond)) | 1)
}

/// The bytes of a slice of elements.
pub fn bytes_of<T: Element>(data: &[T]) -> &[u8] {
    // SAFETY: elements have no padding, and bytes no alignment.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
}

/// The bytes of a slice of elements, to be written.
pub fn bytes_of_mut<T: Element>(data: &mut [T]) -> &mut [u8] {
    // SAFETY: elements have no padding and accept every bit pattern, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), size_of_val(data)) }
}

/// Runs `$body` with `$T` bound to the Rust type of the element type `$dtype`.
#[macro_export]
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::half::bf16;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::half::f16;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
            $crate::DType::I32 => {
                type $T = i32;
                $body
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_once() {
        // Just above the middle of 1 and the next bf16: an f32 on the way would round to the middle, and then to even.
        let x = 1.0 + 2f64.powi(-8) + 2f64.powi(-40);
        assert_eq!(<bf16 as Element>::from_f64(x).to_f32(), 1.0 + 2f32.powi(-7));
        assert_eq!(<bf16 as Element>::from_f64(-x).to_f32(), -1.0 - 2f32.powi(-7));
        assert_eq!(<bf16 as Element>::from_f64(1.0 + 2f64.powi(-8)).to_f32(), 1.0, "a tie goes to even");
        assert_eq!(<f16 as Element>::from_f64(1e9).to_f32(), f32::INFINITY);
        assert!(<f16 as Element>::from_f64(f64::NAN).to_f32().is_nan());
    }
}
