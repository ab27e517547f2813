//! A frame on its way into a model.

use tubelet_benches::{Case, bytes, group};
use tubelet_engine::{
    Device,
    ops::resize::{Filter, Resize},
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = Resize { height: 224, width: 298, filter: Filter::Bilinear, antialias: false, align_corners: false };
    vec![Case::new("480x640 to 224x298", op, [bytes(d, &[8, 480, 640, 3])])]
}

fn main() {
    group("resize", cases);
}
