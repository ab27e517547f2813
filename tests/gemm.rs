use tubelet_engine::{
    Device, Function, Result, Tensor,
    ops::gemm::{Gemm, gemm},
};

crate::properties!("gemm");

/// A matrix of small integers, in memory row by row or column by column.
struct Matrix {
    rows: usize,
    columns: usize,
    across: bool,
    data: Vec<f32>,
}

impl Matrix {
    fn new(seed: usize, rows: usize, columns: usize, across: bool) -> Self {
        let number = |i: usize| ((i + seed).wrapping_mul(2_654_435_761) >> 7) % 5;
        let data = (0..rows * columns).map(|i| number(i) as f32 - 2.0).collect();
        Matrix { rows, columns, across, data }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.data[if self.across { column * self.rows + row } else { row * self.columns + column }]
    }

    fn tensor(&self, device: &Device, dtype: DType) -> Result<Tensor> {
        match self.across {
            true => Tensor::from_f32(device, dtype, &[self.columns, self.rows], &self.data)?.transpose(),
            false => Tensor::from_f32(device, dtype, &[self.rows, self.columns], &self.data),
        }
    }
}

/// Every way to cut a product: large tiles, parts along the depth, operands that lie across, residuals with any strides. Sums of small integers
/// are exact in f32, in any order.
#[test]
fn large_products_are_exact() -> Result<()> {
    let cases = [
        (130, 136, 8200, false, false, DType::F32),
        (136, 136, 8208, false, false, DType::F16),
        (136, 130, 8200, true, true, DType::BF16),
        (1400, 1409, 24, false, true, DType::BF16),
        (40, 24, 1500, true, true, DType::F16),
        // More tiles than a block for each multiprocessor of a Hopper takes at once; edges in all three directions.
        (1480, 1416, 72, false, false, DType::BF16),
    ];
    for (m, n, k, x_across, weight_across, dtype) in cases {
        let (x, weight) = (Matrix::new(1, m, k, x_across), Matrix::new(2, n, k, weight_across));
        let (bias, residual) = (Matrix::new(3, 1, n, false), Matrix::new(4, m, n, x_across));
        let (x_rows, weight_rows): (Vec<f32>, Vec<f32>) =
            ((0..m * k).map(|i| x.at(i / k, i % k)).collect(), (0..n * k).map(|i| weight.at(i / k, i % k)).collect());
        let dot =
            |r: usize, c: usize| -> f32 { x_rows[r * k..][..k].iter().zip(&weight_rows[c * k..][..k]).map(|(a, b)| a * b).sum() };
        let sums: Vec<f32> = (0..m * n).map(|i| dot(i / n, i % n) + bias.at(0, i % n) + residual.at(i / n, i % n)).collect();
        let expected = Tensor::from_f32(&Device::reference(), dtype, &[m, n], &sums)?.to_f64_vec()?;
        for device in tubelet_tests::devices(2) {
            let operand = |matrix: &Matrix| matrix.tensor(&device, dtype);
            let (x, weight, residual) = (operand(&x)?, operand(&weight)?, operand(&residual)?);
            let bias = operand(&bias)?.reshape(&[n])?;
            let y = gemm(Gemm { alpha: 1.0, function: None }, &x, &weight, Some(&bias), Some(&residual))?.to_f64_vec()?;
            assert!(y == expected, "{m} x {n} x {k}, {dtype}, {}", device.backend().description());
        }
    }
    Ok(())
}

/// A matrix for each batch, or one for all, in tiles that go beyond the edges of each.
#[test]
fn stacks_of_products_are_exact() -> Result<()> {
    let (batches, m, n, k) = (3, 70, 72, 136);
    for (dtype, stacked) in [(DType::BF16, true), (DType::F16, false)] {
        let (x, weight) = (Matrix::new(5, batches * m, k, false), Matrix::new(6, batches * n, k, false));
        let row = |b: usize, c: usize| if stacked { b * n + c } else { c };
        let dot = |b: usize, r: usize, c: usize| -> f32 { (0..k).map(|i| x.at(b * m + r, i) * weight.at(row(b, c), i)).sum() };
        let sums: Vec<f32> = (0..batches * m * n).map(|i| dot(i / (m * n), i / n % m, i % n).max(0.0)).collect();
        let expected = Tensor::from_f32(&Device::reference(), dtype, &[batches, m, n], &sums)?.to_f64_vec()?;
        for device in tubelet_tests::devices(2) {
            let x = Tensor::from_f32(&device, dtype, &[batches, m, k], &x.data)?;
            let shape: &[usize] = if stacked { &[batches, n, k] } else { &[n, k] };
            let weight = Tensor::from_f32(&device, dtype, shape, &weight.data[..shape.iter().product()])?;
            let y = gemm(Gemm { alpha: 1.0, function: Some(Function::Relu) }, &x, &weight, None, None)?.to_f64_vec()?;
            assert!(y == expected, "{dtype}, {stacked}, {}", device.backend().description());
        }
    }
    Ok(())
}
