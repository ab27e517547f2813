//! What launchers of elementwise kernels share: the nest of their operands, in packs of 16 bytes where all of them allow.

use tubelet_engine::{DType, Function, Result, Tensor};

use crate::{backend::CudaBackend, nest::Nest};

/// A launch over the elements of `N` operands of one shape.
pub(crate) struct Elementwise<const N: usize> {
    pub nest: Nest<N>,
    /// Threads: elements, or packs of them.
    pub count: u32,
    /// A bit for each operand that is broadcast along the innermost dimension; packs only.
    pub broadcast: u32,
    /// Of the kernel's name.
    pub suffix: &'static str,
}

/// How elements are moved.
#[derive(Clone, Copy)]
pub(crate) enum Lanes {
    /// One at a time: for kernels without a `_vector` variant.
    One,
    /// So many at a time where all operands allow.
    UpTo(usize),
}

impl Lanes {
    /// 16 bytes of elements of `dtype`.
    pub fn of(dtype: DType) -> Lanes {
        Lanes::UpTo(16 / dtype.size())
    }
}

impl<const N: usize> Elementwise<N> {
    /// Over `operands` of shape `shape`.
    pub fn new(
        cuda: &CudaBackend,
        op: &'static str,
        shape: &[usize],
        operands: [&Tensor; N],
        lanes: Lanes,
    ) -> Result<Elementwise<N>> {
        let nest = Nest::new(shape, operands.map(|x| x.layout().strides()));
        let elements = shape.iter().product();
        if let Lanes::UpTo(lanes) = lanes {
            let mut addresses = [0; N];
            for (address, x) in addresses.iter_mut().zip(operands) {
                *address = cuda.address(x)? / x.dtype().size() as u64;
            }
            // Where everything is broadcast a pack would save nothing.
            if let Some((nest, broadcast)) = nest.packed(lanes, addresses).filter(|(_, broadcast)| *broadcast + 1 != 1 << N) {
                let count = cuda.count(op, elements / lanes)?;
                return Ok(Elementwise { nest, count, broadcast, suffix: "_vector" });
            }
        }
        Ok(Elementwise { nest, count: cuda.count(op, elements)?, broadcast: 0, suffix: "" })
    }
}

/// `Function` in functions.cuh.
pub(crate) fn function_code(function: Option<Function>) -> u32 {
    match function {
        None => 0,
        Some(Function::Relu) => 1,
        Some(Function::GeluErf) => 2,
        Some(Function::GeluTanh) => 3,
        Some(Function::GeluQuick) => 4,
        Some(Function::Sigmoid) => 5,
        Some(Function::Tanh) => 6,
        Some(Function::Silu) => 7,
        Some(Function::Exp) => 8,
        Some(Function::Log) => 9,
        Some(Function::Sqrt) => 10,
        Some(Function::Neg) => 11,
    }
}

/// The suffix of kernels that move elements as bits.
pub(crate) fn bits(dtype: DType) -> &'static str {
    match dtype.size() {
        1 => "b8",
        2 => "b16",
        4 => "b32",
        _ => "b64",
    }
}

/// `Type` in `common.cuh`.
pub(crate) fn type_code(dtype: DType) -> u32 {
    match dtype {
        DType::BF16 => 1,
        DType::F16 => 2,
        _ => 0,
    }
}
