//! Operands to slots, with a note of what is read and written.

use super::body::{Decoded, Decoder, Refusal};
use super::scope::Symbol;
use crate::fault::ParseError;
use crate::numeric::format::{BF16, F16};
use crate::program::{Address, Constant, LaneMask, PREDICATE, PredicateSource, Source, Special};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::{Type, low_bits};

/// The operand at `n`; too few are an unknown form.
pub fn operand(i: &Instruction, n: usize) -> Decoded<&Operand> {
    i.operands.get(n).ok_or(Refusal::Unknown)
}

/// Refuses an instruction whose operands are not as many as its form has.
pub fn exactly(i: &Instruction, n: usize) -> Decoded<()> {
    if i.operands.len() == n { Ok(()) } else { Err(Refusal::Unknown) }
}

fn special(name: &str) -> Option<Constant> {
    let axis = |rest: &str| match rest {
        ".x" => Some(0),
        ".y" => Some(1),
        ".z" => Some(2),
        _ => None,
    };
    let special = match name {
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::WarpCount,
        "%lanemask_eq" => Special::LaneMask(LaneMask::Equal),
        "%lanemask_lt" => Special::LaneMask(LaneMask::Less),
        "%lanemask_le" => Special::LaneMask(LaneMask::LessEqual),
        "%lanemask_gt" => Special::LaneMask(LaneMask::Greater),
        "%lanemask_ge" => Special::LaneMask(LaneMask::GreaterEqual),
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        "%smid" | "%gridid" => return Some(Constant::Value(0)),
        "%nsmid" => return Some(Constant::Value(1)),
        // A cluster is one block.
        "%cluster_ctarank" => return Some(Constant::Value(0)),
        "%cluster_nctarank" => return Some(Constant::Value(1)),
        "WARP_SZ" => return Some(Constant::Value(32)),
        _ => {
            if let Some(rest) = name.strip_prefix("%tid") {
                Special::ThreadId(axis(rest)?)
            } else if let Some(rest) = name.strip_prefix("%ntid") {
                Special::ThreadCount(axis(rest)?)
            } else if let Some(rest) = name.strip_prefix("%ctaid") {
                Special::BlockId(axis(rest)?)
            } else {
                Special::BlockCount(axis(name.strip_prefix("%nctaid")?)?)
            }
        }
    };
    Some(Constant::Special(special))
}

/// The bits of a floating-point literal in a type.
fn float_bits(value: f64, ty: Type) -> u64 {
    match ty {
        Type::F32 | Type::Tf32 | Type::B32 => u64::from((value as f32).to_bits()),
        Type::F16 => u64::from(F16.nearest(value)),
        Type::Bf16 => u64::from(BF16.nearest(value)),
        _ => value.to_bits(),
    }
}

impl Decoder<'_> {
    pub fn symbol(&mut self, name: &str, line: u32) -> Result<Symbol, ParseError> {
        if let Some(symbol) = self.scopes.find(name) {
            return Ok(symbol);
        }
        match self.module_symbol(name)? {
            Some(symbol) => Ok(symbol),
            None => Err(ParseError::new(line, format!("`{name}` is not declared"))),
        }
    }

    /// A register to write, and its type. `_` is a sink.
    pub fn destination(&mut self, o: &Operand, line: u32) -> Decoded<(u32, Type)> {
        let Operand::Name(name, 0) = o else { return Err(Refusal::Unknown) };
        if &**name == "_" {
            return Ok((self.sink(), Type::B64));
        }
        match self.symbol(name, line)? {
            Symbol::Register(slot, ty) => {
                self.writes.push(slot);
                Ok((slot, ty))
            }
            _ => Err(Refusal::Unknown),
        }
    }

    /// A predicate to write; `None` for `_`.
    pub fn predicate_destination(&mut self, o: &Operand, line: u32) -> Decoded<Option<u32>> {
        let Operand::Name(name, 0) = o else { return Err(Refusal::Unknown) };
        if &**name == "_" {
            return Ok(None);
        }
        match self.symbol(name, line)? {
            Symbol::Predicate(slot) => {
                self.writes.push(slot | PREDICATE);
                Ok(Some(slot))
            }
            _ => Err(Refusal::Unknown),
        }
    }

    /// A value to read. Constants are reduced to the width of `ty`.
    pub fn source(&mut self, o: &Operand, ty: Type, line: u32) -> Decoded<Source> {
        self.typed_source(o, ty, line).map(|(source, _)| source)
    }

    /// A value to read, and the type of the register it comes from.
    pub fn typed_source(&mut self, o: &Operand, ty: Type, line: u32) -> Decoded<(Source, Type)> {
        let mask = if ty == Type::Pred { 1 } else { low_bits(ty.bits().min(64)) };
        let value = match o {
            Operand::Integer(value) if matches!(ty, Type::F32 | Type::F64 | Type::F16 | Type::Bf16) => {
                float_bits(*value as i64 as f64, ty)
            }
            Operand::Integer(value) => *value,
            Operand::Single(bits) if ty == Type::F64 => f64::from(f32::from_bits(*bits)).to_bits(),
            Operand::Single(bits) => u64::from(*bits),
            Operand::Float(value) => float_bits(*value, ty),
            Operand::Name(name, offset) => return self.named_source(name, *offset, line),
            _ => return Err(Refusal::Unknown),
        };
        Ok((self.constant(Constant::Value(value & mask)), ty))
    }

    fn named_source(&mut self, name: &str, offset: i64, line: u32) -> Decoded<(Source, Type)> {
        if let Some(constant) = special(name).filter(|_| offset == 0) {
            return Ok((self.constant(constant), Type::B32));
        }
        let constant = match self.symbol(name, line)? {
            Symbol::Register(slot, ty) if offset == 0 => {
                self.reads.push(slot);
                return Ok((slot, ty));
            }
            Symbol::Offset(at) => Constant::Value(i64::from(at).wrapping_add(offset) as u64),
            Symbol::Dynamic => Constant::Dynamic(offset),
            Symbol::Global(index) => Constant::Global(index, offset),
            Symbol::Register(..) | Symbol::Predicate(_) => return Err(Refusal::Unknown),
        };
        Ok((self.constant(constant), Type::B64))
    }

    pub fn predicate(&mut self, o: &Operand, line: u32) -> Decoded<PredicateSource> {
        match o {
            Operand::Name(name, 0) => Ok(self.named_predicate(name, false, line)?),
            Operand::Not(name) => Ok(self.named_predicate(name, true, line)?),
            Operand::Integer(value) => Ok(PredicateSource::Value(*value != 0)),
            _ => Err(Refusal::Unknown),
        }
    }

    pub fn named_predicate(&mut self, name: &str, negate: bool, line: u32) -> Result<PredicateSource, ParseError> {
        match self.symbol(name, line)? {
            Symbol::Predicate(slot) => {
                self.reads.push(slot | PREDICATE);
                Ok(PredicateSource::Register(slot, negate))
            }
            _ => Err(ParseError::new(line, format!("`{name}` is no predicate"))),
        }
    }

    /// `[base + offset]`.
    pub fn address(&mut self, o: &Operand, line: u32) -> Decoded<Address> {
        let Operand::Address(base, offset) = o else { return Err(Refusal::Unknown) };
        let (base, ty) = self.typed_source(base, Type::B64, line)?;
        let register = base & crate::program::CONSTANT == 0;
        Ok(Address { base, offset: *offset, narrow: register && ty.bytes() == 4 })
    }

    /// `{a, b}` or a single operand.
    pub fn elements<'o>(&self, o: &'o Operand) -> &'o [Operand] {
        match o {
            Operand::Vector(all) => all,
            one => std::slice::from_ref(one),
        }
    }
}
