//! The norms of ViT-B's blocks within the linear layers behind them: queries, keys and values, and the first layer of the MLP.

use tubelet_benches::{Case, group, normal, weight};
use tubelet_engine::{Device, Function, Operand, ops::layer_norm_gemm::LayerNormGemm};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [(1569, 2304, 768, None), (1569, 3072, 768, Some(Function::GeluErf)), (540, 4096, 1024, Some(Function::GeluErf))]
        .map(|(m, n, k, function)| {
            let [bias, scale, shift] = [normal(d, &[n]), normal(d, &[k]), normal(d, &[k])];
            let [x, weight] = [normal(d, &[m, k]), weight(d, &[n, k], Operand::GemmWeight)];
            Case {
                label: format!("{m}x{n}x{k}"),
                op: LayerNormGemm { eps: 1e-6, function }.into(),
                inputs: vec![Some(x), Some(weight), Some(bias), None, Some(scale), Some(shift)],
            }
        })
        .into()
}

fn main() {
    group("layer_norm_gemm", cases);
}
