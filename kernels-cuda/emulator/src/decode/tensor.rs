//! `mma.sync`.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use crate::counters::Class;
use crate::program::{MmaInput, MmaShape, Op, Source};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::Type;

impl Decoder<'_> {
    /// `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 d, a, b, c;`
    pub fn tensor(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        exactly(i, 4)?;
        let shape = shape(i).ok_or(Refusal::Unknown)?;
        let (sums, sum_type) = if shape.half_sums { (2, Type::B32) } else { (4, Type::F32) };
        // Registers hold two f16 or bf16, or one tf32.
        let packed = if shape.input == MmaInput::Tf32 { 1 } else { 2 };
        let a = self.fragment(operand(i, 1)?, 16 * shape.k / 32 / packed, Type::B32, i.line)?;
        let b = self.fragment(operand(i, 2)?, 8 * shape.k / 32 / packed, Type::B32, i.line)?;
        let c = self.fragment(operand(i, 3)?, sums, sum_type, i.line)?;
        let elements = self.elements(operand(i, 0)?);
        if elements.len() != sums {
            return Err(Refusal::Unknown);
        }
        let mut d = Vec::new();
        for element in elements {
            d.push(self.destination(element, i.line)?.0);
        }
        Ok((Op::Mma { shape, d: d.into(), a, b, c }, Class::Tensor))
    }

    fn fragment(&mut self, o: &Operand, registers: usize, ty: Type, line: u32) -> Decoded<Box<[Source]>> {
        let elements = self.elements(o);
        if elements.len() != registers {
            return Err(Refusal::Unknown);
        }
        let mut sources = Vec::new();
        for element in elements {
            sources.push(self.source(element, ty, line)?);
        }
        Ok(sources.into())
    }
}

fn shape(i: &Instruction) -> Option<MmaShape> {
    if !i.has("row") || !i.has("col") {
        return None;
    }
    let part = |p: &str| i.has(p);
    let types = i.types();
    let &[d, a, b, c] = types.as_slice() else { return None };
    if a != b || d != c {
        return None;
    }
    let half_sums = match (d, a) {
        (Type::F32, _) => false,
        (Type::F16, Type::F16) => true,
        _ => return None,
    };
    let input = match a {
        Type::F16 => MmaInput::F16,
        Type::Bf16 => MmaInput::Bf16,
        Type::Tf32 => MmaInput::Tf32,
        _ => return None,
    };
    let k = match input {
        MmaInput::Tf32 if part("m16n8k4") => 4,
        _ if part("m16n8k8") => 8,
        MmaInput::F16 | MmaInput::Bf16 if part("m16n8k16") => 16,
        _ => return None,
    };
    Some(MmaShape { k, input, half_sums })
}
