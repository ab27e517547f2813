//! What four warps do together: `wgmma`, `setmaxnreg`.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use crate::counters::Class;
use crate::program::{MatrixProduct, MatrixSource, MmaInput, Op};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::Type;

impl Decoder<'_> {
    pub fn warpgroup(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        if !i.has("sync") || !i.has("aligned") {
            return Err(Refusal::Unknown);
        }
        let number = || match operand(i, 0)? {
            Operand::Integer(n) if i.operands.len() == 1 => Ok(u32::try_from(*n).unwrap_or(u32::MAX)),
            _ => Err(Refusal::Unknown),
        };
        let op = match (&*i.name, i.parts.first().map_or("", |p| &**p)) {
            ("setmaxnreg", direction @ ("inc" | "dec")) => Op::SetRegisters { count: number()?, more: direction == "inc" },
            ("wgmma", "fence") => exactly(i, 0).map(|()| Op::MatrixFence)?,
            ("wgmma", "commit_group") => exactly(i, 0).map(|()| Op::CommitMatrix)?,
            ("wgmma", "wait_group") => Op::WaitMatrix(number()?),
            ("wgmma", "mma_async") => return Ok((Op::MatrixProduct(Box::new(self.matrix_product(i)?)), Class::Tensor)),
            _ => return Err(Refusal::Unknown),
        };
        Ok((op, Class::Synchronisation))
    }

    /// `wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 d, a-desc, b-desc, p, 1, 1, 0, 0;`, or A in registers and one flag less.
    fn matrix_product(&mut self, i: &Instruction) -> Decoded<MatrixProduct> {
        let (columns, input) = shape(i).ok_or(Refusal::Unknown)?;
        let in_registers = matches!(operand(i, 1)?, Operand::Vector(_));
        exactly(i, 8 - usize::from(in_registers))?;
        let flag = |n: usize, yes: u64, no: u64| match operand(i, n)? {
            Operand::Integer(v) if *v == yes => Ok(true),
            Operand::Integer(v) if *v == no => Ok(false),
            _ => Err(Refusal::Unknown),
        };
        // Factors are 1 or -1.
        let negated = [flag(4, 1u64.wrapping_neg(), 1)?, flag(5, 1u64.wrapping_neg(), 1)?];
        let a = match operand(i, 1)? {
            Operand::Vector(parts) => {
                let [a0, a1, a2, a3] = parts.as_slice() else { return Err(Refusal::Unknown) };
                let mut source = |part: &Operand| self.source(part, Type::B32, i.line);
                MatrixSource::Registers([source(a0)?, source(a1)?, source(a2)?, source(a3)?])
            }
            descriptor => MatrixSource::Shared(self.source(descriptor, Type::B64, i.line)?, flag(6, 1, 0)?),
        };
        let b = (self.source(operand(i, 2)?, Type::B64, i.line)?, flag(i.operands.len() - 1, 1, 0)?);
        let adds = self.predicate(operand(i, 3)?, i.line)?;
        let elements = self.elements(operand(i, 0)?);
        if elements.len() != columns as usize / 2 {
            return Err(Refusal::Unknown);
        }
        let mut d = Vec::new();
        for element in elements {
            d.push(self.destination(element, i.line)?.0);
        }
        Ok(MatrixProduct { columns, input, d: d.into(), a, b, adds, negated })
    }
}

/// N, and the type of the factors. Sums are f32.
fn shape(i: &Instruction) -> Option<(u32, MmaInput)> {
    let name = i.parts.iter().find_map(|part| part.strip_prefix("m64n")?.strip_suffix("k16"))?;
    let columns = name.parse().ok().filter(|n: &u32| n.is_multiple_of(8) && (8..=256).contains(n))?;
    match i.types().as_slice() {
        [Type::F32, Type::Bf16, Type::Bf16] => Some((columns, MmaInput::Bf16)),
        [Type::F32, Type::F16, Type::F16] => Some((columns, MmaInput::F16)),
        _ => None,
    }
}
