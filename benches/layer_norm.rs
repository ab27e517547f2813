//! Rows of ViT-B, plain and with the residual sum.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::layer_norm::LayerNorm};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let [x, w] = [normal(d, &[1576, 768]), normal(d, &[768])];
    let op = LayerNorm { eps: 1e-6 };
    vec![
        Case::new("1576x768", op, [x.clone(), w.clone(), w.clone()]),
        Case::new("1576x768 + residual", op, [x.clone(), w.clone(), w, x]),
    ]
}

fn main() {
    group("layer_norm", cases);
}
