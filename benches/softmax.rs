//! Rows of scores.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::softmax::Softmax};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    vec![Case::new("2364x197", Softmax { log: false }, [normal(d, &[2364, 197])])]
}

fn main() {
    group("softmax", cases);
}
