//! `cp.async.bulk`: copies by the copy engine.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use crate::memory::proxies::CHUNK;
use crate::program::{Address, Bulk, BulkShape, Op};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::Type;

impl Decoder<'_> {
    pub fn bulk(&mut self, i: &Instruction) -> Decoded<Op> {
        if i.has("commit_group") {
            return exactly(i, 0).map(|()| Op::CommitBulk);
        }
        if i.has("wait_group") {
            exactly(i, 1)?;
            let Operand::Integer(left) = operand(i, 0)? else { return Err(Refusal::Unknown) };
            let left = u32::try_from(*left).unwrap_or(u32::MAX);
            return Ok(Op::WaitBulk { left, reads: i.has("read") });
        }
        // Where to and from where decide what else there is.
        let ends: Vec<&str> =
            i.parts.iter().map(|part| &**part).filter(|part| part.starts_with("global") || part.starts_with("shared")).collect();
        let tensor = i.has("tensor");
        let (loads, global) = match ends.as_slice() {
            ["shared::cluster" | "shared::cta" | "shared", "global"] if i.has("mbarrier::complete_tx::bytes") => (true, 1),
            ["global", "shared::cta"] if i.has("bulk_group") => (false, 0),
            _ => return Err(Refusal::Unknown),
        };
        let multicast = i.has("multicast::cluster");
        if multicast && !(loads && tensor && i.has("shared::cluster")) {
            return Err(Refusal::Unknown);
        }
        exactly(i, 2 + usize::from(loads) + usize::from(!tensor) + usize::from(multicast))?;
        let shared = self.address(operand(i, 1 - global)?, i.line)?;
        let shape = match tensor {
            true => self.tile(i, operand(i, global)?)?,
            false => {
                let bytes = self.source(operand(i, 2)?, Type::U32, i.line)?;
                BulkShape::Bytes { global: self.address(operand(i, global)?, i.line)?, bytes }
            }
        };
        let barrier = match loads {
            true => Some(self.address(operand(i, i.operands.len() - 1 - usize::from(multicast))?, i.line)?),
            false => None,
        };
        let multicast = match multicast {
            true => Some(self.source(operand(i, i.operands.len() - 1)?, Type::U16, i.line)?),
            false => None,
        };
        self.note_width(Some(crate::fault::Space::Shared), CHUNK);
        Ok(Op::Bulk(Box::new(Bulk { shared, shape, barrier, multicast })))
    }

    /// `[map, {x, y}]` with as many coordinates as `.2d` says.
    fn tile(&mut self, i: &Instruction, o: &Operand) -> Decoded<BulkShape> {
        let Operand::Tile(base, offset, coordinates) = o else { return Err(Refusal::Unknown) };
        if !i.has(&format!("{}d", coordinates.len())) {
            return Err(Refusal::Unknown);
        }
        let (base, ty) = self.typed_source(base, Type::B64, i.line)?;
        let map = Address { base, offset: *offset, narrow: base & crate::program::CONSTANT == 0 && ty.bytes() == 4 };
        let mut at = Vec::new();
        for coordinate in coordinates {
            at.push(self.source(coordinate, Type::S32, i.line)?);
        }
        Ok(BulkShape::Tile { map, at: at.into() })
    }
}
