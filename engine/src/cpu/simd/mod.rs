//! Vectors of f32: one trait, one implementation per instruction set, and kernels written once over the trait.
//!
//! A kernel is a value with a generic `run`. [`Level::run`] enters it through a function that enables the instruction set, and
//! everything below inlines into that function; hence `#[inline(always)]` on every kernel and on every function it is made of.

use std::{fmt, str::FromStr};

use half::{bf16, f16};

use crate::{Element, Error, Result};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(crate) mod brief;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// As [`Level::Avx512Bf16`], with products and attention of bf16 in AMX's tiles.
    Amx,
    /// As [`Level::Avx512`], with products and attention of bf16 in pairs.
    Avx512Bf16,
    /// 512 bits: F, BW, DQ, VL.
    Avx512,
    /// 256 bits with fused multiply-add and half conversion.
    Avx2,
    /// 128 bits of aarch64.
    Neon,
    /// Whatever the compiler makes of arrays of four numbers; runs everywhere.
    Portable,
}

impl Level {
    /// Every level, best first.
    pub const ALL: [Level; 6] = [Level::Amx, Level::Avx512Bf16, Level::Avx512, Level::Avx2, Level::Neon, Level::Portable];

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Amx => Level::Avx512.available() && super::amx::available(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => is_x86_feature_detected!("avx512bf16") && Level::Avx512.available(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Level::Avx2.available()
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Level::Portable => true,
            #[allow(unreachable_patterns, reason = "which levels remain depends on the architecture")]
            _ => false,
        }
    }

    /// The best that this machine has: `avx512-bf16` only where its products are known to be faster than those of f32.
    pub fn best() -> Level {
        Level::ALL.into_iter().find(|level| level.available() && level.pays()).unwrap_or(Level::Portable)
    }

    fn pays(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => super::pairs::pay(),
            _ => true,
        }
    }

    /// The name for `TUBELET_SIMD`.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Amx => "amx",
            Level::Avx512Bf16 => "avx512-bf16",
            Level::Avx512 => "avx512",
            Level::Avx2 => "avx2",
            Level::Neon => "neon",
            Level::Portable => "portable",
        }
    }

    /// [`Self::run`] for kernels of [pairs](super::pairs), compiled for the instructions alone that every machine with those has.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn run_widest<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(matches!(self, Level::Amx | Level::Avx512Bf16), "{self} has no pairs");
        // SAFETY: as below.
        unsafe { avx512::enter(kernel) }
    }

    /// Runs a kernel with these instructions. Panics if the machine lacks them; [`super::Cpu::new`] has asked.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: a `Cpu` exists only with a level that is available.
            #[cfg(target_arch = "x86_64")]
            Level::Amx | Level::Avx512Bf16 | Level::Avx512 => unsafe { avx512::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::enter(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Level::Neon => unsafe { neon::enter(kernel) },
            // SAFETY: needs nothing. Never inlined, so that callers of a kernel share it, as the others.
            _ => unsafe { portable::Portable::enter(kernel) },
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = Error;
    fn from_str(name: &str) -> Result<Level> {
        let found = Level::ALL.into_iter().find(|level| level.name() == name);
        found.ok_or_else(|| {
            Error::invalid("TUBELET_SIMD", format!("{name:?} is none of amx, avx512-bf16, avx512, avx2, neon, portable"))
        })
    }
}

/// Work that is compiled once for every instruction set.
pub(crate) trait Kernel {
    type Output;
    /// Must be `#[inline(always)]`.
    fn run<S: Simd>(self) -> Self::Output;
}

/// A vector of [`Simd::LANES`] f32 in a register.
///
/// # Safety
/// Every function needs the instruction set of the implementation; pointers must be valid for the lanes that are touched, at any alignment.
#[allow(clippy::missing_safety_doc, reason = "stated once, at the trait")]
pub(crate) unsafe trait Simd: Copy + Send + Sync + 'static {
    type V: Copy;
    /// f32 per register.
    const LANES: usize;
    /// Rows of the gemm tile: as many accumulators as the register file holds beside two columns of the weight.
    const MR: usize;

    /// Runs a kernel with these instructions as a function of its own, shared by all callers instead of inlined into each.
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first `n` lanes, 0 in the others; `n ≤ LANES`.
    unsafe fn load_first(p: *const f32, n: usize) -> Self::V;
    unsafe fn store(p: *mut f32, x: Self::V);
    /// The first `n` lanes; `n ≤ LANES`.
    unsafe fn store_first(p: *mut f32, x: Self::V, n: usize);
    /// [`Simd::store`] past the caches, where there is such an instruction; `p` is aligned to the vector. A [`Simd::fence`] has to follow.
    #[inline(always)]
    unsafe fn stream(p: *mut f32, x: Self::V) {
        // SAFETY: passed on from the caller.
        unsafe { Self::store(p, x) }
    }
    /// Orders what was [streamed](Simd::stream) before what comes.
    #[inline(always)]
    unsafe fn fence() {}
    /// `LANES` bf16, widened.
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Self::V {
        // SAFETY: passed on from the caller.
        unsafe { widen::<Self, bf16>(p) }
    }
    /// Rounded to nearest, ties to even; NaN stays NaN.
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, x: Self::V) {
        // SAFETY: passed on from the caller.
        unsafe { narrow::<Self, bf16>(p, x) }
    }
    /// The first `n` of `LANES` bf16, 0 in the others; `n ≤ LANES`.
    #[inline(always)]
    unsafe fn load_bf16_first(p: *const bf16, n: usize) -> Self::V {
        let mut x = [bf16::ZERO; WIDEST];
        // SAFETY: passed on from the caller.
        unsafe {
            (0..n).for_each(|i| x[i] = *p.add(i));
            Self::load_bf16(x.as_ptr())
        }
    }
    /// The first `n` lanes as [`Simd::store_bf16`]; `n ≤ LANES`.
    #[inline(always)]
    unsafe fn store_bf16_first(p: *mut bf16, x: Self::V, n: usize) {
        let mut y = [bf16::ZERO; WIDEST];
        // SAFETY: passed on from the caller.
        unsafe {
            Self::store_bf16(y.as_mut_ptr(), x);
            p.copy_from_nonoverlapping(y.as_ptr(), n);
        }
    }
    /// Two vectors of the `2·LANES` bf16 at `p`, in the order that [`Simd::store_bf16_two`] undoes: what is cheapest for functions of single elements.
    #[inline(always)]
    unsafe fn load_bf16_two(p: *const bf16) -> [Self::V; 2] {
        // SAFETY: passed on from the caller.
        unsafe { [Self::load_bf16(p), Self::load_bf16(p.add(Self::LANES))] }
    }
    /// See [`Simd::load_bf16_two`] and [`Simd::store_bf16`].
    #[inline(always)]
    unsafe fn store_bf16_two(p: *mut bf16, x: [Self::V; 2]) {
        // SAFETY: passed on from the caller.
        unsafe {
            Self::store_bf16(p, x[0]);
            Self::store_bf16(p.add(Self::LANES), x[1]);
        }
    }
    /// `LANES` f16, widened.
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> Self::V {
        // SAFETY: passed on from the caller.
        unsafe { widen::<Self, f16>(p) }
    }
    /// Rounded to nearest, ties to even; NaN stays NaN.
    #[inline(always)]
    unsafe fn store_f16(p: *mut f16, x: Self::V) {
        // SAFETY: passed on from the caller.
        unsafe { narrow::<Self, f16>(p, x) }
    }
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`, rounded once where the machine can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` if either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// `−|a|`; NaN stays NaN.
    #[inline(always)]
    unsafe fn minus_abs(a: Self::V) -> Self::V {
        // SAFETY: passed on from the caller.
        unsafe { Self::min(a, Self::sub(Self::splat(0.0), a)) }
    }
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `2ⁿ` of `n +` [`POWER`], for integral `n` in `−126..=127`; 0 for −127, ∞ for 128: the last bits become the exponent.
    unsafe fn power(biased: Self::V) -> Self::V;
    /// `p·2ⁿ` for `p` in `[½, 2)` and integral `n` in `−151..=129`; ∞ beyond the largest number, and possibly 0 below 2⁻¹²⁵.
    #[inline(always)]
    unsafe fn scale(p: Self::V, n: Self::V) -> Self::V {
        // SAFETY: passed on from the caller.
        unsafe {
            // Of n − 1: the exponent −127 is 0's, and 128 is ∞'s.
            let below = Self::add(Self::max(n, Self::splat(-126.0)), Self::splat(POWER - 1.0));
            Self::mul(Self::add(p, p), Self::power(below))
        }
    }
    /// `1/a`, to 14 bits at least.
    #[inline(always)]
    unsafe fn reciprocal(a: Self::V) -> Self::V {
        // SAFETY: passed on from the caller.
        unsafe { Self::div(Self::splat(1.0), a) }
    }
    /// Mantissa in `[1, 2)` and exponent of a positive normal number.
    unsafe fn frexp(a: Self::V) -> (Self::V, Self::V);
    /// `a < b ? x : y` per lane; `y` where either is NaN.
    unsafe fn select_lt(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// `a` is NaN `? x : y` per lane.
    unsafe fn select_nan(a: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Sum of all lanes, in a fixed order.
    unsafe fn sum(a: Self::V) -> f32;
    /// Asks for the cache line at `p`, which need not be valid.
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
    /// The same, for what is wanted later: into L2.
    #[inline(always)]
    unsafe fn prefetch_later(_p: *const u8) {}
    /// The same pointers, of which the compiler no longer knows that they are related: what is read through both is read twice. Only where reads can be
    /// part of the arithmetic.
    #[inline(always)]
    unsafe fn apart(pointers: [*const f32; 2]) -> [*const f32; 2] {
        pointers
    }
    /// The sum of all lanes of each, in a fixed order.
    #[inline(always)]
    unsafe fn sum_each(x: [Self::V; 4]) -> [f32; 4] {
        // SAFETY: passed on from the caller.
        unsafe { [Self::sum(x[0]), Self::sum(x[1]), Self::sum(x[2]), Self::sum(x[3])] }
    }
    /// The first [`Simd::LANES`] rows, transposed; `LANES ≤ 16`.
    #[inline(always)]
    unsafe fn transpose(rows: [Self::V; 16]) -> [Self::V; 16] {
        let mut from = [0f32; 256];
        let mut to = [0f32; 256];
        // SAFETY: passed on from the caller; both blocks hold 16 rows of 16.
        unsafe {
            for (i, row) in rows.into_iter().enumerate().take(Self::LANES) {
                Self::store(from.as_mut_ptr().add(i * Self::LANES), row);
            }
            for i in 0..Self::LANES * Self::LANES {
                to[i % Self::LANES * Self::LANES + i / Self::LANES] = from[i];
            }
            std::array::from_fn(|i| Self::load(to.as_ptr().add(if i < Self::LANES { i * Self::LANES } else { 0 })))
        }
    }
    /// Largest lane.
    unsafe fn max_lane(a: Self::V) -> f32;
}

/// Numbers from 2²³ to 2²⁴ are integers: to one near the middle `|n| < 2²²` is added exactly, what is no integer rounded to the nearest, and the last
/// bits of the sum are those of `n + 127`, which is how f32 writes the exponent `n`.
const POWER: f32 = (3 << 22) as f32 + 127.0;

/// The lanes of the widest vector.
const WIDEST: usize = 16;

/// A vector of elements, one conversion after the other: for levels without an instruction for it.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn widen<S: Simd, T: Element>(p: *const T) -> S::V {
    let mut x = [0f32; WIDEST];
    // SAFETY: passed on from the caller.
    unsafe {
        x.iter_mut().enumerate().take(S::LANES).for_each(|(i, x)| *x = (*p.add(i)).to_f32());
        S::load(x.as_ptr())
    }
}

/// As [`widen`], the other way.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn narrow<S: Simd, T: Element>(p: *mut T, y: S::V) {
    let mut x = [0f32; WIDEST];
    // SAFETY: passed on from the caller.
    unsafe {
        S::store(x.as_mut_ptr(), y);
        x.iter().enumerate().take(S::LANES).for_each(|(i, x)| p.add(i).write(T::from_f32(*x)));
    }
}
