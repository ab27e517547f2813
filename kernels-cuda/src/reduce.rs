//! Reductions over some dimensions; see `reduce.cu`.

use tubelet_engine::{
    Result, Tensor,
    ops::reduce::{Reduce, Reduction},
};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    nest::Nest,
};

module!("reduce");

parameters!(Parameters {
    x: u64,
    y: u64,
    partial: u64,
    kept: Nest<1>,
    reduced: Nest<1>,
    results: u32,
    count: u32,
    segments: u32,
    reduction: u32,
});

/// Threads that keep a large GPU busy, and the least number of elements that is worth a thread.
const BUSY: usize = 1 << 16;
const LEAST: usize = 64;

pub(crate) fn run(cuda: &CudaBackend, op: &Reduce, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "reduce";
    let (x, y) = (operand(name, inputs, 0)?, result(name, outputs, 0)?);
    let dtype = cuda.float(name, x.dtype())?;
    let (reduced, kept): (Vec<usize>, Vec<usize>) = (0..x.rank()).partition(|d| op.axes.contains(d));
    let sizes = |dims: &[usize]| dims.iter().map(|&d| x.shape()[d]).collect::<Vec<_>>();
    let strides = |dims: &[usize]| dims.iter().map(|&d| x.layout().strides()[d]).collect::<Vec<_>>();
    let (results, count) = (y.elements(), sizes(&reduced).iter().product::<usize>());
    // By the last dimension, not by strides: one order of summing for all arrangements of a shape.
    let rows = x.rank() > 0 && op.axes.last() == Some(&(x.rank() - 1));
    let (width, layout) = if rows { (32, "rows") } else { (1, "columns") };
    let segments = (BUSY / (results * width).max(1)).clamp(1, count.div_ceil(LEAST * width).max(1));
    let partial = cuda.scratch(segments * results * 4)?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        y: cuda.address(y)?,
        partial: partial.address,
        kept: Nest::new(&sizes(&kept), [&strides(&kept)]),
        reduced: Nest::new(&sizes(&reduced), [&strides(&reduced)]),
        results: cuda.count(name, results)?,
        count: cuda.count(name, count)?,
        segments: cuda.count(name, segments)?,
        reduction: match op.reduction {
            Reduction::Sum => 0,
            Reduction::Mean => 1,
            Reduction::Max => 2,
            Reduction::Squares => 3,
        },
    };
    let threads = cuda.count(name, results * segments * width)?;
    let kernel = |step: &str| format!("reduce_{dtype}_{step}");
    cuda.launch(&MODULE, &kernel(layout), threads.div_ceil(THREADS) as usize, THREADS, &parameters)?;
    cuda.launch_each(&MODULE, &kernel("total"), parameters.results, &parameters)
}
