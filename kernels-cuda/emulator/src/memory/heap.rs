//! Global memory: allocations that never lie where another one lay, so that every stray address tells what it is.

use std::collections::VecDeque;

use super::storage::Storage;
use crate::fault::{FaultKind, Space};

/// Below this nothing is ever allocated: null pointers with offsets fault.
const FIRST: u64 = 1 << 32;
/// The alignment that CUDA promises.
const ALIGN: u64 = 256;
/// Addresses between allocations that belong to none.
const GAP: u64 = 64 << 10;
/// The windows of the other spaces begin here.
const END: u64 = super::window::FIRST;
/// So many freed allocations are remembered.
const REMEMBERED: usize = 4096;

struct Allocation {
    address: u64,
    storage: Storage,
}

/// All of global memory.
pub struct Heap {
    /// In the order of addresses, as addresses only grow.
    live: Vec<Allocation>,
    freed: VecDeque<(u64, u64)>,
    next: u64,
    used: u64,
    limit: u64,
}

impl Heap {
    pub fn new(limit: u64) -> Heap {
        Heap { live: Vec::new(), freed: VecDeque::new(), next: FIRST, used: 0, limit }
    }

    /// Bytes allocated, and how many there may be.
    pub fn usage(&self) -> (u64, u64) {
        (self.used, self.limit)
    }

    pub fn allocate(&mut self, bytes: u64) -> Result<u64, FaultKind> {
        let used = self.used.checked_add(bytes).filter(|&u| u <= self.limit);
        // An access of no bytes needs an address, too.
        let end = self.next.checked_add(bytes.max(1)).filter(|&e| e <= END - 2 * GAP);
        // Offsets within one allocation are 32 bits wide.
        let size = u32::try_from(bytes).ok().and_then(|b| usize::try_from(b).ok());
        let storage = size.and_then(Storage::new);
        let (Some(used), Some(end), Some(storage)) = (used, end, storage) else {
            return Err(FaultKind::OutOfMemory { bytes });
        };
        let address = self.next;
        self.live.push(Allocation { address, storage });
        (self.used, self.next) = (used, end.next_multiple_of(ALIGN) + GAP);
        Ok(address)
    }

    pub fn free(&mut self, address: u64) -> Result<(), FaultKind> {
        match self.live.binary_search_by_key(&address, |a| a.address) {
            Ok(at) => {
                let bytes = self.live.remove(at).storage.bytes() as u64;
                self.used -= bytes;
                if self.freed.len() == REMEMBERED {
                    self.freed.pop_front();
                }
                self.freed.push_back((address, bytes));
                Ok(())
            }
            Err(_) => Err(self.stray(address, 1)),
        }
    }

    /// The allocation that holds the first byte of an access, and where it begins.
    pub fn find(&self, address: u64) -> Option<(&Storage, u64)> {
        let at = self.live.partition_point(|a| a.address <= address).checked_sub(1)?;
        let found = self.live.get(at)?;
        (address - found.address < found.storage.bytes() as u64).then_some((&found.storage, found.address))
    }

    /// The storage of a host access, and the offset in it.
    pub fn range(&self, address: u64, bytes: usize) -> Result<(&Storage, usize), FaultKind> {
        let Some((storage, start)) = self.find(address) else { return Err(self.stray(address, bytes)) };
        let offset = (address - start) as usize;
        match storage.bytes() - offset >= bytes {
            true => Ok((storage, offset)),
            false => Err(self.stray(address, bytes)),
        }
    }

    /// The fault of an access that is in no allocation.
    pub fn stray(&self, address: u64, bytes: usize) -> FaultKind {
        match self.freed.iter().any(|&(start, size)| address >= start && address - start < size) {
            true => FaultKind::UseAfterFree { address },
            false => FaultKind::OutOfBounds { space: Space::Global, address, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) },
        }
    }
}
