//! A step of a layer's weights.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::adam::Adam};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = Adam {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.05,
        decoupled: true,
        amsgrad: true,
        step: 2,
        gradient_scale: 1.0,
    };
    let x = normal(d, &[3072, 768]);
    vec![Case::new("3072x768", op, [x.clone(), x.clone(), x.clone(), x.clone(), x])]
}

fn main() {
    group("adam", cases);
}
