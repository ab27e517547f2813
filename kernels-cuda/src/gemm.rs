//! Matrix product with epilogue; see `gemm.cu`.

use tubelet_engine::{DType, Result, Tensor, ops::gemm::Gemm};

use crate::{
    backend::{CudaBackend, operand, optional, result},
    driver::EncodedMap,
    elementwise::function_code,
    hopper,
    nest::Nest,
    product::{Cut, Epilogue, aligned, dense, stride, wide_result},
};

module!("gemm", and for hopper);

parameters!(Parameters {
    x: u64,
    weight: u64,
    partial: u64,
    epilogue: Epilogue,
    batch: Nest<3>,
    x_row: i64,
    x_depth: i64,
    weight_row: i64,
    weight_depth: i64,
    depth: u32,
    splits: u32,
    split_depth: u32,
    batches: u32,
    x_wide: u32,
    weight_wide: u32,
    x_across: u32,
    weight_across: u32,
    tiles: u32,
    x_batched: u32,
    weight_batched: u32,
    residual_batched: u32,
    by_engine: u32,
    unused: [u32; 11],
});

parameters!(HopperParameters { x: EncodedMap, weight: EncodedMap, y: EncodedMap, residual: EncodedMap, p: Parameters });

/// How a kernel reads a matrix: the last two dimensions of a tensor.
struct Reading {
    /// 16 bytes at a time along the depth.
    wide: bool,
    /// 16 bytes at a time along rows; for f32 only a hint of what lies side by side.
    across: bool,
}

fn reading(cuda: &CudaBackend, x: &Tensor) -> Result<Reading> {
    let (rank, dtype, address) = (x.rank(), x.dtype(), cuda.address(x)?);
    let (row, depth) = (stride(x, rank - 2), stride(x, rank - 1));
    let mut others: Vec<usize> = (0..rank - 2).map(|d| stride(x, d)).collect();
    others.push(if depth == 1 { row } else { depth });
    let aligned = aligned(dtype, address, &others);
    Ok(Reading { wide: depth == 1 && aligned, across: row == 1 && depth != 1 && (aligned || dtype == DType::F32) })
}

/// `x` without batch dimensions, where it and the residual can be seen as one tall matrix each.
fn one_matrix(x: &Tensor, weight: &Tensor, residual: Option<&Tensor>, y: &Tensor) -> Option<(Tensor, Option<Tensor>)> {
    let (rank, n) = (x.rank(), weight.shape()[weight.rank() - 2]);
    if weight.rank() != 2 || y.elements() == 0 {
        return None;
    }
    let rows = y.elements() / n;
    let flat = x.detach().reshape(&[rows, x.shape()[rank - 1]]).ok()?;
    let residual = residual.map(|r| r.detach().reshape(&[rows, n])).transpose().ok()?;
    Some((flat, residual))
}

pub(crate) fn run(cuda: &CudaBackend, op: &Gemm, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "gemm";
    let (x, weight, y) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let (bias, residual) = (dense(optional(inputs, 2))?, optional(inputs, 3));
    let dtype = cuda.float(name, x.dtype())?;
    let joined = one_matrix(x, weight, residual, y);
    let (x, residual) = joined.as_ref().map_or((x, residual), |(x, residual)| (x, residual.as_ref()));
    let rank = x.rank();
    let (batch, m, k) = (&x.shape()[..rank - 2], x.shape()[rank - 2], x.shape()[rank - 1]);
    let (n, batches) = (weight.shape()[weight.rank() - 2], batch.iter().product::<usize>());

    let none = vec![0; batch.len()];
    let leading = |x: &Tensor| x.layout().strides()[..x.rank().saturating_sub(2)].to_vec();
    let along_weight = if weight.rank() == 2 { none.clone() } else { leading(weight) };
    let along_residual = residual.map_or_else(|| none.clone(), leading);
    let (xr, wr) = (reading(cuda, x)?, reading(cuda, weight)?);
    let nest = Nest::new(batch, [&leading(x), &along_weight, &along_residual]);
    let tiled = |tensor: &Tensor, read: &Reading, rows: usize, which: usize| -> Result<Option<hopper::Operand>> {
        let Some(matrices) = nest.single().filter(|_| read.wide || read.across) else { return Ok(None) };
        let (across, matrix) = (read.across, matrices[which] as usize);
        let line = stride(tensor, tensor.rank() - if across { 1 } else { 2 });
        Ok(Some(hopper::Operand { address: cuda.address(tensor)?, rows, depth: k, across, line, matrix }))
    };
    let operands = tiled(x, &xr, m, 0)?.zip(tiled(weight, &wr, n, 1)?);
    let operands = operands.filter(|(x_tiles, w_tiles)| hopper::serves(cuda, x.dtype(), x_tiles, w_tiles));
    let wide_cut = operands.map(|_| hopper::Cut::new(m, n, k, batches));
    let mut cut = Cut::new(m, n, k, batches);
    if let Some(wide) = wide_cut {
        (cut.splits, cut.split_depth) = (wide.splits, wide.split_depth);
    }
    let count = cuda.count(name, y.elements())?;
    let partial = if cut.splits > 1 { Some(cuda.scratch(cut.splits * y.elements() * 4)?) } else { None };
    let epilogue = Epilogue {
        bias: cuda.address_or_null(bias.as_ref())?,
        residual: cuda.address_or_null(residual)?,
        y: cuda.address(y)?,
        residual_row: residual.map_or(0, |r| stride(r, r.rank() - 2) as i64),
        residual_column: residual.map_or(0, |r| stride(r, r.rank() - 1) as i64),
        rows: cuda.count(name, m)?,
        columns: cuda.count(name, n)?,
        period: cuda.count(name, m)?,
        alpha: op.alpha,
        function: function_code(op.function),
        wide: u32::from(wide_result(cuda, n, y, residual)?),
    };
    // Parts of the depth are sums in f32, which threads store.
    let between = nest.single().map_or(0, |matrices| matrices[2] as usize);
    let moved = wide_cut.filter(|wide| wide.splits == 1).and_then(|_| hopper::moved(&epilogue, between, x.dtype()));
    let parameters = Parameters {
        x: cuda.address(x)?,
        weight: cuda.address(weight)?,
        partial: partial.as_ref().map_or(0, |scratch| scratch.address),
        epilogue,
        batch: nest,
        x_row: stride(x, rank - 2) as i64,
        x_depth: stride(x, rank - 1) as i64,
        weight_row: stride(weight, weight.rank() - 2) as i64,
        weight_depth: stride(weight, weight.rank() - 1) as i64,
        depth: cuda.count(name, k)?,
        splits: cuda.count(name, cut.splits)?,
        split_depth: cuda.count(name, cut.split_depth)?,
        batches: cuda.count(name, batches)?,
        x_wide: xr.wide.into(),
        weight_wide: wr.wide.into(),
        x_across: xr.across.into(),
        weight_across: wr.across.into(),
        tiles: cuda.count(name, wide_cut.map_or(0, |wide| wide.tiles))?,
        x_batched: operands.is_some_and(|(x, _)| x.matrix != 0).into(),
        weight_batched: operands.is_some_and(|(_, weight)| weight.matrix != 0).into(),
        residual_batched: moved.is_some_and(|(_, residual)| residual.is_some_and(|residual| residual.matrix != 0)).into(),
        by_engine: moved.is_some().into(),
        unused: [0; 11],
    };
    if let Some(((x_tiles, w_tiles), wide)) = operands.zip(wide_cut) {
        let map = |tiles: &hopper::Operand| tiles.map(cuda, x.dtype(), batches);
        let pieces = |stack: Option<hopper::Operand>| stack.map_or(Ok([0; 16]), |stack| stack.pieces(cuda, x.dtype(), batches));
        let parameters = HopperParameters {
            x: map(&x_tiles)?,
            weight: map(&w_tiles)?,
            y: pieces(moved.map(|(y, _)| y))?,
            residual: pieces(moved.and_then(|(_, residual)| residual))?,
            p: parameters,
        };
        let (blocks, columns) = (wide.blocks(cuda.driver().multiprocessors()), wide.columns);
        let kernel = format!("gemm_{dtype}_hopper_{columns}{}", hopper::layouts(&x_tiles, &w_tiles));
        cuda.launch_shared(&MODULE, &kernel, blocks, hopper::THREADS, wide.shared(), &parameters)?;
    } else {
        let across = x.dtype() != DType::F32 && cut.large && (xr.across || wr.across);
        let kernel = format!("gemm_{dtype}_{}{}", cut.size(), if across { "_across" } else { "" });
        let blocks = cut.tiles * cut.splits;
        cuda.launch_shared(&MODULE, &kernel, blocks, cut.threads(x.dtype()), cut.shared(x.dtype()), &parameters)?;
    }
    match partial {
        Some(_) => cuda.launch_each(&MODULE, &format!("gemm_finish_{dtype}"), count, &parameters),
        None => Ok(()),
    }
}
