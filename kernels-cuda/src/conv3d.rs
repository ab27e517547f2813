//! Tube convolution; see `conv3d.cu`.

use tubelet_engine::{Result, Tensor, ops::conv3d::Conv3d};

use crate::{
    backend::{CudaBackend, operand, optional, result},
    driver::Module,
    product::{Cut, Epilogue, aligned, dense, lanes, wide_result},
    tubes::{Convolution, Product, Tubes, depth_in_parts},
};

module!("conv3d");

parameters!(Parameters { tubes: Tubes, product: Product, weight: u64, epilogue: Epilogue, weight_wide: u32, unused: u32 });

/// The kernels, one of which the gradients launch, too.
pub(crate) fn module() -> &'static Module {
    &MODULE
}

pub(crate) fn run(cuda: &CudaBackend, op: &Conv3d, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "conv3d";
    let (video, weight, y) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let (bias, position) = (dense(optional(inputs, 2))?, dense(optional(inputs, 3))?);
    let (dtype, weight) = (cuda.float(name, weight.dtype())?, weight.detach().contiguous()?);
    let conv = Convolution::new(name, op, video.shape(), &weight.shape()[1..4], y.shape());
    let normalisation = conv.normalisation(cuda)?;
    let video = conv.near(video)?;
    let tubes = conv.tubes(cuda, &video, weight.dtype(), normalisation.as_ref())?;

    let (rows, columns, all_columns) = (conv.positions(), conv.outputs(), conv.result[4]);
    let (elements, tokens) = (conv.elements(), conv.result[1..4].iter().product::<usize>());
    let depth = depth_in_parts(elements, tubes.parts);
    let cut = Cut::new(rows, columns, depth, op.groups);
    let count = cuda.count(name, y.elements())?;
    let direct = cut.splits == 1 && op.groups == 1;
    let partial = if direct { None } else { Some(cuda.scratch(cut.splits * y.elements() * 4)?) };
    let position = position.map(|x| x.reshape(&[tokens, all_columns])).transpose()?;
    let epilogue = Epilogue {
        bias: cuda.address_or_null(bias.as_ref())?,
        residual: cuda.address_or_null(position.as_ref())?,
        y: cuda.address(y)?,
        residual_row: all_columns as i64,
        residual_column: 1,
        rows: cuda.count(name, rows)?,
        columns: cuda.count(name, all_columns)?,
        period: cuda.count(name, tokens)?,
        alpha: 1.0,
        function: 0,
        wide: wide_result(cuda, all_columns, y, position.as_ref())?.into(),
    };
    let whole = elements.is_multiple_of(lanes(weight.dtype()));
    let parameters = Parameters {
        tubes,
        product: Product::new(cuda, name, [rows, columns, depth, op.groups], &cut, partial.as_ref())?,
        weight: cuda.address(&weight)?,
        epilogue,
        weight_wide: (whole && aligned(weight.dtype(), cuda.address(&weight)?, &[])).into(),
        unused: 0,
    };
    let kernel = format!("conv3d_{dtype}_{}_{}", video.dtype(), cut.size());
    let (blocks, dtype_of) = (cut.tiles * cut.splits, weight.dtype());
    cuda.launch_shared(&MODULE, &kernel, blocks, cut.threads(dtype_of), cut.shared(dtype_of), &parameters)?;
    if direct { Ok(()) } else { cuda.launch_each(&MODULE, &format!("conv3d_finish_{dtype}"), count, &parameters) }
}
