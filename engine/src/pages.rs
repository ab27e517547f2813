//! Memory from the system: large blocks as pages of their own, which go back to it when they are released, small ones from Rust's allocator.
//!
//! The C library keeps freed blocks of up to 32 MiB in a heap that fragments: a training step of TubeViT-B held 1763 MiB for 1431 MiB of tensors, and
//! 1474 MiB with pages (`tubelet bench tubevit-b --train --json`).
//!
//! New pages cost a fault and a clearing each: that training step had a quarter of a million faults (a gigabyte of pages) while blocks of other
//! sizes were given back and asked for again on the way back. So blocks of 4 MiB and more begin on a boundary of huge pages, which are asked for,
//! and a block that nobody needs becomes one of another size with the pages that it has.

use std::{
    alloc::{self, Layout},
    ptr::NonNull,
};

/// A cache line and the widest vector: every block starts on a multiple of this many bytes.
pub(crate) const ALIGN: usize = 64;

fn layout(bytes: usize) -> Layout {
    // SAFETY: ALIGN is a power of two, and the pool has bounded `bytes` well below isize::MAX.
    unsafe { Layout::from_size_align_unchecked(bytes.max(ALIGN), ALIGN) }
}

/// `bytes` bytes of arbitrary content, 64-byte aligned; `None` if the system has no more.
pub(crate) fn allocate(bytes: usize) -> Option<NonNull<u8>> {
    if map::takes(bytes) {
        return map::allocate(bytes);
    }
    // SAFETY: the layout's size is not zero.
    NonNull::new(unsafe { alloc::alloc(layout(bytes)) })
}

/// Makes a block one of another size, with as many of its pages as it keeps; `None` where it cannot, and then it is given back. Its content is arbitrary.
///
/// # Safety
/// It was made by [`allocate`] with `bytes`, and nobody uses it any more.
pub(crate) unsafe fn resize(block: NonNull<u8>, bytes: usize, wanted: usize) -> Option<NonNull<u8>> {
    if map::takes(bytes) && map::takes(wanted) {
        // SAFETY: the caller's promise.
        if let Some(block) = unsafe { map::resize(block, bytes, wanted) } {
            return Some(block);
        }
    }
    // SAFETY: the caller's promise; what could not be resized is as it was.
    unsafe { release(block, bytes) };
    None
}

/// Whether blocks of so many bytes can be [`resize`]d.
pub(crate) fn resizable(bytes: usize) -> bool {
    map::takes(bytes)
}

/// Gives a block back.
///
/// # Safety
/// It was made by [`allocate`] with the same number of bytes, and nobody uses it any more.
pub(crate) unsafe fn release(block: NonNull<u8>, bytes: usize) {
    if map::takes(bytes) {
        // SAFETY: the caller's promise; the same sizes are mapped.
        unsafe { map::release(block, bytes) };
    } else {
        // SAFETY: the caller's promise; the layout depends on the size alone.
        unsafe { alloc::dealloc(block.as_ptr(), layout(bytes)) };
    }
}

/// Where the numbers of the system calls are known to be these.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod map {
    use std::{
        ffi::{c_int, c_void},
        ptr::{self, NonNull},
    };

    unsafe extern "C" {
        fn mmap(address: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: i64) -> *mut c_void;
        fn munmap(address: *mut c_void, length: usize) -> c_int;
        fn mremap(address: *mut c_void, old: usize, new: usize, flags: c_int, ...) -> *mut c_void;
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }

    /// Below, a page more or less would matter.
    const LARGE: usize = 1 << 20;
    /// From here on blocks lie on huge pages.
    const HUGE_BLOCK: usize = 4 << 20;
    /// A huge page of either architecture with pages of 4 KiB.
    const HUGE_PAGE: usize = 2 << 20;
    /// A page, or a multiple of it: what mappings are cut by.
    const PAGE: usize = 64 << 10;
    /// `PROT_NONE`.
    const NOTHING: c_int = 0;
    /// `PROT_READ | PROT_WRITE`.
    const READ_WRITE: c_int = 0x1 | 0x2;
    /// `MAP_PRIVATE | MAP_ANONYMOUS`.
    const ANONYMOUS: c_int = 0x02 | 0x20;
    /// `MREMAP_MAYMOVE`, and with it `MREMAP_FIXED`.
    const MAY_MOVE: c_int = 1;
    const FIXED: c_int = 2;
    /// `MADV_HUGEPAGE`.
    const HUGE_PAGES: c_int = 14;
    const FAILED: *mut c_void = ptr::without_provenance_mut(usize::MAX);

    pub fn takes(bytes: usize) -> bool {
        bytes >= LARGE
    }

    pub fn allocate(bytes: usize) -> Option<NonNull<u8>> {
        let block = reserve(bytes, READ_WRITE)?;
        if bytes >= HUGE_BLOCK {
            // SAFETY: the pages just mapped. Where there are no huge pages, small ones do.
            let _ = unsafe { madvise(block.as_ptr().cast(), bytes, HUGE_PAGES) };
        }
        Some(block)
    }

    /// New pages at an address of the system's choice, of no file; those of a large block from a boundary of huge pages on.
    fn reserve(bytes: usize, protection: c_int) -> Option<NonNull<u8>> {
        let slack = if bytes >= HUGE_BLOCK { HUGE_PAGE } else { 0 };
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        // SAFETY: as above.
        let start = unsafe { mmap(ptr::null_mut(), bytes.checked_add(slack)?, protection, ANONYMOUS, -1, 0) };
        if start == FAILED {
            return None;
        }
        let before = if slack == 0 { 0 } else { start.addr().next_multiple_of(HUGE_PAGE) - start.addr() };
        let block = start.wrapping_byte_add(before);
        for (from, length) in [(start, before), (block.wrapping_byte_add(bytes), slack - before)] {
            if length > 0 {
                // SAFETY: whole pages of the mapping, beside the block. Should it fail, they stay reserved and untouched.
                let _ = unsafe { munmap(from, length) };
            }
        }
        NonNull::new(block.cast())
    }

    /// # Safety
    /// As [`super::resize`], where both sizes are mapped.
    pub unsafe fn resize(block: NonNull<u8>, bytes: usize, wanted: usize) -> Option<NonNull<u8>> {
        let (old, new) = (bytes.next_multiple_of(PAGE), wanted.next_multiple_of(PAGE));
        // Blocks begin on the boundaries of their kind, which are not those of all others.
        if (bytes >= HUGE_BLOCK) != (wanted >= HUGE_BLOCK) {
            return None;
        }
        // SAFETY: the pages of a mapping that nobody uses, moved onto reserved ones that nobody knows, or cut where they are.
        unsafe {
            let moved = if new <= old {
                mremap(block.as_ptr().cast(), old, new, MAY_MOVE)
            } else {
                let to = reserve(wanted, NOTHING)?;
                let moved = mremap(block.as_ptr().cast(), old, new, MAY_MOVE | FIXED, to.as_ptr().cast::<c_void>());
                if moved == FAILED {
                    let _ = munmap(to.as_ptr().cast(), new);
                }
                moved
            };
            NonNull::new(moved.cast()).filter(|_| moved != FAILED)
        }
    }

    /// # Safety
    /// As [`super::release`].
    pub unsafe fn release(block: NonNull<u8>, bytes: usize) {
        // SAFETY: the pages of one mapping, which nobody uses any more. It fails for no such pages alone.
        let _ = unsafe { munmap(block.as_ptr().cast(), bytes.next_multiple_of(PAGE)) };
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod map {
    use std::ptr::NonNull;

    pub fn takes(_: usize) -> bool {
        false
    }

    pub fn allocate(_: usize) -> Option<NonNull<u8>> {
        None
    }

    /// # Safety
    /// None: nothing is mapped.
    pub unsafe fn resize(_: NonNull<u8>, _: usize, _: usize) -> Option<NonNull<u8>> {
        None
    }

    /// # Safety
    /// None: nothing is mapped.
    pub unsafe fn release(_: NonNull<u8>, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_all_sizes_are_aligned_and_whole() {
        for bytes in [0, 1, 64, (1 << 20) - 64, 1 << 20, (1 << 20) + 64, 40 << 20] {
            let block = allocate(bytes).unwrap();
            assert_eq!(block.as_ptr() as usize % ALIGN, 0);
            // SAFETY: the block has so many bytes, and nobody else knows it.
            unsafe {
                block.as_ptr().write_bytes(7, bytes);
                assert!(std::slice::from_raw_parts(block.as_ptr(), bytes).iter().all(|&b| b == 7));
                release(block, bytes);
            }
        }
    }

    #[test]
    fn blocks_become_blocks_of_other_sizes() {
        const MIB: usize = 1 << 20;
        let sizes = [1 << 16, MIB, MIB + 64, 3 * MIB, 4 * MIB, 9 * MIB + 64, 40 * MIB];
        for (from, to) in sizes.into_iter().flat_map(|from| sizes.map(|to| (from, to))) {
            let block = allocate(from).unwrap();
            // SAFETY: each block has the bytes that are written and read, and nobody else knows it.
            unsafe {
                block.as_ptr().write_bytes(7, from);
                let Some(block) = resize(block, from, to) else { continue };
                assert_eq!(block.as_ptr() as usize % ALIGN, 0);
                assert!(std::slice::from_raw_parts(block.as_ptr(), from.min(to)).iter().all(|&b| b == 7), "{from} to {to}");
                block.as_ptr().write_bytes(9, to);
                release(block, to);
            }
        }
    }
}
