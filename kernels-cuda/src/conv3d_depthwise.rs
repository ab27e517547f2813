//! Depthwise 3D convolution; see `conv3d_depthwise.cu`.

use tubelet_engine::{Result, Tensor, ops::conv3d_depthwise::Conv3dDepthwise};

use crate::{
    backend::{CudaBackend, operand, optional, result},
    divisor::Divisor,
    product::{aligned, lanes, stride},
};

module!("conv3d_depthwise");

parameters!(Parameters {
    x: u64,
    weight: u64,
    bias: u64,
    residual: u64,
    y: u64,
    stride: [i64; 5],
    residual_stride: [i64; 5],
    threads: [Divisor; 4],
    size: [u32; 3],
    kernel: [u32; 3],
    start: [i32; 3],
    width: u32,
    channels: u32,
    count: u32,
    flipped: u32,
    unused: u32,
});

/// Neighbours along w that a thread computes in the kernels for 16 bytes of channels.
const RUN: usize = 4;

/// Which elements a depthwise convolution starts at, and which way it goes.
pub(crate) struct Direction {
    /// Where the first tap lies along T, H, W beside the first result.
    pub start: [i32; 3],
    /// Whether the weight is read from its end.
    pub flipped: bool,
}

/// Whether 16 bytes of channels of a video lie side by side wherever they begin.
fn wide(cuda: &CudaBackend, x: &Tensor) -> Result<bool> {
    let others = [0, 1, 2, 3].map(|d| stride(x, d));
    Ok(stride(x, 4) == 1 && aligned(x.dtype(), cuda.address(x)?, &others))
}

pub(crate) fn run(cuda: &CudaBackend, op: &Conv3dDepthwise, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "conv3d_depthwise";
    let (x, weight, y) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let mut start = [0; 3];
    for (start, &padding) in start.iter_mut().zip(&op.padding) {
        *start = -(cuda.count(name, padding)? as i32);
    }
    correlate(cuda, &Direction { start, flipped: false }, [x, weight], [optional(inputs, 2), optional(inputs, 3)], y)
}

/// `y = residual + bias + weight ∘ x` with the taps where `direction` says; operands are `x, weight` and `bias, residual`.
pub(crate) fn correlate(
    cuda: &CudaBackend,
    direction: &Direction,
    [x, weight]: [&Tensor; 2],
    [bias, residual]: [Option<&Tensor>; 2],
    y: &Tensor,
) -> Result<()> {
    let name = "conv3d_depthwise";
    let (dtype, weight) = (cuda.float(name, x.dtype())?, weight.detach().contiguous()?);
    let bias = bias.map(|bias| bias.detach().contiguous()).transpose()?;
    let (channels, width) = (x.shape()[4], y.shape()[3]);
    let dense = [Some(&weight), bias.as_ref(), Some(y)];
    let mut packed = channels.is_multiple_of(lanes(x.dtype())) && wide(cuda, x)?;
    packed &= residual.map_or(Ok(true), |residual| wide(cuda, residual))?;
    for x in dense.into_iter().flatten() {
        packed &= aligned(x.dtype(), cuda.address(x)?, &[]);
    }
    let (suffix, run, pack) = match (packed, weight.shape()[2]) {
        (true, 1) => ("_1", RUN, lanes(x.dtype())),
        (true, 3) => ("_3", RUN, lanes(x.dtype())),
        _ => ("", 1, 1),
    };
    let (runs, packs) = (width.div_ceil(run), channels / pack);
    let divisor = |n: usize| Divisor::new(cuda, name, n);
    let small = |n: usize| cuda.count(name, n);
    let count = small(y.shape()[..3].iter().product::<usize>() * runs * packs)?;
    small(y.elements())?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        weight: cuda.address(&weight)?,
        bias: cuda.address_or_null(bias.as_ref())?,
        residual: cuda.address_or_null(residual)?,
        y: cuda.address(y)?,
        stride: [0, 1, 2, 3, 4].map(|d| stride(x, d) as i64),
        residual_stride: [0, 1, 2, 3, 4].map(|d| residual.map_or(0, |residual| stride(residual, d) as i64)),
        threads: [divisor(y.shape()[1])?, divisor(y.shape()[2])?, divisor(runs)?, divisor(packs)?],
        size: [small(x.shape()[1])?, small(x.shape()[2])?, small(x.shape()[3])?],
        kernel: [small(weight.shape()[0])?, small(weight.shape()[1])?, small(weight.shape()[2])?],
        start: direction.start,
        width: small(width)?,
        channels: small(channels)?,
        count,
        flipped: direction.flipped.into(),
        unused: 0,
    };
    cuda.launch_each(&MODULE, &format!("conv3d_depthwise_{dtype}{suffix}"), count, &parameters)
}
