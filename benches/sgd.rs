//! A step of a layer's weights.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::sgd::Sgd};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = Sgd { learning_rate: 0.1, momentum: 0.9, dampening: 0.0, weight_decay: 0.0, nesterov: false, gradient_scale: 1.0 };
    let x = normal(d, &[3072, 768]);
    vec![Case::new("3072x768", op, [x.clone(), x.clone(), x])]
}

fn main() {
    group("sgd", cases);
}
