//! f16 and bf16, single and in pairs: computed exactly enough in f64, rounded once.

use super::float::{greatest, least, transcendental};
use super::integer::Arithmetic;
use crate::counters::Class;
use crate::numeric::exact;
use crate::numeric::format::{BF16, F16, Format, from_bf16, from_f16};
use crate::syntax::ast::Instruction;
use crate::types::Type;

/// How operands are taken and results given.
#[derive(Clone, Copy)]
struct Narrow {
    format: Format,
    ftz: bool,
    saturate: bool,
    relu: bool,
}

impl Narrow {
    fn take(self, bits: u64) -> f64 {
        let value = if self.format == F16 { from_f16(bits & 0xffff) } else { from_bf16(bits & 0xffff) };
        let small = self.ftz && value != 0.0 && value.abs() < 6.103_515_6e-5;
        f64::from(if small { 0.0f32.copysign(value) } else { value })
    }

    fn give(self, value: f64) -> u64 {
        let value = match value {
            v if self.relu && v <= 0.0 => 0.0,
            v if self.saturate && v.is_nan() => 0.0,
            v if self.saturate => v.clamp(0.0, 1.0),
            v => v,
        };
        let bits = self.format.nearest(value);
        let subnormal = self.ftz && self.format == F16 && bits & 0x7c00 == 0;
        u64::from(if subnormal { bits & 0x8000 } else { bits })
    }
}

/// Applies a function of halves to a register that holds one or two.
fn each(pair: bool, f: impl Fn(u64) -> u64) -> u64 {
    if pair { f(0) | f(16) << 16 } else { f(0) }
}

pub fn build(i: &Instruction, ty: Type) -> Option<Arithmetic> {
    let pair = matches!(ty, Type::F16x2 | Type::Bf16x2);
    let format = if matches!(ty, Type::F16 | Type::F16x2) { F16 } else { BF16 };
    let n = Narrow { format, ftz: i.has("ftz"), saturate: i.has("sat"), relu: i.has("relu") };
    let (class, strict) = (Class::Float, i.has("NaN"));
    let one = |f: fn(f64) -> f64| Arithmetic::one(class, ty, move |a| each(pair, |s| n.give(f(n.take(a >> s)))));
    let two = |f: fn(f64, f64) -> f64| {
        Arithmetic::two(class, ty, move |a, b| each(pair, |s| n.give(f(n.take(a >> s), n.take(b >> s)))))
    };
    if i.has("xorsign") || i.has("oob") || ty == Type::Tf32 {
        return None;
    }
    match &*i.name {
        "add" => two(|a, b| exact::fused(a, 1.0, b)),
        "sub" => two(|a, b| exact::fused(a, 1.0, -b)),
        "mul" => two(|a, b| a * b),
        "fma" => Arithmetic::three(class, ty, move |a, b, c| {
            each(pair, |s| n.give(exact::fused(n.take(a >> s), n.take(b >> s), n.take(c >> s))))
        }),
        "neg" => Arithmetic::one(class, ty, move |a| each(pair, |s| (a >> s ^ 0x8000) & 0xffff)),
        "abs" => Arithmetic::one(class, ty, move |a| each(pair, |s| a >> s & 0x7fff)),
        "min" if strict => two(|a, b| least(a, b, true)),
        "max" if strict => two(|a, b| greatest(a, b, true)),
        "min" => two(|a, b| least(a, b, false)),
        "max" => two(|a, b| greatest(a, b, false)),
        "ex2" | "tanh" => one(transcendental(&i.name)?),
        _ => None,
    }
}
