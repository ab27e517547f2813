//! `mbarrier`: barriers that are objects in shared memory.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use super::registers::space;
use crate::counters::Class;
use crate::program::{Op, PhaseAction};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::Type;

/// The bytes of an object.
const BYTES: u32 = 8;

impl Decoder<'_> {
    pub fn phase(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        // Of another block's object nothing but an arrival is known here, which gives no state.
        let silent = matches!(i.operands.first(), Some(Operand::Name(name, 0)) if &**name == "_");
        let arrives = i.parts.first().is_some_and(|p| &**p == "arrive") && !i.has("expect_tx") && silent;
        if i.has("noComplete") || !i.has("b64") || (i.has("shared::cluster") && !arrives) {
            return Err(Refusal::Unknown);
        }
        let op = match i.parts.first().map_or("", |p| &**p) {
            "init" => {
                exactly(i, 2)?;
                let count = self.source(operand(i, 1)?, Type::U32, i.line)?;
                self.object(i, 0, PhaseAction::Initialise, (None, None), Some(count))?
            }
            "inval" => {
                exactly(i, 1)?;
                self.object(i, 0, PhaseAction::Invalidate, (None, None), None)?
            }
            "expect_tx" | "complete_tx" => {
                exactly(i, 2)?;
                let bytes = self.source(operand(i, 1)?, Type::U32, i.line)?;
                let action = if i.has("expect_tx") { PhaseAction::Expect } else { PhaseAction::Complete };
                self.object(i, 0, action, (None, None), Some(bytes))?
            }
            "arrive" if i.has("expect_tx") => {
                exactly(i, 3)?;
                let bytes = self.source(operand(i, 2)?, Type::U32, i.line)?;
                let d = self.destination(operand(i, 0)?, i.line)?.0;
                self.object(i, 1, PhaseAction::ArriveExpect, (Some(d), None), Some(bytes))?
            }
            "arrive" => {
                let count = match i.operands.len() {
                    2 => None,
                    3 => Some(self.source(operand(i, 2)?, Type::U32, i.line)?),
                    _ => return Err(Refusal::Unknown),
                };
                let d = self.destination(operand(i, 0)?, i.line)?.0;
                self.object(i, 1, PhaseAction::Arrive, (Some(d), None), count)?
            }
            "test_wait" | "try_wait" => self.test_phase(i)?,
            _ => return Err(Refusal::Unknown),
        };
        Ok((op, Class::Synchronisation))
    }

    /// `mbarrier.try_wait[.parity].shared.b64 p, [address], state[, time];`
    fn test_phase(&mut self, i: &Instruction) -> Decoded<Op> {
        if !(3..=4).contains(&i.operands.len()) {
            return Err(Refusal::Unknown);
        }
        let parity = i.has("parity");
        let (action, ty) = if parity { (PhaseAction::TestParity, Type::U32) } else { (PhaseAction::TestState, Type::B64) };
        let value = self.source(operand(i, 2)?, ty, i.line)?;
        let p = self.predicate_destination(operand(i, 0)?, i.line)?;
        self.object(i, 1, action, (None, p), Some(value))
    }

    /// `cp.async.mbarrier.arrive[.noinc].shared.b64 [address];`
    pub fn arrive_after_copies(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 1)?;
        self.object(i, 0, PhaseAction::ArriveAfterCopies { counted: i.has("noinc") }, (None, None), None)
    }

    fn object(
        &mut self,
        i: &Instruction,
        at: usize,
        action: PhaseAction,
        (d, p): (Option<u32>, Option<u32>),
        value: Option<u32>,
    ) -> Decoded<Op> {
        let to = i.parts.iter().find_map(|p| space(p));
        let o: &Operand = operand(i, at)?;
        let address = self.address(o, i.line)?;
        self.note_width(to, BYTES);
        let mapped = i.has("shared::cluster");
        Ok(Op::Phase { action, mapped, to, address, d, p, value })
    }
}
