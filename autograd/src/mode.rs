//! What the current thread does with operations on variables.

use std::cell::Cell;

use tubelet_engine::{Error, Result, Tensor};

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
    static CHECKING: Cell<bool> = const { Cell::new(false) };
}

/// Sets a flag for as long as it lives, also through a panic.
struct Set {
    flag: &'static std::thread::LocalKey<Cell<bool>>,
    before: bool,
}

impl Set {
    fn new(flag: &'static std::thread::LocalKey<Cell<bool>>, value: bool) -> Self {
        Set { flag, before: flag.replace(value) }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.flag.set(self.before);
    }
}

/// Runs `body` on this thread without recording: results are constants, as in evaluation between training steps.
pub fn without_recording<T>(body: impl FnOnce() -> T) -> T {
    let _set = Set::new(&RECORDING, false);
    body()
}

/// Runs `body` on this thread with recording, within [`without_recording`] or not.
pub(crate) fn with_recording<T>(body: impl FnOnce() -> T) -> T {
    let _set = Set::new(&RECORDING, true);
    body()
}

/// Runs `body` on this thread with every recorded result and every gradient looked through: the first NaN or infinity is an error that names
/// the operation it came from. Slow, because each result is brought to the host: for finding out, after a loss went wrong, where it did.
pub fn detect_anomalies<T>(body: impl FnOnce() -> T) -> T {
    let _set = Set::new(&CHECKING, true);
    body()
}

pub(crate) fn recording() -> bool {
    RECORDING.get()
}

/// In [`detect_anomalies`], an error if `x` has an element that is no finite number.
pub(crate) fn look_through(x: &Tensor, operation: &str, what: &str) -> Result<()> {
    if !CHECKING.get() || !x.dtype().is_float() {
        return Ok(());
    }
    match x.to_f32_vec()?.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some((at, value)) => Err(Error::invalid(operation, format!("{what} {} has {value} at element {at}", x.shape()))),
    }
}
