//! Instructions from registers to registers.

use super::warp::{Warp, merge, source_of};
use crate::memory::storage::lanes;
use crate::program::{Comparison, Lanes, Logic, Op, PredicateSource, Source};
use crate::types::low_bits;

impl Warp {
    #[inline(always)]
    pub fn compute(&mut self, op: &Op, mask: u32) {
        let Warp { registers, constants, scratch, .. } = self;
        let source = |s: Source| source_of(registers, constants, s);
        match op {
            Op::One { f, d, a } => {
                f(source(*a), scratch);
                merge(&mut registers[*d as usize], scratch, mask);
            }
            Op::Two { f, d, a, b } => {
                f(source(*a), source(*b), scratch);
                merge(&mut registers[*d as usize], scratch, mask);
            }
            Op::Three { f, d, a, b, c } => {
                f(source(*a), source(*b), source(*c), scratch);
                merge(&mut registers[*d as usize], scratch, mask);
            }
            Op::Four { f, d, sources } => {
                f(sources.map(source), scratch);
                merge(&mut registers[*d as usize], scratch, mask);
            }
            Op::Move { d, a } => {
                *scratch = *source(*a);
                merge(&mut registers[*d as usize], scratch, mask);
                self.define(*d, self.defined(*a), mask);
            }
            Op::Select { d, a, b, p } => self.select(*d, *a, *b, *p, mask),
            Op::Pack { d, parts, bits } => self.pack(*d, parts, *bits, mask),
            Op::Unpack { parts, a, bits } => self.unpack(parts, *a, *bits, mask),
            &Op::Carry { f, d, a, b, c, carry, bits, writes_carry } => {
                let mut carries: Lanes = [0; 32];
                let (x, y, z, old) = (source(a), source(b), source(c), &registers[carry as usize]);
                for lane in 0..32 {
                    (scratch[lane], carries[lane]) = f(x[lane], y[lane], z[lane], old[lane] & 1, bits);
                }
                merge(&mut registers[d as usize], scratch, mask);
                if writes_carry {
                    merge(&mut registers[carry as usize], &carries, mask);
                }
            }
            Op::Compare { f, p, q, a, b, with } => {
                let (yes, no) = self.compare(f, *a, *b, *with);
                for (slot, value) in [(p, yes), (q, no)] {
                    if let Some(slot) = slot {
                        self.set_predicate(*slot, value, mask);
                    }
                }
            }
            Op::Set { f, d, a, b, with, pair, yes } => {
                let (low, high) = self.compare(f, *a, *b, *with);
                for lane in lanes(mask) {
                    let halves = if *pair { (low >> lane & 1, high >> lane & 1) } else { (low >> lane & 1, low >> lane & 1) };
                    let keep = if halves.0 == 1 { 0xffff } else { 0 } | if halves.1 == 1 { !0xffff } else { 0 };
                    self.registers[*d as usize][lane] = yes & keep;
                }
            }
            Op::MovePredicate { d, a } => {
                self.set_predicate(*d, self.predicate(*a), mask);
                let defined = self.predicate_defined(*a);
                let written = &mut self.predicates_written[*d as usize];
                *written = *written & !mask | defined & mask;
            }
            Op::PredicateLogic { op, d, a, b } => self.set_predicate(*d, op.of(self.predicate(*a), self.predicate(*b)), mask),
            Op::Test { f, p, a, double } => {
                let values = self.source(*a);
                let result = lanes(mask).fold(0, |set, lane| set | u32::from(test(*f, values[lane], *double)) << lane);
                self.set_predicate(*p, result, mask);
            }
            Op::ActiveMask { d } => self.fill(*d, u64::from(mask), mask),
            // Fences, hints, and what was done on the way here.
            _ => {}
        }
    }

    /// Notes in which lanes a copied register has a value.
    fn define(&mut self, d: u32, defined: u32, mask: u32) {
        let written = &mut self.written[d as usize];
        *written = *written & !mask | defined & mask;
    }

    fn select(&mut self, d: u32, a: Source, b: Source, p: PredicateSource, mask: u32) {
        let chosen = self.predicate(p);
        let defined = self.defined(a) & chosen | self.defined(b) & !chosen;
        let Warp { registers, constants, scratch, .. } = self;
        *scratch = *source_of(registers, constants, b);
        merge(scratch, source_of(registers, constants, a), chosen);
        self.keep(d, mask);
        self.define(d, defined, mask);
    }

    fn pack(&mut self, d: u32, parts: &[Source], bits: u32, mask: u32) {
        let mut defined = u32::MAX;
        self.scratch = [0; 32];
        for (n, part) in parts.iter().enumerate() {
            defined &= self.defined(*part);
            let Warp { registers, constants, scratch, .. } = self;
            let (part, shift) = (source_of(registers, constants, *part), n as u32 * bits);
            for lane in 0..32 {
                scratch[lane] |= (part[lane] & low_bits(bits)) << shift;
            }
        }
        self.keep(d, mask);
        self.define(d, defined, mask);
    }

    fn unpack(&mut self, parts: &[Option<u32>], a: Source, bits: u32, mask: u32) {
        let (whole, defined) = (*self.source(a), self.defined(a));
        for (n, part) in parts.iter().enumerate() {
            let Some(d) = *part else { continue };
            let shift = n as u32 * bits;
            for (part, whole) in self.scratch.iter_mut().zip(&whole) {
                *part = whole >> shift & low_bits(bits);
            }
            self.keep(d, mask);
            self.define(d, defined, mask);
        }
    }

    /// A comparison, combined with a predicate.
    fn compare(&self, f: &Comparison, a: Source, b: Source, with: Option<(Logic, PredicateSource)>) -> (u32, u32) {
        let (yes, no) = f(self.source(a), self.source(b));
        match with {
            None => (yes, no),
            Some((logic, p)) => {
                let p = self.predicate(p);
                (logic.of(yes, p), logic.of(no, p))
            }
        }
    }
}

fn test(f: fn(f64, u64) -> bool, bits: u64, double: bool) -> bool {
    match double {
        true => f(f64::from_bits(bits), u64::from(f64::from_bits(bits).is_subnormal())),
        false => {
            let value = f32::from_bits(bits as u32);
            f(f64::from(value), u64::from(value.is_subnormal()))
        }
    }
}
