//! Memory on a WebGPU device does not grow. A process of its own, because the process's memory is measured.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use tubelet_engine::{DType, Tensor};
use tubelet_models::{Pass, registry::Config};

/// Ten thousand passes leave the pool and the process as large as the first hundred did.
#[test]
fn ten_thousand_passes_need_no_more_memory_than_the_first() {
    let Some(device) = common::wgpu() else { return };
    let Config::TubeVit(mut config) = Config::named("tubevit-tiny").unwrap() else { panic!("another system") };
    // One layer has every kernel of two, and long sums of the convolutions would take most of the time.
    config.layers = 1;
    config.tubes.iter_mut().for_each(|tube| tube.kernel = [2, 4, 4]);
    let model = Config::TubeVit(config).random(&device, DType::F32, 0).unwrap();
    let input = model.input();
    let shape = [1, input.frames, input.size[0], input.size[1], 3];
    let video = Tensor::from_slice(&device, &shape, &vec![90u8; shape.iter().product()]).unwrap();
    let pass = || model.forward(&video, &mut Pass::inference()).unwrap();
    let first = pass().to_f32_vec().unwrap();
    let mut after_warmup = None;
    for i in 0..10_000 {
        let logits = pass();
        if i % 100 == 99 {
            assert!(logits.to_f32_vec().unwrap() == first, "pass {i} has other bits");
            drop(logits);
            let now = (device.memory(), resident());
            let (memory, resident) = *after_warmup.get_or_insert(now);
            assert_eq!(now.0, memory, "pass {i}");
            assert!(now.1 <= resident + (16 << 20), "pass {i}: {} MiB, {} after 100 passes", now.1 >> 20, resident >> 20);
        }
    }
}

/// Bytes of this process in memory, where the system tells.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
