//! Who touched which byte of shared memory, and who knows of it.
//!
//! Time counts barriers. Every warp knows for every other warp up to which time it has waited for it; an access of another warp at a later
//! time is a race, if one of the two writes. Within a warp lanes run in lockstep, so that different instructions never race there.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

/// Warps of the largest block.
pub const WARPS: usize = 32;
/// The copy engine writes as if it were one more warp: who has waited for a bulk copy knows of it, nobody else does.
const ENGINE: usize = WARPS;
/// The thread that its writes are noted as.
pub const ENGINE_THREAD: u32 = (WARPS * ENGINE) as u32;
/// For each warp, the time up to which its accesses are known.
#[derive(Clone, Copy)]
pub struct Clock([u32; WARPS + 1]);

impl Default for Clock {
    fn default() -> Clock {
        Clock([0; WARPS + 1])
    }
}

impl Deref for Clock {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0
    }
}

impl DerefMut for Clock {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.0
    }
}

/// The mark of an atomic in [`Granule::writer`].
const ATOMIC: u16 = 1 << 15;
/// In [`Granule::read_at`]: several warps read at several times, see [`Shadow::many`].
const MANY: u32 = u32::MAX;

/// The accesses to one unit of memory that matter.
#[derive(Clone, Copy, Default)]
struct Granule {
    written_at: u32,
    write_code: u32,
    read_at: u32,
    read_code: u32,
    /// The warps that read at `read_at`.
    readers: u32,
    writer: u16,
    reader: u16,
}

/// An access that another one races with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    pub thread: u32,
    pub code: u32,
}

/// How a thread touches memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    Read,
    Write,
    Atomic,
}

/// The accesses to the shared memory of one block.
pub struct Shadow {
    granules: Vec<Granule>,
    /// The binary logarithm of a granule's bytes.
    shift: u32,
    now: u32,
    known: [Clock; WARPS + 1],
    /// The time up to which a warp knows of all others: the quick test.
    floor: [u32; WARPS + 1],
    /// The reads of each warp, where they came at several times.
    many: HashMap<u32, Clock>,
}

impl Shadow {
    pub fn new(bytes: usize, granule: u32) -> Shadow {
        let shift = granule.trailing_zeros();
        let granules = vec![Granule::default(); (bytes >> shift) + 1];
        Shadow { granules, shift, now: 1, known: [Clock::default(); WARPS + 1], floor: [0; WARPS + 1], many: HashMap::new() }
    }

    /// A new block: all that was is known to everybody.
    pub fn restart(&mut self) {
        if self.now > u32::MAX / 2 {
            self.granules.fill(Granule::default());
            self.now = 1;
        }
        self.many.clear();
        self.known = [Clock([self.now; WARPS + 1]); WARPS + 1];
        self.floor = [self.now; WARPS + 1];
        self.now += 1;
    }

    /// What a warp tells those that wait for it: everything it did and knows.
    pub fn tell(&self, warp: usize) -> Clock {
        let mut clock = self.known[warp];
        clock[warp] = self.now;
        clock
    }

    /// Later accesses are later.
    pub fn tick(&mut self) {
        self.now += 1;
    }

    /// A warp has waited for others.
    pub fn learn(&mut self, warp: usize, clock: &Clock) {
        later(&mut self.known[warp], clock);
        self.known[warp][warp] = u32::MAX;
        self.floor[warp] = self.known[warp].iter().copied().min().unwrap_or(0);
    }

    /// The copy engine writes on behalf of a warp, knowing what that one knows: no more, so that copies into the same place are ordered by
    /// whoever asks for them.
    pub fn engine_writes(&mut self, offset: u32, bytes: u32, warp: usize, code: u32) -> Option<Earlier> {
        self.known[ENGINE] = self.tell(warp);
        self.floor[ENGINE] = self.known[ENGINE].iter().copied().min().unwrap_or(0);
        self.touch(offset, bytes, Touch::Write, ENGINE_THREAD, code)
    }

    /// That a warp has come to this point, and nothing of what it knows.
    pub fn arrival(&self, warp: usize) -> Clock {
        let mut clock = Clock::default();
        clock[warp] = self.now;
        clock
    }

    /// What a copy tells those that wait for it: that it is done, and nothing of what the warp did that asked for it.
    pub fn engine_tells(&self) -> Clock {
        let mut clock = Clock::default();
        clock[ENGINE] = self.now;
        clock
    }

    /// Notes an access to the bytes from `offset`, and returns the one it races with.
    pub fn touch(&mut self, offset: u32, bytes: u32, touch: Touch, thread: u32, code: u32) -> Option<Earlier> {
        let (first, last) = (offset >> self.shift, (offset + bytes - 1) >> self.shift);
        for at in first..=last {
            let raced = match touch {
                Touch::Read => self.read(at, thread, code),
                Touch::Write => self.write(at, thread, code, 0),
                Touch::Atomic => self.write(at, thread, code, ATOMIC),
            };
            if raced.is_some() {
                return raced;
            }
        }
        None
    }

    fn read(&mut self, at: u32, thread: u32, code: u32) -> Option<Earlier> {
        let warp = (thread / 32) as usize;
        let granule = &mut self.granules[at as usize];
        let (known, now) = (&self.known[warp], self.now);
        if granule.written_at > self.floor[warp] {
            let writer = u32::from(granule.writer & !ATOMIC);
            let other = (writer / 32) as usize;
            if other != warp && granule.written_at > known[other] {
                return Some(Earlier { thread: writer, code: granule.write_code });
            }
        }
        let bit = 1 << warp;
        if granule.read_at == now {
            granule.readers |= bit;
        } else if granule.read_at == MANY {
            self.many.entry(at).or_default()[warp] = now;
        } else if unknown(granule.readers & !bit, granule.read_at, known) == 0 {
            (granule.read_at, granule.readers) = (now, bit);
            (granule.reader, granule.read_code) = (thread as u16, code);
        } else {
            let mut times = Clock::default();
            for (other, time) in times.iter_mut().enumerate().take(WARPS) {
                *time = if granule.readers >> other & 1 == 1 { granule.read_at } else { 0 };
            }
            times[warp] = now;
            self.many.insert(at, times);
            granule.read_at = MANY;
        }
        None
    }

    fn write(&mut self, at: u32, thread: u32, code: u32, atomic: u16) -> Option<Earlier> {
        let warp = (thread / 32) as usize;
        let granule = &mut self.granules[at as usize];
        let (known, floor) = (&self.known[warp], self.floor[warp]);
        if granule.written_at > floor && granule.writer & atomic == 0 {
            let writer = u32::from(granule.writer & !ATOMIC);
            let other = (writer / 32) as usize;
            // Copies do not wait for each other.
            if (other != warp || warp == ENGINE) && granule.written_at > known[other] {
                return Some(Earlier { thread: writer, code: granule.write_code });
            }
        }
        if granule.read_at > floor {
            let unseen = match granule.read_at {
                MANY => {
                    let times = self.many.get(&at).copied().unwrap_or_default();
                    (0..WARPS).fold(0, |set, other| set | u32::from(times[other] > known[other]) << other)
                }
                time => unknown(granule.readers, time, known),
            } & !1u32.checked_shl(warp as u32).unwrap_or(0);
            if unseen != 0 {
                let noted = u32::from(granule.reader);
                let thread = if unseen >> (noted / 32) & 1 == 1 { noted } else { unseen.trailing_zeros() * 32 };
                return Some(Earlier { thread, code: granule.read_code });
            }
        }
        *granule = Granule { written_at: self.now, write_code: code, writer: thread as u16 | atomic, ..Granule::default() };
        None
    }
}

/// For each warp the later time of two.
pub fn later(clock: &mut Clock, other: &Clock) {
    for (time, other) in clock.iter_mut().zip(other.iter()) {
        *time = (*time).max(*other);
    }
}

/// Those of some warps whose accesses at a time are not known.
fn unknown(warps: u32, time: u32, known: &Clock) -> u32 {
    let mut rest = warps;
    let mut set = 0;
    while rest != 0 {
        let warp = rest.trailing_zeros();
        rest &= rest - 1;
        set |= u32::from(time > known[warp as usize]) << warp;
    }
    set
}
