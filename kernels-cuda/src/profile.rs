//! How long each kernel takes, by the device's own clock.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tubelet_engine::Result;

use crate::driver::{Driver, Event};

/// Launches of each kernel, and their seconds.
pub type Times = BTreeMap<String, (u64, f64)>;

/// An event before and one after every launch.
#[derive(Default)]
pub(crate) struct Profile(Mutex<State>);

#[derive(Default)]
struct State {
    pending: Vec<(String, Event, Event)>,
    times: Times,
}

/// Launches whose events are kept before they are read, which waits for the last: this is for measuring, not for speed.
const PENDING: usize = 1024;

impl State {
    fn collect(&mut self, driver: &dyn Driver) -> Result<()> {
        for (kernel, before, after) in std::mem::take(&mut self.pending) {
            let seconds = driver.elapsed(&before, &after)?;
            let (launches, total) = self.times.entry(kernel).or_default();
            *launches += 1;
            *total += seconds;
        }
        Ok(())
    }
}

impl Profile {
    /// Does `launch`, of `kernel`, between two events. Launches of other threads wait, so that none falls between.
    pub fn time(&self, driver: &dyn Driver, kernel: &str, launch: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = driver.event()?;
        launch()?;
        let after = driver.event()?;
        state.pending.push((kernel.to_owned(), before, after));
        if state.pending.len() == PENDING { state.collect(driver) } else { Ok(()) }
    }

    /// The times since this was last asked.
    pub fn take(&self, driver: &dyn Driver) -> Result<Times> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.collect(driver)?;
        Ok(std::mem::take(&mut state.times))
    }
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use std::time::Instant;

    use tubelet_engine::{Function, Tensor, ops::unary::unary};

    use super::*;
    use crate::{CudaBackend, Options, emulated};

    #[test]
    fn every_launch_is_timed_once() -> Result<()> {
        let device = emulated::open(Default::default(), Options { profile: true, ..Options::default() });
        let x = Tensor::from_slice(&device, &[1], &[1f32])?;
        let take = || device.downcast::<CudaBackend>().map_or_else(|| Ok(Times::new()), CudaBackend::take_times);
        // Beyond where events are read on the way.
        for launches in [3, PENDING + 5] {
            let start = Instant::now();
            for _ in 0..launches {
                unary(Function::Relu, &x)?;
            }
            let wall = start.elapsed().as_secs_f64();
            let times = take()?;
            let [(n, seconds)] = times.values().copied().collect::<Vec<_>>()[..] else { panic!("{times:?}") };
            assert_eq!(n, launches as u64);
            assert!(0.0 < seconds && seconds <= wall, "{seconds} of {wall} seconds");
        }
        assert!(take()?.is_empty());
        Ok(())
    }
}
