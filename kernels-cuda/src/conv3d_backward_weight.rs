//! Gradient of the tube convolution for its weight; see `conv3d_backward_weight.cu`.

use tubelet_engine::{DType, Result, Tensor, ops::conv3d_backward_weight::Conv3dBackwardWeight};

use crate::{
    backend::{CudaBackend, operand, result},
    product::{Cut, aligned, lanes},
    tubes::{Convolution, Product, Tubes, depth_in_parts},
};

module!("conv3d_backward_weight");

parameters!(Parameters { tubes: Tubes, product: Product, gradient: u64, dweight: u64, outputs: u32, wide: u32 });

pub(crate) fn run(cuda: &CudaBackend, op: &Conv3dBackwardWeight, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "conv3d_backward_weight";
    let (video, gradient, dweight) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let (dtype, suffix, gradient) = (gradient.dtype(), cuda.float(name, gradient.dtype())?, gradient.detach().contiguous()?);
    let conv = Convolution::new(name, &op.conv, video.shape(), &op.kernel, gradient.shape());
    let normalisation = conv.normalisation(cuda)?;
    let video = conv.near(video)?;
    let tubes = conv.tubes(cuda, &video, dtype, normalisation.as_ref())?;

    let (rows, columns, groups) = (conv.outputs(), conv.elements(), op.conv.groups);
    let depth = depth_in_parts(conv.positions(), tubes.parts);
    let cut = Cut::new(rows, columns, depth, groups);
    let count = cuda.count(name, dweight.elements())?;
    let partial = cuda.scratch(cut.splits * dweight.elements() * 4)?;
    let wide = dtype != DType::F32 && rows.is_multiple_of(lanes(dtype)) && aligned(dtype, cuda.address(&gradient)?, &[]);
    let parameters = Parameters {
        tubes,
        product: Product::new(cuda, name, [rows, columns, depth, groups], &cut, Some(&partial))?,
        gradient: cuda.address(&gradient)?,
        dweight: cuda.address(dweight)?,
        outputs: cuda.count(name, conv.result[4])?,
        wide: wide.into(),
    };
    let kernel = format!("{name}_{suffix}_{}_{}", video.dtype(), cut.size());
    cuda.launch_shared(&MODULE, &kernel, cut.tiles * cut.splits, cut.threads(dtype), cut.shared(dtype), &parameters)?;
    cuda.launch_each(&MODULE, &format!("{name}_finish_{suffix}"), count, &parameters)
}
