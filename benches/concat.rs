//! Class tokens in front of patches.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::concat::Concat};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    vec![Case::new("[8, 1, 768] and [8, 196, 768]", Concat { axis: 1 }, [normal(d, &[8, 1, 768]), normal(d, &[8, 196, 768])])]
}

fn main() {
    group("concat", cases);
}
