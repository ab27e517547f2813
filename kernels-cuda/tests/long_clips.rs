//! Pooling attention over clips of many frames, whose scores no block could hold: samples of the property suite have twenty at the most.
#![cfg(feature = "emulator")]
#![allow(clippy::unwrap_used)]

use tubelet_cuda::emulated;
use tubelet_engine::{
    Device, Philox, Tensor,
    ops::{
        attention_topk_std::{AttentionTopkStd, attention_topk_std},
        attention_topk_std_backward::{AttentionTopkStdBackward, attention_topk_std_backward},
    },
};

const FRAMES: usize = 300;
const KEEP: usize = 140;
const WIDTH: usize = 8;

/// Operands whose rows attend more and more sharply, in a mixed order: their deviations are well apart, so that rounding changes no choice.
fn operands() -> [Vec<f32>; 4] {
    let mut rng = Philox::new(11);
    let mut normal = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f32>>();
    let (k, v, gradient) = (normal(FRAMES * WIDTH), normal(FRAMES * WIDTH), normal(KEEP * WIDTH));
    // Every query is one direction, longer by a hundredth from rank to rank: 7 and 300 have no common factor.
    let direction = normal(WIDTH);
    let q = (0..FRAMES).flat_map(|i| direction.iter().map(move |x| x * (1.0 + 0.01 * ((7 * i) % FRAMES) as f32))).collect();
    [q, k, v, gradient]
}

/// Everything that forward and backward give, as f64.
fn results(device: &Device, renormalize: bool) -> Vec<Vec<f64>> {
    let [q, k, v, gradient] = operands();
    let tensor = |x: &[f32]| Tensor::from_slice(device, &[1, x.len() / WIDTH, 1, 1, WIDTH], x).unwrap();
    let ([q, k, v], gradient) = ([&q, &k, &v].map(|x| tensor(x)), tensor(&gradient));
    let scale = (WIDTH as f32).sqrt().recip();
    let [y, kept, std] = attention_topk_std(AttentionTopkStd { scale, keep: KEEP, renormalize }, &q, &k, &v).unwrap();
    let backward = AttentionTopkStdBackward { scale, renormalize };
    let [dq, dk, dv] = attention_topk_std_backward(backward, [&q, &k, &v], &kept, &gradient).unwrap();
    [y, kept, std, dq, dk, dv].map(|x| x.to_f64_vec().unwrap()).into()
}

#[test]
fn clips_of_hundreds_of_frames_are_pooled() {
    for renormalize in [false, true] {
        let [found, expected] =
            [emulated::device(Default::default()), Device::reference()].map(|device| results(&device, renormalize));
        assert_eq!(found[1], expected[1], "the kept frames");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // Sums of at most 300 products, each rounded: √300 roundings of 2⁻²⁴ where errors are independent, through two softmaxes of scores
            // below 32 (their rounding is 2⁻²⁴·32 relative); of the largest value, four times that.
            let largest = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            let bound = 4.0 * (300f64.sqrt() + 32.0) * 2f64.powi(-24) * largest;
            let error = found.iter().zip(expected).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
            println!("renormalize {renormalize}, result {i}: error {error:e} of {largest:e}, bound {bound:e}");
            assert!(largest > 0.0 && error <= bound, "result {i}: {error} of {largest}, bound {bound}");
        }
    }
}
