//! Memory from the system: large blocks as pages of their own, which go back to it when they are released, small ones from Rust's allocator.
//!
//! The C library keeps freed blocks of up to 32 MiB in a heap that fragments: a training step of TubeViT-B held 1763 MiB for 1431 MiB of tensors, and
//! 1474 MiB with pages (`tubelet bench tubevit-b --train --json`).

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
    }

    /// Below, a page more or less would matter.
    const LARGE: usize = 1 << 20;
    /// `PROT_READ | PROT_WRITE`.
    const READ_WRITE: c_int = 0x1 | 0x2;
    /// `MAP_PRIVATE | MAP_ANONYMOUS`.
    const ANONYMOUS: c_int = 0x02 | 0x20;
    const FAILED: *mut c_void = ptr::without_provenance_mut(usize::MAX);

    pub fn takes(bytes: usize) -> bool {
        bytes >= LARGE
    }

    pub fn allocate(bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: new pages at an address of the system's choice, of no file.
        let block = unsafe { mmap(ptr::null_mut(), bytes, READ_WRITE, ANONYMOUS, -1, 0) };
        NonNull::new(block.cast()).filter(|_| block != FAILED)
    }

    /// # Safety
    /// As [`super::release`].
    pub unsafe fn release(block: NonNull<u8>, bytes: usize) {
        // SAFETY: the pages of one mapping, which nobody uses any more. It fails for no such pages alone.
        let _ = unsafe { munmap(block.as_ptr().cast(), bytes) };
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
}
