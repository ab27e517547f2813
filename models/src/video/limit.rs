//! A limit on how much happens at a time.

use std::sync::{Condvar, Mutex, PoisonError};

/// Lets a number of threads pass at a time: decoders take memory, and more of them than processors
/// gain nothing.
#[derive(Debug)]
pub struct Limit {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place within a [`Limit`], given back when it is dropped.
#[derive(Debug)]
pub struct Place<'a>(&'a Limit);

impl Limit {
    /// A limit of `places` at a time.
    pub const fn new(places: usize) -> Self {
        Limit { free: Mutex::new(places), freed: Condvar::new() }
    }

    /// Waits for a place.
    pub fn take(&self) -> Place<'_> {
        // A number is whole whatever happened to another thread.
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Place(self)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
        time::Duration,
    };

    use super::*;

    #[test]
    fn no_more_than_the_limit_are_inside() {
        let (limit, inside, most) = (Limit::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let place = limit.take();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(200));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 2);
    }
}
