//! Loads, stores, atomics, asynchronous copies, matrix loads.

use super::body::{Decoded, Decoder, Refusal};
use super::operands::{exactly, operand};
use super::registers::space;
use crate::counters::Class;
use crate::fault::Space;
use crate::numeric::exact;
use crate::numeric::format::{BF16, F16, Format};
use crate::program::{Combine, Constant, Op, Target};
use crate::syntax::ast::{Instruction, Operand};
use crate::types::{Type, low_bits, sign_extend};

impl Decoder<'_> {
    pub fn memory(&mut self, i: &Instruction) -> Decoded<(Op, Class)> {
        if i.has("L2::cache_hint") {
            // The last operand is a policy: a hint like the others.
            let mut plain = i.clone();
            plain.operands.pop();
            plain.parts.retain(|p| &**p != "L2::cache_hint");
            return self.memory(&plain);
        }
        let op = match &*i.name {
            "ld" | "ldu" => self.load(i)?,
            "st" => self.store(i)?,
            "atom" | "red" => self.atomic(i)?,
            "cp" => self.copy(i)?,
            "createpolicy" => {
                let a = self.constant(Constant::Value(0));
                Op::Move { d: self.destination(operand(i, 0)?, i.line)?.0, a }
            }
            "ldmatrix" | "stmatrix" => self.matrix(i)?,
            // Hints.
            _ => Op::Nothing,
        };
        Ok((op, Class::Memory))
    }

    /// Remembers how narrow accesses to shared memory get.
    pub fn note_width(&mut self, to: Target, bytes: u32) {
        if matches!(to, None | Some(Space::Shared)) {
            self.granule = self.granule.min(bytes);
        }
    }

    fn load(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 2)?;
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let to = i.parts.iter().find_map(|p| space(p));
        let elements = self.elements(operand(i, 0)?);
        if ty.bytes() > 8 || !matches!(elements.len(), 1 | 2 | 4) {
            return Err(Refusal::Unknown);
        }
        let address = self.address(operand(i, 1)?, i.line)?;
        let (mut slots, mut width) = (Vec::new(), 64);
        for element in elements {
            let (slot, register) = self.destination(element, i.line)?;
            slots.push(slot);
            width = width.min(register.bits());
        }
        self.note_width(to, ty.bytes() * slots.len() as u32);
        let sign_to = (ty.signed() && width > ty.bits()).then_some(width);
        Ok(Op::Load { to, address, d: slots.into(), bytes: ty.bytes(), sign_to })
    }

    fn store(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 2)?;
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let to = i.parts.iter().find_map(|p| space(p));
        let elements = self.elements(operand(i, 1)?);
        if ty.bytes() > 8 || !matches!(elements.len(), 1 | 2 | 4) || matches!(to, Some(Space::Const | Space::Param)) {
            return Err(Refusal::Unknown);
        }
        let address = self.address(operand(i, 0)?, i.line)?;
        let mut values = Vec::new();
        for element in elements {
            values.push(self.source(element, ty, i.line)?);
        }
        self.note_width(to, ty.bytes() * values.len() as u32);
        Ok(Op::Store { to, address, values: values.into(), bytes: ty.bytes() })
    }

    fn atomic(&mut self, i: &Instruction) -> Decoded<Op> {
        let ty = *i.types().first().ok_or(Refusal::Unknown)?;
        let to = i.parts.iter().find_map(|p| space(p));
        let returns = &*i.name == "atom";
        let swap = i.has("cas");
        let combine = combination(i, ty)?;
        let first = usize::from(returns);
        exactly(i, first + 2 + usize::from(swap))?;
        let address = self.address(operand(i, first)?, i.line)?;
        let a = self.source(operand(i, first + 1)?, ty, i.line)?;
        let b = if swap { Some(self.source(operand(i, first + 2)?, ty, i.line)?) } else { None };
        let d = if returns { Some(self.destination(operand(i, 0)?, i.line)?.0) } else { None };
        self.note_width(to, ty.bytes());
        Ok(Op::Atomic { to, address, d, a, b, bytes: ty.bytes(), combine })
    }

    fn copy(&mut self, i: &Instruction) -> Decoded<Op> {
        let part = |n: usize| i.parts.get(n).map_or("", |p| &**p);
        match (part(0), part(1)) {
            ("async", "commit_group") => exactly(i, 0).map(|()| Op::CommitGroup),
            ("async", "wait_all") => exactly(i, 0).map(|()| Op::WaitAll),
            ("async", "wait_group") => {
                exactly(i, 1)?;
                match operand(i, 0)? {
                    Operand::Integer(n) => Ok(Op::WaitGroup(u32::try_from(*n).unwrap_or(u32::MAX))),
                    _ => Err(Refusal::Unknown),
                }
            }
            ("async", "mbarrier") => self.arrive_after_copies(i),
            ("async", "bulk") => self.bulk(i),
            ("async", "ca" | "cg") => self.copy_async(i),
            _ => Err(Refusal::Unknown),
        }
    }

    /// `cp.async.cg.shared.global [to], [from], 16[, size | ignore];`
    fn copy_async(&mut self, i: &Instruction) -> Decoded<Op> {
        let Operand::Integer(bytes @ (4 | 8 | 16)) = operand(i, 2)? else { return Err(Refusal::Unknown) };
        if i.has("cg") && *bytes != 16 || !(3..=4).contains(&i.operands.len()) {
            return Err(Refusal::Unknown);
        }
        let to = self.address(operand(i, 0)?, i.line)?;
        let from = self.address(operand(i, 1)?, i.line)?;
        let (mut size, mut ignore) = (None, None);
        if let Some(last) = i.operands.get(3) {
            // A fourth operand is a size or a predicate: the declaration of the name decides.
            match self.predicate_like(last, i.line)? {
                true => ignore = Some(self.predicate(last, i.line)?),
                false => size = Some(self.source(last, Type::U32, i.line)?),
            }
        }
        self.note_width(Some(Space::Shared), *bytes as u32);
        Ok(Op::CopyAsync { to, from, bytes: *bytes as u32, size, ignore })
    }

    fn predicate_like(&mut self, o: &Operand, line: u32) -> Decoded<bool> {
        match o {
            Operand::Not(_) => Ok(true),
            Operand::Name(name, 0) => Ok(matches!(self.symbol(name, line)?, super::scope::Symbol::Predicate(_))),
            _ => Ok(false),
        }
    }

    /// `ldmatrix.sync.aligned.m8n8.x4[.trans].shared.b16 {d...}, [address];` and `stmatrix`, whose operands stand the other way round.
    fn matrix(&mut self, i: &Instruction) -> Decoded<Op> {
        exactly(i, 2)?;
        let loads = &*i.name == "ldmatrix";
        let count = i.parts.iter().find_map(|p| match &**p {
            "x1" => Some(1),
            "x2" => Some(2),
            "x4" => Some(4),
            _ => None,
        });
        let shared = i.parts.iter().any(|p| space(p) == Some(Space::Shared));
        let elements = self.elements(operand(i, usize::from(!loads))?);
        if count != Some(elements.len()) || !i.has("m8n8") || !i.has("b16") || !shared {
            return Err(Refusal::Unknown);
        }
        let address = self.address(operand(i, usize::from(loads))?, i.line)?;
        let (mut d, mut values) = (Vec::new(), Vec::new());
        for element in elements {
            match loads {
                true => d.push(self.destination(element, i.line)?.0),
                false => values.push(self.source(element, Type::B32, i.line)?),
            }
        }
        self.note_width(Some(Space::Shared), 16);
        let transpose = i.has("trans");
        Ok(match loads {
            true => Op::LoadMatrix { d: d.into(), address, transpose },
            false => Op::StoreMatrix { values: values.into(), address, transpose },
        })
    }
}

/// What an atomic makes of the old value and its operands.
fn combination(i: &Instruction, ty: Type) -> Decoded<Combine> {
    let (bits, mask) = (ty.bits(), low_bits(ty.bits()));
    let name =
        i.parts.iter().find(|p| matches!(&***p, "add" | "min" | "max" | "and" | "or" | "xor" | "exch" | "cas" | "inc" | "dec"));
    let name = name.map_or("", |n| &**n);
    let s = move |x: u64| sign_extend(x, bits);
    let combine: Combine = match (name, ty) {
        ("exch", _) => Box::new(|_, a, _| a),
        ("cas", _) => Box::new(move |old, a, b| if old & mask == a & mask { b } else { old }),
        ("and", _) => Box::new(|old, a, _| old & a),
        ("or", _) => Box::new(|old, a, _| old | a),
        ("xor", _) => Box::new(|old, a, _| old ^ a),
        ("inc", Type::U32) => Box::new(|old, a, _| if old >= a { 0 } else { old + 1 }),
        ("dec", Type::U32) => Box::new(|old, a, _| if old == 0 || old > a { a } else { old - 1 }),
        ("add", Type::F32) => Box::new(|old, a, _| u64::from((f32::from_bits(old as u32) + f32::from_bits(a as u32)).to_bits())),
        ("add", Type::F64) => Box::new(|old, a, _| (f64::from_bits(old) + f64::from_bits(a)).to_bits()),
        ("add", Type::F16) => Box::new(|old, a, _| add_narrow(F16, old, a)),
        ("add", Type::Bf16) => Box::new(|old, a, _| add_narrow(BF16, old, a)),
        ("add", Type::F16x2) => Box::new(|old, a, _| add_narrow(F16, old >> 16, a >> 16) << 16 | add_narrow(F16, old, a)),
        ("add", Type::Bf16x2) => Box::new(|old, a, _| add_narrow(BF16, old >> 16, a >> 16) << 16 | add_narrow(BF16, old, a)),
        (_, ty) if ty.float() => return Err(Refusal::Unknown),
        ("add", _) => Box::new(move |old, a, _| old.wrapping_add(a) & mask),
        ("min", ty) if ty.signed() => Box::new(move |old, a, _| s(old).min(s(a)) as u64 & mask),
        ("max", ty) if ty.signed() => Box::new(move |old, a, _| s(old).max(s(a)) as u64 & mask),
        ("min", _) => Box::new(|old, a, _| old.min(a)),
        ("max", _) => Box::new(|old, a, _| old.max(a)),
        _ => return Err(Refusal::Unknown),
    };
    Ok(combine)
}

fn add_narrow(format: Format, a: u64, b: u64) -> u64 {
    let value = |bits: u64| format.value(bits as u32 & 0xffff);
    u64::from(format.nearest(exact::fused(value(a), 1.0, value(b))))
}
