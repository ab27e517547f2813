//! The batch norm of UniFormerV2's local blocks.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{DType, Device, Tensor, ops::batch_norm::BatchNorm};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let (x, c) = (normal(d, &[1568, 768]), Tensor::full(d, DType::F32, &[768], 1.0).unwrap_or_else(|error| panic!("{error}")));
    let op = BatchNorm { eps: 1e-5 };
    let running = Case::new("running 1568x768", op, [x.clone(), c.clone(), c.clone(), c.clone(), c.clone()]);
    vec![running, Case::new("batch 1568x768", op, [x, c.clone(), c])]
}

fn main() {
    group("batch_norm", cases);
}
