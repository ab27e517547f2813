//! The kernels at shapes of the four models, and what their peers are asked for.

use serde_json::{Value, json};
use tubelet_benches::{Case, log_sums, normal, weight};
use tubelet_engine::{
    Device, Function, Operand,
    ops::{
        attention::Attention, attention_backward::AttentionBackward, conv3d::Conv3d,
        conv3d_backward_weight::Conv3dBackwardWeight, conv3d_depthwise::Conv3dDepthwise,
        conv3d_depthwise_backward::Conv3dDepthwiseBackward, gemm::Gemm, interpolate::Interpolate, layer_norm::LayerNorm,
        layer_norm_backward::LayerNormBackward, softmax::Softmax, unary::Unary,
    },
};

type Row = (Case, Value);

/// Forward kernels, then backward ones.
pub fn all(d: &Device) -> Vec<Row> {
    let parts = [gemm, attention, conv3d, depthwise, rows, elementwise, interpolate];
    parts.iter().flat_map(|part| part(d)).collect()
}

fn gemm(d: &Device) -> Vec<Row> {
    [(197, 768, 768), (540, 768, 768), (1576, 2304, 768), (1576, 3072, 768), (1576, 768, 3072), (540, 4096, 1024)]
        .map(|(m, n, k)| {
            let inputs = [normal(d, &[m, k]), weight(d, &[n, k], Operand::GemmWeight), normal(d, &[n])];
            let case = Case::new(&format!("gemm {m}×{n}×{k}"), Gemm::default(), inputs);
            (case, json!({ "kind": "gemm", "shape": [m, n, k] }))
        })
        .into()
}

fn attention(d: &Device) -> Vec<Row> {
    let shapes = [
        ("joint 1569", [1, 1, 1569, 12, 64], 2, 1569, [1, 12, 1569, 64]),
        ("joint 540", [1, 1, 540, 12, 64], 2, 540, [1, 12, 540, 64]),
        ("spatial 8×197", [1, 8, 197, 12, 64], 2, 197, [8, 12, 197, 64]),
        ("temporal 197×9", [1, 9, 197, 12, 64], 1, 9, [197, 12, 9, 64]),
        ("temporal 196×32", [1, 32, 196, 12, 64], 1, 32, [196, 12, 32, 64]),
        ("one query, 1576 keys", [1, 1, 1, 12, 64], 2, 1576, [1, 12, 1, 64]),
    ];
    let row = |backward: bool, (label, q, axis, keys, torch): (&str, [usize; 5], usize, usize, [usize; 4])| {
        let mut k = q;
        k[axis] = keys;
        let name = if backward { "attention_backward" } else { "attention" };
        let label = format!("{name} {label}");
        let operands = [normal(d, &q), normal(d, &k), normal(d, &k)];
        // Any result and log-sum-exp will do for the gradients: the work is the same.
        let saved = || [normal(d, &q), log_sums(d, &q[..4]), normal(d, &q)];
        let case = match backward {
            true => Case::new(&label, AttentionBackward { scale: 0.125, axis }, operands.into_iter().chain(saved())),
            false => Case::new(&label, Attention { scale: 0.125, axis, lse: false }, operands),
        };
        (case, json!({ "kind": name, "shape": torch, "keys": keys }))
    };
    [false, true].iter().flat_map(|&backward| shapes.map(|shape| row(backward, shape))).collect()
}

fn conv3d(d: &Device) -> Vec<Row> {
    let tubes: [([usize; 3], [usize; 3]); 4] =
        [([8, 8, 8], [16, 32, 32]), ([16, 4, 4], [6, 32, 32]), ([4, 12, 12], [16, 32, 32]), ([2, 16, 16], [2, 16, 16])];
    let video = normal(d, &[1, 32, 224, 224, 3]);
    let forward = tubes.map(|(kernel, stride)| {
        let shape = [768, kernel[0], kernel[1], kernel[2], 3];
        let inputs = [video.clone(), weight(d, &shape, Operand::Conv3dWeight)];
        let case = Case::new(&format!("conv3d {kernel:?} by {stride:?}"), Conv3d::new(stride), inputs);
        (case, json!({ "kind": "conv3d", "shape": kernel, "stride": stride }))
    });
    let weights = tubes.map(|(kernel, stride)| {
        let conv = Conv3d::new(stride);
        let tubes = |axis: usize, size: usize| conv.tubes(axis, size, kernel[axis]).unwrap_or(0);
        let gradient = normal(d, &[1, tubes(0, 32), tubes(1, 224), tubes(2, 224), 768]);
        let op = Conv3dBackwardWeight { conv, kernel };
        let case = Case::new(&format!("conv3d_backward_weight {kernel:?} by {stride:?}"), op, [video.clone(), gradient]);
        (case, json!({ "kind": "conv3d_backward_weight", "shape": kernel, "stride": stride }))
    });
    forward.into_iter().chain(weights).collect()
}

fn depthwise(d: &Device) -> Vec<Row> {
    let kernels: [([usize; 3], [usize; 3]); 2] = [([3, 3, 3], [1, 1, 1]), ([3, 1, 1], [1, 0, 0])];
    let x = normal(d, &[1, 8, 14, 14, 768]);
    let row = |backward: bool, (kernel, padding): ([usize; 3], [usize; 3])| {
        let taps = normal(d, &[kernel[0], kernel[1], kernel[2], 768]);
        let name = if backward { "conv3d_depthwise_backward" } else { "conv3d_depthwise" };
        let label = format!("{name} {kernel:?}");
        let case = match backward {
            true => Case::new(&label, Conv3dDepthwiseBackward { padding }, [x.clone(), taps, x.clone()]),
            false => Case::new(&label, Conv3dDepthwise { padding }, [x.clone(), taps]),
        };
        (case, json!({ "kind": name, "shape": kernel, "padding": padding }))
    };
    [false, true].iter().flat_map(|&backward| kernels.map(|kernel| row(backward, kernel))).collect()
}

fn rows(d: &Device) -> Vec<Row> {
    let [x, w] = [normal(d, &[1576, 768]), normal(d, &[768])];
    let shape = json!([1576, 768]);
    let forward = Case::new("layer_norm 1576×768", LayerNorm { eps: 1e-6 }, [x.clone(), w.clone(), w.clone()]);
    let backward = Case::new("layer_norm_backward 1576×768", LayerNormBackward { eps: 1e-6 }, [x.clone(), w, x]);
    let scores = Case::new("softmax 2364×197", Softmax { log: false }, [normal(d, &[2364, 197])]);
    vec![
        (forward, json!({ "kind": "layer_norm", "shape": shape })),
        (backward, json!({ "kind": "layer_norm_backward", "shape": shape })),
        (scores, json!({ "kind": "softmax", "shape": [2364, 197] })),
    ]
}

fn elementwise(d: &Device) -> Vec<Row> {
    [(Function::GeluErf, "gelu", "none"), (Function::GeluTanh, "gelu", "tanh"), (Function::GeluQuick, "gelu_quick", "")]
        .map(|(function, kind, approximate)| {
            let case = Case::new(&format!("{function} 1576×3072"), Unary { function }, [normal(d, &[1576, 3072])]);
            (case, json!({ "kind": kind, "shape": [1576, 3072], "approximate": approximate }))
        })
        .into()
}

/// TubeViT's kernels, made from one.
fn interpolate(d: &Device) -> Vec<Row> {
    let op = Interpolate { size: [16, 4, 4], align_corners: false };
    let case = Case::new("interpolate 768 kernels, 8×8×8 to 16×4×4", op, [normal(d, &[768, 8, 8, 8, 3])]);
    vec![(case, json!({ "kind": "interpolate", "shape": [768, 3, 8, 8, 8], "size": [16, 4, 4] }))]
}
