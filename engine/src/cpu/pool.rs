//! A small thread pool for kernels: one parallel loop at a time, helpers that spin briefly before they sleep.
//!
//! Helpers that wake too late for a loop are not waited for, so a short loop costs no more than running it alone. Each thread begins with a
//! share of neighbouring indices, the same in every loop of a length: what it wrote in one kernel is in its cache in the next. Then it takes
//! what others have left. So which thread runs which index is left to chance; kernels compute each result in one index, and do not depend on it.

use std::{
    any::Any,
    hint, mem,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::placement::Helper;

/// How long a helper looks for the next loop before it sleeps: longer than the gap between two kernels of a model, and short against
/// a scheduler's time slice. To wake a sleeper takes some tens of microseconds, as long as many a kernel.
const AWAKE: Duration = Duration::from_micros(200);

/// How long a thread waits for another to leave a loop before it offers its core: whoever is that late may be waiting for this core.
const PATIENCE: Duration = Duration::from_micros(50);

/// Looks between two at the clock.
const LOOKS: usize = 64;

/// Looks until `done`, or until `limit` is over; whether it is done.
fn watch(limit: Duration, done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if done() {
                return true;
            }
            hint::spin_loop();
        }
        if start.elapsed() > limit {
            return false;
        }
    }
}

/// Waits until `done`, politely.
fn wait(done: impl Fn() -> bool) {
    if !watch(PATIENCE, &done) {
        while !done() {
            thread::yield_now();
        }
    }
}

/// What a loop does for an index, on a thread of the pool: 0 is the caller.
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A loop's body, to be called while [`Pool::for_each`] has not returned, and its length.
#[derive(Clone, Copy)]
struct Job {
    body: &'static Body<'static>,
    len: usize,
}

/// The next index of a thread's share, in a pair of cache lines of its own: processors fetch them by pairs.
#[repr(align(128))]
#[derive(Default)]
struct Next(AtomicUsize);

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Helpers that must be woken.
    asleep: usize,
    /// Those that are told [where](super::placement) to wake.
    helpers: Vec<Helper>,
    stop: bool,
    panic: Option<Box<dyn Any + Send>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Changes with every job, so that spinning helpers need no lock.
    epoch: AtomicUsize,
    /// For each thread, the caller first.
    next: Vec<Next>,
    /// The caller has not left the current loop.
    open: AtomicBool,
    /// Helpers inside the current loop.
    inside: AtomicUsize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the share of a thread begins.
    fn share(&self, len: usize, thread: usize) -> usize {
        let (each, rest) = (len / self.next.len(), len % self.next.len());
        thread * each + thread.min(rest)
    }

    fn work(&self, job: Job, thread: usize) {
        for share in (thread..self.next.len()).chain(0..thread) {
            let end = self.share(job.len, share + 1);
            loop {
                let i = self.next[share].0.fetch_add(1, Ordering::Relaxed);
                if i >= end {
                    break;
                }
                // `for_each` keeps the body alive until everybody inside has left.
                (job.body)(i, thread);
            }
        }
    }

    /// Leaves nothing to do in a loop of `len`.
    fn finish(&self, len: usize) {
        self.next.iter().for_each(|next| next.0.store(len, Ordering::Relaxed));
    }

    fn help(&self, thread: usize) {
        let mut seen = 0;
        self.lock().helpers.extend(Helper::here());
        loop {
            watch(AWAKE, || self.epoch.load(Ordering::Acquire) != seen);
            let mut state = self.lock();
            while self.epoch.load(Ordering::Acquire) == seen && !state.stop {
                state.asleep += 1;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep -= 1;
            }
            if state.stop {
                return;
            }
            seen = self.epoch.load(Ordering::Acquire);
            let Some(job) = state.job else { continue };
            self.inside.fetch_add(1, Ordering::Relaxed);
            drop(state);
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| self.work(job, thread))) {
                self.finish(job.len);
                self.lock().panic = Some(payload);
            }
            self.inside.fetch_sub(1, Ordering::Release);
            // Not at once back to spinning: if the caller has not seen the end of its own loop, it may be waiting for this core.
            wait(|| !self.open.load(Ordering::Acquire) || self.epoch.load(Ordering::Acquire) != seen);
        }
    }
}

/// See the [module](self).
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Held during a loop. A second caller, or a loop within a loop, runs alone instead of waiting.
    turn: Mutex<()>,
}

impl Pool {
    /// `threads` in all, the caller's included. Where the system refuses threads, fewer.
    pub fn new(threads: usize) -> Self {
        let next = (0..threads.max(1)).map(|_| Next::default()).collect();
        let shared = Arc::new(Shared { next, ..Shared::default() });
        let spawn = |i| {
            let shared = shared.clone();
            thread::Builder::new().name(format!("tubelet-{i}")).spawn(move || shared.help(i)).ok()
        };
        Pool { helpers: (1..threads).filter_map(spawn).collect(), shared, turn: Mutex::new(()) }
    }

    /// Threads in all, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `body(i)` once for each `i` in `0..len`, in any order, on any threads; returns when all are done.
    pub fn for_each(&self, len: usize, body: impl Fn(usize) + Sync) {
        self.for_each_by(len, &|i, _| body(i));
    }

    /// [`Self::for_each`] of `body(i, thread)`, compiled once for all bodies. Loops of callers that run alone all have thread 0.
    pub fn for_each_by(&self, len: usize, body: &Body<'_>) {
        let turn = if len > 1 && !self.helpers.is_empty() { self.turn.try_lock().ok() } else { None };
        let Some(_turn) = turn else {
            return (0..len).for_each(|i| body(i, 0));
        };
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; nobody calls the body after this function has returned.
        let body = unsafe { mem::transmute::<&Body<'_>, &'static Body<'static>>(body) };
        let job = Job { body, len };
        let (asleep, helpers) = {
            let mut state = shared.lock();
            for (thread, next) in shared.next.iter().enumerate() {
                next.0.store(shared.share(len, thread), Ordering::Relaxed);
            }
            shared.open.store(true, Ordering::Relaxed);
            state.job = Some(job);
            shared.epoch.fetch_add(1, Ordering::Release);
            (state.asleep, if state.asleep > 0 { state.helpers.clone() } else { Vec::new() })
        };
        let aside: Vec<_> = helpers.into_iter().map(Helper::aside).collect();
        if asleep > 0 {
            shared.wake.notify_all();
        }
        let mine = panic::catch_unwind(AssertUnwindSafe(|| shared.work(job, 0)));
        drop(aside);
        shared.finish(len);
        // From here nobody enters the job any more; those inside are waited for.
        shared.lock().job = None;
        wait(|| shared.inside.load(Ordering::Acquire) == 0);
        shared.open.store(false, Ordering::Release);
        let theirs = shared.lock().panic.take();
        if let Some(payload) = mine.err().or(theirs) {
            panic::resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.wake.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of loop bodies, so it ends in order.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once() {
        let pool = Pool::new(3);
        for len in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(len, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
                pool.for_each(2, |_| {});
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn two_callers_share_a_pool() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        pool.for_each(3, |i| {
                            total.fetch_add(i, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 2 * 1000 * 3);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let caught = panic::catch_unwind(AssertUnwindSafe(|| pool.for_each(100, |i| assert!(i != 50))));
        assert!(caught.is_err());
        pool.for_each(10, |_| {});
    }
}
