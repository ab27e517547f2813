//! A transposition and a conversion.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{DType, Device, ops::copy::Copy};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let x = normal(d, &[1576, 768]);
    let turned = x.transpose().unwrap_or_else(|error| panic!("{error}"));
    vec![
        Case::new("transpose 768x1576", Copy { dtype: DType::F32 }, [turned]),
        Case::new("to bf16 1576x768", Copy { dtype: DType::BF16 }, [x]),
    ]
}

fn main() {
    group("copy", cases);
}
