//! Floating-point instructions against the host's arithmetic and the text of the ISA.

mod common;

use common::{Random, apply, compare, f16, from_f16};

const NAN: u64 = 0x7fff_ffff;

/// Zeros, subnormals, ones, the largest, infinities, NaN, and numbers of moderate size.
fn values() -> Vec<f32> {
    let mut all = vec![0.0, f32::from_bits(1), 1e-40, f32::MIN_POSITIVE, 0.5, 1.0, 1.5, 3.0, f32::MAX, f32::INFINITY, f32::NAN];
    all.extend(all.clone().iter().map(|v| -v));
    let mut random = Random(5);
    all.extend((0..60).map(|_| random.unit() * 2f32.powi((random.bits() % 40) as i32 - 20)));
    all
}

fn operands() -> Vec<[u64; 3]> {
    let (all, mut random) = (values(), Random(6));
    let bits = |v: f32| u64::from(v.to_bits());
    let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b)));
    pairs.map(|(a, b)| [bits(a), bits(b), bits(all[(random.bits() % all.len() as u64) as usize])]).collect()
}

fn number(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// A result as the hardware writes it: there is one NaN.
fn bits(value: f32) -> u64 {
    if value.is_nan() { NAN } else { value.to_bits().into() }
}

fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

#[track_caller]
fn single(instruction: &str, expected: impl Fn(f32, f32, f32) -> f32) {
    compare(&format!("{instruction} %f3, %f0, %f1;"), "f", &operands(), |[a, b, c]| {
        bits(expected(number(a), number(b), number(c)))
    });
}

#[test]
fn arithmetic_to_nearest() {
    single("add.f32", |a, b, _| a + b);
    single("add.rn.f32", |a, b, _| a + b);
    single("sub.f32", |a, b, _| a - b);
    single("mul.f32", |a, b, _| a * b);
    single("div.rn.f32", |a, b, _| a / b);
    single("add.ftz.f32", |a, b, _| flush(flush(a) + flush(b)));
    single("mul.ftz.f32", |a, b, _| flush(flush(a) * flush(b)));
    single("add.sat.f32", |a, b, _| if a + b > 0.0 { (a + b).min(1.0) } else { 0.0 });
    compare("fma.rn.f32 %f3, %f0, %f1, %f2;", "f", &operands(), |[a, b, c]| bits(number(a).mul_add(number(b), number(c))));
    compare("sqrt.rn.f32 %f3, %f0;", "f", &operands(), |[a, _, _]| bits(number(a).sqrt()));
    compare("rcp.rn.f32 %f3, %f0;", "f", &operands(), |[a, _, _]| bits(1.0 / number(a)));
}

#[test]
fn signs_and_extremes() {
    compare("neg.f32 %f3, %f0;", "f", &operands(), |[a, _, _]| a ^ 0x8000_0000);
    compare("abs.f32 %f3, %f0;", "f", &operands(), |[a, _, _]| a & 0x7fff_ffff);
    compare("copysign.f32 %f3, %f0, %f1;", "f", &operands(), |[a, b, _]| b & 0x7fff_ffff | a & 0x8000_0000);
    // A NaN loses, and -0 is below 0.
    let least = |a: f32, b: f32| if a.is_nan() || b < a || (a == b && b.is_sign_negative()) { b } else { a };
    single("min.f32", |a, b, _| least(a, b));
    single("max.f32", |a, b, _| -least(-a, -b));
    single("min.NaN.f32", |a, b, _| if a.is_nan() || b.is_nan() { f32::NAN } else { least(a, b) });
    single("max.NaN.f32", |a, b, _| if a.is_nan() || b.is_nan() { f32::NAN } else { -least(-a, -b) });
}

/// `exact` in the direction that is named, from f64 numbers that hold it exactly.
fn directed(exact: f64, direction: &str) -> f32 {
    let near = exact as f32;
    let (low, high) = match f64::from(near) {
        n if n == exact => return near,
        n if n < exact => (near, near.next_up()),
        _ => (near.next_down(), near),
    };
    match direction {
        "rz" if exact > 0.0 => low,
        "rz" => high,
        "rm" => low,
        "rp" => high,
        _ => near,
    }
}

#[test]
fn directed_rounding() {
    let mut random = Random(7);
    // Within 2^12 of each other, sums of two are exact in f64; products always are.
    let mut next = || u64::from((random.unit() * 2f32.powi((random.bits() % 12) as i32)).to_bits());
    let operands: Vec<[u64; 3]> = (0..2000).map(|_| [next(), next(), next()]).collect();
    for direction in ["rn", "rz", "rm", "rp"] {
        let single = |instruction: &str, expected: fn(f64, f64, f64) -> f64| {
            compare(&format!("{instruction};"), "f", &operands, |[a, b, c]| {
                let exact = expected(number(a).into(), number(b).into(), number(c).into());
                directed(exact, direction).to_bits().into()
            });
        };
        single(&format!("add.{direction}.f32 %f3, %f0, %f1"), |a, b, _| a + b);
        single(&format!("sub.{direction}.f32 %f3, %f0, %f1"), |a, b, _| a - b);
        single(&format!("mul.{direction}.f32 %f3, %f0, %f1"), |a, b, _| a * b);
        single(&format!("cvt.{direction}.f32.f64 %f3, %d0; fma.{direction}.f32 %f3, %f0, %f1, 0f00000000"), |a, b, _| a * b);
        // Quotients and roots are not exact; the error of their f64 decides nothing but in a case of 2^29.
        single(&format!("div.{direction}.f32 %f3, %f0, %f1"), |a, b, _| a / b);
        single(&format!("rcp.{direction}.f32 %f3, %f0"), |a, _, _| 1.0 / a);
    }
    let one: [u64; 3] = [0x3f80_0000, 0x3380_0000, 0];
    assert_eq!(apply("add.rp.f32 %f3, %f0, %f1;", "f", &[one]), [0x3f80_0001]);
    assert_eq!(apply("add.rm.f32 %f3, %f0, %f1;", "f", &[one]), [0x3f80_0000]);
    assert_eq!(apply("sub.rm.f32 %f3, %f0, %f0;", "f", &[one]), [0x8000_0000]);
    assert_eq!(apply("sub.rn.f32 %f3, %f0, %f0;", "f", &[one]), [0]);
}

#[test]
fn double_precision() {
    let operands: Vec<[u64; 3]> = operands().iter().map(|o| o.map(|b| f64::from(number(b)).to_bits())).collect();
    let check = |instruction: &str, expected: fn(f64, f64, f64) -> f64| {
        for (o, found) in operands.iter().zip(apply(instruction, "d", &operands)) {
            let [a, b, c] = o.map(f64::from_bits);
            let (found, expected) = (f64::from_bits(found), expected(a, b, c));
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{instruction} of {a}, {b}, {c}: {found}"
            );
        }
    };
    check("add.f64 %d3, %d0, %d1;", |a, b, _| a + b);
    check("mul.rn.f64 %d3, %d0, %d1;", |a, b, _| a * b);
    check("fma.rn.f64 %d3, %d0, %d1, %d2;", f64::mul_add);
    check("div.rn.f64 %d3, %d0, %d1;", |a, b, _| a / b);
    check("sqrt.rn.f64 %d3, %d0;", |a, _, _| a.sqrt());
    check("cvt.rn.f32.f64 %f3, %d0; cvt.f64.f32 %d3, %f3;", |a, _, _| f64::from(a as f32));
    check("cvt.rni.f64.f64 %d3, %d0;", |a, _, _| a.round_ties_even());
}

#[test]
fn approximations_are_near_and_exact_at_the_edges() {
    let check = |instruction: &str, f: fn(f64) -> f64, range: f32| {
        let mut random = Random(8);
        let inputs: Vec<[u64; 3]> = (0..500).map(|_| [u64::from((random.unit().abs() * range).to_bits()), 0, 0]).collect();
        for (input, found) in inputs.iter().zip(apply(&format!("{instruction} %f3, %f0;"), "f", &inputs)) {
            let (x, found) = (f64::from(number(input[0])), f64::from(number(found)));
            // Tighter than the ISA's bounds: the emulator is to be nearer to the truth than any hardware.
            assert!((found - f(x)).abs() <= f(x).abs() * 6e-8 + 1e-38, "{instruction} of {x}: {found}");
        }
    };
    check("ex2.approx.ftz.f32", f64::exp2, 60.0);
    check("lg2.approx.f32", f64::log2, 1e6);
    check("rcp.approx.ftz.f32", |x| 1.0 / x, 1e3);
    check("rsqrt.approx.f32", |x| 1.0 / x.sqrt(), 1e3);
    check("sqrt.approx.f32", f64::sqrt, 1e3);
    check("sin.approx.f32", f64::sin, 3.0);
    check("cos.approx.f32", f64::cos, 3.0);
    check("tanh.approx.f32", f64::tanh, 3.0);
    let edge = |instruction: &str, input: f32, expected: f32| {
        let found = apply(&format!("{instruction} %f3, %f0;"), "f", &[[u64::from(input.to_bits()), 0, 0]])[0];
        assert_eq!(found, bits(expected), "{instruction} of {input}");
    };
    let tiny = f32::from_bits(1);
    edge("ex2.approx.ftz.f32", f32::NEG_INFINITY, 0.0);
    edge("ex2.approx.ftz.f32", f32::INFINITY, f32::INFINITY);
    edge("ex2.approx.ftz.f32", -130.0, 0.0);
    edge("ex2.approx.f32", -130.0, 2f32.powi(-130));
    edge("ex2.approx.ftz.f32", tiny, 1.0);
    edge("ex2.approx.f32", f32::NAN, f32::NAN);
    edge("lg2.approx.f32", 0.0, f32::NEG_INFINITY);
    edge("lg2.approx.ftz.f32", tiny, f32::NEG_INFINITY);
    edge("lg2.approx.f32", -1.0, f32::NAN);
    edge("rcp.approx.ftz.f32", -0.0, f32::NEG_INFINITY);
    edge("rcp.approx.ftz.f32", f32::INFINITY, 0.0);
    edge("rcp.approx.ftz.f32", f32::MAX, 0.0);
    edge("rsqrt.approx.f32", -1.0, f32::NAN);
    edge("rsqrt.approx.f32", 0.0, f32::INFINITY);
    edge("sqrt.approx.f32", -0.0, -0.0);
    edge("sin.approx.f32", f32::INFINITY, f32::NAN);
}

#[test]
fn full_range_division() {
    let operands: Vec<[u64; 3]> = operands().into_iter().filter(|o| number(o[1]).abs() < 8e37).collect();
    for (o, found) in operands.iter().zip(apply("div.full.f32 %f3, %f0, %f1;", "f", &operands)) {
        let (exact, found) = (number(o[0]) / number(o[1]), number(found));
        assert!(
            found == exact || found.is_nan() && exact.is_nan() || ((found - exact) / exact).abs() < 2.4e-7,
            "{found} {exact}"
        );
    }
}

#[test]
fn comparisons() {
    type Relation = fn(f32, f32) -> bool;
    let ordered: [(&str, Relation); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (name, holds) in ordered {
        let check = |name: &str, nan: bool| {
            compare(&format!("setp.{name}.f32 %p0, %f0, %f1; selp.u32 %r3, 1, 0, %p0;"), "r", &operands(), |[a, b, _]| {
                let (a, b) = (number(a), number(b));
                u64::from(if a.is_nan() || b.is_nan() { nan } else { holds(a, b) })
            });
        };
        check(name, false);
        check(&format!("{name}u"), true);
    }
    compare("setp.nan.f32 %p0, %f0, %f1; selp.u32 %r3, 1, 0, %p0;", "r", &operands(), |[a, b, _]| {
        u64::from(number(a).is_nan() || number(b).is_nan())
    });
    compare("setp.gt.ftz.f32 %p0, %f0, %f1; selp.u32 %r3, 1, 0, %p0;", "r", &operands(), |[a, b, _]| {
        u64::from(flush(number(a)) > flush(number(b)))
    });
    compare("testp.subnormal.f32 %p0, %f0; selp.u32 %r3, 1, 0, %p0;", "r", &operands(), |[a, _, _]| {
        number(a).is_subnormal().into()
    });
}

#[test]
fn floats_to_integers() {
    let mut operands = operands();
    operands.extend(
        [0.5f32, 1.5, 2.5, -0.5, -2.5, 2_147_483_648.0, -2_147_483_648.0, 4e9, 300.0, -3.0].map(|v| [v.to_bits().into(), 0, 0]),
    );
    type Round = fn(f32) -> f32;
    let directions: [(&str, Round); 4] =
        [("rni", f32::round_ties_even), ("rzi", f32::trunc), ("rmi", f32::floor), ("rpi", f32::ceil)];
    for (name, round) in directions {
        // Conversions of Rust saturate as those of PTX do, and NaN becomes 0.
        compare(&format!("cvt.{name}.s32.f32 %r3, %f0;"), "r", &operands, |[a, _, _]| round(number(a)) as i32 as u32 as u64);
        compare(&format!("cvt.{name}.u32.f32 %r3, %f0;"), "r", &operands, |[a, _, _]| (round(number(a)) as u32).into());
        compare(&format!("cvt.{name}.s64.f32 %a3, %f0;"), "a", &operands, |[a, _, _]| round(number(a)) as i64 as u64);
        compare(&format!("cvt.{name}.u16.f32 %h3, %f0;"), "h", &operands, |[a, _, _]| (round(number(a)) as u16).into());
        compare(&format!("cvt.{name}.f32.f32 %f3, %f0;"), "f", &operands, |[a, _, _]| bits(round(number(a))));
    }
    compare("cvt.sat.f32.f32 %f3, %f0;", "f", &operands, |[a, _, _]| {
        bits(if number(a) > 0.0 { number(a).min(1.0) } else { 0.0 })
    });
}

#[test]
fn integers_to_floats() {
    let mut random = Random(9);
    let operands: Vec<[u64; 3]> = (0..1000).map(|n| [random.bits() >> (n % 64), 0, 0]).collect();
    compare("cvt.rn.f32.s32 %f3, %r0;", "f", &operands, |[a, _, _]| bits(a as u32 as i32 as f32));
    compare("cvt.rn.f32.u32 %f3, %r0;", "f", &operands, |[a, _, _]| bits(a as u32 as f32));
    compare("cvt.rn.f32.u64 %f3, %a0;", "f", &operands, |[a, _, _]| bits(a as f32));
    compare("cvt.rn.f32.u16 %f3, %h0;", "f", &operands, |[a, _, _]| bits(a as u16 as f32));
    compare("cvt.rn.f64.s64 %d3, %a0;", "d", &operands, |[a, _, _]| (a as i64 as f64).to_bits());
    for direction in ["rz", "rm", "rp"] {
        compare(&format!("cvt.{direction}.f32.s32 %f3, %r0;"), "f", &operands, |[a, _, _]| {
            directed(f64::from(a as u32 as i32), direction).to_bits().into()
        });
    }
}

/// All f16 and bf16 numbers, 16 bits each.
fn all_halves() -> Vec<[u64; 3]> {
    (0..1 << 16).map(|a| [a, 0, 0]).collect()
}

fn half(bits: u64) -> f32 {
    let bits = bits as u16;
    match bits & 0x7fff {
        0x7c00 => f32::INFINITY.copysign(if bits > 0x7fff { -1.0 } else { 1.0 }),
        0x7c01.. => f32::NAN,
        small @ 0..0x400 => f32::from(small) * 2f32.powi(-24) * if bits > 0x7fff { -1.0 } else { 1.0 },
        _ => from_f16(bits),
    }
}

#[test]
fn narrow_formats_widen_exactly() {
    compare("cvt.f32.f16 %f3, %h0;", "f", &all_halves(), |[a, _, _]| bits(half(a)));
    compare("mov.b32 %r1, {0, %h0}; mov.b32 %f3, %r1;", "f", &all_halves()[..0x7f80], |[a, _, _]| a << 16);
}

#[test]
fn narrowing_rounds_to_nearest_even() {
    let mut random = Random(10);
    let mut operands: Vec<[u64; 3]> =
        (0..4000).map(|_| [u64::from((random.unit() * 60000.0).to_bits()), u64::from(random.unit().to_bits()), 0]).collect();
    // Ties, the largest, what overflows, what underflows.
    for v in [
        1.0 + 2f32.powi(-11),
        1.0 + 3.0 * 2f32.powi(-11),
        65504.0,
        65519.9,
        65520.0,
        1e6,
        -1e6,
        2f32.powi(-14),
        0.0,
        -0.0,
        f32::INFINITY,
    ] {
        operands.push([v.to_bits().into(), 0, 0]);
    }
    let to_f16 = |v: f32| -> u64 {
        if v.abs() >= 65520.0 {
            return if v > 0.0 { 0x7c00 } else { 0xfc00 };
        }
        if v.abs() < 2f32.powi(-14) {
            let steps = (f64::from(v).abs() * 2f64.powi(24)).round_ties_even() as u64;
            return steps | if v.is_sign_negative() { 0x8000 } else { 0 };
        }
        f16(v).into()
    };
    compare("cvt.rn.f16.f32 %h3, %f0;", "h", &operands, |[a, _, _]| to_f16(number(a)));
    compare("cvt.rn.f16x2.f32 %r3, %f0, %f1;", "r", &operands, |[a, b, _]| to_f16(number(a)) << 16 | to_f16(number(b)));
    let bf16 = |a: u64| if number(a).is_infinite() { a >> 16 } else { common::bf16(number(a)).into() };
    compare("cvt.rn.bf16.f32 %h3, %f0;", "h", &operands, |[a, _, _]| bf16(a));
    compare("cvt.rn.bf16x2.f32 %r3, %f0, %f1;", "r", &operands, |[a, b, _]| bf16(a) << 16 | bf16(b));
    compare("cvt.rz.bf16.f32 %h3, %f0;", "h", &operands, |[a, _, _]| a >> 16);
    compare("cvt.rn.relu.bf16.f32 %h3, %f0;", "h", &operands, |[a, _, _]| if number(a) <= 0.0 { 0 } else { bf16(a) });
    compare(
        "cvt.rna.tf32.f32 %r3, %f0;",
        "r",
        &operands,
        |[a, _, _]| if number(a).is_infinite() { a } else { (a + 0x1000) & 0xffff_e000 },
    );
    assert_eq!(apply("cvt.rn.f16.f32 %h3, %f0;", "h", &[[NAN, 0, 0]]), [0x7fff]);
    assert_eq!(apply("cvt.rn.bf16.f32 %h3, %f0;", "h", &[[NAN, 0, 0]]), [0x7fff]);
}

#[test]
fn arithmetic_of_halves() {
    let mut random = Random(11);
    let mut number = || u64::from(f16(random.unit() * 8.0));
    let operands: Vec<[u64; 3]> = (0..3000).map(|_| [number(), number(), number()]).collect();
    let value = |bits: u64| f64::from(half(bits & 0xffff));
    // Sums, products and their sums of such numbers are exact in f64, so that they are rounded once.
    let round = |exact: f64| -> u64 {
        if exact.abs() < 2f64.powi(-14) {
            let steps = (exact.abs() * 2f64.powi(24)).round_ties_even() as u64;
            return steps | if exact.is_sign_negative() { 0x8000 } else { 0 };
        }
        let unit = 2f64.powi(exact.abs().log2().floor() as i32 - 10);
        f16(((exact / unit).round_ties_even() * unit) as f32).into()
    };
    compare("add.f16 %h3, %h0, %h1;", "h", &operands, |[a, b, _]| round(value(a) + value(b)));
    compare("mul.rn.f16 %h3, %h0, %h1;", "h", &operands, |[a, b, _]| round(value(a) * value(b)));
    compare("fma.rn.f16 %h3, %h0, %h1, %h2;", "h", &operands, |[a, b, c]| round(value(a) * value(b) + value(c)));
    let pairs: Vec<[u64; 3]> = operands.chunks_exact(2).map(|p| [0, 1, 2].map(|n| p[0][n] | p[1][n] << 16)).collect();
    compare("add.f16x2 %r3, %r0, %r1;", "r", &pairs, |[a, b, _]| {
        round(value(a >> 16) + value(b >> 16)) << 16 | round(value(a) + value(b))
    });
    compare("fma.rn.f16x2 %r3, %r0, %r1, %r2;", "r", &pairs, |[a, b, c]| {
        round(value(a >> 16) * value(b >> 16) + value(c >> 16)) << 16 | round(value(a) * value(b) + value(c))
    });
    compare("setp.lt.f16 %p0, %h0, %h1; selp.u32 %r3, 1, 0, %p0;", "r", &operands, |[a, b, _]| u64::from(value(a) < value(b)));
    let brain: Vec<[u64; 3]> = operands.iter().map(|o| o.map(|b| u64::from(common::bf16(half(b))))).collect();
    let wide = |bits: u64| f32::from_bits((bits as u32) << 16);
    compare("fma.rn.bf16 %h3, %h0, %h1, %h2;", "h", &brain, |[a, b, c]| {
        // The f64 is exact; rounding it to odd in f32 first keeps the second rounding right.
        let exact = f64::from(wide(a)) * f64::from(wide(b)) + f64::from(wide(c));
        let near = directed(exact, "rz");
        let odd = if f64::from(near) == exact { near } else { f32::from_bits(near.to_bits() | 1) };
        common::bf16(odd).into()
    });
    compare("max.bf16x2 %r3, %r0, %r1;", "r", &brain, |[a, b, _]| {
        let high = wide(a >> 16).max(wide(b >> 16)).to_bits() >> 16;
        u64::from(high) << 16 | u64::from(wide(a).max(wide(b)).to_bits() >> 16)
    });
}
