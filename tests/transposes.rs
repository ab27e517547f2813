//! The backward kernel of a linear operation is its transpose: `⟨gradient, f(x)⟩ = ⟨backward(gradient), x⟩`.
//!
//! Operands are small integers and resampling positions are dyadic, so that both sides are exact and compared without a tolerance. Other
//! positions are compared in f64, on the reference device.

use proptest::prelude::*;
use tubelet_engine::{
    DType, Device, Error, Op, Philox, Result, Tensor,
    ops::{
        conv3d::{Conv3d, conv3d},
        conv3d_backward_video::{Conv3dBackwardVideo, conv3d_backward_video},
        conv3d_backward_weight::{Conv3dBackwardWeight, conv3d_backward_weight},
        conv3d_depthwise::conv3d_depthwise,
        conv3d_depthwise_backward::{Conv3dDepthwiseBackward, conv3d_depthwise_backward},
        gather::gather,
        gather_backward::{GatherBackward, gather_backward},
        interpolate::{Interpolate, interpolate},
        interpolate_backward::{InterpolateBackward, interpolate_backward},
        resize::{Filter, Resize, resize},
        resize_backward::{ResizeBackward, resize_backward},
    },
    samples::Values,
};
use tubelet_tests::{devices, draw};

/// Integers from −4 to 4.
fn integers(device: &Device, dtype: DType, rng: &mut Philox, shape: &[usize]) -> Result<Tensor> {
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.below(9) as f32 - 4.0).collect();
    Tensor::from_f32(device, dtype, shape, &data)
}

/// The sum of products in f64.
fn inner(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.shape(), b.shape());
    Ok(a.to_f64_vec()?.iter().zip(b.to_f64_vec()?).map(|(a, b)| a * b).sum())
}

/// Whether `backward` is the transpose of the linear part of `forward`, up to `tolerance`, for `x` and a random gradient.
fn transposed(
    what: impl std::fmt::Debug,
    rng: &mut Philox,
    tolerance: f64,
    x: &Tensor,
    forward: impl Fn(&Tensor) -> Result<Tensor>,
    backward: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let device = x.device();
    let y = forward(x)?;
    // The shift of a fused normalisation makes a convolution affine.
    let constant = forward(&Tensor::zeros(device, x.dtype(), x.shape())?)?;
    let dtype = if y.dtype().is_float() { y.dtype() } else { DType::F32 };
    let gradient = integers(device, dtype, rng, y.shape())?;
    let (left, right) = (inner(&gradient, &y)? - inner(&gradient, &constant)?, inner(&backward(&gradient)?, x)?);
    if (left - right).abs() <= tolerance {
        return Ok(());
    }
    let description = device.backend().description();
    Err(Error::invalid("transpose", format!("{what:?} on {description}: {left} forward, {right} backward")))
}

/// The kernels under test and their oracle.
fn all_devices() -> Vec<Device> {
    [devices(2), vec![Device::reference()]].concat()
}

fn convolution(rng: &mut Philox, op: &Conv3d, video: &Tensor, weight: &Tensor) -> Result<()> {
    let (v, w) = (*video.shape(), *weight.shape());
    let to_video = Conv3dBackwardVideo { conv: op.clone(), size: [v[1], v[2], v[3]] };
    let to_weight = Conv3dBackwardWeight { conv: op.clone(), kernel: [w[1], w[2], w[3]] };
    let backward = |g: &Tensor| conv3d_backward_video(to_video.clone(), g, weight);
    transposed(&to_video, rng, 0.0, video, |x| conv3d(op.clone(), x, weight, None, None), backward)?;
    let backward = |g: &Tensor| conv3d_backward_weight(to_weight.clone(), video, g);
    transposed(&to_weight, rng, 0.0, weight, |x| conv3d(op.clone(), video, x, None, None), backward)
}

fn resampled(rng: &mut Philox, tolerance: f64, op: Interpolate, x: &Tensor) -> Result<()> {
    let s = x.shape();
    let back = InterpolateBackward { size: [s[1], s[2], s[3]], align_corners: op.align_corners };
    transposed((op, back), rng, tolerance, x, |x| interpolate(op, x), |g| interpolate_backward(back, g))
}

fn resized(rng: &mut Philox, tolerance: f64, op: Resize, x: &Tensor) -> Result<()> {
    let back = ResizeBackward { resize: op, size: [x.shape()[1], x.shape()[2]] };
    transposed(back, rng, tolerance, x, |x| resize(op, x), |g| resize_backward(back, g))
}

/// The forward operation's own samples, in every arrangement of its operands.
fn sampled(name: &str, seed: u64, size: usize) -> Result<()> {
    let sample = draw(name, seed, size, DType::F32, Values::Integers);
    for device in all_devices() {
        let rng = &mut Philox::new(seed ^ 1);
        let operand =
            |i: usize| sample.inputs[i].as_ref().map_or_else(|| Err(Error::invalid(name, "absent")), |x| x.tensor(&device));
        let (x, other) = (operand(0)?, operand(1)?);
        match &sample.op {
            Op::Conv3d(op) => convolution(rng, op, &x, &other)?,
            Op::Conv3dDepthwise(op) => {
                let back = Conv3dDepthwiseBackward { padding: op.padding };
                let both = |g: &Tensor| conv3d_depthwise_backward(back, &x, &other, g);
                let dx = |g: &Tensor| both(g).map(|[dx, _]| dx);
                let dweight = |g: &Tensor| both(g).map(|[_, dweight]| dweight);
                transposed(("dx", back), rng, 0.0, &x, |x| conv3d_depthwise(*op, x, &other, None, None), dx)?;
                transposed(("dweight", back), rng, 0.0, &other, |w| conv3d_depthwise(*op, &x, w, None, None), dweight)?;
            }
            Op::Gather(op) => {
                let back = GatherBackward { axis: op.axis, size: x.shape()[op.axis] };
                transposed(back, rng, 0.0, &x, |x| gather(x, &other, op.axis), |g| gather_backward(back, g, &other))?;
            }
            op => return Err(Error::invalid(name, format!("{} is not linear", op.name()))),
        }
    }
    Ok(())
}

/// Two sizes, of which the positions of one in the other are sums of few powers of two: the ratio of the sizes, or, where corners coincide, of
/// the distances between corners, is a power of two.
fn dyadic(rng: &mut Philox, align_corners: bool) -> [usize; 2] {
    let (n, factor, corner) = (rng.range(1, 4), 1 << rng.below(3), usize::from(align_corners));
    let mut sizes = [n + corner, n * factor + corner];
    if rng.below(2) == 0 {
        sizes.reverse();
    }
    sizes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv3d_by_both_operands(seed: u64, size in 0usize..40) {
        sampled("conv3d", seed, size).map_err(|e| TestCaseError::fail(e.to_string()))?;
    }

    #[test]
    fn conv3d_depthwise_by_both_operands(seed: u64, size in 0usize..40) {
        sampled("conv3d_depthwise", seed, size).map_err(|e| TestCaseError::fail(e.to_string()))?;
    }

    #[test]
    fn gather_with_repeated_and_clamped_indices(seed: u64, size in 0usize..40) {
        sampled("gather", seed, size).map_err(|e| TestCaseError::fail(e.to_string()))?;
    }

    #[test]
    fn resampling_at_dyadic_positions(seed: u64, align_corners: bool) {
        for device in all_devices() {
            let rng = &mut Philox::new(seed);
            let fail = |e: Error| TestCaseError::fail(e.to_string());
            let [t, h, w] = [(); 3].map(|()| dyadic(rng, align_corners));
            let x = integers(&device, DType::F32, rng, &[2, t[0], h[0], w[0], 3]).map_err(fail)?;
            resampled(rng, 0.0, Interpolate { size: [t[1], h[1], w[1]], align_corners }, &x).map_err(fail)?;
            let x = integers(&device, DType::F32, rng, &[2, h[0], w[0], 3]).map_err(fail)?;
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let op = Resize { height: h[1], width: w[1], filter, antialias: false, align_corners };
                resized(rng, 0.0, op, &x).map_err(fail)?;
            }
        }
    }

    #[test]
    fn resampling_at_any_position(seed: u64, align_corners: bool, antialias: bool) {
        let (rng, device) = (&mut Philox::new(seed), Device::reference());
        let fail = |e: Error| TestCaseError::fail(e.to_string());
        let [t, h, w, t1, h1, w1] = [(); 6].map(|()| rng.range(1, 20));
        // Each side adds up to 32 000 products. Partial sums of some thousands, rounded to 2⁻⁵³, wander by 1e-10 on the way; a misplaced tap
        // costs orders of magnitude more than 1e-8.
        let tolerance = 1e-8;
        let x = integers(&device, DType::F64, rng, &[2, t, h, w, 2]).map_err(fail)?;
        resampled(rng, tolerance, Interpolate { size: [t1, h1, w1], align_corners }, &x).map_err(fail)?;
        let x = integers(&device, DType::F64, rng, &[2, h, w, 2]).map_err(fail)?;
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let op = Resize { height: h1, width: w1, filter, antialias, align_corners: align_corners && !antialias };
            resized(rng, tolerance, op, &x).map_err(fail)?;
        }
    }
}

/// Random samples are smaller than what a kernel holds of the patches at a time: here the weight's gradient sums several chunks of positions,
/// and the video's adds up several slabs of time steps that overlap.
#[test]
fn convolutions_larger_than_a_chunk_and_a_slab() -> Result<()> {
    for (groups, scale, shift) in [(1, Vec::new(), Vec::new()), (2, vec![2.0; 8], vec![-1.0; 8])] {
        let op = Conv3d { padding: [1, 2, 2], groups, scale, shift, ..Conv3d::new([1, 1, 1]) };
        for device in devices(2) {
            let rng = &mut Philox::new(3);
            let video = integers(&device, DType::F32, rng, &[2, 14, 32, 36, 8])?;
            let weight = integers(&device, DType::F32, rng, &[4, 3, 5, 5, 8 / groups])?;
            convolution(rng, &op, &video, &weight)?;
        }
    }
    Ok(())
}
