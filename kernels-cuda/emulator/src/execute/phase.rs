//! `mbarrier` objects.
//!
//! The 64 bits are opaque to a program. Here they hold how many arrivals a phase needs, how many are missing, and the number of the phase,
//! whose lowest bit is the parity that programs wait for. What those that arrive have done is kept beside.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use super::access::addresses;
use super::block::Block;
use super::cluster;
use super::warp::Warp;
use super::{Step, stop};
use crate::fault::{FaultKind, Space};
use crate::memory::shadow::{Clock, Touch, later};
use crate::memory::storage::lanes;
use crate::program::{Address, Lanes, PhaseAction, Source, Target};

/// The largest count, as the ISA has it.
const MOST: u64 = (1 << 20) - 1;
const BYTES: u32 = 8;

/// The operands of an instruction.
#[derive(Clone, Copy)]
pub struct PhaseOperands {
    pub action: PhaseAction,
    pub mapped: bool,
    pub to: Target,
    pub address: Address,
    pub d: Option<u32>,
    pub p: Option<u32>,
    pub value: Option<Source>,
}

/// An object's contents.
#[derive(Clone, Copy)]
struct Object {
    expected: u64,
    missing: u64,
    phase: u64,
}

impl Object {
    fn of(bits: u64) -> Object {
        Object { expected: bits & MOST, missing: bits >> 20 & MOST, phase: bits >> 40 }
    }

    fn bits(self) -> u64 {
        self.expected | self.missing << 20 | self.phase << 40
    }
}

/// What the threads did that arrived, in the phase at hand and before the end of the last one.
#[derive(Clone, Copy, Default)]
struct Knowledge {
    arriving: Clock,
    complete: Clock,
    /// Bytes that the phase at hand expects and that have not come; negative where more came.
    bytes: i64,
    /// The last instruction that changed that.
    pc: u32,
    /// Who initialised it, and whether the copy engine may know of that.
    thread: u32,
    published: bool,
}

/// The objects of a block, by their offsets.
#[derive(Default)]
pub struct Phases {
    known: HashMap<u32, Knowledge>,
}

impl Phases {
    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// A fence: the copy engine sees the objects that a thread has initialised.
    pub fn publish(&mut self, thread: u32) {
        self.known.values_mut().filter(|known| known.thread == thread).for_each(|known| known.published = true);
    }

    /// An object whose bytes are not those that it expected: the first one, with the instruction that did that.
    pub fn unsettled(&self) -> Option<(u32, FaultKind)> {
        let wrong = self.known.iter().filter(|(_, known)| known.bytes != 0);
        let (&offset, known) = wrong.min_by_key(|(offset, _)| **offset)?;
        Some((known.pc, FaultKind::Transactions { address: u64::from(offset), bytes: known.bytes }))
    }
}

/// The most bytes that an object counts, as the ISA has it.
const MOST_BYTES: i64 = (1 << 20) - 1;

impl Warp {
    pub fn phase(&mut self, block: &mut Block<'_>, operands: PhaseOperands, mask: u32) -> Step<()> {
        let all = addresses(self, operands.address);
        if operands.mapped {
            return self.arrive_elsewhere(block, operands, &all, mask);
        }
        let part = block.part(operands.to, &all, BYTES, mask, self.index)?;
        let (space, offsets, missing) = (part.space, part.offsets, mask & !part.mask);
        if space != Space::Shared || missing != 0 {
            let lane = (if missing == 0 { mask } else { missing }).trailing_zeros() as usize & 31;
            return stop(lane, FaultKind::OutOfBounds { space, address: all[lane], bytes: BYTES });
        }
        let touch = if operands.action == PhaseAction::Initialise { Touch::Write } else { Touch::Atomic };
        block.touch(&offsets, mask, BYTES, touch, self)?;
        if let PhaseAction::ArriveAfterCopies { .. } = operands.action {
            self.wait_copies(block, None, mask)?;
        }
        for lane in lanes(mask) {
            self.phase_of_lane(block, operands, lane, offsets[lane])?;
        }
        block.shadow.tick();
        Ok(())
    }

    /// Arrivals at objects of other blocks of the cluster.
    fn arrive_elsewhere(&mut self, block: &mut Block<'_>, operands: PhaseOperands, all: &Lanes, mask: u32) -> Step<()> {
        for lane in lanes(mask) {
            let Some((rank, address)) = cluster::mapped(all[lane]) else {
                return stop(lane, FaultKind::Cluster("an address that mapa did not give".into()));
            };
            let told = block.shadow.arrival(self.index as usize);
            block.cluster.reach(rank, &told, lane)?;
            let part = block.part(Some(Space::Shared), &[address; 32], BYTES, 1 << lane, rank * block.grid.warps())?;
            let offset = part.offsets[lane];
            block.touch_one(offset, BYTES, Touch::Atomic, self.thread(lane), self.flow.pc)?;
            self.phase_of_lane(block, operands, lane, offset)?;
        }
        block.shadow.tick();
        Ok(())
    }

    fn phase_of_lane(&mut self, block: &mut Block<'_>, operands: PhaseOperands, lane: usize, offset: u32) -> Step<()> {
        let value = operands.value.map(|v| self.source(v)[lane]);
        if operands.action == PhaseAction::Initialise {
            let count = value.unwrap_or(0);
            if count == 0 || count > MOST {
                return stop(lane, FaultKind::BadArguments(format!("an mbarrier for {count} arrivals").into()));
            }
            block.shared.put::<AtomicU64>(offset as usize, Object { expected: count, missing: count, phase: 0 }.bits());
            let thread = self.thread(lane);
            block.phases.known.insert(offset, Knowledge { thread, ..Knowledge::default() });
            return Ok(());
        }
        // Whoever wrote something else there has no barrier.
        if !block.phases.known.contains_key(&offset) {
            return stop(lane, FaultKind::Uninitialised { space: Space::Shared, address: u64::from(offset) });
        }
        let object = Object::of(block.shared.value::<AtomicU64>(offset as usize));
        match operands.action {
            PhaseAction::Initialise => {}
            PhaseAction::Invalidate => {
                block.phases.known.remove(&offset);
            }
            PhaseAction::Arrive => {
                if let Some(d) = operands.d {
                    self.registers[d as usize][lane] = object.bits();
                }
                self.arrive_at(block, lane, offset, object, value.unwrap_or(1))?;
            }
            PhaseAction::ArriveExpect => {
                if let Some(d) = operands.d {
                    self.registers[d as usize][lane] = object.bits();
                }
                self.expect(block, lane, offset, value.unwrap_or(0) as i64)?;
                self.arrive_at(block, lane, offset, object, 1)?;
            }
            PhaseAction::Expect => self.expect(block, lane, offset, value.unwrap_or(0) as i64)?,
            PhaseAction::Complete => {
                self.expect(block, lane, offset, -(value.unwrap_or(0) as i64))?;
                self.arrive_at(block, lane, offset, object, 0)?;
            }
            // An arrival that was not counted is counted now: nothing changes but what is known.
            PhaseAction::ArriveAfterCopies { counted } => self.arrive_at(block, lane, offset, object, u64::from(counted))?,
            PhaseAction::TestState => {
                let phase = Object::of(value.unwrap_or(0)).phase;
                self.answer(block, operands.p, lane, (offset, object, phase), phase != object.phase);
            }
            PhaseAction::TestParity => {
                let parity = value.unwrap_or(0) & 1;
                self.answer(block, operands.p, lane, (offset, object, parity), object.phase & 1 != parity);
            }
        }
        Ok(())
    }

    fn arrive_at(&mut self, block: &mut Block<'_>, lane: usize, offset: u32, object: Object, count: u64) -> Step<()> {
        let Some(missing) = object.missing.checked_sub(count) else {
            return stop(lane, FaultKind::BadArguments("more arrivals than the mbarrier expects".into()));
        };
        let told = block.shadow.tell(self.index as usize);
        block.arrived(offset, Object { missing, ..object }, &told);
        Ok(())
    }

    /// Bytes more, or fewer, are expected.
    fn expect(&mut self, block: &mut Block<'_>, lane: usize, offset: u32, bytes: i64) -> Step<()> {
        let known = block.phases.known.entry(offset).or_default();
        known.bytes += bytes;
        known.pc = self.flow.pc;
        block.changes += 1;
        match known.bytes.abs() > MOST_BYTES {
            true => stop(lane, FaultKind::Transactions { address: u64::from(offset), bytes: known.bytes }),
            false => Ok(()),
        }
    }

    /// The copy engine has written so many bytes for a block of the cluster.
    pub fn complete(&mut self, block: &mut Block<'_>, rank: u32, address: u64, bytes: u32, lane: usize) -> Step<()> {
        let all = [address; 32];
        let part = block.part(Some(Space::Shared), &all, BYTES, 1 << lane, rank * block.grid.warps())?;
        let offset = part.offsets[lane];
        let Some(known) = block.phases.known.get(&offset) else {
            return stop(lane, FaultKind::Uninitialised { space: Space::Shared, address });
        };
        if !known.published {
            let other = block.grid.thread_id(known.thread);
            return stop(lane, FaultKind::ProxyFence { address, other });
        }
        self.expect(block, lane, offset, -i64::from(bytes))?;
        let object = Object::of(block.shared.value::<AtomicU64>(offset as usize));
        let told = block.shadow.engine_tells();
        block.arrived(offset, object, &told);
        Ok(())
    }

    /// Answers a test. Who is told that a phase is over knows what those did that arrived; who is not lets others run.
    fn answer(
        &mut self,
        block: &mut Block<'_>,
        p: Option<u32>,
        lane: usize,
        (offset, object, phase): (u32, Object, u64),
        over: bool,
    ) {
        if let Some(p) = p {
            self.set_predicate(p, u32::from(over) << lane, 1 << lane);
        }
        match block.phases.known.get(&offset) {
            Some(known) if over => {
                block.shadow.learn(self.index as usize, &known.complete);
                self.stuck = None;
            }
            known => {
                self.yields = true;
                let (address, parity, missing) = (u64::from(offset), phase as u32 & 1, object.missing as u32);
                let bytes = known.map_or(0, |known| known.bytes);
                self.stuck = Some((self.flow.pc, FaultKind::PhaseNeverEnds { address, parity, missing, bytes }));
            }
        }
    }
}

impl Block<'_> {
    /// An object after an arrival, or after bytes have come: its phase ends when neither is missing.
    fn arrived(&mut self, offset: u32, object: Object, told: &Clock) {
        let known = self.phases.known.entry(offset).or_default();
        later(&mut known.arriving, told);
        self.changes += 1;
        let next = match (object.missing, known.bytes) {
            (0, 0) => {
                known.complete = std::mem::take(&mut known.arriving);
                self.counters.barriers += 1;
                Object { missing: object.expected, phase: (object.phase + 1) & MOST, ..object }
            }
            _ => object,
        };
        self.shared.put::<AtomicU64>(offset as usize, next.bits());
    }
}
