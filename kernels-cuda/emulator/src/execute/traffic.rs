//! What accesses cost: sectors of global memory, passes over the banks of shared memory.

use crate::counters::Counters;
use crate::memory::storage::lanes;

/// Bytes that one transaction with global memory moves.
const SECTOR: u32 = 32;
const BANKS: usize = 32;

/// Counts a request to global memory. Allocations begin at multiples of a sector, so offsets tell sectors apart as addresses would.
pub fn global(counters: &mut Counters, offsets: &[u32; 32], mask: u32, bytes: u32) {
    counters.global_requests += 1;
    counters.global_bytes += u64::from(bytes * mask.count_ones());
    // An access is aligned and no larger than a sector, so it is in one.
    let mut sectors = [0; 32];
    let (mut count, mut ascending) = (0, true);
    for lane in lanes(mask) {
        sectors[count] = offsets[lane] / SECTOR;
        ascending &= count == 0 || sectors[count - 1] <= sectors[count];
        count += 1;
    }
    let sectors = &mut sectors[..count];
    if !ascending {
        sectors.sort_unstable();
    }
    let changes = sectors.windows(2).filter(|pair| pair[0] != pair[1]).count();
    counters.global_transactions += changes as u64 + 1;
}

/// Counts a request to shared memory. Wide accesses go in as many passes as 128 bytes need; a conflict is a pass more.
pub fn shared(counters: &mut Counters, offsets: &[u32; 32], mask: u32, bytes: u32) {
    counters.shared_requests += 1;
    let together = (128 / bytes).min(32) as usize;
    if neighbours(offsets, mask, bytes) {
        return;
    }
    for first in (0..32).step_by(together) {
        let group = mask >> first & if together == 32 { u32::MAX } else { (1 << together) - 1 };
        counters.shared_bank_conflicts += conflicts(&offsets[first..first + together], group, bytes);
    }
}

/// Whether all lanes follow on each other, or read the same: the usual cases, without conflicts.
fn neighbours(offsets: &[u32; 32], mask: u32, bytes: u32) -> bool {
    let first = offsets[0];
    let (mut row, mut same) = (mask == u32::MAX, mask == u32::MAX);
    for (lane, &offset) in offsets.iter().enumerate() {
        row &= offset == first.wrapping_add(lane as u32 * bytes);
        same &= offset == first;
    }
    row || same
}

/// The most different words of one bank, but the first.
fn conflicts(offsets: &[u32], mask: u32, bytes: u32) -> u64 {
    let width = bytes.div_ceil(4);
    let (mut used, mut overlap) = (0u32, 0);
    for lane in lanes(mask) {
        let banks = (u32::MAX >> (32 - width)).rotate_left(offsets[lane] / 4 % 32);
        overlap |= used & banks;
        used |= banks;
    }
    if overlap == 0 { 0 } else { count_conflicts(offsets, mask, bytes) }
}

#[cold]
fn count_conflicts(offsets: &[u32], mask: u32, bytes: u32) -> u64 {
    let mut words = [[0; BANKS]; BANKS];
    let mut counts = [0; BANKS];
    for lane in lanes(mask) {
        for word in offsets[lane] / 4..(offsets[lane] + bytes).div_ceil(4) {
            let bank = word as usize % BANKS;
            let count = counts[bank];
            if !words[bank][..count].contains(&word) {
                words[bank][count] = word;
                counts[bank] = count + 1;
            }
        }
    }
    counts.iter().max().map_or(0, |&most| (most as u64).saturating_sub(1))
}
