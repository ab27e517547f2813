//! Binary floating-point formats up to 32 bits, and rounding to them.

/// A direction of rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// To nearest, ties away from zero (`.rna`).
    NearestAway,
    Zero,
    Down,
    Up,
}

impl Rounding {
    /// `rn`, `rz`, `rm`, `rp` and their integer forms.
    pub fn parse(part: &str) -> Option<Rounding> {
        Some(match part {
            "rn" | "rni" => Rounding::Nearest,
            "rna" => Rounding::NearestAway,
            "rz" | "rzi" => Rounding::Zero,
            "rm" | "rmi" => Rounding::Down,
            "rp" | "rpi" => Rounding::Up,
            _ => return None,
        })
    }
}

/// A format with sign, exponent and mantissa from the top of its `bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Explicit bits of the significand.
    mantissa: u32,
    /// The exponent of the smallest normal number, and of the largest.
    least: i32,
    most: i32,
    /// All ones except the sign, as the hardware writes NaN.
    nan: u32,
}

pub const F16: Format = Format { mantissa: 10, least: -14, most: 15, nan: 0x7fff };
pub const BF16: Format = Format { mantissa: 7, least: -126, most: 127, nan: 0x7fff };
pub const F32: Format = Format { mantissa: 23, least: -126, most: 127, nan: 0x7fff_ffff };
/// tf32 before it is moved to the top of 32 bits.
pub const TF32: Format = Format { mantissa: 10, least: -126, most: 127, nan: 0x3_ffff };

impl Format {
    fn sign(self) -> u32 {
        // The exponent field is just wide enough for `most - least + 3` values: 5 or 8 bits.
        let exponent_bits = if self.most == 15 { 5 } else { 8 };
        1 << (self.mantissa + exponent_bits)
    }

    /// The bits of infinity.
    pub fn infinity(self) -> u32 {
        ((self.most - self.least + 2) as u32) << self.mantissa
    }

    pub fn nan(self) -> u32 {
        self.nan
    }

    pub fn nearest(self, value: f64) -> u32 {
        self.round(value, Rounding::Nearest)
    }

    /// `value` rounded to the format.
    pub fn round(self, value: f64, rounding: Rounding) -> u32 {
        if value.is_nan() {
            return self.nan;
        }
        let negative = value.is_sign_negative();
        let sign = if negative { self.sign() } else { 0 };
        if value.is_infinite() {
            return sign | self.infinity();
        }
        let magnitude = self.magnitude(value.abs(), negative, rounding);
        if magnitude < self.infinity() {
            return sign | magnitude;
        }
        let stays_finite = match rounding {
            Rounding::Nearest | Rounding::NearestAway => false,
            Rounding::Zero => true,
            Rounding::Down => !negative,
            Rounding::Up => negative,
        };
        sign | if stays_finite { self.infinity() - 1 } else { self.infinity() }
    }

    /// The bits of a positive number; infinity's or more where it is too large.
    fn magnitude(self, value: f64, negative: bool, rounding: Rounding) -> u32 {
        let bits = value.to_bits();
        let field = (bits >> 52) as i32;
        if bits == 0 {
            return 0;
        }
        // value = significand * 2^(exponent - 52)
        let (significand, exponent) = match field {
            0 => (bits, -1022),
            _ => (bits & ((1 << 52) - 1) | 1 << 52, field - 1023),
        };
        if exponent > self.most {
            return self.infinity();
        }
        let base = exponent.max(self.least);
        // The result counts units of 2^(base - mantissa).
        let shift = (base - self.mantissa as i32 - (exponent - 52)).min(62) as u32;
        let kept = significand >> shift;
        let rest = significand & ((1 << shift) - 1);
        let half = 1u64 << (shift - 1);
        let up = match rounding {
            Rounding::Nearest => rest > half || rest == half && kept & 1 == 1,
            Rounding::NearestAway => rest >= half,
            Rounding::Zero => false,
            Rounding::Down => negative && rest != 0,
            Rounding::Up => !negative && rest != 0,
        };
        // A significand with its hidden bit adds one to the exponent field by itself; so does a carry out of it.
        let field = (base - self.least) as u32;
        (field << self.mantissa) + (kept + u64::from(up)) as u32
    }

    /// The value that the bits stand for.
    pub fn value(self, bits: u32) -> f64 {
        let sign = self.sign();
        let magnitude = bits & (sign - 1);
        let field = magnitude >> self.mantissa;
        let fraction = u64::from(magnitude & ((1 << self.mantissa) - 1));
        let top = (self.most - self.least + 2) as u32;
        let value = if field == top {
            if fraction == 0 { f64::INFINITY } else { f64::NAN }
        } else if field == 0 {
            fraction as f64 * power(self.least - self.mantissa as i32)
        } else {
            let exponent = (field as i32 - 1 + self.least + 1023) as u64;
            f64::from_bits(exponent << 52 | fraction << (52 - self.mantissa))
        };
        if bits & sign != 0 { -value } else { value }
    }
}

/// A power of two in the normal range of f64.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// f16 bits as f32: exact, and without branches.
#[inline(always)]
pub fn from_f16(bits: u64) -> f32 {
    let bits = bits as u32;
    let sign = (bits & 0x8000) << 16;
    let rest = bits & 0x7fff;
    // With the fields in place, only the bias of the exponent is off; this multiplication also makes subnormal numbers normal.
    let finite = f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23);
    let special = if rest > 0x7c00 { 0x7fff_ffff } else { 0x7f80_0000 };
    f32::from_bits(sign | if rest >= 0x7c00 { special } else { finite.to_bits() })
}

/// A number as f32, rounded in a direction.
#[inline(always)]
pub fn to_single(value: f64, rounding: Rounding) -> f32 {
    let near = value as f32;
    let back = f64::from(near);
    let (above, below) = (back > value, back < value);
    match rounding {
        Rounding::Down if above => near.next_down(),
        Rounding::Up if below => near.next_up(),
        Rounding::Zero if above && value > 0.0 => near.next_down(),
        Rounding::Zero if below && value < 0.0 => near.next_up(),
        _ => near,
    }
}

/// bf16 bits as f32: exact.
#[inline(always)]
pub fn from_bf16(bits: u64) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// tf32: the 19 upper bits of f32, the rest ignored.
#[inline(always)]
pub fn from_tf32(bits: u64) -> f32 {
    f32::from_bits(bits as u32 & 0xffff_e000)
}
