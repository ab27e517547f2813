//! Tensors: a buffer on a device, an element type and a view.

use std::{fmt, sync::Arc};

use crate::{
    DType, Device, DeviceBuffer, Element, Error, Layout, Operand, Result, Shape, Trace, View, bytes_of, bytes_of_mut,
    with_element,
};

/// A view of a buffer on a device. Cloning and viewing are cheap and share the buffer.
///
/// Tensors do not change once made: operations return new ones.
#[derive(Clone)]
pub struct Tensor {
    buffer: Arc<dyn DeviceBuffer>,
    device: Device,
    dtype: DType,
    layout: Layout,
    prepared: Option<Operand>,
    trace: Option<Arc<dyn Trace>>,
}

impl Tensor {
    /// Uninitialised: for backends and operations that will write every element.
    pub fn empty(device: &Device, dtype: DType, shape: &[usize]) -> Result<Self> {
        let shape = Shape::new(shape)?;
        let bytes = shape.elements() * dtype.size();
        let buffer = device.backend().allocate(bytes)?;
        Ok(Tensor { buffer, device: device.clone(), dtype, layout: Layout::contiguous(shape), prepared: None, trace: None })
    }

    /// From little-endian bytes in row-major order.
    pub fn from_bytes(device: &Device, dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Self> {
        let shape = Shape::new(shape)?;
        if shape.elements().checked_mul(dtype.size()) != Some(bytes.len()) {
            return Err(Error::shape("from_bytes", format!("{} bytes for a {dtype} tensor of shape {shape}", bytes.len())));
        }
        let tensor = Tensor::empty(device, dtype, &shape)?;
        device.backend().upload(bytes, &*tensor.buffer, 0)?;
        Ok(tensor)
    }

    /// From elements in row-major order.
    pub fn from_slice<T: Element>(device: &Device, shape: &[usize], data: &[T]) -> Result<Self> {
        Tensor::from_bytes(device, T::DTYPE, shape, bytes_of(data))
    }

    /// From f32 values in row-major order, rounded to `dtype`.
    pub fn from_f32(device: &Device, dtype: DType, shape: &[usize], data: &[f32]) -> Result<Self> {
        with_element!(dtype, T => {
            let rounded: Vec<T> = data.iter().map(|&x| T::from_f32(x)).collect();
            Tensor::from_slice(device, shape, &rounded)
        })
    }

    /// Every element `value`, rounded to `dtype`.
    pub fn full(device: &Device, dtype: DType, shape: &[usize], value: f32) -> Result<Self> {
        Tensor::from_f32(device, dtype, &vec![1; Shape::new(shape)?.rank()], &[value])?.broadcast_to(shape)?.contiguous()
    }

    /// Every element 0.
    pub fn zeros(device: &Device, dtype: DType, shape: &[usize]) -> Result<Self> {
        Tensor::full(device, dtype, shape, 0.0)
    }

    /// The elements in row-major order. Waits for the device. `T` must match the element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if self.dtype != T::DTYPE {
            return Err(Error::DType { op: "to_vec", operand: "tensor", got: self.dtype, expected: T::DTYPE.name() });
        }
        let dense = self.detach().contiguous()?;
        let mut out = vec![T::from_f32(0.0); dense.elements()];
        let offset = dense.layout.offset() * self.dtype.size();
        self.device.backend().download(&*dense.buffer, offset, bytes_of_mut(&mut out))?;
        Ok(out)
    }

    /// The elements in row-major order, converted. Waits for the device.
    pub fn to_f32_vec(&self) -> Result<Vec<f32>> {
        with_element!(self.dtype, T => Ok(self.to_vec::<T>()?.into_iter().map(T::to_f32).collect()))
    }

    /// The elements in row-major order, converted. Waits for the device.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        with_element!(self.dtype, T => Ok(self.to_vec::<T>()?.into_iter().map(T::to_f64).collect()))
    }

    /// The tensor on another device; itself if it is there already. An error for a tensor with a [trace](Tensor::trace).
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if self.device == *device {
            return Ok(self.clone());
        }
        if self.trace.is_some() {
            return Err(Error::invalid("to_device", "a recorded tensor would lose its record: detach it first"));
        }
        with_element!(self.dtype, T => Tensor::from_slice(device, self.shape(), &self.to_vec::<T>()?))
    }

    /// The sizes of the dimensions.
    pub fn shape(&self) -> &Shape {
        self.layout.shape()
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape().rank()
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape().elements()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape, strides and offset.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where the tensor lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The memory behind the view, for backends.
    pub fn buffer(&self) -> &dyn DeviceBuffer {
        &*self.buffer
    }

    /// For which operand a backend has laid this tensor out, if it has ([`crate::Backend::prepare`]).
    pub fn prepared(&self) -> Option<Operand> {
        self.prepared
    }

    /// Its place in a recorded computation, if it has one.
    pub fn trace(&self) -> Option<&Arc<dyn Trace>> {
        self.trace.as_ref()
    }

    /// The same tensor at a place in a recorded computation.
    pub fn with_trace(&self, trace: Arc<dyn Trace>) -> Self {
        Tensor { trace: Some(trace), ..self.clone() }
    }

    /// The same tensor, a constant from here on: nothing that is computed from it is recorded for its sake.
    pub fn detach(&self) -> Self {
        Tensor { trace: None, ..self.clone() }
    }

    /// Laid out once for the kernel that will read it as `operand` again and again: a weight. A tensor with a trace stays as it is: it is
    /// about to change, and gradients belong to its elements.
    pub fn prepare(&self, operand: Operand) -> Result<Self> {
        if self.trace.is_some() {
            return Ok(self.clone());
        }
        match self.prepared {
            Some(done) if done == operand => Ok(self.clone()),
            Some(done) => Err(Error::shape("prepare", format!("already prepared as {done:?}, wanted {operand:?}"))),
            None => self.device.backend().prepare(operand, self),
        }
    }

    /// For backends: a tensor of this one's shape and type whose content lies in `buffer` as the kernel for `operand` wants it.
    pub fn with_prepared(&self, operand: Operand, buffer: Arc<dyn DeviceBuffer>) -> Self {
        Tensor { buffer, layout: Layout::contiguous(*self.shape()), prepared: Some(operand), trace: None, ..self.clone() }
    }

    fn view(&self, layout: Result<Layout>, view: impl FnOnce() -> View) -> Result<Self> {
        if let Some(operand) = self.prepared {
            return Err(Error::shape("view", format!("a tensor prepared as {operand:?} has no views")));
        }
        let viewed = Tensor { layout: layout?, trace: None, ..self.clone() };
        let trace = self.trace.as_ref().and_then(|trace| Arc::clone(trace).view(view(), &viewed));
        Ok(Tensor { trace, ..viewed })
    }

    /// Dimension `i` of the result is dimension `order[i]` of this tensor.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        self.view(self.layout.permute(order), || View::Permute(order.to_vec()))
    }

    /// Exchanges the last two dimensions.
    pub fn transpose(&self) -> Result<Self> {
        let rank = self.rank();
        let mut order: Vec<usize> = (0..rank).collect();
        if rank >= 2 {
            order.swap(rank - 1, rank - 2);
        }
        self.permute(&order)
    }

    /// Elements `start..start + len` of dimension `dim`.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        self.view(self.layout.narrow(dim, start, len), || View::Narrow { dim, start })
    }

    /// Repeats dimensions of size 1, and new leading dimensions, with stride 0.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Self> {
        self.view(self.layout.broadcast_to(shape), || View::Broadcast)
    }

    /// The same elements in the same order under another shape. An error where that needs a copy: see [`Tensor::contiguous`].
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        self.view(self.layout.reshape(shape), || View::Reshape)
    }

    /// Dimension `dim` split into `sizes`.
    pub fn split(&self, dim: usize, sizes: &[usize]) -> Result<Self> {
        let shape = self.shape();
        let (head, tail) = (shape.get(..dim), shape.get(dim + 1..));
        match (head, tail) {
            (Some(head), Some(tail)) => self.reshape(&[head, sizes, tail].concat()),
            _ => Err(Error::shape("split", format!("no dimension {dim} in {shape}"))),
        }
    }

    /// The tensor in row-major order without gaps; itself if it is that already.
    pub fn contiguous(&self) -> Result<Self> {
        if self.layout.is_contiguous() { Ok(self.clone()) } else { crate::ops::copy::copy(self, self.dtype) }
    }

    /// Rounded to `dtype`; itself if it is that already.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if self.dtype == dtype { Ok(self.clone()) } else { crate::ops::copy::copy(self, dtype) }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} on {})", self.dtype, self.shape(), self.device.name())
    }
}
