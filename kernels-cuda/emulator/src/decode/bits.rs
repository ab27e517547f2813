//! Logic, shifts and bit fields.

use super::integer::{Arithmetic, Function};
use crate::counters::Class;
use crate::numeric::lanes::four;
use crate::syntax::ast::{Instruction, Operand};
use crate::types::{Type, low_bits, sign_extend};

pub fn build(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let (bits, mask, class) = (ty.bits(), low_bits(ty.bits()), Class::Integer);
    match &*i.name {
        "and" => Arithmetic::two(class, ty, |a, b| a & b),
        "or" => Arithmetic::two(class, ty, |a, b| a | b),
        "xor" => Arithmetic::two(class, ty, |a, b| a ^ b),
        "not" => Arithmetic::one(class, ty, move |a| !a & mask),
        "cnot" => Arithmetic::one(class, ty, move |a| u64::from(a & mask == 0)),
        "shl" | "shr" => shift(i, ty),
        "shf" => funnel(i),
        "lop3" => lop3(i),
        "prmt" => permute(i),
        "bfe" => extract(ty),
        "bfi" => insert(ty),
        "bfind" => find(i, ty),
        "brev" => Arithmetic::one(class, ty, move |a| a.reverse_bits() >> (64 - bits)),
        "clz" => Arithmetic::one(class, ty, move |a| u64::from((a & mask).leading_zeros() - (64 - bits))),
        "popc" => Arithmetic::one(class, ty, move |a| u64::from((a & mask).count_ones())),
        "fns" => {
            let mut built = Arithmetic::three(class, ty, find_nth)?;
            built.types = [Type::B32, Type::B32, Type::S32, Type::S32];
            Some(built)
        }
        "bmsk" => bit_mask(i, ty),
        "szext" => size_extend(i, ty),
        "dp4a" => dot4(i),
        _ => None,
    }
}

/// Shifts clamp: as far as the register is wide, or further, leaves zeros or signs.
fn shift(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let (bits, mask) = (ty.bits(), low_bits(ty.bits()));
    let by = move |b: u64| (b & 0xffff_ffff).min(u64::from(bits)) as u32;
    let left = &*i.name == "shl";
    let f = move |a: u64, b: u64| match left {
        true => a.checked_shl(by(b)).unwrap_or(0) & mask,
        false => (a & mask).checked_shr(by(b)).unwrap_or(0),
    };
    let mut built = match !left && ty.signed() {
        true => Arithmetic::two(Class::Integer, ty, move |a, b| (sign_extend(a, bits) >> by(b).min(63)) as u64 & mask)?,
        false => Arithmetic::two(Class::Integer, ty, f)?,
    };
    built.types[1] = Type::U32;
    Some(built)
}

fn funnel(i: &Instruction) -> Option<Arithmetic> {
    let left = i.has("l");
    let clamp = i.has("clamp");
    Arithmetic::three(Class::Integer, Type::B32, move |a, b, c| {
        let both = (b & 0xffff_ffff) << 32 | a & 0xffff_ffff;
        let by = if clamp { (c & 0xffff_ffff).min(32) } else { c & 31 } as u32;
        if left { (both << by) >> 32 } else { both >> by & 0xffff_ffff }
    })
}

/// The table is an immediate: bit `4a + 2b + c` of it is the result.
fn lop3(i: &Instruction) -> Option<Arithmetic> {
    let Some(Operand::Integer(table)) = i.operands.get(4) else { return None };
    let table = *table;
    Arithmetic::three(Class::Integer, Type::B32, move |a, b, c| {
        let mut result = 0;
        for minterm in 0..8 {
            if table >> minterm & 1 == 1 {
                let x = if minterm & 4 != 0 { a } else { !a };
                let y = if minterm & 2 != 0 { b } else { !b };
                let z = if minterm & 1 != 0 { c } else { !c };
                result |= x & y & z;
            }
        }
        result & 0xffff_ffff
    })
}

fn permute(i: &Instruction) -> Option<Arithmetic> {
    let selector: fn(u64) -> u64 = match i.parts.get(1).map(|p| &**p) {
        None => |c| c,
        Some("f4e") => |c| [0x3210, 0x4321, 0x5432, 0x6543][(c & 3) as usize],
        Some("b4e") => |c| [0x5670, 0x6701, 0x7012, 0x0123][(c & 3) as usize],
        Some("rc8") => |c| (c & 3) * 0x1111,
        Some("ecl") => |c| [0x3210, 0x3211, 0x3222, 0x3333][(c & 3) as usize],
        Some("ecr") => |c| [0x0000, 0x1110, 0x2210, 0x3210][(c & 3) as usize],
        Some("rc16") => |c| [0x1010, 0x3232][(c & 1) as usize],
        Some(_) => return None,
    };
    Arithmetic::three(Class::Integer, Type::B32, move |a, b, c| {
        let bytes = (b & 0xffff_ffff) << 32 | a & 0xffff_ffff;
        let selector = selector(c);
        (0..4).fold(0, |result, n| {
            let s = selector >> (4 * n) & 0xf;
            let byte = bytes >> (8 * (s & 7)) & 0xff;
            let sign = if byte & 0x80 != 0 { 0xff } else { 0 };
            result | (if s & 8 != 0 { sign } else { byte }) << (8 * n)
        })
    })
}

fn extract(ty: Type) -> Option<Arithmetic> {
    let (bits, mask, signed) = (ty.bits(), low_bits(ty.bits()), ty.signed());
    let f = move |a: u64, b: u64, c: u64| {
        let (start, length) = ((b & 0xff) as u32, (c & 0xff) as u32);
        let field = (a & mask).checked_shr(start).unwrap_or(0) & low_bits(length);
        if !signed || length == 0 {
            return field;
        }
        let sign = a >> (start + length - 1).min(bits - 1) & 1;
        let above = low_bits(length.min(bits.saturating_sub(start)));
        if sign == 1 { (field | !above) & mask } else { field }
    };
    let mut built = Arithmetic::three(Class::Integer, ty, f)?;
    built.types = [ty, Type::U32, Type::U32, Type::U32];
    Some(built)
}

fn insert(ty: Type) -> Option<Arithmetic> {
    let mask = low_bits(ty.bits());
    let f = move |a: u64, b: u64, start: u64, length: u64| {
        let (start, length) = ((start & 0xff) as u32, (length & 0xff) as u32);
        let field = low_bits(length).checked_shl(start).unwrap_or(0) & mask;
        b & !field & mask | a.checked_shl(start).unwrap_or(0) & field
    };
    let types = [ty, ty, Type::U32, Type::U32];
    Some(Arithmetic { function: Function::Four(four(f)), types, class: Class::Integer })
}

/// The highest bit that differs from the sign, or all ones.
fn find(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let (bits, mask, signed, amount) = (ty.bits(), low_bits(ty.bits()), ty.signed(), i.has("shiftamt"));
    Arithmetic::one(Class::Integer, ty, move |a| {
        let a = if signed && sign_extend(a, bits) < 0 { !a } else { a } & mask;
        if a == 0 {
            return 0xffff_ffff;
        }
        let at = 63 - a.leading_zeros();
        u64::from(if amount { bits - 1 - at } else { at })
    })
}

/// `fns`: the position of the n-th set bit from `base`, upwards or downwards.
fn find_nth(mask: u64, base: u64, offset: u64) -> u64 {
    let offset = sign_extend(offset, 32);
    let base = (base & 31) as i64;
    let set = |at: i64| (0..32).contains(&at) && mask >> at & 1 == 1;
    if offset == 0 {
        return if set(base) { base as u64 } else { 0xffff_ffff };
    }
    let step = offset.signum();
    let (mut at, mut left) = (base, offset.abs());
    while (0..32).contains(&at) {
        left -= i64::from(set(at));
        if left == 0 {
            return at as u64;
        }
        at += step;
    }
    0xffff_ffff
}

/// `bmsk`: so many ones from a position on; both are taken modulo 32, or are 32 at most.
fn bit_mask(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let clamp = i.has("clamp");
    let limit = move |x: u64| if clamp { (x & 0xffff_ffff).min(32) } else { x & 31 } as u32;
    Arithmetic::two(Class::Integer, ty, move |start, length| low_bits(limit(length)) << limit(start) & 0xffff_ffff)
}

fn size_extend(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let (signed, wrap) = (ty.signed(), i.has("wrap"));
    Arithmetic::two(Class::Integer, ty, move |a, b| {
        let width = if wrap { (b & 31) as u32 } else { (b & 0xffff_ffff).min(32) as u32 };
        match signed {
            true => sign_extend(a, width) as u64 & 0xffff_ffff,
            false => a & low_bits(width),
        }
    })
}

fn dot4(i: &Instruction) -> Option<Arithmetic> {
    let types = i.types();
    let (sa, sb) = (types.first()?.signed(), types.get(1)?.signed());
    let byte = |x: u64, n: u32, signed: bool| match signed {
        true => sign_extend(x >> (8 * n), 8),
        false => (x >> (8 * n) & 0xff) as i64,
    };
    Arithmetic::three(Class::Integer, Type::B32, move |a, b, c| {
        let dot: i64 = (0..4).map(|n| byte(a, n, sa) * byte(b, n, sb)).sum();
        (dot as u64).wrapping_add(c) & 0xffff_ffff
    })
}
