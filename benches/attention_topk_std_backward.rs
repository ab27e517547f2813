//! The pooling layers of C-VidTr-S.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, Tensor, ops::attention_topk_std_backward::AttentionTopkStdBackward};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let x = || normal(d, &[1, 8, 196, 12, 64]);
    let kept: Vec<i32> = (0..6 * 196 * 12).map(|i| i / (196 * 12)).collect();
    let kept = Tensor::from_slice(d, &[1, 6, 196, 12], &kept).unwrap_or_else(|error| panic!("{error}"));
    let op = AttentionTopkStdBackward { scale: 0.125, renormalize: true };
    vec![Case::new("8 frames to 6", op, [x(), x(), x(), kept, normal(d, &[1, 6, 196, 12, 64])])]
}

fn main() {
    group("attention_topk_std_backward", cases);
}
