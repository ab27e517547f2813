use tubelet_engine::{Device, Result, Tensor, ops::batch_norm::batch_norm_training};
use tubelet_tests::{devices, integers};

crate::properties!("batch_norm");

/// Mean and variance of a thousand rows around 4096, an eighth apart: of the squares themselves f32 would hold no digit of it. A variance is the mean of
/// squares of differences, each off by two roundings of 4096 at most, 2⁻¹² beside a deviation of a third: less than 2⁻⁹ of it, for any order of the sums.
#[test]
fn variances_beside_a_large_mean_keep_their_digits() {
    let run = |device: &Device| -> Result<[Vec<f64>; 2]> {
        let steps = integers(device, DType::F32, &[1000, 37], 5)?.to_f32_vec()?;
        let x: Vec<f32> = steps.into_iter().map(|step| 4096.0 + step / 8.0).collect();
        let [_, mean, variance] = batch_norm_training(1e-5, &Tensor::from_f32(device, DType::F32, &[1000, 37], &x)?, None, None)?;
        Ok([mean.to_f64_vec()?, variance.to_f64_vec()?])
    };
    let expected = run(&Device::reference()).unwrap_or_else(|error| panic!("{error}"));
    for device in devices(2) {
        let ours = run(&device).unwrap_or_else(|error| panic!("{error}"));
        for (which, name) in ["mean", "variance"].into_iter().enumerate() {
            for (ours, expected) in ours[which].iter().zip(&expected[which]) {
                let off = (ours - expected).abs();
                let on = device.backend().description();
                assert!(off <= expected * 2f64.powi(-9 - 12 * (1 - which as i32)), "{name} on {on}: {ours}, expected {expected}");
            }
        }
    }
}
