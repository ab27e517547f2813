//! Elements of a layer, and whole samples.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::dropout::Dropout};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [("elements", 0), ("samples", 2)]
        .map(|(label, shared)| {
            let op = Dropout { probability: 0.1, seed: 1, stream: 0, shared };
            Case::new(&format!("{label} 8x197x768"), op, [normal(d, &[8, 197, 768])])
        })
        .into()
}

fn main() {
    group("dropout", cases);
}
