//! Generic addresses: fixed windows for the spaces that are not global.

use crate::fault::Space;

/// Windows are this large, so that a stray address stays in the space it came from.
const SIZE: u64 = 1 << 32;
/// The first window: global memory ends below it.
pub const FIRST: u64 = 0x7f00_0000_0000;
const ORDER: [Space; 4] = [Space::Shared, Space::Local, Space::Param, Space::Const];

/// Where the window of a space begins; global addresses are generic ones already.
pub fn base(space: Space) -> u64 {
    match ORDER.iter().position(|s| *s == space) {
        Some(n) => FIRST + n as u64 * SIZE,
        None => 0,
    }
}

/// The space that a generic address points into, and the address there.
pub fn space_of(address: u64) -> (Space, u64) {
    match address.checked_sub(FIRST).map(|offset| (offset / SIZE, offset % SIZE)) {
        Some((n @ 0..4, offset)) => (ORDER[n as usize], offset),
        _ => (Space::Global, address),
    }
}
