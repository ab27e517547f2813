//! f32 and f64.
//!
//! `rn` is the host's arithmetic. The other directions round an f64 with its residual (see [`exact`]). The approximations are computed
//! in f64 and rounded to f32: nearer to the truth than the hardware, and within its documented error of the hardware's result.

use super::integer::Arithmetic;
use crate::counters::Class;
use crate::numeric::exact;
use crate::numeric::format::{F32, Rounding, to_single};
use crate::syntax::ast::Instruction;
use crate::types::Type;

/// How a result is finished.
#[derive(Clone, Copy)]
pub struct Modifiers {
    pub ftz: bool,
    pub saturate: bool,
    pub rounding: Rounding,
}

impl Modifiers {
    pub fn of(i: &Instruction) -> Modifiers {
        let rounding = i.parts.iter().find_map(|p| Rounding::parse(p)).unwrap_or(Rounding::Nearest);
        Modifiers { ftz: i.has("ftz"), saturate: i.has("sat"), rounding }
    }

    /// An operand, flushed where the instruction says so.
    pub fn take(self, bits: u64) -> f32 {
        let value = f32::from_bits(bits as u32);
        if self.ftz { flush(value) } else { value }
    }

    /// A result as bits: flushed, saturated, and NaN as the hardware writes it.
    pub fn give(self, value: f32) -> u64 {
        let mut value = if self.ftz { flush(value) } else { value };
        if self.saturate {
            value = if value > 0.0 { value.min(1.0) } else { 0.0 };
        }
        u64::from(if value.is_nan() { F32.nan() } else { value.to_bits() })
    }

    /// A result that is rounded only here.
    fn give_exact(self, value: f64) -> u64 {
        self.give(to_single(value, self.rounding))
    }
}

fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0.0f32.copysign(value) } else { value }
}

fn double(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// The smaller of two numbers; -0 is below +0; a NaN loses unless `strict`.
pub fn least(a: f64, b: f64, strict: bool) -> f64 {
    if a.is_nan() || b.is_nan() {
        return if strict || a.is_nan() && b.is_nan() {
            f64::NAN
        } else if a.is_nan() {
            b
        } else {
            a
        };
    }
    if a < b || a == b && a.is_sign_negative() { a } else { b }
}

/// The larger of two numbers, likewise.
pub fn greatest(a: f64, b: f64, strict: bool) -> f64 {
    -least(-a, -b, strict)
}

/// The transcendental functions, by name.
pub fn transcendental(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "rcp" => |x| 1.0 / x,
        "sqrt" => f64::sqrt,
        "rsqrt" => |x| 1.0 / x.sqrt(),
        "ex2" => f64::exp2,
        "lg2" => f64::log2,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

pub fn build(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    match ty {
        Type::F64 => build_double(i),
        _ => build_single(i),
    }
}

fn build_single(i: &Instruction) -> Option<Arithmetic> {
    let (class, ty, m) = (Class::Float, Type::F32, Modifiers::of(i));
    let strict = i.has("NaN");
    if i.has("xorsign") {
        return None;
    }
    let approximate = i.has("approx") || i.has("full");
    match &*i.name {
        "neg" => Arithmetic::one(class, ty, move |a| m.take(a ^ 0x8000_0000).to_bits().into()),
        "abs" => Arithmetic::one(class, ty, move |a| m.take(a & 0x7fff_ffff).to_bits().into()),
        "min" => Arithmetic::two(class, ty, move |a, b| m.give(least(m.take(a).into(), m.take(b).into(), strict) as f32)),
        "max" => Arithmetic::two(class, ty, move |a, b| m.give(greatest(m.take(a).into(), m.take(b).into(), strict) as f32)),
        "copysign" => Arithmetic::two(class, ty, |a, b| a & 0x8000_0000 | b & 0x7fff_ffff),
        "div" if approximate => {
            Arithmetic::two(class, ty, move |a, b| m.give((f64::from(m.take(a)) / f64::from(m.take(b))) as f32))
        }
        "rcp" | "sqrt" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" if approximate => {
            let f = transcendental(&i.name)?;
            Arithmetic::one(class, ty, move |a| m.give(f(m.take(a).into()) as f32))
        }
        _ if m.rounding == Rounding::Nearest => nearest_single(i, m),
        _ => directed_single(i, m),
    }
}

fn nearest_single(i: &Instruction, m: Modifiers) -> Option<Arithmetic> {
    let (class, ty) = (Class::Float, Type::F32);
    match &*i.name {
        "add" => Arithmetic::two(class, ty, move |a, b| m.give(m.take(a) + m.take(b))),
        "sub" => Arithmetic::two(class, ty, move |a, b| m.give(m.take(a) - m.take(b))),
        "mul" => Arithmetic::two(class, ty, move |a, b| m.give(m.take(a) * m.take(b))),
        "div" => Arithmetic::two(class, ty, move |a, b| m.give(m.take(a) / m.take(b))),
        "fma" | "mad" => Arithmetic::three(class, ty, move |a, b, c| m.give(m.take(a).mul_add(m.take(b), m.take(c)))),
        "rcp" => Arithmetic::one(class, ty, move |a| m.give(1.0 / m.take(a))),
        "sqrt" => Arithmetic::one(class, ty, move |a| m.give(m.take(a).sqrt())),
        _ => None,
    }
}

fn directed_single(i: &Instruction, m: Modifiers) -> Option<Arithmetic> {
    let (class, ty) = (Class::Float, Type::F32);
    let take = move |bits| f64::from(m.take(bits));
    // An exact zero from operands of different signs is -0 when rounding down: f64 computes +0.
    let down = m.rounding == Rounding::Down;
    let zero = move |sum: f64, a: f64, b: f64| match sum == 0.0 && a.is_sign_negative() != b.is_sign_negative() {
        true if down => -0.0,
        _ => sum,
    };
    match &*i.name {
        "add" => {
            Arithmetic::two(class, ty, move |a, b| m.give_exact(zero(exact::fused(take(a), 1.0, take(b)), take(a), take(b))))
        }
        "sub" => {
            Arithmetic::two(class, ty, move |a, b| m.give_exact(zero(exact::fused(take(a), 1.0, -take(b)), take(a), -take(b))))
        }
        "mul" => Arithmetic::two(class, ty, move |a, b| m.give_exact(take(a) * take(b))),
        "div" => Arithmetic::two(class, ty, move |a, b| m.give_exact(exact::quotient(take(a), take(b)))),
        "fma" | "mad" => Arithmetic::three(class, ty, move |a, b, c| {
            m.give_exact(zero(exact::fused(take(a), take(b), take(c)), take(a) * take(b), take(c)))
        }),
        "rcp" => Arithmetic::one(class, ty, move |a| m.give_exact(exact::quotient(1.0, take(a)))),
        "sqrt" => Arithmetic::one(class, ty, move |a| m.give_exact(exact::square_root(take(a)))),
        _ => None,
    }
}

fn build_double(i: &Instruction) -> Option<Arithmetic> {
    let (class, ty, m) = (Class::Float, Type::F64, Modifiers::of(i));
    let two = |f: fn(f64, f64) -> f64| Arithmetic::two(class, ty, move |a, b| f(double(a), double(b)).to_bits());
    match &*i.name {
        "neg" => return Arithmetic::one(class, ty, |a| a ^ 1 << 63),
        "abs" => return Arithmetic::one(class, ty, |a| a & !(1 << 63)),
        "min" => return two(|a, b| least(a, b, false)),
        "max" => return two(|a, b| greatest(a, b, false)),
        "copysign" => return Arithmetic::two(class, ty, |a, b| a & 1 << 63 | b & !(1 << 63)),
        // The hardware fills in the upper half only.
        "rcp" | "rsqrt" if i.has("approx") => {
            let f = transcendental(&i.name)?;
            return Arithmetic::one(class, ty, move |a| f(double(a)).to_bits() & !0xffff_ffff);
        }
        _ if m.rounding != Rounding::Nearest || m.saturate => return None,
        _ => {}
    }
    match &*i.name {
        "add" => two(|a, b| a + b),
        "sub" => two(|a, b| a - b),
        "mul" => two(|a, b| a * b),
        "div" => two(|a, b| a / b),
        "fma" | "mad" => Arithmetic::three(class, ty, |a, b, c| double(a).mul_add(double(b), double(c)).to_bits()),
        "rcp" => Arithmetic::one(class, ty, |a| (1.0 / double(a)).to_bits()),
        "sqrt" => Arithmetic::one(class, ty, |a| double(a).sqrt().to_bits()),
        _ => None,
    }
}
