//! Means over time and over tokens.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::reduce::{Reduce, Reduction},
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [vec![1], vec![2], vec![3]]
        .map(|axes| {
            Case::new(
                &format!("[1, 8, 196, 768] over {axes:?}"),
                Reduce { reduction: Reduction::Mean, axes },
                [normal(d, &[1, 8, 196, 768])],
            )
        })
        .into()
}

fn main() {
    group("reduce", cases);
}
