//! Integer instructions against the text of the ISA.

mod common;

use common::{compare, triples};

const EDGES: [u64; 9] = [0, 1, 2, 31, 33, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0001];
const WIDE: [u64; 7] = [0, 1, 63, 64, i64::MAX as u64, 1 << 63, u64::MAX];

fn s(x: u64) -> i64 {
    i64::from(x as u32 as i32)
}

fn u(x: u64) -> u64 {
    x & 0xffff_ffff
}

/// A 32-bit instruction with operands from registers.
#[track_caller]
fn narrow(instruction: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    compare(instruction, "r", &triples(&EDGES, 500), |[a, b, c]| u(expected(u(a), u(b), u(c))));
}

#[track_caller]
fn wide(instruction: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    compare(instruction, "a", &triples(&WIDE, 500), |[a, b, c]| expected(a, b, c));
}

#[test]
fn sums_and_differences() {
    narrow("add.s32 %r3, %r0, %r1;", |a, b, _| a + b);
    narrow("sub.s32 %r3, %r0, %r1;", |a, b, _| a.wrapping_sub(b));
    narrow("add.sat.s32 %r3, %r0, %r1;", |a, b, _| (a as i32).saturating_add(b as i32) as u64);
    narrow("sub.sat.s32 %r3, %r0, %r1;", |a, b, _| (a as i32).saturating_sub(b as i32) as u64);
    narrow("neg.s32 %r3, %r0;", |a, _, _| a.wrapping_neg());
    narrow("abs.s32 %r3, %r0;", |a, _, _| s(a).unsigned_abs());
    wide("add.s64 %a3, %a0, %a1;", |a, b, _| a.wrapping_add(b));
    wide("sub.u64 %a3, %a0, %a1;", |a, b, _| a.wrapping_sub(b));
    compare("add.u16 %h3, %h0, %h1;", "h", &triples(&EDGES, 100), |[a, b, _]| (a as u16).wrapping_add(b as u16).into());
    narrow("sad.s32 %r3, %r0, %r1, %r2;", |a, b, c| s(a).abs_diff(s(b)).wrapping_add(c));
    narrow("sad.u32 %r3, %r0, %r1, %r2;", |a, b, c| a.abs_diff(b).wrapping_add(c));
}

#[test]
fn products() {
    narrow("mul.lo.s32 %r3, %r0, %r1;", |a, b, _| a.wrapping_mul(b));
    narrow("mul.hi.s32 %r3, %r0, %r1;", |a, b, _| ((s(a) * s(b)) >> 32) as u64);
    narrow("mul.hi.u32 %r3, %r0, %r1;", |a, b, _| (a * b) >> 32);
    narrow("mad.lo.s32 %r3, %r0, %r1, %r2;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    narrow("mad.hi.u32 %r3, %r0, %r1, %r2;", |a, b, c| ((a * b) >> 32) + c);
    narrow("mul24.lo.s32 %r3, %r0, %r1;", |a, b, _| ((s(a << 8) >> 8) * (s(b << 8) >> 8)) as u64);
    narrow("mul24.hi.u32 %r3, %r0, %r1;", |a, b, _| ((a & 0xff_ffff) * (b & 0xff_ffff)) >> 16);
    let operands = triples(&EDGES, 500);
    compare("mul.wide.s32 %a3, %r0, %r1;", "a", &operands, |[a, b, _]| (s(a) * s(b)) as u64);
    compare("mul.wide.u32 %a3, %r0, %r1;", "a", &operands, |[a, b, _]| u(a) * u(b));
    compare("mul.wide.u16 %r3, %h0, %h1;", "r", &operands, |[a, b, _]| (a & 0xffff) * (b & 0xffff));
    compare("mad.wide.s32 %a3, %r0, %r1, %a2;", "a", &operands, |[a, b, c]| ((s(a) * s(b)) as u64).wrapping_add(c));
    wide("mul.lo.s64 %a3, %a0, %a1;", |a, b, _| a.wrapping_mul(b));
    wide("mul.hi.u64 %a3, %a0, %a1;", |a, b, _| ((u128::from(a) * u128::from(b)) >> 64) as u64);
    wide("mul.hi.s64 %a3, %a0, %a1;", |a, b, _| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64);
    wide("mad.lo.s64 %a3, %a0, %a1, %a2;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
}

#[test]
fn quotients() {
    narrow("div.u32 %r3, %r0, %r1;", |a, b, _| a.checked_div(b).unwrap_or(u64::MAX));
    narrow("div.s32 %r3, %r0, %r1;", |a, b, _| s(a).checked_div(s(b)).map_or(u64::MAX, |q| q as u64));
    narrow("rem.u32 %r3, %r0, %r1;", |a, b, _| a.checked_rem(b).unwrap_or(a));
    narrow("rem.s32 %r3, %r0, %r1;", |a, b, _| s(a).checked_rem(s(b)).map_or(a, |q| q as u64));
    wide("div.u64 %a3, %a0, %a1;", |a, b, _| a.checked_div(b).unwrap_or(u64::MAX));
    wide("rem.s64 %a3, %a0, %a1;", |a, b, _| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 });
}

#[test]
fn least_and_greatest() {
    narrow("min.s32 %r3, %r0, %r1;", |a, b, _| s(a).min(s(b)) as u64);
    narrow("max.s32 %r3, %r0, %r1;", |a, b, _| s(a).max(s(b)) as u64);
    narrow("min.u32 %r3, %r0, %r1;", |a, b, _| a.min(b));
    narrow("max.u32 %r3, %r0, %r1;", |a, b, _| a.max(b));
    wide("min.s64 %a3, %a0, %a1;", |a, b, _| (a as i64).min(b as i64) as u64);
}

#[test]
fn carries() {
    let low = "add.cc.u32 %r3, %r0, %r1; addc.u32 %r3, %r2, 0;";
    narrow(low, |a, b, c| c + ((a + b) >> 32));
    narrow("sub.cc.u32 %r3, %r0, %r1; subc.u32 %r3, %r2, 0;", |a, b, c| c.wrapping_sub(u64::from(a < b)));
    // 64 x 64 bits from halves, as compilers write it.
    let long = "mov.b64 {%r0, %r1}, %a0; mov.b64 {%r2, %r3}, %a1; .reg .b32 %l, %m;
        mul.lo.u32 %l, %r0, %r2; mul.hi.u32 %m, %r0, %r2; mad.lo.cc.u32 %m, %r0, %r3, %m; madc.hi.u32 %r0, %r0, %r3, 0;
        mad.lo.cc.u32 %m, %r1, %r2, %m; mov.b64 %a3, {%l, %m};";
    wide(long, |a, b, _| a.wrapping_mul(b));
}

#[test]
fn logic_and_shifts() {
    narrow("and.b32 %r3, %r0, %r1;", |a, b, _| a & b);
    narrow("or.b32 %r3, %r0, %r1;", |a, b, _| a | b);
    narrow("xor.b32 %r3, %r0, %r1;", |a, b, _| a ^ b);
    narrow("not.b32 %r3, %r0;", |a, _, _| !a);
    narrow("cnot.b32 %r3, %r0;", |a, _, _| u64::from(a == 0));
    // Shifts clamp at the width.
    narrow("shl.b32 %r3, %r0, %r1;", |a, b, _| if b > 31 { 0 } else { a << b });
    narrow("shr.u32 %r3, %r0, %r1;", |a, b, _| if b > 31 { 0 } else { a >> b });
    narrow("shr.s32 %r3, %r0, %r1;", |a, b, _| (s(a) >> b.min(31)) as u64);
    wide("shl.b64 %a3, %a0, %r1;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    wide("shr.s64 %a3, %a0, %r1;", |a, b, _| ((a as i64) >> u(b).min(63)) as u64);
    narrow("shf.l.wrap.b32 %r3, %r0, %r1, %r2;", |a, b, c| ((b << 32 | a) << (c & 31)) >> 32);
    narrow("shf.r.wrap.b32 %r3, %r0, %r1, %r2;", |a, b, c| (b << 32 | a) >> (c & 31));
    narrow("shf.l.clamp.b32 %r3, %r0, %r1, %r2;", |a, b, c| ((u128::from(b << 32 | a) << c.min(32)) >> 32) as u64);
    narrow("shf.r.clamp.b32 %r3, %r0, %r1, %r2;", |a, b, c| (b << 32 | a) >> c.min(32));
    for table in [0x80u64, 0xfe, 0x96, 0xca, 0x1b] {
        narrow(&format!("lop3.b32 %r3, %r0, %r1, %r2, {table};"), |a, b, c| {
            (0..32).fold(0, |word, bit| {
                let index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | c >> bit & 1;
                word | (table >> index & 1) << bit
            })
        });
    }
}

#[test]
fn bits_and_fields() {
    narrow("popc.b32 %r3, %r0;", |a, _, _| a.count_ones().into());
    narrow("clz.b32 %r3, %r0;", |a, _, _| (a as u32).leading_zeros().into());
    narrow("brev.b32 %r3, %r0;", |a, _, _| (a as u32).reverse_bits().into());
    compare("popc.b64 %r3, %a0;", "r", &triples(&WIDE, 100), |[a, _, _]| a.count_ones().into());
    narrow("bfind.u32 %r3, %r0;", |a, _, _| if a == 0 { u64::MAX } else { 63 - u64::from(a.leading_zeros()) });
    narrow("bfe.u32 %r3, %r0, %r1, %r2;", |a, b, c| {
        let (from, length) = ((b & 0xff) as u32, (c & 0xff) as u32);
        a.checked_shr(from).unwrap_or(0) & if length > 31 { u64::MAX } else { (1 << length) - 1 }
    });
    // Signed: bits above the register are copies of its sign.
    narrow("bfe.s32 %r3, %r0, %r1, %r2;", |a, b, c| {
        let (from, length) = ((b & 0xff).min(63), c & 0xff);
        let shifted = s(a) >> from;
        match length {
            0 => 0,
            64.. => shifted as u64,
            _ => ((shifted << (64 - length)) >> (64 - length)) as u64,
        }
    });
    narrow("bfi.b32 %r3, %r0, %r1, %r2, 5;", |a, b, c| {
        let field = 0x1fu64.checked_shl((c & 0xff) as u32).unwrap_or(0);
        b & !field | a.checked_shl((c & 0xff) as u32).unwrap_or(0) & field
    });
    narrow("prmt.b32 %r3, %r0, %r1, %r2;", |a, b, c| {
        let bytes = [a.to_le_bytes(), b.to_le_bytes()].map(|b| [b[0], b[1], b[2], b[3]]).concat();
        (0..4).fold(0, |word, n| {
            let selector = c >> (4 * n);
            let byte = bytes[(selector & 7) as usize];
            let byte = if selector & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
            word | u64::from(byte) << (8 * n)
        })
    });
    narrow("bmsk.wrap.b32 %r3, %r0, %r1;", |a, b, _| ((1 << (b & 31)) - 1) << (a & 31));
    narrow("bmsk.clamp.b32 %r3, %r0, %r1;", |a, b, _| ((1 << b.min(32)) - 1) << a.min(32));
    narrow("dp4a.s32.s32 %r3, %r0, %r1, %r2;", |a, b, c| {
        let dot: i64 = (0..4).map(|n| i64::from((a >> (8 * n)) as i8) * i64::from((b >> (8 * n)) as i8)).sum();
        (dot as u64).wrapping_add(c)
    });
}

#[test]
fn comparisons_and_selections() {
    for (name, holds) in
        [("lt", (|a, b| a < b) as fn(i64, i64) -> bool), ("ge", |a, b| a >= b), ("eq", |a, b| a == b), ("ne", |a, b| a != b)]
    {
        narrow(&format!("setp.{name}.s32 %p0, %r0, %r1; selp.u32 %r3, 1, 0, %p0;"), |a, b, _| holds(s(a), s(b)).into());
        narrow(&format!("setp.{name}.u32 %p0, %r0, %r1; selp.u32 %r3, 1, 0, %p0;"), |a, b, _| holds(a as i64, b as i64).into());
    }
    narrow("setp.lt.u32 %p0|%p1, %r0, %r1; selp.u32 %r3, %r0, %r2, %p1;", |a, b, c| if a >= b { a } else { c });
    narrow("setp.eq.u32 %p1, %r0, %r1; setp.lt.and.u32 %p0, %r0, %r2, !%p1; selp.u32 %r3, 1, 0, %p0;", |a, b, c| {
        u64::from(a < c && a != b)
    });
    narrow("set.lt.u32.s32 %r3, %r0, %r1;", |a, b, _| if s(a) < s(b) { u64::MAX } else { 0 });
    narrow("slct.s32.s32 %r3, %r0, %r1, %r2;", |a, b, c| if s(c) >= 0 { a } else { b });
    narrow(
        "setp.lo.u32 %p0, %r0, %r1; not.pred %p1, %p0; xor.pred %p2, %p1, %p0; and.pred %p3, %p2, %p1; selp.u32 %r3, 1, 0, %p3;",
        |a, b, _| u64::from(a >= b),
    );
}

#[test]
fn conversions_between_integers() {
    let operands = triples(&WIDE, 300);
    compare("cvt.s64.s32 %a3, %r0;", "a", &operands, |[a, _, _]| s(a) as u64);
    compare("cvt.u64.u32 %a3, %r0;", "a", &operands, |[a, _, _]| u(a));
    compare("cvt.s32.s8 %r3, %r0;", "r", &operands, |[a, _, _]| i64::from(a as i8) as u32 as u64);
    compare("cvt.u32.u8 %r3, %r0;", "r", &operands, |[a, _, _]| a & 0xff);
    compare("cvt.u16.u32 %h3, %r0;", "h", &operands, |[a, _, _]| a & 0xffff);
    compare("cvt.sat.u8.s32 %r3, %r0;", "r", &operands, |[a, _, _]| s(a).clamp(0, 255) as u64);
    compare("cvt.sat.s16.s32 %r3, %r0;", "r", &operands, |[a, _, _]| s(a).clamp(-32768, 32767) as u32 as u64);
}

#[test]
fn packing() {
    wide("mov.b64 {%r0, %r1}, %a0; mov.b64 %a3, {%r1, %r0};", |a, _, _| a.rotate_left(32));
    narrow("mov.b32 {%h0, %h1}, %r0; mov.b32 %r3, {%h1, %h0};", |a, _, _| (a >> 16) | a << 16);
    wide("mov.b64 {%h0, %h1, %h2, %h3}, %a0; mov.b64 %a3, {%h3, %h2, %h1, %h0};", |a, _, _| {
        (0..4).fold(0, |word, n| word | (a >> (16 * n) & 0xffff) << (48 - 16 * n))
    });
}
