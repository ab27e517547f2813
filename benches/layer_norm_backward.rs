//! Rows of ViT-B.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::layer_norm_backward::LayerNormBackward};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let [x, w] = [normal(d, &[1576, 768]), normal(d, &[768])];
    vec![Case::new("1576x768", LayerNormBackward { eps: 1e-6 }, [x.clone(), w, x])]
}

fn main() {
    group("layer_norm_backward", cases);
}
