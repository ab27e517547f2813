//! Separable resampling of three axes by tables, which interpolation, resizing and their gradients share: the transpose of a resampling is
//! one with the transposed tables.

use tubelet_engine::{Result, Tensor, ops::taps::Taps};

use crate::{device::Wgpu, kernel::Kernel};

/// `x` and `y` are `[B, T, H, W, C]`; `axes` are the tables of T, H and W.
pub(crate) fn resample(x: &Tensor, y: &Tensor, axes: [Taps; 3], gpu: &Wgpu) -> Result<()> {
    gpu.clear_bytes(y)?;
    let (mut places, mut weights) = (Vec::new(), Vec::new());
    let mut first = [0; 3];
    let longest = axes.each_ref().map(|taps| taps.iter().map(Vec::len).max().unwrap_or(0));
    for (axis, taps) in axes.iter().enumerate() {
        first[axis] = places.len();
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
    Kernel::new("resample", include_str!("resample.wgsl"))
        .strided("x", x)
        .read("places", &places)
        .read("weights", &weights)
        .write("y", y)
        .sizes("y", y.shape())
        .sizes("taps", &longest)
        .sizes("first", &first)
        .launch_each(y.elements(), gpu)
}

/// `[N, H, W, C]` as `[N, 1, H, W, C]`.
pub(crate) fn as_video(x: &Tensor) -> Result<Tensor> {
    let s = x.shape();
    x.detach().reshape(&[s[0], 1, s[1], s[2], s[3]])
}

/// The table of an axis of one element that stays.
pub(crate) fn still() -> Taps {
    vec![vec![(0, 1.0)]]
}
