//! `cvt`: every source is an f64 or an i128 without loss, every result is rounded once.

use super::float::Modifiers;
use super::integer::Arithmetic;
use crate::counters::Class;
use crate::numeric::exact;
use crate::numeric::format::{BF16, F16, F32, Format, Rounding, TF32, from_bf16, from_f16};
use crate::syntax::ast::Instruction;
use crate::types::{Type, low_bits, sign_extend};

/// The conversion that an instruction names, into a register of `register` bits.
pub fn build(i: &Instruction, register: u32) -> Option<Arithmetic> {
    let types = i.types();
    let (&to, &from) = (types.first()?, types.get(1)?);
    let known = ["ftz", "sat", "relu", "satfinite"];
    let all_known = |p: &str| Type::parse(p).is_some() || Rounding::parse(p).is_some() || known.contains(&p);
    if types.len() != 2 || !i.parts.iter().all(|p| all_known(p)) || i.has("satfinite") {
        return None;
    }
    match (to, from) {
        (Type::F16x2 | Type::Bf16x2, Type::F32) => pair(i, to),
        (Type::Tf32, Type::F32) => to_tf32(i),
        _ if to.float() && from.float() => between_floats(i, to, from),
        _ if to.float() => from_integer(i, to, from),
        _ if from.float() => to_integer(i, to, from, register),
        _ => between_integers(i, to, from, register),
    }
}

/// An integer in a register that may be wider than its type: signed ones are sign-extended.
fn widen(value: u64, to: Type, register: u32) -> u64 {
    match to.signed() {
        true => sign_extend(value, to.bits()) as u64 & low_bits(register),
        false => value & low_bits(to.bits()),
    }
}

fn integer(bits: u64, ty: Type) -> i128 {
    match ty.signed() {
        true => i128::from(sign_extend(bits, ty.bits())),
        false => i128::from(bits & low_bits(ty.bits())),
    }
}

fn range(ty: Type) -> (i128, i128) {
    match ty.signed() {
        true => (-(1 << (ty.bits() - 1)), (1 << (ty.bits() - 1)) - 1),
        false => (0, (1 << ty.bits()) - 1),
    }
}

fn between_integers(i: &Instruction, to: Type, from: Type, register: u32) -> Option<Arithmetic> {
    if !i.has("sat") {
        return Arithmetic::one(Class::Conversion, from, move |a| {
            let value = if from.signed() { sign_extend(a, from.bits()) as u64 } else { a & low_bits(from.bits()) };
            widen(value, to, register)
        });
    }
    let (least, most) = range(to);
    Arithmetic::one(Class::Conversion, from, move |a| widen(integer(a, from).clamp(least, most) as u64, to, register))
}

/// A floating-point register as f64.
fn value(bits: u64, ty: Type, ftz: bool) -> f64 {
    match ty {
        Type::F16 => f64::from(from_f16(bits & 0xffff)),
        Type::Bf16 => f64::from(from_bf16(bits & 0xffff)),
        Type::F32 => {
            let value = f32::from_bits(bits as u32);
            if ftz && value.is_subnormal() { 0.0f64.copysign(f64::from(value)) } else { f64::from(value) }
        }
        _ => f64::from_bits(bits),
    }
}

fn integral(value: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::NearestAway => value.round(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// Out of range saturates; NaN becomes 0.
fn to_integer(i: &Instruction, to: Type, from: Type, register: u32) -> Option<Arithmetic> {
    let m = Modifiers::of(i);
    let (least, most) = range(to);
    let signed = to.signed();
    Arithmetic::one(Class::Conversion, from, move |a| {
        let whole = integral(value(a, from, m.ftz), m.rounding);
        let result = match signed {
            true => (whole as i64).clamp(least as i64, most as i64) as u64,
            false => (whole as u64).min(most as u64),
        };
        widen(result, to, register)
    })
}

fn format(ty: Type) -> Option<Format> {
    match ty {
        Type::F16 => Some(F16),
        Type::Bf16 => Some(BF16),
        Type::F32 => Some(F32),
        _ => None,
    }
}

fn from_integer(i: &Instruction, to: Type, from: Type) -> Option<Arithmetic> {
    let (m, class) = (Modifiers::of(i), Class::Conversion);
    let Some(format) = format(to) else {
        return match m.rounding {
            Rounding::Nearest => Arithmetic::one(class, from, move |a| (integer(a, from) as f64).to_bits()),
            // Up to 32 bits there is nothing to round.
            _ if from.bits() <= 32 => Arithmetic::one(class, from, move |a| (integer(a, from) as f64).to_bits()),
            _ => None,
        };
    };
    if to == Type::F32 && m.rounding == Rounding::Nearest && !m.saturate {
        return match from.signed() {
            true => Arithmetic::one(class, from, move |a| (sign_extend(a, from.bits()) as f32).to_bits().into()),
            false => Arithmetic::one(class, from, move |a| ((a & low_bits(from.bits())) as f32).to_bits().into()),
        };
    }
    Arithmetic::one(class, from, move |a| {
        let value = exact::integer(integer(a, from));
        let value = if m.saturate { value.clamp(0.0, 1.0) } else { value };
        u64::from(format.round(value, m.rounding))
    })
}

/// What `.sat`, `.relu` and rounding to a whole number make of a value on its way between formats.
fn adjust(value: f64, whole: Option<Rounding>, saturate: bool, relu: bool) -> f64 {
    let value = match whole {
        Some(rounding) => integral(value, rounding),
        None => value,
    };
    if saturate {
        return if value > 0.0 { value.min(1.0) } else { 0.0 };
    }
    if relu && value <= 0.0 { 0.0 } else { value }
}

fn between_floats(i: &Instruction, to: Type, from: Type) -> Option<Arithmetic> {
    let (m, relu, class) = (Modifiers::of(i), i.has("relu"), Class::Conversion);
    let whole = i.parts.iter().any(|p| p.len() == 3 && p.starts_with('r') && p.ends_with('i')).then_some(m.rounding);
    let Some(format) = format(to) else {
        return Arithmetic::one(class, from, move |a| adjust(value(a, from, m.ftz), whole, m.saturate, relu).to_bits());
    };
    Arithmetic::one(class, from, move |a| {
        let value = adjust(value(a, from, m.ftz), whole, m.saturate, relu);
        let bits = format.round(value, m.rounding);
        let subnormal = m.ftz && to == Type::F32 && bits & 0x7f80_0000 == 0;
        u64::from(if subnormal { bits & 0x8000_0000 } else { bits })
    })
}

/// `cvt.rn.bf16x2.f32 d, a, b`: `a` goes to the upper half.
fn pair(i: &Instruction, to: Type) -> Option<Arithmetic> {
    let format = if to == Type::F16x2 { F16 } else { BF16 };
    let (m, relu) = (Modifiers::of(i), i.has("relu"));
    let half = move |a| u64::from(format.round(adjust(value(a, Type::F32, m.ftz), None, m.saturate, relu), m.rounding));
    Arithmetic::two(Class::Conversion, Type::F32, move |a, b| half(a) << 16 | half(b))
}

fn to_tf32(i: &Instruction) -> Option<Arithmetic> {
    let (m, relu) = (Modifiers::of(i), i.has("relu"));
    Arithmetic::one(Class::Conversion, Type::F32, move |a| {
        u64::from(TF32.round(adjust(value(a, Type::F32, false), None, false, relu), m.rounding)) << 13
    })
}
