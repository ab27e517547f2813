//! What bf16 costs, ours and PyTorch's: `cargo run --release -p tubelet-benches --bin accuracy -- FIXTURES > benches/results/accuracy-bf16.md`.
//!
//! An error is `max |bf16 − f32| / max |f32|`. FIXTURES is a folder as `tubelet parity` takes it. PyTorch's errors come from `benches/peer/torch_accuracy.py`,
//! by the Python of `TUBELET_PYTHON`, of the models in the program `TUBELET_PEER`; both as `compare` has them.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use serde_json::Value;
use tubelet_benches::Case;
use tubelet_engine::{
    DType, Device, Function, Op, Operand, Philox, Result, Tensor,
    ops::{
        attention::Attention, conv3d::Conv3d, conv3d_depthwise::Conv3dDepthwise, gemm::Gemm, layer_norm::LayerNorm,
        softmax::Softmax, unary::Unary,
    },
};
use tubelet_models::{
    Pass,
    checkpoint::Checkpoint,
    devices,
    params::Params,
    parity,
    registry::Config,
    train::{Stages, Trainer},
    video::Views,
};

/// Normal numbers that bf16 holds exactly, as f32.
fn normal(d: &Device, shape: &[usize]) -> Result<Tensor> {
    let mut rng = Philox::new(7);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_f32(d, DType::BF16, shape, &data)?.cast(DType::F32)
}

fn error(low: &Tensor, high: &Tensor) -> Result<f64> {
    let (low, high) = (low.to_f64_vec()?, high.to_f64_vec()?);
    // Once not a number, always so: `f64::max` would forget it.
    let larger = |m: f64, d: f64| if m.is_nan() || d.is_nan() { f64::NAN } else { m.max(d) };
    let worst = low.iter().zip(&high).fold(0.0, |m, (a, b)| larger(m, (a - b).abs()));
    Ok(worst / high.iter().fold(0.0, |m: f64, x| m.max(x.abs())))
}

/// The error of an operation on operands of these shapes; the second is prepared as a weight where there is such a form.
fn kernel(d: &Device, label: &str, op: impl Into<Op>, shapes: &[&[usize]], prepared: Option<Operand>) -> Result<(String, f64)> {
    let op = op.into();
    let result = |dtype: DType| -> Result<Tensor> {
        let operand = |(i, shape): (usize, &&[usize])| {
            let x = normal(d, shape)?.cast(dtype)?;
            prepared.filter(|_| i == 1).map_or(Ok(x.clone()), |form| x.prepare(form))
        };
        let inputs = shapes.iter().enumerate().map(operand).collect::<Result<Vec<_>>>()?;
        let case = Case::new(label, op.clone(), inputs);
        case.run().swap_remove(0).cast(DType::F32)
    };
    Ok((label.into(), error(&result(DType::BF16)?, &result(DType::F32)?)?))
}

fn kernels(d: &Device) -> Result<Vec<(String, f64)>> {
    let heads: &[usize] = &[1, 1, 540, 12, 64];
    let rows: &[usize] = &[1576, 768];
    let gelu = |function| Unary { function };
    Ok(vec![
        kernel(d, "gemm 1576×768×3072", Gemm::default(), &[&[1576, 3072], &[768, 3072], &[768]], Some(Operand::GemmWeight))?,
        kernel(d, "attention joint 540", Attention { scale: 0.125, axis: 2, lse: false }, &[heads; 3], None)?,
        kernel(
            d,
            "conv3d [8, 8, 8]",
            Conv3d::new([16, 32, 32]),
            &[&[1, 32, 224, 224, 3], &[768, 8, 8, 8, 3]],
            Some(Operand::Conv3dWeight),
        )?,
        kernel(
            d,
            "conv3d_depthwise [3, 3, 3]",
            Conv3dDepthwise { padding: [1; 3] },
            &[&[1, 8, 14, 14, 768], &[3, 3, 3, 768]],
            None,
        )?,
        kernel(d, "layer_norm 1576×768", LayerNorm { eps: 1e-6 }, &[rows, &[768], &[768]], None)?,
        kernel(d, "softmax 2364×197", Softmax { log: false }, &[&[2364, 197]], None)?,
        kernel(d, "gelu_erf 1576×3072", gelu(Function::GeluErf), &[&[1576, 3072]], None)?,
        kernel(d, "gelu_tanh 1576×3072", gelu(Function::GeluTanh), &[&[1576, 3072]], None)?,
    ])
}

/// A model with random weights, which bf16 rounds; its video is held exactly.
fn model(d: &Device, preset: &str) -> Result<f64> {
    let config = Config::named(preset)?;
    let input = config.input();
    let video = normal(d, &[1, input.frames, input.size[0], input.size[1], 3])?;
    let logits = |dtype: DType| -> Result<Tensor> {
        let model = config.random(d, dtype, 0)?;
        model.forward(&video.cast(dtype)?, &mut Pass::inference())?.cast(DType::F32)
    };
    error(&logits(DType::BF16)?, &logits(DType::F32)?)
}

/// Right predictions in f32, in bf16, and how many clips both give the same class, of the held-out clips of camera motion.
fn camera_motion(d: &Device) -> Result<[usize; 4]> {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights/camera-motion.safetensors");
    let file = Checkpoint::open(&weights)?;
    let evaluate = |dtype: DType| {
        let mut recipe = Stages::named("camera-motion")?.into_last()?;
        recipe.precision = dtype.name().into();
        let config = recipe.config()?;
        let sets = recipe.data.open(recipe.batch, &config)?;
        let naming = config.naming(&file, None)?;
        let trainer = Trainer::new(recipe, d, Params::from_file(d, DType::F32, &file, &*naming))?;
        let set = sets.first().and_then(|set| set.held_out.as_ref());
        let set = set.ok_or_else(|| tubelet_engine::Error::invalid("camera-motion", "no held-out clips"))?;
        trainer.evaluate(0, &**set, Views::CENTRE, u64::MAX, &mut |_| Ok(()))
    };
    let [high, low] = [evaluate(DType::F32)?, evaluate(DType::BF16)?];
    let right = |found: &tubelet_models::train::Evaluation| (0..found.confusion.len()).map(|i| found.confusion[i][i]).sum();
    let same = high.predictions.iter().zip(&low.predictions).filter(|(a, b)| a == b).count();
    Ok([right(&high), right(&low), same, high.predictions.len()])
}

/// PyTorch's errors by name.
fn torch() -> Value {
    let python = std::env::var_os("TUBELET_PYTHON").unwrap_or_else(|| "python3".into());
    let peer = std::env::var_os("TUBELET_PEER").map_or_else(|| PathBuf::from("../shared/peers/torch_peer.py"), PathBuf::from);
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/torch_accuracy.py")).arg(peer).arg("2");
    let output = command.stderr(Stdio::inherit()).output();
    output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default()
}

fn print(fixtures: &Path) -> Result<()> {
    let d = devices::open("cpu")?;
    println!("# bf16 beside f32, on the CPU\n");
    println!("An error is `max |bf16 − f32| / max |f32|`. Device: {}.\n", d.backend().description());
    println!("## Models of the fixtures: logits beside those in f32 that the files hold\n\n| fixture | error |\n|---|---|");
    for row in parity::logits_in(fixtures, &d, DType::BF16)?.rows {
        println!("| {} | {:.1e} |", row.file, row.error);
    }
    let torch = torch();
    let theirs = |name: &str| torch[name].as_f64().map_or("–".into(), |error| format!("{error:.1e}"));
    println!("\n## Kernels on normal numbers, beside PyTorch\n\n| kernel | ours | PyTorch |\n|---|---|---|");
    for (label, error) in kernels(&d)? {
        println!("| {label} | {error:.1e} | {} |", theirs(&label));
    }
    println!(
        "\n## Whole models with random weights, beside PyTorch's of the same build\n\n| model | ours | PyTorch |\n|---|---|---|"
    );
    for (preset, other) in [
        ("tubevit-b", "tubevit-b"),
        ("vivit-b-fe", "vivit-fe-b"),
        ("vidtr-s", "vidtr-s"),
        ("uniformerv2-b16-ssv2-16", "uniformerv2-b-sth"),
    ] {
        eprintln!("{preset}");
        println!("| {preset} | {:.1e} | {} |", model(&d, preset)?, theirs(other));
    }
    eprintln!("camera motion");
    let [high, low, same, all] = camera_motion(&d)?;
    println!(
        "\n## Camera motion, the model in the box, {all} held-out clips\n\nRight in f32: {high}; in bf16: {low}; the same class in both: {same}."
    );
    Ok(())
}

fn main() -> ExitCode {
    let Some(fixtures) = std::env::args().nth(1) else {
        eprintln!("accuracy FIXTURES: see the head of benches/accuracy.rs");
        return ExitCode::FAILURE;
    };
    match print(Path::new(&fixtures)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("accuracy: {error}");
            ExitCode::FAILURE
        }
    }
}
