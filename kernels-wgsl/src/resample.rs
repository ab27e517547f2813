//! Separable resampling by tables, which interpolation, resizing and their gradients share: the transpose of a resampling is one with the
//! transposed tables.

use tubelet_engine::{Result, Tensor, ops::taps::Taps};

use crate::{device::Wgpu, kernel::Kernel};

/// Launches `kernel`, the text of an operation that resamples `x` of `[N, …, C]` to `y`; `axes` are the tables of the dimensions between, two of
/// an image or three of a video.
pub(crate) fn resample(kernel: Kernel<'_>, x: &Tensor, y: &Tensor, axes: &[Taps], gpu: &Wgpu) -> Result<()> {
    let (mut places, mut weights) = (Vec::new(), Vec::new());
    let [mut first, mut longest, mut step] = [[0; 3]; 3];
    for (axis, taps) in axes.iter().rev().enumerate() {
        first[axis] = places.len();
        longest[axis] = taps.iter().map(Vec::len).max().unwrap_or(0);
        step[axis] = x.layout().strides()[axes.len() - axis];
        for of_output in taps {
            // Shorter lists end with weights of 0.
            let padded = of_output.iter().copied().chain(std::iter::repeat((0, 0.0))).take(longest[axis]);
            for (input, weight) in padded {
                places.push(input as i32);
                weights.push(weight);
            }
        }
    }
    let places = Tensor::from_slice(x.device(), &[places.len()], &places)?;
    let weights = Tensor::from_slice(x.device(), &[weights.len()], &weights)?;
    kernel
        .then(include_str!("resample.wgsl"))
        .then(include_str!("voxel.wgsl"))
        .read("places", &places)
        .read("weights", &weights)
        .sizes("y", y.shape())
        .sizes("first", &first)
        .sizes("taps", &longest)
        .sizes("step", &step)
        .launch_each(y.elements(), gpu)
}
