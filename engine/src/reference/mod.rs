//! The reference backend: plain loops in f64, written to be read. Every other backend is tested against it.
//!
//! Operands are converted to row-major f64 first and results rounded once at the end, so a kernel here is only its formula.

use std::{any::Any, sync::Arc};

use crate::{
    Backend, DType, DeviceBuffer, Element, Error, HostPool, MemoryStats, Op, Result, Shape, Tensor, for_each_operation, memory,
    with_element,
};

mod adam;
mod attention;
mod attention_backward;
mod attention_topk_std;
mod attention_topk_std_backward;
mod batch_norm;
mod batch_norm_backward;
mod binary;
mod binary_cross_entropy;
mod binary_cross_entropy_backward;
mod concat;
mod conv3d;
mod conv3d_backward_video;
mod conv3d_backward_weight;
mod conv3d_depthwise;
mod conv3d_depthwise_backward;
mod copy;
mod cross_entropy;
mod cross_entropy_backward;
mod dropout;
mod gather;
mod gather_backward;
mod gemm;
mod interpolate;
mod interpolate_backward;
mod layer_norm;
mod layer_norm_backward;
mod layer_norm_gemm;
mod reduce;
mod resize;
mod resize_backward;
mod sgd;
mod softmax;
mod softmax_backward;
mod unary;
mod unary_backward;

use unary::function;

/// A row-major array of f64.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl Array {
    /// An array whose element at index `i` is `f(i)`.
    pub fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Result<Array> {
        let shape = Shape::new(shape)?;
        let mut index = vec![0; shape.rank()];
        let mut data = Vec::with_capacity(shape.elements());
        for _ in 0..shape.elements() {
            data.push(f(&index));
            advance(&mut index, &shape);
        }
        Ok(Array { shape, data })
    }

    /// The element at `index`.
    pub fn at(&self, index: &[usize]) -> f64 {
        let flat = index.iter().zip(self.shape.iter()).fold(0, |flat, (&i, &n)| flat * n + i);
        self.data[flat]
    }

    /// The row of the last dimension at `index`, which names the other dimensions and may go on.
    pub fn row(&self, index: &[usize]) -> &[f64] {
        let (start, width) = self.row_start(index);
        &self.data[start..start + width]
    }

    /// The row at `index`, to be changed.
    pub fn row_mut(&mut self, index: &[usize]) -> &mut [f64] {
        let (start, width) = self.row_start(index);
        &mut self.data[start..start + width]
    }

    fn row_start(&self, index: &[usize]) -> (usize, usize) {
        let (&width, outer) = self.shape.split_last().unwrap_or((&1, &[]));
        (index.iter().zip(outer).fold(0, |flat, (&i, &n)| flat * n + i) * width, width)
    }

    /// The rows of the last dimension.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.data.chunks(self.shape.last().copied().unwrap_or(1).max(1))
    }
}

/// `sum += factor · row`.
fn add_scaled(sum: &mut [f64], factor: f64, row: &[f64]) {
    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += factor * x);
}

/// `Σ a·b`.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Operand `i`, which `infer` has found present.
fn operand(inputs: &[Option<Array>], i: usize) -> Result<&Array> {
    optional(inputs, i).ok_or_else(|| Error::shape("reference", format!("operand {i} is missing")))
}

/// Operand `i`, which may be absent.
fn optional(inputs: &[Option<Array>], i: usize) -> Option<&Array> {
    inputs.get(i).and_then(Option::as_ref)
}

/// The next index in row-major order.
fn advance(index: &mut [usize], shape: &[usize]) {
    for d in (0..index.len()).rev() {
        index[d] += 1;
        if index[d] < shape[d] {
            return;
        }
        index[d] = 0;
    }
}

macro_rules! dispatch {
    ($(($variant:ident, $module:ident)),*) => {
        fn evaluate(op: &Op, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
            match op {
                $(Op::$variant(op) => $module::run(op, inputs)),*
            }
        }
    };
}
for_each_operation!(dispatch);

/// See the [module](self).
pub struct Reference {
    pool: HostPool,
}

impl Default for Reference {
    fn default() -> Self {
        Reference { pool: HostPool::new("reference", None, false) }
    }
}

/// A strided view as a row-major array.
fn read(x: &Tensor) -> Result<Array> {
    let base = memory::host("reference", x.buffer())?.ptr();
    let (layout, shape) = (x.layout(), *x.shape());
    let (&width, outer) = shape.split_last().unwrap_or((&1, &[]));
    let step = layout.strides().last().copied().unwrap_or(1);
    let mut index = vec![0; outer.len()];
    let mut data = Vec::with_capacity(shape.elements());
    with_element!(x.dtype(), T => {
        for _ in 0..shape.elements() / width.max(1) {
            let start = layout.offset() + index.iter().zip(layout.strides()).map(|(i, s)| i * s).sum::<usize>();
            // SAFETY: a layout reaches only into its buffer.
            data.extend((0..width).map(|i| unsafe { base.cast::<T>().add(start + i * step).read() }.to_f64()));
            advance(&mut index, outer);
        }
    });
    Ok(Array { shape, data })
}

/// Rounds into an output.
fn write(array: &Array, out: &Tensor) -> Result<()> {
    let base = memory::host("reference", out.buffer())?.ptr();
    if array.shape != *out.shape() {
        return Err(Error::shape("reference", format!("computed {}, expected {}", array.shape, out.shape())));
    }
    with_element!(out.dtype(), T => {
        // By the trait: the half types have inherent methods of this name, which round twice.
        for (i, &x) in array.data.iter().enumerate() {
            // SAFETY: outputs are contiguous, of this shape, and nobody reads them yet.
            unsafe { base.cast::<T>().add(i).write(<T as Element>::from_f64(x)) };
        }
    });
    Ok(())
}

impl Backend for Reference {
    fn name(&self) -> &str {
        "reference"
    }

    fn description(&self) -> String {
        "plain loops in f64, the oracle of every test".into()
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>> {
        Ok(Arc::new(self.pool.allocate(bytes)?))
    }

    fn upload(&self, src: &[u8], dst: &dyn DeviceBuffer, offset: usize) -> Result<()> {
        memory::upload("reference", src, dst, offset)
    }

    fn download(&self, src: &dyn DeviceBuffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        memory::download("reference", src, offset, dst)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
        let arrays = inputs.iter().map(|x| x.map(read).transpose()).collect::<Result<Vec<_>>>()?;
        let results = evaluate(op, &arrays)?;
        results.iter().zip(outputs).try_for_each(|(array, out)| write(array, out))
    }

    fn supports(&self, _: DType) -> bool {
        true
    }

    fn memory(&self) -> MemoryStats {
        self.pool.stats()
    }

    fn reset_peak(&self) {
        self.pool.reset_peak();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
