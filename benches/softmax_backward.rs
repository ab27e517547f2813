//! Rows of scores.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::softmax_backward::SoftmaxBackward};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let x = normal(d, &[2364, 197]);
    vec![Case::new("2364x197", SoftmaxBackward { log: false }, [x.clone(), x])]
}

fn main() {
    group("softmax_backward", cases);
}
