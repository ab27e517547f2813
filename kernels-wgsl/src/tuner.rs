//! Which tile a kernel gets: measured once for each class of shapes on an adapter, and kept.
//!
//! The order of every sum is the same in all tiles, so that the choice changes the time and no bit of the result.

use std::{
    collections::HashMap,
    fmt::{Display, Write},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tubelet_engine::Result;

use crate::{cache, device::Wgpu};

/// The choices of a device.
pub(crate) struct Tuner {
    measure: bool,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Tiles by class, as [`Display`] writes them.
    chosen: HashMap<String, String>,
    changed: bool,
}

impl Tuner {
    /// With the choices in `file`. Where `measure` is off, what is known is used and nothing is added.
    pub fn new(measure: bool, file: Option<PathBuf>) -> Self {
        let text = file.as_deref().and_then(cache::read).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let chosen =
            text.lines().filter_map(|line| line.split_once(": ")).map(|(class, tile)| (class.into(), tile.into())).collect();
        Tuner { measure, file, state: Mutex::new(State { chosen, changed: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fastest of `candidates` for `class`, as `launch` does them; `fallback` where nothing is known and nothing measured.
    pub fn choose<Tile: Copy + Display>(
        &self,
        class: &str,
        candidates: &[Tile],
        fallback: Tile,
        gpu: &Wgpu,
        launch: impl Fn(Tile) -> Result<()>,
    ) -> Result<Tile> {
        if let Some(known) = self.lock().chosen.get(class)
            && let Some(tile) = candidates.iter().find(|tile| tile.to_string() == *known)
        {
            return Ok(*tile);
        }
        if !self.measure {
            return Ok(fallback);
        }
        let mut best = (fallback, Duration::MAX);
        for &tile in candidates {
            // The first run makes the pipeline.
            launch(tile)?;
            gpu.wait()?;
            for _ in 0..RUNS {
                let start = Instant::now();
                launch(tile)?;
                gpu.wait()?;
                let time = start.elapsed();
                if time < best.1 {
                    best = (tile, time);
                }
                // A long run says enough.
                if time > LONG {
                    break;
                }
            }
        }
        let mut state = self.lock();
        state.chosen.insert(class.to_owned(), best.0.to_string());
        state.changed = true;
        Ok(best.0)
    }
}

const RUNS: usize = 3;
const LONG: Duration = Duration::from_millis(10);

impl Drop for Tuner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (Some(file), true) = (&self.file, state.changed) {
            let mut lines: Vec<_> = state.chosen.iter().collect();
            lines.sort_by_key(|(class, _)| *class);
            let mut text = String::new();
            for (class, tile) in lines {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{class}: {tile}");
            }
            cache::write(file, text.as_bytes());
        }
    }
}
