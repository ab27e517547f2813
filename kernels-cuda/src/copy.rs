//! Copies and conversions; see `copy.cu`.

use tubelet_engine::{DType, Result, Tensor, ops::copy::Copy};

use crate::{
    backend::{CudaBackend, operand, result},
    elementwise::{Elementwise, Lanes, bits},
    nest::Nest,
};

module!("copy");

parameters!(Parameters { x: u64, y: u64, nest: Nest<1>, count: u32, broadcast: u32 });

pub(crate) fn run(cuda: &CudaBackend, op: &Copy, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (x, y) = (operand("copy", inputs, 0)?, result("copy", outputs, 0)?);
    let (from, to) = (x.dtype(), op.dtype);
    if from != to && (from == DType::F64 || to == DType::F64) {
        return Err(cuda.unsupported("copy", format!("{from} to {to}: only the reference computes in f64")));
    }
    let (kernel, lanes) = match from == to {
        true => (format!("copy_{}", bits(from)), Lanes::of(from)),
        false if common(from, to) => (format!("copy_{from}_{to}"), Lanes::UpTo(4)),
        false => (format!("copy_{from}_{to}"), Lanes::One),
    };
    let Elementwise { nest, count, broadcast, suffix } = Elementwise::new(cuda, "copy", x.shape(), [x], lanes)?;
    let parameters = Parameters { x: cuda.address(x)?, y: cuda.address(y)?, nest, count, broadcast };
    cuda.launch_each(&MODULE, &format!("{kernel}{suffix}"), count, &parameters)
}

/// Conversions that have a `_vector` kernel.
fn common(from: DType, to: DType) -> bool {
    use DType::{BF16, F16, F32, U8};
    matches!((from, to), (F32, BF16 | F16) | (BF16 | F16 | U8, F32) | (U8, BF16 | F16))
}
