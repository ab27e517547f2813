//! Gradient of the tube convolution for its video; see `conv3d_backward_video.cu`.

use tubelet_engine::{Result, Tensor, ops::conv3d_backward_video::Conv3dBackwardVideo};

use crate::{
    backend::{CudaBackend, operand, result},
    divisor::Divisor,
    product::{Cut, aligned, lanes},
    tubes::{Convolution, Product},
};

module!("conv3d_backward_video");

parameters!(Parameters {
    product: Product,
    gradient: u64,
    weight: u64,
    scale: u64,
    dvideo: u64,
    next: [i64; 3],
    size: [Divisor; 4],
    step: [Divisor; 3],
    channels: Divisor,
    tubes: [u32; 3],
    kernel: [u32; 3],
    start: [i32; 3],
    outputs: u32,
    depth: u32,
    gradient_wide: u32,
    weight_wide: u32,
    count: u32,
});

/// The weight `[O, kt, kh, kw, C / groups]` as `[groups, elements, O / groups]`: in memory along what the product sums over.
fn transposed(conv: &Convolution, weight: &Tensor) -> Result<Tensor> {
    let grouped = weight.detach().contiguous()?.reshape(&[conv.op.groups, conv.outputs(), conv.elements()])?;
    grouped.transpose()?.contiguous()
}

pub(crate) fn run(cuda: &CudaBackend, op: &Conv3dBackwardVideo, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "conv3d_backward_video";
    let (gradient, weight, dvideo) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let (dtype, suffix, gradient) = (gradient.dtype(), cuda.float(name, gradient.dtype())?, gradient.detach().contiguous()?);
    let conv = Convolution::new(name, &op.conv, dvideo.shape(), &weight.shape()[1..4], gradient.shape());
    let (normalisation, weight) = (conv.normalisation(cuda)?, transposed(&conv, weight)?);

    let (rows, columns, depth, groups) = (conv.positions(), conv.elements(), conv.outputs(), op.conv.groups);
    let cut = Cut::new(rows, columns, depth, groups);
    let partial = cuda.scratch(cut.splits * groups * rows * columns * 4)?;
    let wide =
        |x: &Tensor| Ok::<_, tubelet_engine::Error>(depth.is_multiple_of(lanes(dtype)) && aligned(dtype, cuda.address(x)?, &[]));
    let [_, nt, nh, nw, _] = conv.result;
    let [_, kh, kw] = conv.kernel;
    let channels = conv.channels();
    // The next tube is so many rows further, and what it has for the same voxel so many elements before.
    let next = |tubes: usize, elements: usize| (tubes * columns) as i64 - (elements * channels) as i64;
    let [step_t, step_h, step_w] = op.conv.stride;
    let by = |n: usize| Divisor::new(cuda, name, n);
    let count = cuda.count(name, dvideo.elements())?;
    let parameters = Parameters {
        product: Product::new(cuda, name, [rows, columns, depth, groups], &cut, Some(&partial))?,
        gradient: cuda.address(&gradient)?,
        weight: cuda.address(&weight)?,
        scale: normalisation.as_ref().map_or(0, |n| n.scale),
        dvideo: cuda.address(dvideo)?,
        next: [next(nh * nw, step_t * kh * kw), next(nw, step_h * kw), next(1, step_w)],
        size: [by(conv.video[1])?, by(conv.video[2])?, by(conv.video[3])?, by(conv.video[4])?],
        step: conv.divisors(cuda, &op.conv.stride)?,
        channels: by(channels)?,
        tubes: conv.sizes(cuda, &[nt, nh, nw])?,
        kernel: conv.sizes(cuda, &conv.kernel)?,
        start: conv.start(cuda)?,
        outputs: cuda.count(name, conv.result[4])?,
        depth: cuda.count(name, depth)?,
        gradient_wide: wide(&gradient)?.into(),
        weight_wide: wide(&weight)?.into(),
        count,
    };
    let kernel = format!("{name}_{suffix}_{}", cut.size());
    cuda.launch_shared(&MODULE, &kernel, cut.tiles * cut.splits, cut.threads(dtype), cut.shared(dtype), &parameters)?;
    cuda.launch_each(&MODULE, &format!("{name}_gather_{suffix}"), count, &parameters)
}
