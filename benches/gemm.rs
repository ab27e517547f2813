//! Linear layers of ViT-B and L at the models' token counts.

use tubelet_benches::{Case, group, normal, weight};
use tubelet_engine::{Device, Operand, ops::gemm::Gemm};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [
        (197, 768, 768),
        (540, 768, 768),
        (1569, 2304, 768),
        (1576, 3072, 768),
        (1576, 768, 3072),
        (1773, 768, 768),
        (540, 4096, 1024),
    ]
    .map(|(m, n, k)| {
        let inputs = [normal(d, &[m, k]), weight(d, &[n, k], Operand::GemmWeight), normal(d, &[n])];
        Case::new(&format!("{m}x{n}x{k}"), Gemm::default(), inputs)
    })
    .into()
}

fn main() {
    group("gemm", cases);
}
