//! Where woken helpers run, on virtual processors.
//!
//! To Linux as KVM's guest a processor that its host has put to rest is taken (`vcpu_is_preempted`), so that a woken thread is put on the processor of
//! whoever wakes it, to wait there until load is balanced: 10 ms, in which ten products of 197×768×768 ran on one of two threads. So a helper that
//! sleeps is kept off the caller's processor while it is woken.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux {
    use std::ffi::{c_int, c_ulong};

    /// As many processors as the C library's own sets have.
    type Mask = [c_ulong; 1024 / c_ulong::BITS as usize];

    unsafe extern "C" {
        fn gettid() -> c_int;
        fn sched_getcpu() -> c_int;
        fn sched_getaffinity(thread: c_int, bytes: usize, mask: *mut Mask) -> c_int;
        fn sched_setaffinity(thread: c_int, bytes: usize, mask: *const Mask) -> c_int;
    }

    /// A thread, by its number.
    #[derive(Clone, Copy)]
    pub struct Helper(c_int);

    impl Helper {
        /// The calling thread; `None` on real processors, where threads are woken as they should be.
        pub fn here() -> Option<Helper> {
            let hypervisor = std::arch::x86_64::__cpuid(1).ecx >> 31 != 0;
            // SAFETY: it has no conditions.
            hypervisor.then(|| Helper(unsafe { gettid() }))
        }

        /// Keeps the thread off the caller's processor, if it may run on another, until the result is dropped.
        pub fn aside(self) -> Option<Aside> {
            let mut mask: Mask = [0; _];
            // SAFETY: the mask has so many bytes. A system with more processors refuses, and then nothing is changed.
            let (here, read) = unsafe { (sched_getcpu(), sched_getaffinity(self.0, size_of::<Mask>(), &raw mut mask)) };
            let here = usize::try_from(here).ok().filter(|_| read >= 0)?;
            let mut others = mask;
            *others.get_mut(here / c_ulong::BITS as usize)? &= !(1 << (here % c_ulong::BITS as usize));
            if others == mask || others.iter().all(|&word| word == 0) {
                return None;
            }
            self.allow(&others).then_some(Aside { helper: self, mask })
        }

        fn allow(self, mask: &Mask) -> bool {
            // SAFETY: the mask has so many bytes. A thread that has ended is an error, and so is what a sandbox forbids.
            unsafe { sched_setaffinity(self.0, size_of::<Mask>(), mask) >= 0 }
        }
    }

    /// See [`Helper::aside`].
    pub struct Aside {
        helper: Helper,
        mask: Mask,
    }

    impl Drop for Aside {
        fn drop(&mut self) {
            self.helper.allow(&self.mask);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod linux {
    /// Nothing is known of threads here.
    #[derive(Clone, Copy)]
    pub enum Helper {}

    impl Helper {
        /// Never.
        pub fn here() -> Option<Helper> {
            None
        }

        /// Nothing.
        pub fn aside(self) -> Option<()> {
            match self {}
        }
    }
}

pub(super) use linux::Helper;

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// A thread of its own, because others of this process may be kept aside, too.
    #[test]
    fn a_thread_that_was_kept_aside_may_run_where_it_could() {
        std::thread::spawn(|| {
            let allowed = || std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
            let allowed = || allowed().lines().find(|line| line.starts_with("Cpus_allowed:")).map(str::to_owned);
            let before = allowed();
            let Some(helper) = Helper::here() else { return println!("skipped: real processors") };
            let Some(aside) = helper.aside() else { return println!("skipped: one processor, or a sandbox forbids") };
            assert_ne!(allowed(), before);
            drop(aside);
            assert_eq!(allowed(), before);
        })
        .join()
        .unwrap();
    }
}
