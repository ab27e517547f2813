//! `wgmma`: products that four warps ask for and that are done when somebody has waited for them.
//!
//! Each warp computes its own 16 rows, at once; until it has waited, nobody may touch the registers (but copies of a sum that nobody reads are
//! no reads, as compilers make them) nor write the shared memory. That the four warps of a warpgroup ask for the same is checked instruction by
//! instruction.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

use super::block::Block;
use super::descriptor::Descriptor;
use super::warp::Warp;
use super::{Step, stop_first};
use crate::fault::{FaultKind, Space};
use crate::memory::proxies::CHUNK;
use crate::memory::shadow::Touch;
use crate::numeric::product::{self, Half};
use crate::program::{MatrixProduct, MatrixSource, Op, Watched};

/// Warps of a warpgroup, and rows of one.
const WARPS: u32 = 4;
const ROWS: u32 = 16;
const DEPTH: u32 = 16;

/// A register that `wgmma` takes or gives.
#[derive(Clone, Copy)]
struct Register {
    /// The group whose end makes its value one, 0 for any; and whose end lets others write it.
    ready: u32,
    held: u32,
    /// Whether something other than `wgmma` touched it after the last fence.
    touched: bool,
    /// The columns of the product that it was a sum of since the last fence.
    columns: u32,
}

/// Chunks of shared memory that a product reads until its group has been waited for.
struct Reading {
    group: u32,
    pc: u32,
    chunks: Vec<u32>,
}

/// The products of a warp.
#[derive(Default)]
pub struct Matrices {
    registers: Vec<Register>,
    reading: Vec<Reading>,
    /// Groups committed, and groups waited for.
    committed: u32,
    done: u32,
    /// What the warp asked for, in order.
    asked: u64,
}

impl Matrices {
    pub fn start(&mut self, registers: u32) {
        let fresh = Register { ready: 0, held: 0, touched: true, columns: 0 };
        self.registers.clear();
        self.registers.resize(registers as usize, fresh);
        self.reading.clear();
        (self.committed, self.done, self.asked) = (0, 0, 0);
    }
}

/// What the first warp of a warpgroup asked for, until the last one has.
#[derive(Default)]
pub struct Warpgroup {
    first: u64,
    asked: VecDeque<([u64; 3], u32)>,
}

impl Warpgroup {
    /// Whether all warps have asked for everything.
    pub fn settled(&self) -> bool {
        self.asked.is_empty()
    }
}

impl Warp {
    /// An instruction other than `wgmma` touches registers of one.
    pub fn watch(&mut self, watched: &Watched, op: &Op, mask: u32) -> Step<()> {
        let Matrices { registers, done, .. } = &mut self.matrices;
        let copied = matches!(op, Op::Move { .. }).then(|| watched.reads.first().map(|&a| registers[a as usize])).flatten();
        if copied.is_none() {
            for &slot in &watched.reads {
                if registers[slot as usize].ready > *done {
                    return stop_first(mask, FaultKind::RegisterInFlight);
                }
                registers[slot as usize].touched = true;
            }
        }
        for &slot in &watched.writes {
            let register = &mut registers[slot as usize];
            let handed_on = copied.is_some_and(|from| from.ready > *done);
            if register.held > *done && !handed_on {
                return stop_first(mask, FaultKind::RegisterInFlight);
            }
            register.ready = copied.map_or(0, |from| from.ready);
            register.touched = copied.is_none_or(|from| from.touched);
            register.columns = copied.map_or(0, |from| from.columns);
        }
        Ok(())
    }

    pub fn fence_matrices(&mut self) {
        for register in &mut self.matrices.registers {
            (register.touched, register.columns) = (false, 0);
        }
    }

    pub fn commit_matrices(&mut self) {
        self.matrices.committed += 1;
    }

    /// Waits until at most `left` groups are under way.
    pub fn wait_matrices(&mut self, block: &mut Block<'_>, left: u32) -> Step<()> {
        let matrices = &mut self.matrices;
        matrices.done = matrices.done.max(matrices.committed.saturating_sub(left));
        let (done, thread) = (matrices.done, self.index * 32);
        let mut raced = Ok(());
        matrices.reading.retain(|reading| {
            if reading.group > done {
                return true;
            }
            for &chunk in &reading.chunks {
                block.proxies.end_read(chunk);
                if raced.is_ok() {
                    // Read until now: whoever writes must know of this, not of the beginning alone.
                    raced = block.touch_one(chunk, CHUNK, Touch::Read, thread, reading.pc);
                }
            }
            false
        });
        raced
    }

    /// The warps of a warpgroup ask for the same, one after the other.
    fn agree(&mut self, block: &mut Block<'_>, asked: [u64; 3], mask: u32) -> Step<()> {
        let group = (self.index / WARPS) as usize;
        if (group as u32 + 1) * WARPS > block.grid.warps() * block.grid.cluster() {
            return stop_first(mask, FaultKind::Warpgroup("a warpgroup of fewer than four warps".into()));
        }
        let warpgroup = &mut block.warpgroups[group];
        let at = (self.matrices.asked - warpgroup.first) as usize;
        self.matrices.asked += 1;
        let differs = match warpgroup.asked.get_mut(at) {
            Some((first, warps)) => {
                *warps += 1;
                *first != asked
            }
            None => {
                warpgroup.asked.push_back((asked, 1));
                false
            }
        };
        if warpgroup.asked.front().is_some_and(|(_, warps)| *warps == WARPS) {
            warpgroup.asked.pop_front();
            warpgroup.first += 1;
        }
        match differs {
            true => stop_first(mask, FaultKind::Warpgroup("the warps of a warpgroup execute different products".into())),
            false => Ok(()),
        }
    }

    /// `wgmma.mma_async`.
    pub fn multiply_async(&mut self, block: &mut Block<'_>, product: &MatrixProduct, mask: u32) -> Step<()> {
        let pc = self.flow.pc;
        let adds = self.predicate(product.adds);
        let uniform = |values: &[u64; 32]| values.iter().all(|v| *v == values[0]).then_some(values[0]);
        let b = uniform(self.source(product.b.0));
        let a = match product.a {
            MatrixSource::Shared(a, _) => uniform(self.source(a)),
            MatrixSource::Registers(_) => Some(0),
        };
        let (Some(a), Some(b), 0 | u32::MAX) = (a, b, adds) else {
            return stop_first(mask, FaultKind::Warpgroup("lanes disagree about the operands of a product".into()));
        };
        self.agree(block, [u64::from(pc) << 1 | u64::from(adds & 1), a, b], mask)?;
        self.take_registers(product, adds != 0, mask)?;

        let mut chunks = Vec::new();
        let first = self.index % WARPS * ROWS;
        let left = match &product.a {
            MatrixSource::Registers(a) => product::left(product.input, a.map(|a| self.source(a))),
            MatrixSource::Shared(_, across) => {
                let rows = block.operand((a, self.shared), *across, first..first + ROWS, &mut chunks, mask)?;
                product::widen(product.input, &rows)
            }
        };
        let columns = block.operand((b, self.shared), product.b.1, 0..product.columns, &mut chunks, mask)?;
        let mut right = product::widen(product.input, &columns);
        if product.negated[0] != product.negated[1] {
            right.iter_mut().flatten().for_each(|v| *v = -*v);
        }
        product::accumulate_columns(&left, &right, adds != 0, &product.d, &mut self.registers);

        for &chunk in &chunks {
            block.touch_one(chunk, CHUNK, Touch::Read, self.index * 32, pc)?;
            block.proxies.begin_read(chunk);
        }
        let group = self.matrices.committed + 1;
        self.matrices.reading.push(Reading { group, pc, chunks });
        Ok(())
    }

    /// Registers must be fenced, and are the product's until it has been waited for.
    fn take_registers(&mut self, product: &MatrixProduct, adds: bool, mask: u32) -> Step<()> {
        let group = self.matrices.committed + 1;
        if let MatrixSource::Registers(a) = &product.a {
            for &slot in a {
                let Some(register) = self.matrices.registers.get_mut(slot as usize) else { continue };
                if register.ready > self.matrices.done {
                    return stop_first(mask, FaultKind::RegisterInFlight);
                }
                if register.touched {
                    return stop_first(mask, FaultKind::MatrixFence);
                }
                register.held = group;
            }
        }
        for &slot in &product.d {
            let unwritten = mask & !self.written(slot);
            if adds && unwritten != 0 {
                return stop_first(unwritten, FaultKind::Uninitialised { space: Space::Register, address: u64::from(slot) });
            }
            let register = &mut self.matrices.registers[slot as usize];
            if register.touched || (register.columns != 0 && register.columns != product.columns) {
                return stop_first(mask, FaultKind::MatrixFence);
            }
            *register = Register { ready: group, held: group, touched: false, columns: product.columns };
        }
        Ok(())
    }
}

impl Block<'_> {
    /// Lines of 16 elements of depth: rows of A or columns of B, in the shared memory from `base` on.
    fn operand(
        &mut self,
        (descriptor, base): (u64, u32),
        across: bool,
        lines: std::ops::Range<u32>,
        chunks: &mut Vec<u32>,
        mask: u32,
    ) -> Step<Vec<[Half; DEPTH as usize]>> {
        let descriptor = match Descriptor::new(descriptor) {
            Ok(descriptor) => descriptor,
            Err(what) => return stop_first(mask, FaultKind::Descriptor(what.into())),
        };
        let first = lines.start;
        let mut all = vec![[0; DEPTH as usize]; lines.len()];
        let elements = |word: u64| [0, 16, 32, 48].map(|shift| (word >> shift) as Half);
        if across {
            for chunk in first / 8..lines.end / 8 {
                for k in 0..DEPTH {
                    let words = self.chunk((descriptor.across(chunk, k), base), descriptor, chunks, mask)?;
                    let line = (chunk * 8 - first) as usize;
                    for (n, value) in words.into_iter().flat_map(elements).enumerate() {
                        all[line + n][k as usize] = value;
                    }
                }
            }
            return Ok(all);
        }
        for line in lines {
            for half in 0..2 {
                let words = self.chunk((descriptor.along(line, half), base), descriptor, chunks, mask)?;
                let to = &mut all[(line - first) as usize][8 * half as usize..];
                to.iter_mut().zip(words.into_iter().flat_map(elements)).for_each(|(to, value)| *to = value);
            }
        }
        Ok(all)
    }

    /// Sixteen bytes of shared memory as the asynchronous proxy reads them.
    fn chunk(&mut self, (offset, base): (u32, u32), descriptor: Descriptor, chunks: &mut Vec<u32>, mask: u32) -> Step<[u64; 2]> {
        if offset + CHUNK > self.grid.shared_bytes() {
            let address = u64::from(offset);
            return stop_first(mask, FaultKind::OutOfBounds { space: Space::Shared, address, bytes: CHUNK });
        }
        let offset = base + offset;
        self.readable(offset, CHUNK, mask)?;
        let address = u64::from(offset);
        if let Some(written) = self.proxies.swizzle(offset).filter(|written| *written != descriptor.swizzle) {
            return stop_first(mask, FaultKind::Swizzle { address, written, read: descriptor.swizzle });
        }
        chunks.push(offset);
        let word = |at: u32| self.shared.value::<AtomicU64>((offset + at) as usize);
        Ok([word(0), word(8)])
    }

    /// Faults where the asynchronous proxy may not read what lies there.
    pub fn readable(&self, offset: u32, bytes: u32, mask: u32) -> Step<()> {
        let (address, end) = (u64::from(offset), offset as usize + bytes as usize);
        if end > self.shared.bytes() {
            return stop_first(mask, FaultKind::OutOfBounds { space: Space::Shared, address, bytes });
        }
        if self.shared.first_unwritten(offset as usize, bytes as usize).is_some() {
            return stop_first(
                mask,
                match self.shared.in_flight(offset as usize, bytes as usize) {
                    true => FaultKind::InFlight { address },
                    false => FaultKind::Uninitialised { space: Space::Shared, address },
                },
            );
        }
        self.fenced(offset, bytes, mask)
    }

    /// Faults where a thread wrote these bytes in the ordinary way and has not fenced that.
    pub fn fenced(&self, offset: u32, bytes: u32, mask: u32) -> Step<()> {
        match self.proxies.unfenced(offset, bytes) {
            Some(thread) => {
                let other = self.grid.thread_id(thread);
                stop_first(mask, FaultKind::ProxyFence { address: u64::from(offset), other })
            }
            None => Ok(()),
        }
    }
}
