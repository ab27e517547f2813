//! What launchers of losses share.

use tubelet_engine::{Result, Tensor, ops::cross_entropy::LossReduction};

use crate::{backend::CudaBackend, memory::CudaBuffer};

/// Where the losses of samples go, and what becomes of them.
pub(crate) struct Losses {
    /// One for each sample.
    pub each: u64,
    /// Their sum times `factor`; only where they are added.
    pub total: u64,
    pub factor: f32,
    pub added: bool,
    _scratch: Option<CudaBuffer>,
}

impl Losses {
    /// Of `count` samples, into `y`.
    pub fn new(cuda: &CudaBackend, reduction: LossReduction, count: usize, y: &Tensor) -> Result<Losses> {
        let y = cuda.address(y)?;
        if reduction == LossReduction::None {
            return Ok(Losses { each: y, total: 0, factor: 1.0, added: false, _scratch: None });
        }
        let scratch = cuda.scratch(count * 4)?;
        let factor = share(reduction, count);
        Ok(Losses { each: scratch.address, total: y, factor, added: true, _scratch: Some(scratch) })
    }
}

/// The part that a sample's loss has in the whole; that of nothing is infinite, so that the mean of nothing is NaN.
pub(crate) fn share(reduction: LossReduction, count: usize) -> f32 {
    if reduction == LossReduction::Mean { 1.0 / count as f32 } else { 1.0 }
}
