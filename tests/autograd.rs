//! What the record does: what it keeps, what it frees, what it refuses.

use tubelet_autograd::{Variable, backward, checkpoint, detect_anomalies, without_recording};
use tubelet_engine::{
    DType, Device, Function, Op, Operand, Philox, Result, Tensor,
    ops::{
        self,
        binary::mul,
        dropout::{Dropout, dropout},
        gemm::{Gemm, gemm, linear},
        layer_norm::layer_norm,
        reduce::{Reduction, reduce},
        sgd::Sgd,
        unary::unary,
    },
};

fn cpu() -> Device {
    Device::cpu().expect("a CPU")
}

fn normal(device: &Device, seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = Philox::new(seed);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_f32(device, DType::F32, shape, &data).expect("a tensor")
}

fn total(x: &Tensor) -> Tensor {
    reduce(Reduction::Sum, x, &(0..x.rank()).collect::<Vec<_>>()).expect("a sum")
}

#[test]
fn frozen_parts_keep_nothing_alive() {
    let device = cpu();
    let (x, frozen) = (normal(&device, 1, &[64, 64]), normal(&device, 2, &[64, 64]));
    let weight = Variable::new(normal(&device, 3, &[64, 64])).unwrap();
    let deep = |first: &Tensor| {
        let mut y = linear(&x, first, None).unwrap();
        for _ in 0..10 {
            y = linear(&y, &frozen, None).unwrap();
        }
        linear(&y, &weight, None).unwrap()
    };
    let before = device.memory().live;
    let y = deep(&frozen);
    // The result, and the operand of the last product.
    assert_eq!(device.memory().live - before, 2 * 64 * 64 * 4);
    drop(y);
    assert_eq!(device.memory().live, before);
    // With a variable below, the eleven products above it need their frozen weights, which are there anyway, and nothing else does.
    let first = Variable::new(normal(&device, 4, &[64, 64])).unwrap();
    let before = device.memory().live;
    let y = deep(&first);
    assert_eq!(device.memory().live - before, 2 * 64 * 64 * 4);
    let gradients = backward(&total(&y)).unwrap();
    assert!(gradients.get(&weight).is_some() && gradients.get(&first).is_some());
}

/// Norms, activations and dropout on the way from `x [N, 64]` to a loss; `keep` hides what made an operand from the product that reads it.
fn layer(x: &Tensor, weights: &[Variable; 4], keep: bool) -> Result<Tensor> {
    let hidden = |x: &Tensor| if keep { x.reshape(x.shape()) } else { Ok(x.clone()) };
    let [gamma, beta, up, down] = weights;
    let normed = layer_norm(1e-5, x, Some(gamma), Some(beta))?;
    let wide = linear(&hidden(&normed)?, up, None)?;
    let active = unary(Function::GeluErf, &wide)?;
    let dropped = dropout(Dropout { probability: 0.25, seed: 7, stream: 1, shared: 0 }, &active)?;
    linear(&hidden(&dropped)?, down, None)
}

#[test]
fn what_costs_little_is_computed_again_instead_of_kept() {
    let (device, n) = (cpu(), 128);
    let variable = |seed, shape: &[usize]| Variable::new(normal(&device, seed, shape)).unwrap();
    let weights = [variable(1, &[64]), variable(2, &[64]), variable(3, &[256, 64]), variable(4, &[64, 256])];
    let x = variable(5, &[n, 64]);
    let run = |keep: bool| {
        let before = device.memory().live;
        let y = layer(&x, &weights, keep).unwrap();
        let kept = device.memory().live - before - n * 64 * 4;
        let gradients = backward(&total(&mul(&y, &y).unwrap())).unwrap();
        let of = |v: &Variable| gradients.get(v).unwrap().to_f32_vec().unwrap();
        (kept, weights.iter().chain([&x]).map(of).collect::<Vec<_>>())
    };
    let ((kept, gradients), (all, same)) = (run(false), run(true));
    // What the activation is of; nothing else. With views in between also the norm's result and what dropout left.
    assert_eq!((kept, all), (n * 256 * 4, n * (256 + 64 + 256) * 4));
    assert_eq!(gradients, same, "the same bits both ways");
}

#[test]
fn memory_is_freed_on_the_way_back() {
    let device = cpu();
    let weights: Vec<Variable> = (0..12).map(|i| Variable::new(normal(&device, i, &[64, 64])).unwrap()).collect();
    let x = normal(&device, 99, &[4096, 64]);
    let mut y = x.clone();
    for weight in &weights {
        y = linear(&y, weight, None).unwrap();
    }
    let loss = total(&y);
    drop(y);
    let activations = 11 * 4096 * 64 * 4;
    let before = device.memory();
    assert!(before.live >= activations);
    device.backend().reset_peak();
    let gradients = backward(&loss).unwrap();
    let after = device.memory();
    // The gradient that arrived, the one that goes on, and the scratch of a product.
    assert!(after.peak - before.live < 4 * 4096 * 64 * 4, "{} bytes more", after.peak - before.live);
    assert!(after.live <= before.live - activations + 12 * 64 * 64 * 4 + 64, "{} bytes left", after.live);
    assert_eq!(weights.iter().filter(|w| gradients.get(w).is_some()).count(), 12);
}

#[test]
fn gradients_of_several_uses_add_up() {
    let device = cpu();
    let x = Variable::new(Tensor::from_slice(&device, &[3], &[1f32, 2.0, 3.0]).unwrap()).unwrap();
    let y = mul(&x, &mul(&x, &x).unwrap()).unwrap();
    let gradients = backward(&total(&y)).unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>().unwrap(), [3.0, 12.0, 27.0]);
}

#[test]
fn a_record_serves_once() {
    let device = cpu();
    let x = Variable::new(normal(&device, 1, &[3])).unwrap();
    let loss = total(&mul(&x, &x).unwrap());
    backward(&loss).unwrap();
    let error = backward(&loss).unwrap_err().to_string();
    assert!(error.contains("used up"), "{error}");
}

#[test]
fn what_cannot_be_differentiated_is_refused_by_name() {
    let device = cpu();
    let x = Variable::new(normal(&device, 1, &[3, 3])).unwrap();
    let op = Sgd { learning_rate: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, gradient_scale: 1.0 };
    let error = ops::run(&Op::from(op), &[Some(&x), Some(&x), None]).unwrap_err().to_string();
    assert!(error.contains("sgd") && error.contains("no backward rule"), "{error}");
    let error = backward(&mul(&x, &x).unwrap()).unwrap_err().to_string();
    assert!(error.contains("[3, 3]"), "{error}");
    assert!(backward(&x.detach().narrow(0, 0, 1).unwrap().narrow(1, 0, 1).unwrap()).is_err());
    assert!(Variable::new(Tensor::zeros(&device, DType::I32, &[2]).unwrap()).is_err());
    // A weight that was laid out for inference, below which a gradient is wanted.
    let weight = normal(&device, 2, &[3, 3]).prepare(Operand::GemmWeight).unwrap();
    let error = backward(&total(&linear(&x, &weight, None).unwrap())).unwrap_err().to_string();
    assert!(error.contains("prepared"), "{error}");
    // Moving a recorded tensor would lose its record.
    assert!(mul(&x, &x).unwrap().to_device(&Device::reference()).is_err());
}

#[test]
fn without_recording_nothing_is() {
    let device = cpu();
    let x = Variable::new(normal(&device, 1, &[3])).unwrap();
    let y = without_recording(|| mul(&x, &x.narrow(0, 0, 3).unwrap()).unwrap());
    assert!(y.trace().is_none());
    assert!(mul(&x, &x).unwrap().trace().is_some());
}

#[test]
fn checkpoints_give_the_same_gradients_for_less_memory() {
    let device = cpu();
    let weights: Vec<Variable> = (0..6).map(|i| Variable::new(normal(&device, i, &[32, 32])).unwrap()).collect();
    let x = Variable::new(normal(&device, 50, &[256, 32])).unwrap();
    let layer = |weights: &[Variable], x: &Tensor| {
        let mut y = x.clone();
        for weight in weights {
            y = gemm(Gemm { alpha: 0.1, function: Some(Function::GeluErf) }, &y, weight, None, Some(&y))?;
        }
        Ok::<_, tubelet_engine::Error>(y)
    };
    let measure = |forward: &dyn Fn() -> Tensor| {
        let before = device.memory().live;
        let loss = total(&forward());
        let kept = device.memory().live - before;
        let gradients = backward(&loss).unwrap();
        let all = weights.iter().chain([&x]).map(|v| gradients.get(v).unwrap().to_vec::<f32>().unwrap()).collect::<Vec<_>>();
        (kept, all)
    };
    let (plain_kept, plain) = measure(&|| layer(&weights, &x).unwrap());
    let (kept, checkpointed) = measure(&|| {
        let mut y = (*x).clone();
        for pair in weights.chunks(2) {
            let pair = pair.to_vec();
            y = checkpoint(&[&y], move |x| layer(&pair, &x[0]).map(|y| vec![y])).unwrap().remove(0);
        }
        y
    });
    assert_eq!(plain, checkpointed, "the same operations in the same order");
    assert!(3 * kept < plain_kept, "{kept} bytes with checkpoints, {plain_kept} without");
}

#[test]
fn anomalies_name_the_operation() {
    let device = cpu();
    let x = Variable::new(Tensor::from_slice(&device, &[2], &[1f32, -1.0]).unwrap()).unwrap();
    let forward = || unary(Function::Log, &x);
    assert!(forward().is_ok());
    let error = detect_anomalies(forward).unwrap_err().to_string();
    assert!(error.contains("unary") && error.contains("element 1"), "{error}");
    // √x is finite at 0, its gradient is not.
    let zero = Variable::new(Tensor::zeros(&device, DType::F32, &[2]).unwrap()).unwrap();
    let loss = total(&unary(Function::Sqrt, &zero).unwrap());
    let error = detect_anomalies(|| backward(&loss)).unwrap_err().to_string();
    assert!(error.contains("gradient") && error.contains("unary"), "{error}");
}

#[test]
fn half_types_keep_a_master_in_f32() {
    let device = cpu();
    let master = Variable::new(Tensor::from_slice(&device, &[1, 2], &[1.001f32, 2.0]).unwrap()).unwrap();
    let x = Tensor::from_f32(&device, DType::BF16, &[1, 2], &[3.0, 4.0]).unwrap();
    let y = linear(&x, &master.cast(DType::BF16).unwrap(), None).unwrap();
    let loss = total(&y.cast(DType::F32).unwrap());
    let gradients = backward(&loss).unwrap();
    let gradient = gradients.get(&master).unwrap();
    assert_eq!((gradient.dtype(), gradient.to_vec::<f32>().unwrap()), (DType::F32, vec![3.0, 4.0]));
}

#[test]
fn long_records_do_not_overflow_the_stack() {
    let device = cpu();
    let x = Variable::new(Tensor::from_slice(&device, &[1], &[1f32]).unwrap()).unwrap();
    let run = move || {
        let mut y = (*x).clone();
        for _ in 0..50_000 {
            y = unary(Function::Neg, &y).unwrap();
        }
        drop(y);
    };
    std::thread::Builder::new().stack_size(256 * 1024).spawn(run).unwrap().join().unwrap();
}
