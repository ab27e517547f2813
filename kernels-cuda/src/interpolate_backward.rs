//! Gradient of trilinear interpolation; see `interpolate_backward.cu`.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        interpolate_backward::InterpolateBackward,
        taps::{linear, transposed},
    },
};

use crate::{
    backend::{CudaBackend, operand, result},
    resample::resample,
};

module!("interpolate_backward");

pub(crate) fn run(cuda: &CudaBackend, op: &InterpolateBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "interpolate_backward";
    let (gradient, dx) = (operand(name, inputs, 0)?, result(name, outputs, 0)?);
    let axes = || {
        [0, 1, 2].map(|axis| {
            let n = op.size[axis];
            transposed(&linear(n, gradient.shape()[1 + axis], op.align_corners), n)
        })
    };
    resample(cuda, name, &MODULE, gradient, dx, [op.align_corners, false, false], axes)
}
