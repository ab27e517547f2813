//! Trilinear interpolation; see `interpolate.cu`.

use tubelet_engine::{
    Result, Tensor,
    ops::{interpolate::Interpolate, taps::linear},
};

use crate::{
    backend::{CudaBackend, operand, result},
    resample::resample,
};

module!("interpolate");

pub(crate) fn run(cuda: &CudaBackend, op: &Interpolate, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (x, y) = (operand("interpolate", inputs, 0)?, result("interpolate", outputs, 0)?);
    let axes = || [0, 1, 2].map(|axis| linear(x.shape()[1 + axis], op.size[axis], op.align_corners));
    resample(cuda, "interpolate", &MODULE, x, y, [op.align_corners, false, false], axes)
}
