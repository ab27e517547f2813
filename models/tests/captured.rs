//! Training steps that are captured and replayed have the bits of eager ones, whatever changes from step to step. On the emulator, and with
//! `TUBELET_TEST_DEVICE=cuda` on a GPU.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use common::{counted::device, folder, small};
use tubelet_cuda::driver::blank;
use tubelet_engine::{DType, Device, Philox};
use tubelet_models::{
    inspect::{self, measure_training, rehearsal},
    params::Params,
    registry::Config,
    train::{Event, Options, Recipe, Trainer, loader::Batch, parallel::Alone, run},
};

/// A recipe in which everything changes from step to step that can, or is random.
fn recipe(system: &str, optimiser: &str) -> Recipe {
    let mut recipe = small(system);
    (recipe.batch, recipe.steps, recipe.learning_rate, recipe.label_smoothing) = (2, 6, 2e-3, 0.1);
    recipe.optimiser = serde_json::from_str(optimiser).unwrap();
    recipe.schedule = serde_json::from_str(r#"{"kind": "cosine", "warm_up": 2}"#).unwrap();
    (recipe.clip_norm, recipe.average) = (Some(0.5), Some(0.9));
    recipe.data = serde_json::from_str(r#"{"kind": "camera_motion", "seed": 1, "held_out": 1}"#).unwrap();
    if system == "uniformerv2" {
        recipe.regularisation.global_drop_path = 0.3;
    }
    recipe
}

const SGD: &str = r#"{"kind": "sgd", "momentum": 0.9, "weight_decay": 0.01, "nesterov": true}"#;
const ADAM: &str = r#"{"kind": "adam", "weight_decay": 0.01}"#;
const ADAMW: &str = r#"{"kind": "adam_w", "weight_decay": 0.05}"#;

fn batch(recipe: &Recipe, rng: &mut Philox) -> Batch {
    let input = recipe.config().unwrap().input().clone();
    let clip = [input.frames, input.size[0], input.size[1]];
    let video = (0..recipe.batch * clip.iter().product::<usize>() * 3).map(|_| rng.below(256) as u8).collect();
    let labels: Vec<usize> = (0..recipe.batch).map(|_| rng.below(9)).collect();
    let target = |label: usize| (0..9).map(|class| if class == label { 0.75 } else { 0.03125 }).collect();
    Batch { video, clip, targets: labels.iter().map(|&label| target(label)).collect(), labels }
}

/// Everything of a run, by name.
fn bits(trainer: &Trainer) -> Vec<(String, Vec<u32>)> {
    let tensors = trainer.state().unwrap().tensors.into_iter();
    tensors.map(|(name, x)| (name, x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect())).collect()
}

/// Eager steps on one device and captured ones on another: reports and all tensors have the same bits.
fn replays(recipe: &Recipe, steps: usize, caching: bool) {
    let (plain, _) = device(caching);
    let (counted, asked) = device(caching);
    let mut eager = Trainer::random(recipe.clone(), &plain).unwrap();
    let mut captured = Trainer::random(recipe.clone(), &counted).unwrap();
    captured.capture(true).unwrap();
    let (mut rng, name) = (Philox::new(3), format!("{:?}", recipe.optimiser));
    let mut clipped = false;
    for step in 0..steps {
        let batches = [batch(recipe, &mut rng)];
        let expected = eager.step_with(&Alone, &batches).unwrap();
        let (before, live) = (asked.counts(), counted.memory().live);
        let report = captured.step_with(&Alone, &batches).unwrap();
        assert_eq!(report.loss.to_bits(), expected.loss.to_bits(), "{name}: loss of step {step}");
        assert_eq!(report.norm.to_bits(), expected.norm.to_bits(), "{name}: norm of step {step}");
        assert_eq!((report.learning_rate, report.accuracy.top1), (expected.learning_rate, expected.accuracy.top1));
        clipped |= report.norm > recipe.clip_norm.unwrap_or(f64::INFINITY);
        // The first step is eager, the second is captured.
        if step > 1 {
            let uploads = 2 * recipe.accumulate + if recipe.average.is_some() { 2 } else { 0 } + 1;
            let [allocations, frees, uploaded, copies, launches] = asked.counts();
            assert_eq!(
                [allocations, frees, uploaded - uploads, copies, launches],
                before,
                "{name}: a replay asks for nothing but itself"
            );
            assert_eq!(counted.memory().live, live);
        }
        for ((name, expected), (_, got)) in bits(&eager).iter().zip(&bits(&captured)) {
            assert!(expected == got, "{:?}: {name} after step {step}", recipe.optimiser);
        }
    }
    let (memory, launches) = captured.planned().unwrap();
    println!("{name}: {launches} launches and copies, {memory} bytes");
    assert!(clipped || recipe.clip_norm.is_none(), "the norm has to be clipped somewhere");
}

/// With memory that is reused, as on a GPU, and without, where the emulator sees every access beside a tensor.
#[test]
fn replayed_steps_have_the_bits_of_eager_ones() {
    replays(&recipe("tubevit", ADAM), 4, true);
    replays(&recipe("vivit", SGD), 3, false);
    replays(&Recipe { accumulate: 2, ..recipe("vidtr", ADAMW) }, 3, true);
    replays(&recipe("uniformerv2", ADAMW), 3, true);
    let plain = r#"{"kind": "sgd", "momentum": 0.0}"#;
    replays(&Recipe { clip_norm: None, average: None, precision: "bf16".into(), ..recipe("vidtr", plain) }, 3, true);
}

/// A step that overflows is named with the operation that it came from, as in an eager run.
#[test]
fn an_overflow_names_its_step() {
    let mut recipe = recipe("tubevit", r#"{"kind": "sgd", "momentum": 0.9}"#);
    (recipe.learning_rate, recipe.clip_norm, recipe.average) = (1e30, None, None);
    recipe.schedule = serde_json::from_str(r#"{"kind": "constant"}"#).unwrap();
    let [eager, captured] = [false, true].map(|captured| {
        let mut trainer = Trainer::random(recipe.clone(), &device(true).0).unwrap();
        trainer.capture(captured).unwrap();
        let mut rng = Philox::new(3);
        (0..10).find_map(|_| trainer.step(&batch(&recipe, &mut rng)).err()).unwrap().to_string()
    });
    assert_eq!(eager, captured);
    assert!(captured.contains("step ") && !captured.contains("step 1:"), "{captured}");
}

/// A run that is interrupted and goes on, captured, and one that is neither.
#[test]
fn a_captured_run_resumes_with_the_bits_of_an_eager_one() {
    let recipe = Recipe { steps: 5, ..recipe("tubevit", ADAMW) };
    let here = ["eager", "captured"].map(|name| folder(&format!("replay-{name}")));
    let train = |folder: &std::path::Path, captured: bool, last: u64| {
        let stop = AtomicBool::new(false);
        let (device, folder) = (device(true).0, folder.to_owned());
        let options = Options {
            device,
            folder,
            resume: true,
            start: None,
            start_model: None,
            start_state_dict: None,
            threads: 1,
            captured,
            strict: false,
            stop: &stop,
        };
        let outcome = run(recipe.clone(), &options, &mut |event| {
            if let Event::Step { done, .. } = event {
                stop.store(done == last, Ordering::Relaxed);
            }
        });
        outcome.unwrap().steps
    };
    assert_eq!(train(&here[0], false, 9), 5);
    assert_eq!([3, 9].map(|last| train(&here[1], true, last)), [3, 5]);
    let [eager, captured] = here.map(|folder| fs::read(folder.join("weights.safetensors")).unwrap());
    assert!(eager == captured);
}

/// A captured step reserves what an eager one has at its peak, state included, and next to nothing for how tensors lie in it: models of full size, on a
/// device on paper.
#[test]
fn steps_reserve_what_the_meter_counts() {
    for name in ["tubevit-b", "vivit-b-fe", "vidtr-s", "uniformerv2-b16-k400"] {
        let (config, device) = (Config::named(name).unwrap(), blank::device((8, 0)));
        let peak = measure_training(&config, inspect::ADAMW, 1, DType::BF16, &[]).unwrap().peak_bytes as usize;
        let params = Params::empty(&device, DType::F32);
        let (mut trainer, batch) = rehearsal(&config, inspect::ADAMW, 1, DType::BF16, &[], params).unwrap();
        trainer.capture(true).unwrap();
        for _ in 0..2 {
            trainer.step(&batch).unwrap();
        }
        let (memory, launches) = trainer.planned().unwrap();
        let live = device.memory().live;
        println!(
            "{name}: {launches} launches, {} MiB planned, {} with the state; the peak is {}",
            memory >> 20,
            live >> 20,
            peak >> 20
        );
        assert!(live <= peak + peak / 100, "{name}: {live} bytes, {peak} at the peak");
    }
}

#[test]
fn only_cuda_devices_capture() {
    let mut trainer = Trainer::random(recipe("vidtr", ADAM), &Device::cpu().unwrap()).unwrap();
    assert!(trainer.capture(true).unwrap_err().to_string().contains("not a CUDA device"));
}
