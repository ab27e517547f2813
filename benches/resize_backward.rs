//! A position table that was resized.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::{
        resize::{Filter, Resize},
        resize_backward::ResizeBackward,
    },
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let resize = Resize { height: 14, width: 14, filter: Filter::Bicubic, antialias: false, align_corners: false };
    vec![Case::new("14x14 to 24x24", ResizeBackward { resize, size: [24, 24] }, [normal(d, &[1, 14, 14, 768])])]
}

fn main() {
    group("resize_backward", cases);
}
