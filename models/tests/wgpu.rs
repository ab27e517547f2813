//! Training on a WebGPU device follows the CPU's.
//!
//! (Logits and gradients of all four systems against independent implementations: `tubelet parity --device wgpu`.)
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::AtomicBool;

use common::{folder, small, train, wgpu};
use tubelet_engine::{
    Device,
    cpu::{Cpu, CpuOptions, Level},
};
use tubelet_models::train::Event;

fn losses(device: &Device, system: &str, name: &str) -> Vec<f64> {
    let mut recipe = small(system);
    (recipe.steps, recipe.checkpoint_every) = (50, 0);
    let mut losses = Vec::new();
    train(device, &recipe, &folder(&format!("wgpu-{system}-{name}")), false, &AtomicBool::new(false), &mut |event| {
        if let Event::Step { report, .. } = event {
            losses.push(report.loss);
        }
    });
    losses
}

/// Training magnifies rounding: how much, the CPU's own two orders of summation say. On the device the loss of step `i` is off by no more than
/// eight times what their greatest difference up to step `i` is, where eight is for longer sums of one order and a quotient that WGSL rounds
/// to 2.5 units in the last place.
#[test]
fn fifty_steps_follow_the_cpus() {
    let Some(wgpu) = wgpu() else { return };
    for system in ["tubevit", "vivit", "vidtr", "uniformerv2"] {
        let portable = CpuOptions { simd: Some(Level::Portable), ..CpuOptions::default() };
        let [cpu, portable] = [Device::cpu().unwrap(), Device::new(Cpu::new(portable).unwrap())];
        let (ours, expected, other) =
            (losses(&wgpu, system, "wgpu"), losses(&cpu, system, "cpu"), losses(&portable, system, "portable"));
        assert_eq!(ours.len(), 50);
        let mut spread = f64::from(f32::EPSILON) * expected[0];
        let mut worst = 0.0f64;
        for i in 0..50 {
            spread = spread.max((expected[i] - other[i]).abs());
            worst = worst.max((ours[i] - expected[i]).abs() / spread);
            assert!(
                (ours[i] - expected[i]).abs() <= 8.0 * spread,
                "{system}, step {i}: {} and {}, spread {spread:e}",
                ours[i],
                expected[i]
            );
        }
        println!("{system}: loss {} after 50 steps, {} on the CPU; {worst:.2} of the CPU's own spread", ours[49], expected[49]);
    }
}
