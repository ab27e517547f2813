use tubelet_engine::{
    Device, Result, Tensor,
    ops::gemm::{Gemm, gemm},
};

crate::properties!("gemm");

/// Small integers, the same on every device.
fn integers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 7) as f32 % 5.0 - 2.0).collect()
}

/// `[rows, columns]`, in memory row by row or column by column.
fn matrix(device: &Device, dtype: DType, seed: usize, rows: usize, columns: usize, across: bool) -> Result<Tensor> {
    let data = integers(seed, rows * columns);
    if across {
        return Tensor::from_f32(device, dtype, &[columns, rows], &data)?.transpose();
    }
    Tensor::from_f32(device, dtype, &[rows, columns], &data)
}

/// Every way to cut a product: large tiles, parts along the depth, operands that lie across, residuals with any strides.
#[test]
fn large_products_are_exact() -> Result<()> {
    let cases = [
        (130, 136, 8200, false, false, DType::F32),
        (136, 136, 8208, false, false, DType::F16),
        (136, 130, 8200, true, true, DType::BF16),
        (1400, 1409, 24, false, true, DType::BF16),
        (40, 24, 1500, true, true, DType::F16),
    ];
    for (m, n, k, x_across, weight_across, dtype) in cases {
        let run = |device: &Device| -> Result<Vec<f64>> {
            let x = matrix(device, dtype, 1, m, k, x_across)?;
            let weight = matrix(device, dtype, 2, n, k, weight_across)?;
            let bias = Tensor::from_f32(device, dtype, &[n], &integers(3, n))?;
            let residual = matrix(device, dtype, 4, m, n, x_across)?;
            let op = Gemm { alpha: 1.0, function: None };
            gemm(op, &x, &weight, Some(&bias), Some(&residual))?.to_f64_vec()
        };
        let expected = run(&Device::reference())?;
        for device in tubelet_tests::devices(2) {
            assert_eq!(run(&device)?, expected, "{m} x {n} x {k}, {dtype}, {}", device.backend().description());
        }
    }
    Ok(())
}
