//! Training on WebGPU devices and on the CUDA kernels (emulated, or with `TUBELET_TEST_DEVICE=cuda` on a GPU) follows the CPU's.
//!
//! (Logits and gradients of all four systems against independent implementations: `tubelet parity --device wgpu, --device cuda-emulated`.)
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::AtomicBool;

use common::{folder, small, train, wgpu};
use tubelet_engine::{
    Device,
    cpu::{Cpu, CpuOptions, Level},
};
use tubelet_models::{devices, train::Event};

fn losses(device: &Device, system: &str, steps: u64, name: &str) -> Vec<f64> {
    let mut recipe = small(system);
    (recipe.steps, recipe.batch, recipe.checkpoint_every) = (steps, 2, 0);
    // A smooth activation: at the kink of VidTr's ReLU rounding decides which side a number is on, and with it a whole gradient. Two right
    // devices part there (seen: by 1e-6 at step 14, 6e-5 at step 50, and not at all without the kink); the kernel itself has its properties.
    let mut model = serde_json::to_value(recipe.config().unwrap()).unwrap();
    if model["activation"] == "relu" {
        model["activation"] = "gelu_tanh".into();
        recipe.model = serde_json::from_value(model).unwrap();
    }
    let mut losses = Vec::new();
    let folder = folder(&format!("follow-{system}-{steps}-{name}"));
    train(device, &recipe, &folder, false, &AtomicBool::new(false), &mut |event| {
        if let Event::Step { report, .. } = event {
            losses.push(report.loss);
        }
    });
    losses
}

/// Training magnifies rounding: how much, the CPU's own two orders of summation say. On `device` the loss of step `i` is off by no more than
/// eight times what their greatest difference up to step `i` is, where eight is for longer sums of one order, and quotients and elementary
/// functions that are rounded to some units in the last place. Two orders can agree by luck: they count as two units in the last place apart.
fn follows(device: &Device, steps: u64) {
    for system in ["tubevit", "vivit", "vidtr", "uniformerv2"] {
        let portable = CpuOptions { simd: Some(Level::Portable), ..CpuOptions::default() };
        let [cpu, portable] = [Device::cpu().unwrap(), Device::new(Cpu::new(portable).unwrap())];
        let ours = losses(device, system, steps, "ours");
        let (expected, other) = (losses(&cpu, system, steps, "cpu"), losses(&portable, system, steps, "portable"));
        assert_eq!(ours.len() as u64, steps);
        let mut spread = 2.0 * f64::from(f32::EPSILON) * expected[0];
        let mut worst = 0.0f64;
        for (i, ((ours, expected), other)) in ours.iter().zip(&expected).zip(&other).enumerate() {
            spread = spread.max((expected - other).abs());
            worst = worst.max((ours - expected).abs() / spread);
            assert!((ours - expected).abs() <= 8.0 * spread, "{system}, step {i}: {ours} and {expected}, spread {spread:e}");
        }
        let [ours, expected] = [ours, expected].map(|losses| losses.last().copied().unwrap());
        println!("{}, {system}: loss {ours} after {steps} steps, {expected} on the CPU; {worst:.2} of its spread", device.name());
    }
}

#[test]
fn fifty_steps_on_a_webgpu_device_follow_the_cpus() {
    let Some(device) = wgpu() else { return };
    follows(&device, 50);
}

#[test]
fn five_steps_on_the_cuda_kernels_follow_the_cpus() {
    let gpu = std::env::var("TUBELET_TEST_DEVICE").is_ok_and(|device| device == "cuda");
    follows(&devices::open(if gpu { "cuda" } else { "cuda-emulated" }).unwrap(), 5);
}
