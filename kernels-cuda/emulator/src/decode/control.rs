//! Branches, exits, fences.

use super::body::{Decoded, Decoder, Reference, Refusal};
use super::operands::{exactly, operand};
use super::registers::space;
use crate::counters::Class;
use crate::fault::Space;
use crate::program::Op;
use crate::syntax::ast::{Instruction, Operand};
use crate::types::Type;

/// `fence.proxy.async[.shared::cta]`: between ordinary accesses and those of bulk copies and `wgmma`. Of global memory nothing is checked.
fn proxy_fence(i: &Instruction) -> Decoded<Op> {
    let shared = i.parts.iter().any(|part| space(part) == Some(Space::Shared));
    match i.parts.get(1).map_or("", |part| &**part) {
        "async" if i.has("global") => Ok(Op::Nothing),
        "async" if shared || i.parts.len() == 2 => Ok(Op::ProxyFence),
        // Tensor maps that the device itself changes are not known here.
        "alias" => Ok(Op::Nothing),
        _ => Err(Refusal::Unknown),
    }
}

impl Decoder<'_> {
    pub fn control(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        let op = match &*i.name {
            "bra" => {
                exactly(i, 1)?;
                let Operand::Name(label, 0) = operand(i, 0)? else { return Err(Refusal::Unknown) };
                self.refer(label, 0, i.line);
                Op::Branch { to: 0 }
            }
            "brx" => self.indexed(i)?,
            // Functions are not called here, so a return ends the thread.
            "ret" | "exit" => Op::Exit,
            "trap" | "brkpt" => Op::Trap,
            "fence" if i.has("proxy") => return Ok((proxy_fence(i)?, Class::Synchronisation)),
            "fence" if i.has("mbarrier_init") => return Ok((Op::PhaseFence, Class::Synchronisation)),
            // One thread at a time touches memory, in order: fences and naps change nothing.
            "membar" | "fence" => return Ok((Op::Nothing, Class::Synchronisation)),
            _ => Op::Nothing,
        };
        Ok((op, Class::Control))
    }

    fn refer(&mut self, label: &str, target: usize, line: u32) {
        let scope = self.scopes.current();
        self.references.push(Reference { code: self.at, target, scope, name: label.into(), line });
    }

    /// `brx.idx %r, list;`
    fn indexed(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 2)?;
        let Operand::Name(list, 0) = operand(i, 1)? else { return Err(Refusal::Unknown) };
        let targets = self.target_lists.get(list).cloned().ok_or(Refusal::Unknown)?;
        for (n, label) in targets.iter().enumerate() {
            self.refer(label, n, i.line);
        }
        let index = self.source(operand(i, 0)?, Type::U32, i.line)?;
        Ok(Op::BranchIndexed { index, targets: vec![0; targets.len()].into() })
    }
}
