//! Activations of an MLP's hidden layer.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, Function, ops::unary_backward::UnaryBackward};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let x = normal(d, &[1576, 3072]);
    [Function::Relu, Function::GeluErf, Function::GeluTanh, Function::GeluQuick]
        .map(|function| Case::new(&format!("{function} 1576x3072"), UnaryBackward { function }, [x.clone(), x.clone()]))
        .into()
}

fn main() {
    group("unary_backward", cases);
}
