//! Memory from the system: address space that gets its pages where it is written, and whose pages can be given back one by one.
//!
//! The C library keeps freed blocks of up to 32 MiB in a heap that fragments: a training step of TubeViT-B held 1763 MiB for 1431 MiB of tensors.
//! New pages cost a fault and a clearing each: given back and asked for again they were 4% of a training step of ViViT-B, and the caches that
//! clearing fills as much again.

pub(crate) use map::{DISCARDED, REGION, discard, release, reserve};

/// A cache line and the widest vector: every block starts on a multiple of this many bytes.
pub(crate) const ALIGN: usize = 64;

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
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }

    /// Address space for large blocks, some thousands of which fit into a process. It costs nothing until it is written.
    pub const REGION: usize = 4 << 30;
    /// A huge page of either architecture with pages of 4 KiB.
    const HUGE_PAGE: usize = 2 << 20;
    /// So many bytes in a row have a huge page whole, wherever they begin: less is not discarded.
    pub const DISCARDED: usize = 2 * HUGE_PAGE;
    /// A page, or a multiple of it: what mappings are cut by.
    const PAGE: usize = 64 << 10;
    /// `PROT_READ | PROT_WRITE`.
    const READ_WRITE: c_int = 0x1 | 0x2;
    /// `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`.
    const ANONYMOUS: c_int = 0x02 | 0x20 | 0x4000;
    /// `MADV_DONTNEED`.
    const NOT_NEEDED: c_int = 4;
    /// `MADV_HUGEPAGE`.
    const HUGE_PAGES: c_int = 14;
    const FAILED: *mut c_void = ptr::without_provenance_mut(usize::MAX);

    /// `bytes` bytes of arbitrary content; from the boundary of a huge page on, and in huge pages, where several fit.
    pub fn reserve(bytes: usize) -> Option<NonNull<u8>> {
        let huge = bytes >= DISCARDED;
        let slack = if huge { HUGE_PAGE } else { 0 };
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        // SAFETY: new pages at an address of the system's choice, of no file.
        let start = unsafe { mmap(ptr::null_mut(), bytes.checked_add(slack)?, READ_WRITE, ANONYMOUS, -1, 0) };
        if start == FAILED {
            return None;
        }
        let before = if huge { start.addr().next_multiple_of(HUGE_PAGE) - start.addr() } else { 0 };
        let region = start.wrapping_byte_add(before);
        for (from, length) in [(start, before), (region.wrapping_byte_add(bytes), slack - before)] {
            if length > 0 {
                // SAFETY: whole pages of the mapping, beside the region. Should it fail, they stay reserved and untouched.
                let _ = unsafe { munmap(from, length) };
            }
        }
        if huge {
            // SAFETY: the pages just mapped. Where there are no huge pages, small ones do.
            let _ = unsafe { madvise(region, bytes, HUGE_PAGES) };
        }
        NonNull::new(region.cast())
    }

    /// Gives back the huge pages that lie whole within `bytes` bytes from `start` on: how many bytes that are. Their content is arbitrary from then on.
    ///
    /// # Safety
    /// They are in a region of [`reserve`]'s, and nobody uses them.
    pub unsafe fn discard(start: NonNull<u8>, bytes: usize) -> usize {
        let (from, end) = (start.addr().get().next_multiple_of(HUGE_PAGE), start.addr().get() + bytes);
        let whole = (end - end % HUGE_PAGE).saturating_sub(from);
        if whole == 0 {
            return 0;
        }
        let from = start.as_ptr().wrapping_byte_add(from - start.addr().get());
        // SAFETY: the caller's promise.
        if unsafe { madvise(from.cast(), whole, NOT_NEEDED) } == 0 { whole } else { 0 }
    }

    /// Gives a region back.
    ///
    /// # Safety
    /// It was made by [`reserve`] with the same number of bytes, and nobody uses it any more.
    pub unsafe fn release(region: NonNull<u8>, bytes: usize) {
        // SAFETY: the pages of one mapping, by the caller's promise. It fails for no such pages alone.
        let _ = unsafe { munmap(region.as_ptr().cast(), bytes.next_multiple_of(PAGE)) };
    }
}

/// Elsewhere Rust's allocator has the pages, and none is given back by itself.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod map {
    use std::{
        alloc::{self, Layout},
        ptr::NonNull,
    };

    use super::ALIGN;

    /// Memory for large blocks.
    pub const REGION: usize = 64 << 20;
    /// Nothing is discarded.
    pub const DISCARDED: usize = usize::MAX;

    fn layout(bytes: usize) -> Option<Layout> {
        Layout::from_size_align(bytes.max(ALIGN), ALIGN).ok()
    }

    /// `bytes` bytes of arbitrary content.
    pub fn reserve(bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the layout's size is not zero.
        NonNull::new(unsafe { alloc::alloc(layout(bytes)?) })
    }

    /// # Safety
    /// None: nothing is given back.
    pub unsafe fn discard(_: NonNull<u8>, _: usize) -> usize {
        0
    }

    /// Gives a region back.
    ///
    /// # Safety
    /// It was made by [`reserve`] with the same number of bytes, and nobody uses it any more.
    pub unsafe fn release(region: NonNull<u8>, bytes: usize) {
        if let Some(layout) = layout(bytes) {
            // SAFETY: the caller's promise; the layout depends on the size alone.
            unsafe { alloc::dealloc(region.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_aligned_and_whole() {
        for bytes in [1, 64, (1 << 20) - 64, 1 << 20, (1 << 20) + 64, 40 << 20] {
            let region = reserve(bytes).unwrap();
            assert_eq!(region.addr().get() % ALIGN, 0);
            // SAFETY: the region has so many bytes, and nobody else knows it.
            unsafe {
                region.as_ptr().write_bytes(7, bytes);
                assert!(std::slice::from_raw_parts(region.as_ptr(), bytes).iter().all(|&b| b == 7));
                release(region, bytes);
            }
        }
    }

    #[test]
    fn only_whole_huge_pages_are_discarded() {
        let bytes = 16 << 20;
        let region = reserve(bytes).unwrap();
        // SAFETY: as above; what is discarded is written again before it is read.
        unsafe {
            region.as_ptr().write_bytes(7, bytes);
            let (from, length) = (region.add(64), (8 << 20) + 64);
            let given = discard(from, length);
            assert!(given == 0 || given == 6 << 20, "{given}");
            let at = |i: usize| region.as_ptr().add(i).read();
            assert_eq!([at(0), at((2 << 20) - 1), at((8 << 20) + 128), at(bytes - 1)], [7; 4]);
            release(region, bytes);
        }
    }
}
