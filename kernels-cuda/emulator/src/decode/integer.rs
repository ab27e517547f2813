//! Integer arithmetic, and the door to the other arithmetic families.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use super::scope::Symbol;
use crate::counters::Class;
use crate::numeric::lanes::{one, three, two};
use crate::program::{Function1, Function2, Function3, Function4, Op};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::{Type, low_bits, sign_extend};

/// A pure function of registers.
pub enum Function {
    One(Function1),
    Two(Function2),
    Three(Function3),
    Four(Function4),
}

/// What an arithmetic instruction computes, and the types of its operands.
pub struct Arithmetic {
    pub function: Function,
    pub types: [Type; 4],
    pub class: Class,
}

impl Arithmetic {
    pub fn one(class: Class, ty: Type, f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Option<Arithmetic> {
        Some(Arithmetic { function: Function::One(one(f)), types: [ty; 4], class })
    }

    pub fn two(class: Class, ty: Type, f: impl Fn(u64, u64) -> u64 + Send + Sync + 'static) -> Option<Arithmetic> {
        Some(Arithmetic { function: Function::Two(two(f)), types: [ty; 4], class })
    }

    pub fn three(class: Class, ty: Type, f: impl Fn(u64, u64, u64) -> u64 + Send + Sync + 'static) -> Option<Arithmetic> {
        Some(Arithmetic { function: Function::Three(three(f)), types: [ty; 4], class })
    }
}

impl Decoder<'_> {
    /// Everything of the form `op d, a[, b[, c]]` without side effects.
    pub fn arithmetic(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        if let Some(found) = self.carry(i)? {
            return Ok(found);
        }
        let types = i.types();
        let first = *types.first().ok_or(Refusal::Unknown)?;
        let built = match &*i.name {
            "cvt" => {
                let Operand::Name(name, 0) = operand(i, 0)? else { return Err(Refusal::Unknown) };
                let bits = match self.scopes.find(name) {
                    Some(Symbol::Register(_, ty)) => ty.bits(),
                    _ => 64,
                };
                super::convert::build(i, bits)
            }
            _ if first.float() => match first {
                Type::F32 | Type::F64 => super::float::build(i, first),
                _ => super::half::build(i, first),
            },
            _ => super::bits::build(i, first).or_else(|| build(i, first)),
        };
        let Arithmetic { function, types, class } = built.ok_or(Refusal::Unknown)?;
        let line = i.line;
        let d = operand(i, 0)?;
        let op = match function {
            Function::One(f) => {
                exactly(i, 2)?;
                let a = self.source(operand(i, 1)?, types[0], line)?;
                Op::One { f, a, d: self.destination(d, line)?.0 }
            }
            Function::Two(f) => {
                exactly(i, 3)?;
                let a = self.source(operand(i, 1)?, types[0], line)?;
                let b = self.source(operand(i, 2)?, types[1], line)?;
                Op::Two { f, a, b, d: self.destination(d, line)?.0 }
            }
            Function::Four(f) => {
                exactly(i, 5)?;
                let mut sources = [0; 4];
                for (n, slot) in sources.iter_mut().enumerate() {
                    *slot = self.source(operand(i, n + 1)?, types[n], line)?;
                }
                Op::Four { f, sources, d: self.destination(d, line)?.0 }
            }
            Function::Three(f) => {
                // The table of `lop3` is a fourth operand, but a constant.
                exactly(i, if &*i.name == "lop3" { 5 } else { 4 })?;
                let a = self.source(operand(i, 1)?, types[0], line)?;
                let b = self.source(operand(i, 2)?, types[1], line)?;
                let c = self.source(operand(i, 3)?, types[2], line)?;
                Op::Three { f, a, b, c, d: self.destination(d, line)?.0 }
            }
        };
        Ok((op, class))
    }

    /// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`: one carry register of 1 bit per lane.
    fn carry(&mut self, i: &Instruction) -> Decoded<Option<(Op, Class)>> {
        let writes_carry = i.has("cc");
        let takes_carry = matches!(&*i.name, "addc" | "subc" | "madc");
        if !writes_carry && !takes_carry {
            return Ok(None);
        }
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let f: crate::program::CarryFunction = match &*i.name {
            "add" => |a, b, _, _, bits| add_carry(a, b, 0, bits),
            "addc" => |a, b, _, carry, bits| add_carry(a, b, carry, bits),
            "sub" => |a, b, _, _, bits| subtract_borrow(a, b, 0, bits),
            "subc" => |a, b, _, carry, bits| subtract_borrow(a, b, carry, bits),
            "mad" if i.has("lo") => |a, b, c, _, bits| add_carry(a.wrapping_mul(b) & low_bits(bits), c, 0, bits),
            "madc" if i.has("lo") => |a, b, c, carry, bits| add_carry(a.wrapping_mul(b) & low_bits(bits), c, carry, bits),
            "mad" if i.has("hi") && !ty.signed() => |a, b, c, _, bits| add_carry(high(a, b, bits, false), c, 0, bits),
            "madc" if i.has("hi") && !ty.signed() => |a, b, c, carry, bits| add_carry(high(a, b, bits, false), c, carry, bits),
            "mad" if i.has("hi") => |a, b, c, _, bits| add_carry(high(a, b, bits, true), c, 0, bits),
            "madc" if i.has("hi") => |a, b, c, carry, bits| add_carry(high(a, b, bits, true), c, carry, bits),
            _ => return Err(Refusal::Unknown),
        };
        let fused = i.name.starts_with("mad");
        exactly(i, if fused { 4 } else { 3 })?;
        let carry = match self.carry {
            Some(slot) => slot,
            None => self.new_register(),
        };
        self.carry = Some(carry);
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let b = self.source(operand(i, 2)?, ty, i.line)?;
        let c = if fused { self.source(operand(i, 3)?, ty, i.line)? } else { a };
        if takes_carry {
            self.reads.push(carry);
        }
        let (d, _) = self.destination(operand(i, 0)?, i.line)?;
        if writes_carry {
            self.writes.push(carry);
        }
        Ok(Some((Op::Carry { f, d, a, b, c, carry, bits: ty.bits(), writes_carry }, Class::Integer)))
    }
}

fn add_carry(a: u64, b: u64, carry: u64, bits: u32) -> (u64, u64) {
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    (sum as u64 & low_bits(bits), (sum >> bits) as u64 & 1)
}

fn subtract_borrow(a: u64, b: u64, borrow: u64, bits: u32) -> (u64, u64) {
    let difference = i128::from(a) - i128::from(b) - i128::from(borrow);
    (difference as u64 & low_bits(bits), u64::from(difference < 0))
}

/// The upper half of a product.
pub fn high(a: u64, b: u64, bits: u32, signed: bool) -> u64 {
    let product = match signed {
        true => (i128::from(sign_extend(a, bits)) * i128::from(sign_extend(b, bits))) as u128,
        false => u128::from(a & low_bits(bits)) * u128::from(b & low_bits(bits)),
    };
    (product >> bits) as u64 & low_bits(bits)
}

/// The product of two 24-bit numbers.
fn product24(a: u64, b: u64, signed: bool) -> u64 {
    match signed {
        true => sign_extend(a, 24).wrapping_mul(sign_extend(b, 24)) as u64,
        false => (a & 0xff_ffff) * (b & 0xff_ffff),
    }
}

/// Division; by zero the hardware gives all ones.
fn divide(a: u64, b: u64, bits: u32, signed: bool) -> u64 {
    let mask = low_bits(bits);
    if b & mask == 0 {
        return mask;
    }
    match signed {
        true => sign_extend(a, bits).wrapping_div(sign_extend(b, bits)) as u64 & mask,
        false => (a & mask) / (b & mask),
    }
}

/// Remainder; by zero the hardware gives the dividend.
fn remainder(a: u64, b: u64, bits: u32, signed: bool) -> u64 {
    let mask = low_bits(bits);
    if b & mask == 0 {
        return a & mask;
    }
    match signed {
        true => sign_extend(a, bits).wrapping_rem(sign_extend(b, bits)) as u64 & mask,
        false => (a & mask) % (b & mask),
    }
}

fn build(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let (bits, mask, signed, class) = (ty.bits(), low_bits(ty.bits()), ty.signed(), Class::Integer);
    let extend = move |x: u64| sign_extend(x, bits);
    match &*i.name {
        "add" if i.has("sat") => Arithmetic::two(class, ty, move |a, b| {
            extend(a).saturating_add(extend(b)).clamp(-(1 << 31), (1 << 31) - 1) as u64 & mask
        }),
        "sub" if i.has("sat") => Arithmetic::two(class, ty, move |a, b| {
            extend(a).saturating_sub(extend(b)).clamp(-(1 << 31), (1 << 31) - 1) as u64 & mask
        }),
        "add" => Arithmetic::two(class, ty, move |a, b| a.wrapping_add(b) & mask),
        "sub" => Arithmetic::two(class, ty, move |a, b| a.wrapping_sub(b) & mask),
        "neg" => Arithmetic::one(class, ty, move |a| a.wrapping_neg() & mask),
        "abs" => Arithmetic::one(class, ty, move |a| extend(a).unsigned_abs() & mask),
        "min" if signed => Arithmetic::two(class, ty, move |a, b| extend(a).min(extend(b)) as u64 & mask),
        "max" if signed => Arithmetic::two(class, ty, move |a, b| extend(a).max(extend(b)) as u64 & mask),
        "min" => Arithmetic::two(class, ty, move |a, b| (a & mask).min(b & mask)),
        "max" => Arithmetic::two(class, ty, move |a, b| (a & mask).max(b & mask)),
        "div" => Arithmetic::two(class, ty, move |a, b| divide(a, b, bits, signed)),
        "rem" => Arithmetic::two(class, ty, move |a, b| remainder(a, b, bits, signed)),
        "sad" if signed => Arithmetic::three(class, ty, move |a, b, c| extend(a).abs_diff(extend(b)).wrapping_add(c) & mask),
        "sad" => Arithmetic::three(class, ty, move |a, b, c| (a & mask).abs_diff(b & mask).wrapping_add(c) & mask),
        "mul" | "mad" | "mul24" | "mad24" => products(i, ty),
        _ => None,
    }
}

fn products(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let (bits, mask, signed, class) = (ty.bits(), low_bits(ty.bits()), ty.signed(), Class::Integer);
    let part = i.parts.first().map_or("", |p| &**p);
    match (&*i.name, part) {
        ("mul", "lo") => Arithmetic::two(class, ty, move |a, b| a.wrapping_mul(b) & mask),
        ("mul", "hi") => Arithmetic::two(class, ty, move |a, b| high(a, b, bits, signed)),
        ("mul24", "lo") => Arithmetic::two(class, ty, move |a, b| product24(a, b, signed) & mask),
        ("mul24", "hi") => Arithmetic::two(class, ty, move |a, b| product24(a, b, signed) >> 16 & mask),
        ("mad24", "lo") => Arithmetic::three(class, ty, move |a, b, c| product24(a, b, signed).wrapping_add(c) & mask),
        ("mad", "lo") => Arithmetic::three(class, ty, move |a, b, c| a.wrapping_mul(b).wrapping_add(c) & mask),
        ("mad", "hi") if !i.has("sat") => {
            Arithmetic::three(class, ty, move |a, b, c| high(a, b, bits, signed).wrapping_add(c) & mask)
        }
        ("mul", "wide") if bits <= 32 => {
            let wide = low_bits(2 * bits);
            match signed {
                true => {
                    Arithmetic::two(class, ty, move |a, b| sign_extend(a, bits).wrapping_mul(sign_extend(b, bits)) as u64 & wide)
                }
                false => Arithmetic::two(class, ty, move |a, b| ((a & mask) * (b & mask)) & wide),
            }
        }
        ("mad", "wide") if bits <= 32 => {
            let wide = low_bits(2 * bits);
            let product = move |a, b| match signed {
                true => sign_extend(a, bits).wrapping_mul(sign_extend(b, bits)) as u64,
                false => (a & mask) * (b & mask),
            };
            let mut built = Arithmetic::three(class, ty, move |a, b, c| product(a, b).wrapping_add(c) & wide)?;
            built.types[2] = if bits == 32 { Type::B64 } else { Type::B32 };
            Some(built)
        }
        _ => None,
    }
}
