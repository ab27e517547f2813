//! Copies between registers, packing, addresses, logic of predicates.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use crate::counters::Class;
use crate::fault::Space;
use crate::memory::window::{base, space_of};
use crate::numeric::lanes::{compare, one};
use crate::program::{Logic, Op, PredicateSource, Source};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::Type;

/// The space that a suffix names.
pub fn space(part: &str) -> Option<Space> {
    Some(match part.split("::").next().unwrap_or("") {
        "global" => Space::Global,
        "shared" => Space::Shared,
        "local" => Space::Local,
        "param" => Space::Param,
        "const" => Space::Const,
        _ => return None,
    })
}

impl Decoder<'_> {
    pub fn moves(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        let op = match &*i.name {
            "mov" => self.mov(i)?,
            "cvta" => self.convert_address(i)?,
            "isspacep" => self.is_space(i)?,
            "selp" => self.select(i)?,
            _ => {
                exactly(i, 1)?;
                Op::ActiveMask { d: self.destination(operand(i, 0)?, i.line)?.0 }
            }
        };
        Ok((op, Class::Move))
    }

    fn mov(&mut self, i: &Instruction) -> Decoded<Op> {
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        exactly(i, 2)?;
        let (d, a) = (operand(i, 0)?, operand(i, 1)?);
        if ty == Type::Pred {
            // A copy may carry "not written" along, so it is not a read.
            let a = self.predicate(a, i.line)?;
            self.reads.clear();
            let Some(d) = self.predicate_destination(d, i.line)? else { return Ok(Op::Nothing) };
            self.writes.clear();
            return Ok(Op::MovePredicate { d, a });
        }
        if let Operand::Name(name, 0) = a
            && matches!(&**name, "%clock" | "%clock64" | "%clock_hi" | "%globaltimer" | "%globaltimer_lo" | "%globaltimer_hi")
        {
            return Ok(Op::Clock { d: self.destination(d, i.line)?.0, bits: ty.bits() });
        }
        let op = match (d, a) {
            (Operand::Vector(parts), Operand::Vector(_)) if parts.len() != 1 => return Err(Refusal::Unknown),
            (Operand::Vector(parts), _) => self.unpack(parts, a, ty, i.line)?,
            (_, Operand::Vector(parts)) => self.pack(d, parts, ty, i.line)?,
            _ => {
                let a = self.source(a, ty, i.line)?;
                Op::Move { d: self.destination(d, i.line)?.0, a }
            }
        };
        self.reads.clear();
        self.writes.clear();
        Ok(op)
    }

    fn unpack(&mut self, parts: &[Operand], a: &Operand, ty: Type, line: u32) -> Decoded<Op> {
        let bits = part_bits(ty, parts.len())?;
        let a = self.source(a, ty, line)?;
        let mut slots = Vec::new();
        for part in parts {
            slots.push(match part {
                Operand::Name(name, 0) if &**name == "_" => None,
                _ => Some(self.destination(part, line)?.0),
            });
        }
        Ok(Op::Unpack { parts: slots.into(), a, bits })
    }

    fn pack(&mut self, d: &Operand, parts: &[Operand], ty: Type, line: u32) -> Decoded<Op> {
        let bits = part_bits(ty, parts.len())?;
        let part_type = match bits {
            8 => Type::B8,
            16 => Type::B16,
            32 => Type::B32,
            _ => return Err(Refusal::Unknown),
        };
        let mut sources: Vec<Source> = Vec::new();
        for part in parts {
            sources.push(self.source(part, part_type, line)?);
        }
        Ok(Op::Pack { d: self.destination(d, line)?.0, parts: sources.into(), bits })
    }

    /// Between generic addresses and those of a space: windows with fixed bases.
    fn convert_address(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 2)?;
        let space = i.parts.iter().find_map(|p| space(p)).ok_or(Refusal::Unknown)?;
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let (base, to) = (base(space), i.has("to"));
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let (d, _) = self.destination(operand(i, 0)?, i.line)?;
        let f = one(move |a| if to { a.wrapping_sub(base) } else { a.wrapping_add(base) });
        Ok(Op::One { f, d, a })
    }

    fn is_space(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 2)?;
        let space = i.parts.iter().find_map(|p| space(p)).ok_or(Refusal::Unknown)?;
        let a = self.source(operand(i, 1)?, Type::B64, i.line)?;
        let p = self.predicate_destination(operand(i, 0)?, i.line)?;
        Ok(Op::Compare { f: compare(move |a, _| space_of(a).0 == space), p, q: None, a, b: a, with: None })
    }

    fn select(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 4)?;
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let b = self.source(operand(i, 2)?, ty, i.line)?;
        // The side that is not chosen may be unwritten; the predicate may not.
        self.reads.clear();
        let p = self.predicate(operand(i, 3)?, i.line)?;
        let (d, _) = self.destination(operand(i, 0)?, i.line)?;
        self.writes.clear();
        Ok(Op::Select { d, a, b, p })
    }

    pub fn predicate_logic(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        let op = match &*i.name {
            "and" => Logic::And,
            "or" => Logic::Or,
            _ => Logic::Xor,
        };
        let a = self.predicate(operand(i, 1)?, i.line)?;
        let b = match &*i.name {
            "not" => {
                exactly(i, 2)?;
                PredicateSource::Value(true)
            }
            _ => {
                exactly(i, 3)?;
                self.predicate(operand(i, 2)?, i.line)?
            }
        };
        let Some(d) = self.predicate_destination(operand(i, 0)?, i.line)? else { return Ok((Op::Nothing, Class::Integer)) };
        Ok((Op::PredicateLogic { op, d, a, b }, Class::Integer))
    }
}

fn part_bits(ty: Type, parts: usize) -> Decoded<u32> {
    match parts {
        2 | 4 if ty.bits() <= 64 => Ok(ty.bits() / parts as u32),
        _ => Err(Refusal::Unknown),
    }
}
