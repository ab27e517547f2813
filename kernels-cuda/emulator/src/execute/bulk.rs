//! `cp.async.bulk`: the copy engine between global and shared memory.
//!
//! Bytes come to shared memory at once. Who reads them without having waited at their `mbarrier` does not know of the engine's write, which is
//! then a fault. They leave it as late as they may: they are read when the thread that asked waits for its group, and written when it waits for
//! that, or ends. Who writes to a place that is still to be read gets a fault, and so does a thread that ends before.

use std::ops::Range;

use super::access::addresses;
use super::block::Block;
use super::warp::Warp;
use super::{Step, stop};
use crate::fault::{FaultKind, Space};
use crate::memory::proxies::CHUNK;
use crate::memory::shadow::Touch;
use crate::memory::storage::{Storage, lanes};
use crate::numeric::swizzle::Swizzle;
use crate::program::{Bulk, BulkShape};
use crate::tensor_map::{ALIGN, BYTES, TensorMap};

/// Where tiles begin in shared memory.
const TILE_ALIGN: u64 = 128;

/// A copy out of shared memory.
struct Leaving {
    lane: usize,
    group: u32,
    pc: u32,
    from: u32,
    plan: Plan,
    /// What was read, once the thread has waited for that.
    read: Option<Vec<u8>>,
}

/// The copies of a warp out of shared memory.
#[derive(Default)]
pub struct Bulks {
    leaving: Vec<Leaving>,
    committed: [u32; 32],
}

impl Bulks {
    pub fn clear(&mut self) {
        self.leaving.clear();
        self.committed = [0; 32];
    }

    pub fn commit(&mut self, mask: u32) {
        for lane in lanes(mask) {
            self.committed[lane] += 1;
        }
    }

    /// What lanes that end have not waited for; what was read is written.
    pub fn end(&mut self, block: &Block<'_>, mask: u32) -> Step<()> {
        for leaving in self.leaving.extract_if(.., |leaving| mask >> leaving.lane & 1 == 1) {
            if leaving.read.is_none() {
                return stop(leaving.lane, FaultKind::InFlight { address: u64::from(leaving.from) });
            }
            leaving.land(block)?;
        }
        Ok(())
    }
}

impl Leaving {
    /// Writes what was read.
    fn land(&self, block: &Block<'_>) -> Step<()> {
        let Some(read) = &self.read else { return Ok(()) };
        for (row, bytes) in self.plan.rows.iter().zip(read.chunks_exact(self.plan.row_bytes.max(1) as usize)) {
            if let Some((storage, offset)) = row.place(block, self.lane)? {
                storage.write(offset, &bytes[row.inside.start as usize..row.inside.end as usize]);
            }
        }
        Ok(())
    }
}

/// One row of a copy: side by side in global memory.
struct Row {
    global: u64,
    /// Where it begins among the bytes of the copy.
    at: u32,
    /// The part of it that is inside the tensor.
    inside: Range<u32>,
}

impl Row {
    /// Where its part inside the tensor lies, if there is one.
    fn place<'b>(&self, block: &'b Block<'_>, lane: usize) -> Step<Option<(&'b Storage, usize)>> {
        if self.inside.is_empty() {
            return Ok(None);
        }
        match block.grid.heap.range(self.global + u64::from(self.inside.start), self.inside.len()) {
            Ok(found) => Ok(Some(found)),
            Err(kind) => stop(lane, kind),
        }
    }
}

/// What a lane copies.
struct Plan {
    rows: Vec<Row>,
    row_bytes: u32,
    bytes: u32,
    swizzle: Swizzle,
}

impl Warp {
    pub fn bulk(&mut self, block: &mut Block<'_>, bulk: &Bulk, mask: u32) -> Step<()> {
        let shared = addresses(self, bulk.shared);
        let barriers = bulk.barrier.map(|barrier| addresses(self, barrier));
        for lane in lanes(mask) {
            let plan = self.plan(block, bulk, lane)?;
            // The pattern of a swizzle begins where the tile does.
            let tile = u64::from(plan.swizzle.period()).max(TILE_ALIGN);
            let align = if matches!(bulk.shape, BulkShape::Tile { .. }) { tile } else { u64::from(CHUNK) };
            let (address, size) = (shared[lane], u64::from(block.grid.shared_bytes()));
            if !address.is_multiple_of(align) {
                return stop(lane, FaultKind::Misaligned { space: Space::Shared, address, bytes: align as u32 });
            }
            if address + u64::from(plan.bytes) > size {
                return stop(lane, FaultKind::OutOfBounds { space: Space::Shared, address, bytes: plan.bytes });
            }
            block.counters.global_requests += 1;
            match &barriers {
                Some(barriers) => {
                    for rank in self.receivers(block, bulk, lane)? {
                        self.fill_shared(block, &plan, rank * block.grid.shared_stride() + address as u32, lane)?;
                        self.complete(block, rank, barriers[lane], plan.bytes, lane)?;
                    }
                }
                None => self.drain_shared(block, plan, self.shared + address as u32, lane)?,
            }
        }
        block.shadow.tick();
        Ok(())
    }

    /// The blocks of the cluster that a copy goes to: each has it at the same place, and an `mbarrier` at the same place.
    fn receivers(&self, block: &mut Block<'_>, bulk: &Bulk, lane: usize) -> Step<Vec<u32>> {
        let Some(multicast) = bulk.multicast else { return Ok(vec![self.rank]) };
        let named = self.source(multicast)[lane] as u32 & 0xffff;
        if named == 0 {
            return stop(lane, FaultKind::Cluster("a copy to no block of the cluster".into()));
        }
        let ranks: Vec<u32> = (0..16).filter(|rank| named >> rank & 1 == 1).collect();
        let told = block.shadow.engine_tells();
        ranks.iter().try_for_each(|&rank| block.cluster.reach(rank, &told, lane))?;
        Ok(ranks)
    }

    fn plan(&self, block: &Block<'_>, bulk: &Bulk, lane: usize) -> Step<Plan> {
        match &bulk.shape {
            &BulkShape::Bytes { global, bytes } => {
                let (global, bytes) = (addresses(self, global)[lane], self.source(bytes)[lane] as u32);
                if !global.is_multiple_of(u64::from(CHUNK)) || !bytes.is_multiple_of(CHUNK) {
                    return stop(lane, FaultKind::Misaligned { space: Space::Global, address: global, bytes: CHUNK });
                }
                let row = Row { global, at: 0, inside: 0..bytes };
                Ok(Plan { rows: vec![row], row_bytes: bytes, bytes, swizzle: Swizzle::None })
            }
            BulkShape::Tile { map, at } => {
                let map = block.tensor_map(addresses(self, *map)[lane], lane)?;
                let at: Vec<i64> = at.iter().map(|&c| i64::from(self.source(c)[lane] as u32 as i32)).collect();
                if at.len() != map.sizes.len() {
                    let what = format!("{} coordinates in a tensor of {} dimensions", at.len(), map.sizes.len());
                    return stop(lane, FaultKind::Descriptor(what.into()));
                }
                Ok(Plan::tile(&map, &at))
            }
        }
    }

    fn fill_shared(&self, block: &mut Block<'_>, plan: &Plan, to: u32, lane: usize) -> Step<()> {
        let pc = self.flow.pc;
        let mut held = vec![0; plan.row_bytes as usize];
        for row in &plan.rows {
            held.fill(0);
            if let Some((storage, offset)) = row.place(block, lane)? {
                let (address, bytes) = (row.global + u64::from(row.inside.start), row.inside.len());
                if let Some(at) = storage.first_unwritten(offset, bytes) {
                    let address = address + (at - offset) as u64;
                    return stop(lane, FaultKind::Uninitialised { space: Space::Global, address });
                }
                storage.read(offset, &mut held[row.inside.start as usize..row.inside.end as usize]);
                block.counters.global_bytes += bytes as u64;
                block.counters.global_transactions += (bytes as u64).div_ceil(32);
            }
            for (n, chunk) in held.chunks(CHUNK as usize).enumerate() {
                let at = plan.swizzle.apply(to + row.at + n as u32 * CHUNK);
                block.fenced(at, CHUNK, 1 << lane)?;
                let warp = self.index as usize;
                block.engine_writes(at, CHUNK, warp, lane, pc)?;
                if block.proxies.copied(at, plan.swizzle) {
                    return stop(lane, FaultKind::InFlight { address: u64::from(at) });
                }
                block.shared.write(at as usize, chunk);
            }
        }
        Ok(())
    }

    fn drain_shared(&mut self, block: &mut Block<'_>, plan: Plan, from: u32, lane: usize) -> Step<()> {
        let (pc, thread) = (self.flow.pc, self.thread(lane));
        for at in plan.chunks(from) {
            block.readable(at, CHUNK, 1 << lane)?;
            if let Some(written) = block.proxies.swizzle(at).filter(|written| *written != plan.swizzle) {
                let address = u64::from(at);
                return stop(lane, FaultKind::Swizzle { address, written, read: plan.swizzle });
            }
            block.touch_one(at, CHUNK, Touch::Read, thread, pc)?;
            block.proxies.begin_read(at);
        }
        for row in &plan.rows {
            if row.place(block, lane)?.is_some() {
                block.counters.global_bytes += row.inside.len() as u64;
                block.counters.global_transactions += (row.inside.len() as u64).div_ceil(32);
            }
        }
        let group = self.bulks.committed[lane];
        self.bulks.leaving.push(Leaving { lane, group, pc, from, plan, read: None });
        Ok(())
    }

    /// Waits until at most `left` groups of each lane are to be written, or with `reads` to be read.
    pub fn wait_bulk(&mut self, block: &mut Block<'_>, left: u32, reads: bool, mask: u32) -> Step<()> {
        let (committed, first) = (self.bulks.committed, self.index * 32);
        let awaited =
            |leaving: &Leaving| mask >> leaving.lane & 1 == 1 && leaving.group < committed[leaving.lane].saturating_sub(left);
        for leaving in self.bulks.leaving.iter_mut().filter(|leaving| leaving.read.is_none() && awaited(leaving)) {
            let mut read = vec![0; leaving.plan.bytes as usize];
            for (at, chunk) in leaving.plan.chunks(leaving.from).zip(read.chunks_mut(CHUNK as usize)) {
                block.shared.read(at as usize, chunk);
                block.proxies.end_read(at);
                // Read until now: whoever writes must know of this, not of the beginning alone.
                block.touch_one(at, CHUNK, Touch::Read, first + leaving.lane as u32, leaving.pc)?;
            }
            leaving.read = Some(read);
        }
        if !reads {
            for leaving in self.bulks.leaving.extract_if(.., |leaving| awaited(leaving)) {
                leaving.land(block)?;
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Where its chunks lie in shared memory, in the order of the tensor.
    fn chunks(&self, from: u32) -> impl Iterator<Item = u32> {
        let swizzle = self.swizzle;
        (from..from + self.bytes).step_by(CHUNK as usize).map(move |at| swizzle.apply(at))
    }

    /// The tile of a map whose first element has these coordinates.
    fn tile(map: &TensorMap, at: &[i64]) -> Plan {
        let row_bytes = map.tile[0] * map.element;
        let count: u32 = map.tile[1..].iter().product();
        let element = i64::from(map.element);
        let inner = i64::from(map.tile[0]);
        // The elements of a row that are inside the tensor: those beyond are zeros, or are not written.
        let first = (-at[0]).clamp(0, inner);
        let last = (map.sizes[0] as i64 - at[0]).clamp(first, inner);
        let mut rows = Vec::new();
        for n in 0..count {
            let (mut rest, mut address, mut there) = (n, map.address as i64 + at[0] * element, true);
            for (d, &tile) in map.tile.iter().enumerate().skip(1) {
                let here = at[d] + i64::from(rest % tile);
                rest /= tile;
                there &= here >= 0 && (here as u64) < map.sizes[d];
                address = address.wrapping_add(here.wrapping_mul(map.strides[d - 1] as i64));
            }
            let inside = if there { (first * element) as u32..(last * element) as u32 } else { 0..0 };
            rows.push(Row { global: address as u64, at: n * row_bytes, inside });
        }
        Plan { rows, row_bytes, bytes: count * row_bytes, swizzle: map.swizzle }
    }
}

impl Block<'_> {
    fn tensor_map(&self, address: u64, lane: usize) -> Step<TensorMap> {
        let all = [address; 32];
        let part = self.aligned_part(None, &all, (BYTES as u32, ALIGN as u32), 1 << lane, 0)?;
        let mut bytes = [0; BYTES];
        part.storage.read(part.offsets[lane] as usize, &mut bytes);
        let mut words = [0; BYTES / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut word_bytes = [0; 8];
            word_bytes.copy_from_slice(bytes);
            *word = u64::from_le_bytes(word_bytes);
        }
        match TensorMap::decode(&words) {
            Ok(map) => Ok(map),
            Err(what) => stop(lane, FaultKind::Descriptor(what.into())),
        }
    }
}
