//! Kernels and a whole model on small fixed inputs, for a counter of instructions: `cargo xtask instructions` runs this under callgrind.
//!
//! Prints the name of each case, and runs it in [`measured`] once, after a run outside that fills the pool of memory and whatever else is made on
//! first use.

use std::hint::black_box;

use tubelet_benches::{Case, bytes, device, dtype, log_sums, normal, weight};
use tubelet_engine::{
    Device, Function, Operand,
    ops::{
        attention::Attention, attention_backward::AttentionBackward, conv3d::Conv3d,
        conv3d_backward_weight::Conv3dBackwardWeight, conv3d_depthwise::Conv3dDepthwise,
        conv3d_depthwise_backward::Conv3dDepthwiseBackward, gemm::Gemm, layer_norm::LayerNorm,
        layer_norm_backward::LayerNormBackward, layer_norm_gemm::LayerNormGemm, softmax::Softmax, unary::Unary,
    },
};
use tubelet_models::{Pass, registry::Config};

/// The one function whose instructions are counted.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // Not a call in tail position: the function must be left, not jumped from.
    black_box(());
}

/// Sizes are odd on purpose: the rests of blocks are counted too.
fn cases(d: &Device) -> Vec<Case> {
    let (tokens, heads, width) = (67, 3, 192);
    let q = [1, 1, tokens, heads, 64];
    let heads = || normal(d, &q);
    let [x, row] = [normal(d, &[tokens, width]), normal(d, &[width])];
    let wide = normal(d, &[tokens, 4 * width]);
    let conv = Conv3d { scale: vec![0.01; 3], shift: vec![-1.0; 3], ..Conv3d::new([2, 16, 16]) };
    let video = bytes(d, &[1, 4, 48, 48, 3]);
    let (grid, taps) = (normal(d, &[1, 4, 7, 7, width]), normal(d, &[3, 3, 3, width]));
    let padding = [1; 3];
    vec![
        Case::new("gemm 67x192x192", Gemm::default(), [x.clone(), weight(d, &[width, width], Operand::GemmWeight), row.clone()]),
        Case::new("attention 67", Attention { scale: 0.125, axis: 2, lse: false }, [heads(), heads(), heads()]),
        Case::new(
            "attention_backward 67",
            AttentionBackward { scale: 0.125, axis: 2 },
            [heads(), heads(), heads(), heads(), log_sums(d, &q[..4]), heads()],
        ),
        Case::new("conv3d [2, 16, 16]", conv.clone(), [video.clone(), weight(d, &[width, 2, 16, 16, 3], Operand::Conv3dWeight)]),
        Case::new(
            "conv3d_backward_weight [2, 16, 16]",
            Conv3dBackwardWeight { conv, kernel: [2, 16, 16] },
            [video, normal(d, &[1, 2, 3, 3, width])],
        ),
        Case::new("conv3d_depthwise [3, 3, 3]", Conv3dDepthwise { padding }, [grid.clone(), taps.clone()]),
        Case::new("conv3d_depthwise_backward [3, 3, 3]", Conv3dDepthwiseBackward { padding }, [grid.clone(), taps, grid]),
        Case::new("layer_norm 67x192", LayerNorm { eps: 1e-6 }, [x.clone(), row.clone(), row.clone()]),
        Case::new("layer_norm_backward 67x192", LayerNormBackward { eps: 1e-6 }, [x.clone(), row.clone(), x.clone()]),
        Case {
            label: "layer_norm_gemm 67x192x192".into(),
            op: LayerNormGemm { eps: 1e-6, function: None }.into(),
            inputs: [Some(x), Some(weight(d, &[width, width], Operand::GemmWeight)), None, None, Some(row.clone()), Some(row)]
                .into(),
        },
        Case::new("softmax 201x67", Softmax { log: false }, [normal(d, &[201, tokens])]),
        Case::new("gelu_erf 67x768", Unary { function: Function::GeluErf }, [wide.clone()]),
        Case::new("gelu_tanh 67x768", Unary { function: Function::GeluTanh }, [wide.clone()]),
        Case::new("gelu_quick 67x768", Unary { function: Function::GeluQuick }, [wide]),
    ]
}

fn main() {
    let d = device();
    for case in cases(&d) {
        drop(case.run());
        println!("{}", case.label);
        measured(&mut || drop(black_box(case.run())));
    }
    for preset in ["tubevit-tiny", "uniformerv2-tiny"] {
        let model = Config::named(preset).and_then(|config| config.random(&d, dtype(), 0));
        let model = model.unwrap_or_else(|error| panic!("{preset}: {error}"));
        let input = model.input();
        let video = bytes(&d, &[1, input.frames, input.size[0], input.size[1], 3]);
        let mut pass =
            || drop(black_box(model.forward(&video, &mut Pass::inference()).unwrap_or_else(|error| panic!("{preset}: {error}"))));
        pass();
        println!("{preset}");
        measured(&mut pass);
    }
}
