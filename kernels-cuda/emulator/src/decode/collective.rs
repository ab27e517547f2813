//! What lanes or warps do together: barriers, shuffles, votes.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use crate::counters::Class;
use crate::program::{Meeting, Op, Shuffle, Vote};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::Type;

impl Decoder<'_> {
    pub fn collective(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        let op = match &*i.name {
            "bar" | "barrier" if i.has("cluster") => {
                exactly(i, 0)?;
                match (i.has("aligned"), i.has("arrive"), i.has("wait")) {
                    (true, true, false) => Op::ClusterArrive,
                    (true, false, true) => Op::ClusterWait,
                    _ => return Err(Refusal::Unknown),
                }
            }
            "bar" | "barrier" => self.barrier(i)?,
            "elect" => self.elect(i)?,
            "shfl" => self.shuffle(i)?,
            "vote" => self.vote(i)?,
            "match" => self.matching(i)?,
            _ => self.reduce(i)?,
        };
        Ok((op, Class::Synchronisation))
    }

    /// `mapa.shared::cluster.u32 d, address, rank;`
    pub fn map_shared(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        exactly(i, 3)?;
        if !i.has("shared::cluster") || i.types() != [Type::U32] {
            return Err(Refusal::Unknown);
        }
        let (address, rank) = (self.source(operand(i, 1)?, Type::U32, i.line)?, self.source(operand(i, 2)?, Type::U32, i.line)?);
        Ok((Op::MapShared { d: self.destination(operand(i, 0)?, i.line)?.0, address, rank }, Class::Move))
    }

    fn barrier(&mut self, i: &Instruction) -> Decoded<Op> {
        if i.has("warp") {
            exactly(i, 1)?;
            return Ok(Op::SyncWarp { members: self.source(operand(i, 0)?, Type::B32, i.line)? });
        }
        let meeting = match (i.has("red"), i.has("arrive"), i.has("sync")) {
            (true, ..) if i.has("popc") => Meeting::Count,
            (true, ..) if i.has("and") => Meeting::And,
            (true, ..) if i.has("or") => Meeting::Or,
            (false, true, _) => Meeting::Arrive,
            (false, _, true) => Meeting::Sync,
            _ => return Err(Refusal::Unknown),
        };
        if !matches!(meeting, Meeting::Count | Meeting::And | Meeting::Or) {
            let id = self.source(operand(i, 0)?, Type::U32, i.line)?;
            let count = match i.operands.len() {
                1 if meeting == Meeting::Sync => None,
                2 => Some(self.source(operand(i, 1)?, Type::U32, i.line)?),
                _ => return Err(Refusal::Unknown),
            };
            return Ok(Op::Barrier { meeting, id, count, p: None, d: None });
        }
        // bar.red.op d, id[, count], p
        let last = i.operands.len().checked_sub(1).filter(|l| (2..=3).contains(l)).ok_or(Refusal::Unknown)?;
        let id = self.source(operand(i, 1)?, Type::U32, i.line)?;
        let count = if last == 3 { Some(self.source(operand(i, 2)?, Type::U32, i.line)?) } else { None };
        let p = Some(self.predicate(operand(i, last)?, i.line)?);
        let d = match meeting {
            Meeting::Count => Some(self.destination(operand(i, 0)?, i.line)?.0),
            _ => self.predicate_destination(operand(i, 0)?, i.line)?,
        };
        Ok(Op::Barrier { meeting, id, count, p, d })
    }

    fn shuffle(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 5)?;
        if !i.has("sync") || !i.has("b32") {
            return Err(Refusal::Unknown);
        }
        let mode = match i.parts.get(1).map_or("", |p| &**p) {
            "idx" => Shuffle::Index,
            "up" => Shuffle::Up,
            "down" => Shuffle::Down,
            "bfly" => Shuffle::Butterfly,
            _ => return Err(Refusal::Unknown),
        };
        let a = self.source(operand(i, 1)?, Type::B32, i.line)?;
        let b = self.source(operand(i, 2)?, Type::B32, i.line)?;
        let c = self.source(operand(i, 3)?, Type::B32, i.line)?;
        let members = self.source(operand(i, 4)?, Type::B32, i.line)?;
        let (d, p) = match operand(i, 0)? {
            Operand::Pair(d, p) => (self.destination(d, i.line)?.0, self.predicate_destination(p, i.line)?),
            one => (self.destination(one, i.line)?.0, None),
        };
        Ok(Op::Shuffle { mode, d, p, a, b, c, members })
    }

    /// `elect.sync d|p, members;`: the lowest of them.
    fn elect(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 2)?;
        let Operand::Pair(d, p) = operand(i, 0)? else { return Err(Refusal::Unknown) };
        let d = match &**d {
            Operand::Name(name, 0) if &**name == "_" => None,
            d => Some(self.destination(d, i.line)?.0),
        };
        let p = self.predicate_destination(p, i.line)?;
        Ok(Op::Elect { d, p, members: self.source(operand(i, 1)?, Type::B32, i.line)? })
    }

    fn vote(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 3)?;
        if !i.has("sync") {
            return Err(Refusal::Unknown);
        }
        let mode = match i.parts.get(1).map_or("", |p| &**p) {
            "any" => Vote::Any,
            "all" => Vote::All,
            "uni" => Vote::Uniform,
            "ballot" => Vote::Ballot,
            _ => return Err(Refusal::Unknown),
        };
        let a = self.predicate(operand(i, 1)?, i.line)?;
        let members = self.source(operand(i, 2)?, Type::B32, i.line)?;
        let d = match mode {
            Vote::Ballot => self.destination(operand(i, 0)?, i.line)?.0,
            _ => self.predicate_destination(operand(i, 0)?, i.line)?.ok_or(Refusal::Unknown)?,
        };
        Ok(Op::Vote { mode, d, a, members })
    }

    fn matching(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 3)?;
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let members = self.source(operand(i, 2)?, Type::B32, i.line)?;
        let (d, p) = match operand(i, 0)? {
            Operand::Pair(d, p) => (self.destination(d, i.line)?.0, self.predicate_destination(p, i.line)?),
            one => (self.destination(one, i.line)?.0, None),
        };
        Ok(Op::Match { all: i.has("all"), d, p, a, members })
    }

    fn reduce(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 3)?;
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let f: fn(u64, u64) -> u64 = match (i.parts.get(1).map_or("", |p| &**p), ty.signed()) {
            ("add", _) => |a, b| a.wrapping_add(b) & 0xffff_ffff,
            ("min", true) => |a, b| (a as u32 as i32).min(b as u32 as i32) as u32 as u64,
            ("max", true) => |a, b| (a as u32 as i32).max(b as u32 as i32) as u32 as u64,
            ("min", false) => u64::min,
            ("max", false) => u64::max,
            ("and", _) => |a, b| a & b,
            ("or", _) => |a, b| a | b,
            ("xor", _) => |a, b| a ^ b,
            _ => return Err(Refusal::Unknown),
        };
        if ty.bits() != 32 || ty.float() {
            return Err(Refusal::Unknown);
        }
        let a = self.source(operand(i, 1)?, ty, i.line)?;
        let members = self.source(operand(i, 2)?, Type::B32, i.line)?;
        Ok(Op::Reduce { f, a, members, d: self.destination(operand(i, 0)?, i.line)?.0 })
    }
}
