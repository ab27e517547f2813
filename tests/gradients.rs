//! The backward rule of every operation against finite differences in f64 on the reference device.

use std::sync::LazyLock;

use tubelet_autograd::{GradientCheck, gradcheck, has_rule};
use tubelet_engine::{
    DType, Device, Function, Op, Philox, Result, Tensor,
    ops::{
        attention::attention,
        attention_topk_std::{AttentionTopkStd, attention_topk_std},
        batch_norm::{batch_norm, batch_norm_training},
        binary::{Operator, binary},
        binary_cross_entropy::{BinaryCrossEntropy, binary_cross_entropy},
        concat::concat,
        conv3d::{Conv3d, conv3d},
        conv3d_depthwise::{Conv3dDepthwise, conv3d_depthwise},
        cross_entropy::{CrossEntropy, LossReduction, cross_entropy},
        dropout::{Dropout, dropout},
        gather::gather,
        gemm::{Gemm, gemm},
        interpolate::{Interpolate, interpolate},
        layer_norm::{add_layer_norm, layer_norm},
        layer_norm_gemm::{LayerNormGemm, layer_norm_gemm},
        reduce::{Reduction, reduce},
        resize::{Filter, Resize, resize},
        softmax::{log_softmax, softmax},
        unary::unary,
    },
};

/// One device for operands and constants.
fn device() -> &'static Device {
    static DEVICE: LazyLock<Device> = LazyLock::new(Device::reference);
    &DEVICE
}

/// Normal numbers in f64.
fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = Philox::new(seed);
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.normal())).collect();
    Tensor::from_slice(device(), shape, &data).expect("a small tensor")
}

fn inputs(shapes: &[&[usize]]) -> Vec<Tensor> {
    shapes.iter().enumerate().map(|(i, shape)| normal(40 + i as u64, shape)).collect()
}

/// Within 1e-6 of the largest gradient.
fn check(name: &str, inputs: &[Tensor], function: impl Fn(&[Tensor]) -> Result<Tensor>) {
    assert!(has_rule(name), "{name} has no rule");
    if let Err(error) = gradcheck(GradientCheck::default(), inputs, function) {
        panic!("{name}: {error}");
    }
}

fn labels(values: &[i32]) -> Tensor {
    Tensor::from_slice(device(), &[values.len()], values).expect("labels")
}

#[test]
fn attention_along_both_axes_and_across() {
    for axis in [1, 2] {
        let mut keys = [2, 3, 4, 2, 5];
        keys[axis] = 6;
        let mut values = keys;
        values[4] = 3;
        let x = inputs(&[&[2, 3, 4, 2, 5], &keys, &values]);
        check("attention", &x, |x| attention(0.4, axis, &x[0], &x[1], &x[2]));
    }
    // One tensor for all three, as cut out of one product.
    check("attention", &inputs(&[&[1, 2, 3, 12]]), |x| {
        let heads = |part: usize| x[0].narrow(3, 4 * part, 4)?.split(3, &[2, 2]);
        attention(0.7, 2, &heads(0)?, &heads(1)?, &heads(2)?)
    });
}

#[test]
fn attention_topk_std_through_the_kept_frames() {
    for renormalize in [false, true] {
        let x = inputs(&[&[1, 5, 2, 2, 3], &[1, 5, 2, 2, 3], &[1, 5, 2, 2, 4]]);
        let op = AttentionTopkStd { scale: 0.6, keep: 3, renormalize };
        check("attention_topk_std", &x, |x| attention_topk_std(op, &x[0], &x[1], &x[2]).map(|[y, ..]| y));
    }
}

#[test]
fn batch_norm_with_its_own_and_with_given_statistics() {
    let x = inputs(&[&[2, 3, 4], &[4], &[4]]);
    let mean = normal(1, &[4]);
    let var = unary(Function::Exp, &normal(2, &[4])).expect("a variance");
    check("batch_norm", &x, |x| batch_norm(1e-3, &x[0], Some(&x[1]), Some(&x[2]), [&mean, &var]));
    check("batch_norm", &x, |x| batch_norm_training(1e-3, &x[0], Some(&x[1]), Some(&x[2])).map(|[y, ..]| y));
}

#[test]
fn binary_with_broadcasting() {
    for operator in [Operator::Add, Operator::Sub, Operator::Mul, Operator::Div, Operator::Max, Operator::Min] {
        let far = unary(Function::Exp, &normal(3, &[3, 1])).expect("away from 0");
        let x = [normal(4, &[2, 3, 4]), far];
        check("binary", &x, |x| binary(operator, &x[0], &x[1]));
        check("binary", &x, |x| binary(operator, &x[1], &unary(Function::Exp, &x[0])?));
    }
}

#[test]
fn losses() {
    let target = softmax(&normal(5, &[3, 4])).expect("targets");
    for reduction in [LossReduction::None, LossReduction::Sum, LossReduction::Mean] {
        let op = CrossEntropy { label_smoothing: 0.1, reduction };
        check("cross_entropy", &inputs(&[&[3, 4]]), |x| cross_entropy(op, &x[0], &labels(&[0, 3, 1])));
        check("cross_entropy", &inputs(&[&[3, 4]]), |x| cross_entropy(op, &x[0], &target));
        let op = BinaryCrossEntropy { reduction };
        let weight = unary(Function::Exp, &normal(6, &[4])).expect("weights");
        check("binary_cross_entropy", &inputs(&[&[3, 4]]), |x| binary_cross_entropy(op, &x[0], &target, Some(&weight)));
    }
}

#[test]
fn concat_and_copy() {
    check("concat", &inputs(&[&[2, 1, 3], &[2, 4, 3]]), |x| concat(&[&x[0], &x[1], &x[0]], 1));
    check("copy", &inputs(&[&[2, 3]]), |x| x[0].transpose()?.contiguous());
}

#[test]
fn conv3d_with_everything() {
    for groups in [1, 2] {
        let op = Conv3d {
            stride: [2, 1, 3],
            offset: [1, 0, 0],
            padding: [1, 1, 0],
            groups,
            scale: vec![0.5, 2.0],
            shift: vec![0.1, -0.3],
        };
        let x = inputs(&[&[2, 4, 3, 5, 2], &[4, 2, 3, 2, 2 / groups], &[4], &[2, 3, 2, 4]]);
        check("conv3d", &x, |x| conv3d(op.clone(), &x[0], &x[1], Some(&x[2]), Some(&x[3])));
    }
}

#[test]
fn conv3d_depthwise_with_bias_and_residual() {
    let x = inputs(&[&[2, 3, 3, 2, 3], &[3, 3, 1, 3], &[3], &[2, 3, 3, 2, 3]]);
    let op = Conv3dDepthwise { padding: [1, 1, 0] };
    check("conv3d_depthwise", &x, |x| conv3d_depthwise(op, &x[0], &x[1], Some(&x[2]), Some(&x[3])));
}

#[test]
fn dropout_of_elements_and_samples() {
    for shared in [0, 2] {
        let op = Dropout { probability: 0.4, seed: 9, stream: 2, shared };
        check("dropout", &inputs(&[&[4, 3, 2]]), |x| dropout(op, &x[0]));
    }
}

#[test]
fn gather_with_repeated_indices() {
    let indices = Tensor::from_slice(device(), &[2, 3], &[0i32, 3, 3, 1, 0, 2]).expect("indices");
    check("gather", &inputs(&[&[2, 4, 3]]), |x| gather(&x[0], &indices, 1));
}

#[test]
fn gemm_shared_and_batched_with_every_epilogue() {
    for function in [None, Some(Function::GeluErf), Some(Function::Tanh)] {
        let op = Gemm { alpha: 0.7, function };
        let shared = inputs(&[&[2, 3, 4], &[5, 4], &[5], &[2, 3, 5]]);
        check("gemm", &shared, |x| gemm(op, &x[0], &x[1], Some(&x[2]), Some(&x[3])));
        let batched = inputs(&[&[2, 3, 4], &[2, 5, 4], &[5]]);
        check("gemm", &batched, |x| gemm(op, &x[0], &x[1], Some(&x[2]), None));
    }
}

#[test]
fn resampling() {
    for align_corners in [false, true] {
        let op = Interpolate { size: [2, 5, 3], align_corners };
        check("interpolate", &inputs(&[&[2, 3, 2, 4, 2]]), |x| interpolate(op, &x[0]));
    }
    for (filter, antialias) in [(Filter::Bilinear, true), (Filter::Bicubic, false), (Filter::Bicubic, true)] {
        let op = Resize { height: 3, width: 7, filter, antialias, align_corners: false };
        check("resize", &inputs(&[&[2, 6, 4, 2]]), |x| resize(op, &x[0]));
    }
}

#[test]
fn layer_norm_with_and_without_residual() {
    let x = inputs(&[&[2, 3, 5], &[5], &[5], &[2, 3, 5]]);
    check("layer_norm", &x[..3], |x| layer_norm(1e-3, &x[0], Some(&x[1]), Some(&x[2])));
    check("layer_norm", &x, |x| {
        let [y, sum] = add_layer_norm(1e-3, &x[0], &x[3], Some(&x[1]), Some(&x[2]))?;
        concat(&[&y, &sum], 0)
    });
    // Where only the sum goes on.
    check("layer_norm", &x, |x| add_layer_norm(1e-3, &x[0], &x[3], Some(&x[1]), None).map(|[_, sum]| sum));
}

#[test]
fn layer_norm_within_a_product() {
    let x = inputs(&[&[2, 3, 5], &[5], &[5], &[4, 5], &[4], &[2, 3, 4]]);
    for function in [None, Some(Function::GeluErf)] {
        let op = LayerNormGemm { eps: 1e-3, function };
        check("layer_norm_gemm", &x, |x| layer_norm_gemm(op, &x[0], [Some(&x[1]), Some(&x[2])], &x[3], Some(&x[4]), Some(&x[5])));
        check("layer_norm_gemm", &[x[0].clone(), x[3].clone()], |x| layer_norm_gemm(op, &x[0], [None, None], &x[1], None, None));
    }
}

#[test]
fn reductions() {
    for reduction in [Reduction::Sum, Reduction::Mean, Reduction::Squares, Reduction::Max] {
        check("reduce", &inputs(&[&[2, 3, 4]]), |x| reduce(reduction, &x[0], &[0, 2]));
    }
}

#[test]
fn softmax_and_its_logarithm() {
    check("softmax", &inputs(&[&[3, 4]]), |x| softmax(&x[0]));
    check("softmax", &inputs(&[&[3, 4]]), |x| log_softmax(&x[0]));
}

#[test]
fn unary_functions() {
    for function in Function::ALL {
        let positive = matches!(function, Function::Log | Function::Sqrt);
        let x = if positive { unary(Function::Exp, &normal(8, &[9])).expect("positive") } else { normal(8, &[9]) };
        check("unary", &[x], |x| unary(function, &x[0]));
    }
}

#[test]
fn views() {
    check("copy", &inputs(&[&[2, 3, 4]]), |x| {
        let narrow = x[0].narrow(2, 1, 2)?.permute(&[2, 0, 1])?;
        let other = x[0].narrow(2, 2, 2)?.permute(&[2, 0, 1])?;
        let wide = x[0].narrow(1, 0, 1)?.broadcast_to(&[3, 2, 5, 4])?;
        let sum = reduce(Reduction::Sum, &wide, &[0, 2])?;
        concat(&[&narrow.contiguous()?.reshape(&[12])?, &other.contiguous()?.reshape(&[12])?, &sum.reshape(&[8])?], 0)
    });
}

/// An operation is either the backward pass of another, an optimiser, or has a rule, which is checked above.
#[test]
fn every_operation_has_a_rule_or_a_reason() {
    for name in Op::NAMES {
        let end = name.contains("_backward") || ["adam", "sgd"].contains(name);
        assert!(has_rule(name) != end, "{name}");
    }
}

/// The check itself finds a wrong gradient.
#[test]
fn a_wrong_gradient_is_found() {
    let wrong = |x: &[Tensor]| binary(Operator::Mul, &x[0], &x[0].detach());
    let error = gradcheck(GradientCheck::default(), &inputs(&[&[3]]), wrong).expect_err("half of the gradient is missing");
    assert!(error.to_string().contains("input 0"), "{error}");
    assert_eq!(normal(1, &[2]).dtype(), DType::F64);
}
