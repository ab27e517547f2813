use half::{bf16, f16};

use super::{super::convert::narrow, Kernel, Simd};

/// Arrays of four numbers, the vectors that every x86-64 has, for machines of which nothing is known.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

type Lanes = [f32; 4];

#[inline(always)]
fn map(a: Lanes, f: impl Fn(f32) -> f32) -> Lanes {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY: plain Rust; pointers are valid by the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks, reason = "each block is the trait's contract, passed on")]
unsafe impl Simd for Portable {
    type V = Lanes;
    const LANES: usize = 4;
    const MR: usize = 6;

    #[inline(never)]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Portable>()
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Lanes {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Lanes {
        unsafe { p.cast::<Lanes>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Lanes {
        let mut lanes = [0.0; 4];
        unsafe { lanes.as_mut_ptr().copy_from_nonoverlapping(p, n) };
        lanes
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: Lanes) {
        unsafe { p.cast::<Lanes>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, x: Lanes, n: usize) {
        unsafe { p.copy_from_nonoverlapping(x.as_ptr(), n) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Lanes {
        let x = unsafe { p.cast::<[u16; 4]>().read_unaligned() };
        std::array::from_fn(|i| f32::from_bits(u32::from(x[i]) << 16))
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, x: Lanes) {
        let x: [u16; 4] = std::array::from_fn(|i| narrow(x[i]).to_bits());
        unsafe { p.cast::<[u16; 4]>().write_unaligned(x) }
    }
    // Calls: there is no instruction for these, and in every loop they would be most of it.
    #[inline(never)]
    unsafe fn load_f16(p: *const f16) -> Lanes {
        unsafe { std::array::from_fn(|i| p.add(i).read().to_f32()) }
    }
    #[inline(never)]
    unsafe fn store_f16(p: *mut f16, x: Lanes) {
        (0..4).for_each(|i| unsafe { p.add(i).write(f16::from_f32(x[i])) });
    }
    #[inline(always)]
    unsafe fn add(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        // Two roundings: without the instruction, one rounding is a call of a software routine per lane.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn sqrt(a: Lanes) -> Lanes {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    unsafe fn round(a: Lanes) -> Lanes {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn power(biased: Lanes) -> Lanes {
        map(biased, |biased| f32::from_bits(biased.to_bits() << 23))
    }
    #[inline(always)]
    unsafe fn frexp(a: Lanes) -> (Lanes, Lanes) {
        let mantissa = map(a, |a| f32::from_bits((a.to_bits() & 0x7F_FFFF) | (127 << 23)));
        (mantissa, map(a, |a| ((a.to_bits() >> 23) as i32 - 127) as f32))
    }
    #[inline(always)]
    unsafe fn select_lt(a: Lanes, b: Lanes, x: Lanes, y: Lanes) -> Lanes {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn select_nan(a: Lanes, x: Lanes, y: Lanes) -> Lanes {
        std::array::from_fn(|i| if a[i].is_nan() { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn sum(a: Lanes) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    unsafe fn max_lane(a: Lanes) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
}
