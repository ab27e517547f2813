//! Loads and stores: from addresses to bytes, with every check on the way.

use super::block::Block;
use super::warp::Warp;
use super::{Step, stop, traffic};
use crate::fault::{FaultKind, Space};
use crate::memory::shadow::{ENGINE_THREAD, Earlier, Touch};
use crate::memory::storage::{Storage, lanes, with_cell};
use crate::memory::window::{base, space_of};
use crate::numeric::lanes::offsets;
use crate::program::{Address, CONSTANT, Lanes, Source, Target};
use crate::types::{low_bits, sign_extend};

/// Lanes of one access that touch the same storage, with their offsets in it.
pub struct Part<'b> {
    pub space: Space,
    pub storage: &'b Storage,
    pub mask: u32,
    pub offsets: [u32; 32],
}

/// The storage around an address.
struct Region<'b> {
    space: Space,
    storage: &'b Storage,
    /// The address of the first byte.
    origin: u64,
    bytes: u64,
    /// Where the bytes of lane 0 begin in the storage, and how far apart those of the lanes are.
    start: u32,
    stride: u32,
}

/// The addresses of a warp.
pub fn addresses(warp: &Warp, address: Address) -> Lanes {
    let mut all = *warp.source(address.base);
    for value in &mut all {
        *value = address.of(*value);
    }
    all
}

impl<'g> Block<'g> {
    /// The storage that holds an address, whose space the instruction names or the address itself.
    fn region(&self, to: Target, address: u64, warp: u32) -> Option<Region<'_>> {
        let (space, origin) = match to {
            Some(space) => (space, 0),
            None => {
                let space = space_of(address).0;
                (space, base(space))
            }
        };
        let plain = |storage| Some(Region { space, storage, origin, bytes: Storage::bytes(storage) as u64, start: 0, stride: 0 });
        match space {
            Space::Shared => {
                let start = warp / self.grid.warps() * self.grid.shared_stride();
                let bytes = u64::from(self.grid.shared_bytes());
                Some(Region { space, storage: &self.shared, origin, bytes, start, stride: 0 })
            }
            Space::Param => plain(&self.grid.parameters),
            Space::Const => plain(self.grid.constants),
            Space::Local => {
                let stride = self.local_stride;
                let bytes = u64::from(self.grid.kernel.local_bytes);
                Some(Region { space, storage: &self.local, origin, bytes, start: warp * 32 * stride, stride })
            }
            Space::Global | Space::Register => {
                let (storage, origin) = self.grid.heap.find(address)?;
                Some(Region { space: Space::Global, storage, origin, bytes: storage.bytes() as u64, start: 0, stride: 0 })
            }
        }
    }

    /// The first lanes of `mask` that touch the same storage: in bounds and aligned.
    pub fn part(&self, to: Target, all: &Lanes, bytes: u32, mask: u32, warp: u32) -> Step<Part<'_>> {
        self.aligned_part(to, all, (bytes, bytes), mask, warp)
    }

    /// The same where an access reaches less far than it is aligned.
    pub fn aligned_part(&self, to: Target, all: &Lanes, (bytes, align): (u32, u32), mask: u32, warp: u32) -> Step<Part<'_>> {
        let first = mask.trailing_zeros().min(31) as usize;
        let Some(region) = self.region(to, all[first], warp) else { return self.stray(to, all[first], bytes, first) };
        let Region { space, storage, origin, bytes: size, start, stride } = region;
        let Some(last) = size.checked_sub(u64::from(bytes)) else { return self.stray(to, all[first], bytes, first) };
        let (inside, odd, mut offsets) = offsets(all, origin, last, mask);
        if inside >> first & 1 == 0 {
            return self.stray(to, all[first], bytes, first);
        }
        if odd & u64::from(align - 1) != 0 {
            let wrong = lanes(inside).find(|&lane| all[lane] & u64::from(align - 1) != 0).unwrap_or(first);
            return stop(wrong, FaultKind::Misaligned { space, address: all[wrong], bytes: align });
        }
        if stride != 0 || start != 0 {
            for lane in lanes(inside) {
                offsets[lane] += start + stride * lane as u32;
            }
        }
        Ok(Part { space, storage, mask: inside, offsets })
    }

    #[cold]
    fn stray<T>(&self, to: Target, address: u64, bytes: u32, lane: usize) -> Step<T> {
        match to.unwrap_or_else(|| space_of(address).0) {
            Space::Global => stop(lane, self.grid.heap.stray(address, bytes as usize)),
            space => stop(lane, FaultKind::OutOfBounds { space, address, bytes }),
        }
    }

    /// The fault of a lane that reads what was not written, or not yet.
    #[cold]
    pub fn unwritten<T>(part: &Part<'_>, all: &Lanes, bad: u32, shift: u32, bytes: u32) -> Step<T> {
        let lane = bad.trailing_zeros().min(31) as usize;
        let address = all[lane].wrapping_add(u64::from(shift));
        match part.storage.in_flight((part.offsets[lane] + shift) as usize, bytes as usize) {
            true => stop(lane, FaultKind::InFlight { address }),
            false => stop(lane, FaultKind::Uninitialised { space: part.space, address }),
        }
    }

    /// Faults where a lane writes what an asynchronous copy writes, too.
    pub fn check_in_flight(&self, offsets: &[u32; 32], mask: u32, bytes: u32) -> Step<()> {
        if self.in_flight == 0 {
            return Ok(());
        }
        match lanes(mask).find(|&lane| self.shared.in_flight(offsets[lane] as usize, bytes as usize)) {
            Some(lane) => stop(lane, FaultKind::InFlight { address: u64::from(offsets[lane]) }),
            None => Ok(()),
        }
    }

    /// Looks for races of an access to shared memory, and notes it.
    pub fn touch(&mut self, offsets: &[u32; 32], mask: u32, bytes: u32, touch: Touch, warp: &Warp) -> Step<()> {
        if !self.grid.options.races {
            return Ok(());
        }
        for lane in lanes(mask) {
            self.touch_one(offsets[lane], bytes, touch, warp.thread(lane), warp.flow.pc)?;
        }
        Ok(())
    }

    /// The same for one thread.
    pub fn touch_one(&mut self, offset: u32, bytes: u32, touch: Touch, thread: u32, pc: u32) -> Step<()> {
        if !self.grid.options.races {
            return Ok(());
        }
        if touch == Touch::Write && self.proxies.written(offset, bytes, thread) {
            return stop((thread % 32) as usize, FaultKind::InFlight { address: u64::from(offset) });
        }
        let Some(Earlier { thread: other, code }) = self.shadow.touch(offset, bytes, touch, thread, pc) else { return Ok(()) };
        self.raced(offset, (thread % 32) as usize, other, code)
    }

    #[cold]
    fn raced(&self, offset: u32, lane: usize, other: u32, code: u32) -> Step<()> {
        let address = u64::from(offset);
        if other == ENGINE_THREAD {
            return stop(lane, FaultKind::InFlight { address });
        }
        let line = self.grid.kernel.code.get(code as usize).map_or(0, |c| c.line);
        stop(lane, FaultKind::Race { address, other: self.grid.thread_id(other), line })
    }

    /// The copy engine writes on behalf of a lane.
    pub fn engine_writes(&mut self, offset: u32, bytes: u32, warp: usize, lane: usize, pc: u32) -> Step<()> {
        if !self.grid.options.races {
            return Ok(());
        }
        match self.shadow.engine_writes(offset, bytes, warp, pc) {
            Some(Earlier { thread, code }) => self.raced(offset, lane, thread, code),
            None => Ok(()),
        }
    }
}

/// The operands of a load.
#[derive(Clone, Copy)]
pub struct Load<'o> {
    pub to: Target,
    pub address: Address,
    pub d: &'o [u32],
    pub bytes: u32,
    pub sign_to: Option<u32>,
}

impl Load<'_> {
    fn total(&self) -> u32 {
        self.bytes * self.d.len() as u32
    }

    /// A loaded value as it stands in a register.
    fn extend(&self, value: u64) -> u64 {
        match self.sign_to {
            Some(width) => sign_extend(value, 8 * self.bytes) as u64 & low_bits(width),
            None => value,
        }
    }
}

impl Warp {
    pub fn load(&mut self, block: &mut Block<'_>, load: Load<'_>, mask: u32) -> Step<()> {
        let Load { to, address, d, bytes, sign_to } = load;
        let all = addresses(self, address);
        if matches!(to, Some(Space::Param | Space::Const)) && address.base & CONSTANT != 0 {
            return self.load_constant(block, load, &all, mask);
        }
        let mut rest = mask;
        while rest != 0 {
            let part = block.part(to, &all, load.total(), rest, self.index)?;
            rest &= !part.mask;
            for (n, &slot) in d.iter().enumerate() {
                let shift = n as u32 * bytes;
                let register = &mut self.registers[slot as usize];
                let bad = with_cell!(bytes, C => part.storage.gather::<C>(&part.offsets, shift, part.mask, register));
                // Parameters are written by whoever launches, padding and all.
                if bad != 0 && part.space != Space::Param {
                    return Block::unwritten(&part, &all, bad, shift, bytes);
                }
                if sign_to.is_some() {
                    for lane in lanes(part.mask) {
                        register[lane] = load.extend(register[lane]);
                    }
                }
            }
            let Part { space, offsets, mask, .. } = part;
            match space {
                Space::Global => traffic::global(&mut block.counters, &offsets, mask, load.total()),
                Space::Shared => {
                    traffic::shared(&mut block.counters, &offsets, mask, load.total());
                    block.touch(&offsets, mask, load.total(), Touch::Read, self)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All lanes load the same: most of the loads from parameters.
    fn load_constant(&mut self, block: &Block<'_>, load: Load<'_>, all: &Lanes, mask: u32) -> Step<()> {
        let first = mask.trailing_zeros().min(31) as usize;
        let part = block.part(load.to, all, load.total(), 1 << first, self.index)?;
        for (n, &slot) in load.d.iter().enumerate() {
            let offset = part.offsets[first] as usize + n * load.bytes as usize;
            let value = with_cell!(load.bytes, C => part.storage.value::<C>(offset));
            self.scratch = [load.extend(value); 32];
            self.keep(slot, mask);
        }
        Ok(())
    }

    pub fn store(
        &mut self,
        block: &mut Block<'_>,
        to: Target,
        address: Address,
        values: &[Source],
        bytes: u32,
        mask: u32,
    ) -> Step<()> {
        let all = addresses(self, address);
        let total = bytes * values.len() as u32;
        let mut rest = mask;
        while rest != 0 {
            let part = block.part(to, &all, total, rest, self.index)?;
            rest &= !part.mask;
            match part.space {
                Space::Shared => {
                    let (offsets, mask) = (part.offsets, part.mask);
                    self.store_shared(block, &offsets, values, bytes, mask)?;
                }
                Space::Global | Space::Local => {
                    self.scatter(part.storage, &part.offsets, values, bytes, part.mask);
                    let Part { space, offsets, mask, .. } = part;
                    if space == Space::Global {
                        traffic::global(&mut block.counters, &offsets, mask, total);
                    }
                }
                space => {
                    let lane = part.mask.trailing_zeros().min(31) as usize;
                    return stop(lane, FaultKind::OutOfBounds { space, address: all[lane], bytes: total });
                }
            }
        }
        Ok(())
    }

    fn scatter(&self, storage: &Storage, offsets: &[u32; 32], values: &[Source], bytes: u32, mask: u32) {
        for (n, &value) in values.iter().enumerate() {
            let from = self.source(value);
            with_cell!(bytes, C => storage.scatter::<C>(offsets, n as u32 * bytes, mask, from));
        }
    }

    fn store_shared(&mut self, block: &mut Block<'_>, offsets: &[u32; 32], values: &[Source], bytes: u32, mask: u32) -> Step<()> {
        let total = bytes * values.len() as u32;
        block.check_in_flight(offsets, mask, total)?;
        traffic::shared(&mut block.counters, offsets, mask, total);
        block.touch(offsets, mask, total, Touch::Write, self)?;
        self.scatter(&block.shared, offsets, values, bytes, mask);
        // Lanes write in order: whoever does not find its value again wrote the same bytes as a later lane.
        for (n, &value) in values.iter().enumerate() {
            let (from, shift) = (self.source(value), n as u32 * bytes);
            for lane in lanes(mask) {
                let stays = with_cell!(bytes, C => block.shared.value::<C>((offsets[lane] + shift) as usize));
                if stays != from[lane] & low_bits(8 * bytes) {
                    let other = lanes(mask).filter(|&l| offsets[l] == offsets[lane]).last().unwrap_or(lane);
                    let (address, other) = (u64::from(offsets[lane] + shift), block.grid.thread_id(self.thread(other)));
                    return stop(lane, FaultKind::WriteConflict { address, other });
                }
            }
        }
        Ok(())
    }
}
