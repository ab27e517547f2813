//! Literals.

use super::ast::Operand;

/// What a literal means, or `None` where it is none.
pub fn literal(text: &str) -> Option<Operand> {
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f").filter(|h| h.len() == 8) {
        return u32::from_str_radix(hex, 16).ok().map(Operand::Single);
    }
    if let Some(hex) = lower.strip_prefix("0d").filter(|h| h.len() == 16) {
        return u64::from_str_radix(hex, 16).ok().map(|bits| Operand::Float(f64::from_bits(bits)));
    }
    if let Some(value) = integer(&lower) {
        return Some(Operand::Integer(value));
    }
    lower.contains('.').then(|| lower.parse().ok().map(Operand::Float)).flatten()
}

fn integer(lower: &str) -> Option<u64> {
    let digits = lower.strip_suffix('u').unwrap_or(lower);
    if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(binary) = digits.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()
    } else {
        digits.parse().ok()
    }
}

/// The negative of a literal.
pub fn negated(operand: Operand) -> Operand {
    match operand {
        Operand::Integer(v) => Operand::Integer(v.wrapping_neg()),
        Operand::Float(v) => Operand::Float(-v),
        Operand::Single(bits) => Operand::Single(bits ^ 0x8000_0000),
        other => other,
    }
}
