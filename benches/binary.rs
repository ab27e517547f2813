//! A sum, a bias and a position.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::binary::{Binary, Operator},
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [[1576, 768], [1, 768]]
        .map(|shape| {
            Case::new(
                &format!("1576x768 + {shape:?}"),
                Binary { operator: Operator::Add },
                [normal(d, &[1576, 768]), normal(d, &shape)],
            )
        })
        .into()
}

fn main() {
    group("binary", cases);
}
