//! Without CUDA no step is captured.

use tubelet_engine::{Error, Result};

use super::{StepReport, Trainer};
use crate::train::{loader::Batch, parallel::Group};

/// There is none.
pub(super) enum Captured {}

impl Trainer {
    /// Steps are not captured.
    ///
    /// # Errors
    /// Where they shall be.
    pub fn capture(&mut self, captured: bool) -> Result<()> {
        if captured { Err(Error::invalid("capture", "built without CUDA")) } else { Ok(()) }
    }

    pub(super) fn forget_plan(&mut self) {
        self.captured = None;
    }

    pub(super) fn replays(&self) -> bool {
        self.captured.is_some()
    }

    pub(super) fn replay(&mut self, _: &dyn Group, _: &[Batch]) -> Result<StepReport> {
        Err(Error::invalid("capture", "built without CUDA"))
    }
}
