//! CUDA devices as a group: what they exchange never passes through the host.

use tubelet_cuda::Ranks;
use tubelet_engine::{Result, Tensor};

use super::parallel::Group;

impl Group for Ranks {
    fn rank(&self) -> usize {
        self.rank()
    }

    fn size(&self) -> usize {
        self.size()
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        self.all_reduce(tensors)
    }

    fn broadcast(&self, tensors: &mut [Tensor]) -> Result<()> {
        self.broadcast(tensors)
    }
}
