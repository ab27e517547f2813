//! The pooling layers of C-VidTr-S.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::attention_topk_std::AttentionTopkStd};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let x = || normal(d, &[1, 8, 196, 12, 64]);
    let op = AttentionTopkStd { scale: 0.125, keep: 6, renormalize: true };
    vec![Case::new("8 frames to 6", op, [x(), x(), x()])]
}

fn main() {
    group("attention_topk_std", cases);
}
