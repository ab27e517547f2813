//! `setp`, `set`, `slct`, `testp`.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use crate::counters::Class;
use crate::numeric::format::{from_bf16, from_f16};
use crate::numeric::lanes::{compare, compare_pairs, three};
use crate::program::{Comparison, Logic, Op, PredicateSource};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::{Type, low_bits, sign_extend};

/// A comparison of floating-point numbers by name. `lt` and its like never hold for NaN; with a trailing `u` they always do.
fn floats(name: &str, ty: Type, ftz: bool) -> Option<Comparison> {
    let nan = name == "nan" || name.ends_with('u');
    match name.strip_suffix('u').unwrap_or(name) {
        "eq" => relation(ty, ftz, nan, |a, b| a == b),
        "ne" => relation(ty, ftz, nan, |a, b| a != b),
        "lt" => relation(ty, ftz, nan, |a, b| a < b),
        "le" => relation(ty, ftz, nan, |a, b| a <= b),
        "gt" => relation(ty, ftz, nan, |a, b| a > b),
        "ge" => relation(ty, ftz, nan, |a, b| a >= b),
        "num" => relation(ty, ftz, nan, |_, _| true),
        "nan" => relation(ty, ftz, nan, |_, _| false),
        _ => None,
    }
}

/// A relation for numbers of one type, with what it gives where one of them is NaN.
fn relation(
    ty: Type,
    ftz: bool,
    nan: bool,
    holds: impl Fn(f64, f64) -> bool + Copy + Send + Sync + 'static,
) -> Option<Comparison> {
    let single = move |bits: u64| {
        let value = f32::from_bits(bits as u32);
        f64::from(if ftz && value.is_subnormal() { 0.0 } else { value })
    };
    let either = move |a: f64, b: f64| if a.is_nan() || b.is_nan() { nan } else { holds(a, b) };
    let f16 = move |a: u64, b: u64| either(from_f16(a & 0xffff).into(), from_f16(b & 0xffff).into());
    let bf16 = move |a: u64, b: u64| either(from_bf16(a).into(), from_bf16(b).into());
    Some(match ty {
        Type::F32 => compare(move |a, b| either(single(a), single(b))),
        Type::F64 => compare(move |a, b| either(f64::from_bits(a), f64::from_bits(b))),
        Type::F16 => compare(f16),
        Type::Bf16 => compare(bf16),
        Type::F16x2 => compare_pairs(f16),
        Type::Bf16x2 => compare_pairs(bf16),
        _ => return None,
    })
}

fn integers(name: &str, ty: Type) -> Option<Comparison> {
    let (bits, mask) = (ty.bits(), low_bits(ty.bits()));
    let s = move |x: u64| sign_extend(x, bits);
    Some(match (name, ty.signed()) {
        ("eq", _) => compare(move |a, b| (a ^ b) & mask == 0),
        ("ne", _) => compare(move |a, b| (a ^ b) & mask != 0),
        ("lt", true) => compare(move |a, b| s(a) < s(b)),
        ("le", true) => compare(move |a, b| s(a) <= s(b)),
        ("gt", true) => compare(move |a, b| s(a) > s(b)),
        ("ge", true) => compare(move |a, b| s(a) >= s(b)),
        ("lt" | "lo", _) => compare(move |a, b| (a & mask) < (b & mask)),
        ("le" | "ls", _) => compare(move |a, b| (a & mask) <= (b & mask)),
        ("gt" | "hi", _) => compare(move |a, b| (a & mask) > (b & mask)),
        ("ge" | "hs", _) => compare(move |a, b| (a & mask) >= (b & mask)),
        _ => return None,
    })
}

fn comparison(i: &Instruction, ty: Type) -> Decoded<Comparison> {
    let name = i.parts.first().map_or("", |p| &**p);
    let f = if ty.float() { floats(name, ty, i.has("ftz")) } else { integers(name, ty) };
    f.ok_or(Refusal::Unknown)
}

fn combination(i: &Instruction) -> Option<Logic> {
    match i.parts.get(1).map_or("", |p| &**p) {
        "and" => Some(Logic::And),
        "or" => Some(Logic::Or),
        "xor" => Some(Logic::Xor),
        _ => None,
    }
}

impl Decoder<'_> {
    pub fn comparison(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        let types = i.types();
        match &*i.name {
            "setp" => self.set_predicate(i, *types.first().ok_or(Refusal::Unknown)?),
            "set" => self.set(i, &types),
            "slct" => self.select_by_sign(i, &types),
            _ => self.test(i, &types),
        }
    }

    fn combined(&mut self, i: &Instruction, at: usize) -> Decoded<Option<(Logic, PredicateSource)>> {
        let logic = combination(i);
        exactly(i, at + usize::from(logic.is_some()))?;
        match logic {
            Some(logic) => Ok(Some((logic, self.predicate(operand(i, at)?, i.line)?))),
            None => Ok(None),
        }
    }

    fn set_predicate(&mut self, i: &Instruction, ty: Type) -> Decoded<(Op, Class)> {
        let f = comparison(i, ty)?;
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let b = self.source(operand(i, 2)?, ty, i.line)?;
        let with = self.combined(i, 3)?;
        let (p, q) = match operand(i, 0)? {
            Operand::Pair(p, q) => (self.predicate_destination(p, i.line)?, self.predicate_destination(q, i.line)?),
            one => (self.predicate_destination(one, i.line)?, None),
        };
        Ok((Op::Compare { f, p, q, a, b, with }, class(ty)))
    }

    fn set(&mut self, i: &Instruction, types: &[Type]) -> Decoded<(Op, Class)> {
        let &[to, ty] = types else { return Err(Refusal::Unknown) };
        let f = comparison(i, ty)?;
        let yes = match to {
            Type::F32 => 0x3f80_0000,
            Type::F16 => 0x3c00,
            Type::Bf16 => 0x3f80,
            Type::F16x2 => 0x3c00_3c00,
            Type::Bf16x2 => 0x3f80_3f80,
            _ => low_bits(to.bits()),
        };
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let b = self.source(operand(i, 2)?, ty, i.line)?;
        let with = self.combined(i, 3)?;
        let (d, _) = self.destination(operand(i, 0)?, i.line)?;
        let pair = matches!(ty, Type::F16x2 | Type::Bf16x2);
        Ok((Op::Set { f, d, a, b, with, pair, yes }, class(ty)))
    }

    /// `slct d, a, b, c`: `a` where `c >= 0`.
    fn select_by_sign(&mut self, i: &Instruction, types: &[Type]) -> Decoded<(Op, Class)> {
        let &[ty, by] = types else { return Err(Refusal::Unknown) };
        exactly(i, 4)?;
        let f = match by {
            Type::S32 => three(|a, b, c| if c as u32 as i32 >= 0 { a } else { b }),
            Type::F32 => three(|a, b, c| if f32::from_bits(c as u32) >= 0.0 { a } else { b }),
            _ => return Err(Refusal::Unknown),
        };
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let b = self.source(operand(i, 2)?, ty, i.line)?;
        let c = self.source(operand(i, 3)?, by, i.line)?;
        Ok((Op::Three { f, a, b, c, d: self.destination(operand(i, 0)?, i.line)?.0 }, Class::Move))
    }

    fn test(&mut self, i: &Instruction, types: &[Type]) -> Decoded<(Op, Class)> {
        let &[ty] = types else { return Err(Refusal::Unknown) };
        exactly(i, 2)?;
        // The second argument is 1 for subnormals of the operand's own width.
        let f: fn(f64, u64) -> bool = match i.parts.first().map_or("", |p| &**p) {
            "finite" => |v, _| v.is_finite(),
            "infinite" => |v, _| v.is_infinite(),
            "number" => |v, _| !v.is_nan(),
            "notanumber" => |v, _| v.is_nan(),
            "normal" => |v, subnormal| v.is_finite() && v != 0.0 && subnormal == 0,
            "subnormal" => |_, subnormal| subnormal == 1,
            _ => return Err(Refusal::Unknown),
        };
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let Some(p) = self.predicate_destination(operand(i, 0)?, i.line)? else { return Err(Refusal::Unknown) };
        Ok((Op::Test { f, p, a, double: ty == Type::F64 }, Class::Float))
    }
}

fn class(ty: Type) -> Class {
    if ty.float() { Class::Float } else { Class::Integer }
}
