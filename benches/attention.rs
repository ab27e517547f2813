//! Joint, spatial, temporal and cross attention at the models' shapes.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::attention::Attention};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [
        ("joint 1569", [1, 1, 1569], 2, 1569),
        ("joint 540", [1, 1, 540], 2, 540),
        ("spatial 8x197", [1, 8, 197], 2, 197),
        ("temporal 9x197", [1, 9, 197], 1, 9),
        ("temporal 16x196", [1, 16, 196], 1, 16),
        ("temporal 32x196", [1, 32, 196], 1, 32),
        ("one query 1576", [1, 1, 1], 2, 1576),
    ]
    .map(|(label, [b, x, y], axis, keys)| {
        let q = [b, x, y, 12, 64];
        let mut k = q;
        k[axis] = keys;
        Case::new(label, Attention { scale: 0.125, axis, lse: false }, [normal(d, &q), normal(d, &k), normal(d, &k)])
    })
    .into()
}

fn main() {
    group("attention", cases);
}
