//! The meter's prediction of memory, against the allocator.
#![allow(clippy::unwrap_used, reason = "a test")]

use tubelet_models::{
    Pass,
    engine::{DType, Device, Tensor},
    inspect::measure,
    registry::Config,
};

#[test]
fn the_prediction_is_within_a_tenth_of_the_allocators_peak() {
    let config = Config::named("tubevit-b").unwrap();
    let predicted = measure(&config, 1, DType::F32).unwrap();
    let device = Device::cpu().unwrap();
    let model = config.random(&device, DType::F32, 0).unwrap();
    let video = Tensor::from_slice(&device, &[1, 32, 224, 224, 3], &vec![7u8; 32 * 224 * 224 * 3]).unwrap();
    device.backend().reset_peak();
    model.forward(&video, &mut Pass::inference()).unwrap();
    let (measured, predicted) = (device.memory().peak as f64, (predicted.weight_bytes + predicted.activation_bytes) as f64);
    println!("TubeViT-B, f32: predicted {:.1} MiB, measured {:.1} MiB", predicted / 1048576.0, measured / 1048576.0);
    assert!((measured / predicted - 1.0).abs() < 0.1, "predicted {predicted}, measured {measured}");
}
