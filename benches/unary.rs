//! Activations of an MLP's hidden layer.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, Function, ops::unary::Unary};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [Function::Relu, Function::GeluErf, Function::GeluTanh, Function::GeluQuick]
        .map(|function| Case::new(&format!("{function} 1576x3072"), Unary { function }, [normal(d, &[1576, 3072])]))
        .into()
}

fn main() {
    group("unary", cases);
}
