//! Whether an adapter's f16 is f32 rounded.
//!
//! A sum, difference or product of f16 computed in f32 and rounded to f16 is the correctly rounded one: f32 has 24 bits, and 2 · 11 + 2 suffice
//! that rounding twice does no harm (Figueroa, "When is double rounding innocuous?"). WGSL asks less of arithmetic in f16: subnormal numbers
//! may be taken for 0, and the rounding may go either way. Gradients in f16 live among the subnormal numbers. So the adapter is asked once, by
//! operands where it would show; one that does otherwise computes in f32.

use tubelet_engine::{DType, Device, Result, Tensor, ops::binary::Operator};

use crate::{binary, device::Wgpu};

/// Operands, their sum and their product. 2⁻²⁴ is the smallest subnormal number, 2⁻¹⁴ the smallest normal one.
const CASES: [[f32; 4]; 8] = [
    // Ties go to the even neighbour: of 1 and 1 + 2⁻¹⁰, of 1 + 2⁻¹⁰ and 1 + 2⁻⁹.
    [1.0, 1.0 / 2048.0, 1.0, 1.0 / 2048.0],
    [1.0 + 1.0 / 1024.0, 1.0 / 2048.0, 1.0 + 1.0 / 512.0, 1.0 / 2048.0 + 1.0 / 2097152.0],
    [1.0 + 1.0 / 1024.0, 1.5, 2.5, 1.5 + 1.0 / 512.0],
    // Subnormal operands and results.
    [1.0 / 16777216.0, 1.0 / 16777216.0, 1.0 / 8388608.0, 0.0],
    [1.0 / 16384.0, -1.0 / 16777216.0, 1023.0 / 16777216.0, 0.0],
    [1.0 / 16777216.0, 1024.0, 1024.0, 1.0 / 16384.0],
    [1.0 / 16384.0, 0.5, 0.5, 1.0 / 32768.0],
    // Half way to 2¹⁶ is infinite.
    [65504.0, 16.0, f32::INFINITY, f32::INFINITY],
];

/// Whether sums and products of `gpu`, the backend of `device`, are those of [`CASES`].
pub(crate) fn are_exact(device: &Device, gpu: &Wgpu) -> bool {
    *gpu.exact_halves.get_or_init(|| check(device, gpu).unwrap_or(false))
}

fn check(device: &Device, gpu: &Wgpu) -> Result<bool> {
    let column = |i: usize| Tensor::from_f32(device, DType::F16, &[CASES.len()], &CASES.map(|case| case[i]));
    let (a, b, y) = (column(0)?, column(1)?, Tensor::empty(device, DType::F16, &[CASES.len()])?);
    for (operator, i) in [(Operator::Add, 2), (Operator::Mul, 3)] {
        binary::launch(operator, &a, &b, &y, true, gpu)?;
        if y.to_f32_vec()? != CASES.map(|case| case[i]) {
            return Ok(false);
        }
    }
    Ok(true)
}
