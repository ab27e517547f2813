//! Training: interruptions, broken data, and that all four systems learn.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::AtomicBool,
    time::Duration,
};

use common::{folder, small};
use tubelet_engine::{Device, Philox};
use tubelet_models::{
    checkpoint::Checkpoint,
    registry::Config,
    train::{Event, Options, Outcome, Recipe, files, run},
};

fn train(recipe: &Recipe, folder: &Path, resume: bool, stop: &AtomicBool, observe: &mut dyn FnMut(Event<'_>)) -> Outcome {
    common::train(&Device::cpu().unwrap(), recipe, folder, resume, stop, observe)
}

fn weights(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("weights.safetensors")).unwrap()
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn an_interrupted_run_ends_with_the_same_bits() {
    for system in ["tubevit", "vivit", "vidtr", "uniformerv2"] {
        let recipe = small(system);
        let [whole, parts] = ["whole", "parts"].map(|name| folder(&format!("{name}-{system}")));
        assert!(train(&recipe, &whole, false, &never(), &mut |_| {}).finished);
        let stop = never();
        let outcome = train(&recipe, &parts, false, &stop, &mut |event| {
            if let Event::Step { done: 7, .. } = event {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        });
        assert_eq!((outcome.finished, outcome.steps), (false, 7), "{system}");
        assert!(train(&recipe, &parts, true, &never(), &mut |_| {}).finished);
        assert!(weights(&whole) == weights(&parts), "{system}: other bits after an interruption");
    }
}

/// A folder where the checkpoint's file should be fails like a full disk, after everything was computed.
#[test]
fn a_run_survives_checkpoints_that_cannot_be_written() {
    let recipe = small("tubevit");
    let [whole, full] = ["enough-room", "no-room"].map(folder);
    assert!(train(&recipe, &whole, false, &never(), &mut |_| {}).finished);
    let blocked = full.join("next.safetensors");
    fs::create_dir_all(&blocked).unwrap();
    let mut notes = Vec::new();
    let outcome = train(&recipe, &full, false, &never(), &mut |event| {
        if let Event::Note(note) = event {
            notes.push(note);
            // Somebody makes room.
            fs::remove_dir(&blocked).unwrap();
        }
    });
    assert!(outcome.finished && notes.len() == 1, "{notes:?}");
    assert!(notes[0].contains("no checkpoint") && notes[0].contains("next.safetensors"), "{notes:?}");
    assert!(weights(&whole) == weights(&full));
    // Where nobody does, the fourth is too many.
    let never_room = folder("never-room");
    fs::create_dir_all(never_room.join("next.safetensors")).unwrap();
    let mut notes = 0;
    let (device, stop, recipe) = (Device::cpu().unwrap(), never(), Recipe { checkpoint_every: 1, ..recipe });
    let options = Options {
        device,
        folder: never_room.clone(),
        resume: false,
        start: None,
        start_model: None,
        start_state_dict: None,
        threads: 1,
        captured: false,
        strict: false,
        stop: &stop,
    };
    let error = run(recipe, &options, &mut |event| notes += u32::from(matches!(event, Event::Note(_)))).unwrap_err();
    assert!(error.to_string().contains("next.safetensors"), "{error}");
    assert_eq!(notes, 3);
}

#[test]
fn a_truncated_checkpoint_gives_way_to_the_one_before() {
    let recipe = small("tubevit");
    let [whole, broken] = ["whole", "broken"].map(folder);
    train(&recipe, &whole, false, &never(), &mut |_| {});
    let stop = never();
    train(&recipe, &broken, false, &stop, &mut |event| {
        if let Event::Step { done: 11, .. } = event {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let [last, previous] = files(&broken);
    assert!(previous.exists(), "the checkpoint of step 10");
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let mut notes = Vec::new();
    train(&recipe, &broken, true, &never(), &mut |event| {
        if let Event::Note(note) = event {
            notes.push(note);
        }
    });
    assert!(notes.iter().any(|n| n.contains("cannot be read")) && notes.iter().any(|n| n.contains("step 10")), "{notes:?}");
    assert!(weights(&whole) == weights(&broken));
}

fn start(recipe: &Path, folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tubelet"));
    command.args(["train", recipe.to_str().unwrap(), "--resume", "--out", folder.to_str().unwrap()]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_at_twenty_random_moments_a_run_still_ends_with_the_same_bits() {
    let here = folder("kill");
    let mut recipe = small("tubevit");
    (recipe.steps, recipe.checkpoint_every) = (60, 3);
    let file = here.join("recipe.json");
    fs::write(&file, serde_json::to_vec(&recipe).unwrap()).unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| here.join(name));
    assert!(start(&file, &whole).wait().unwrap().success());
    let mut rng = Philox::new(17);
    for _ in 0..20 {
        let mut child = start(&file, &killed);
        std::thread::sleep(Duration::from_millis(rng.range(20, 400) as u64));
        // On Unix this is SIGKILL: no handler runs.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(start(&file, &killed).wait().unwrap().success());
    assert!(weights(&whole) == weights(&killed));
}

#[test]
fn a_run_in_a_used_folder_needs_resume() {
    let (recipe, here) = (small("tubevit"), folder("used"));
    train(&recipe, &here, false, &never(), &mut |_| {});
    let device = Device::cpu().unwrap();
    let stop = never();
    let options = |resume| Options {
        device: device.clone(),
        folder: here.clone(),
        resume,
        start: None,
        start_model: None,
        start_state_dict: None,
        threads: 1,
        captured: false,
        strict: false,
        stop: &stop,
    };
    let error = run(recipe.clone(), &options(false), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("--resume"), "{error}");
    let error = run(Recipe { learning_rate: 0.5, ..recipe }, &options(true), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("another recipe"), "{error}");
}

/// SFA (section 3): few frames and everything trained, then more frames, the spatial encoder frozen, an adapter, and the temporal encoder from
/// the first stage.
#[test]
fn a_second_stage_starts_from_the_first_and_leaves_the_spatial_encoder_alone() {
    let here = folder("sfa");
    let mut recipe = small("vivit");
    (recipe.steps, recipe.average) = (4, None);
    train(&recipe, &here.join("first"), false, &never(), &mut |_| {});
    let first = recipe.config().unwrap();
    let mut model = serde_json::to_value(&first).unwrap();
    model["input"]["frames"] = 16.into();
    model["adapter"] = serde_json::to_value(match Config::named("sfa-vivit-b-8").unwrap() {
        Config::Vivit(vivit) => vivit.adapter,
        _ => None,
    })
    .unwrap();
    recipe.model = serde_json::from_value(model).unwrap();
    recipe.freeze = vec!["patch_embed".into(), "spatial".into()];
    let start = here.join("first/weights.safetensors");
    let options = Options {
        device: Device::cpu().unwrap(),
        folder: here.join("second"),
        resume: false,
        start: Some(start.clone()),
        start_model: Some(first),
        start_state_dict: None,
        threads: 1,
        captured: false,
        strict: false,
        stop: &never(),
    };
    assert!(run(recipe, &options, &mut |_| {}).unwrap().finished);
    let [before, after] = [start, here.join("second/weights.safetensors")].map(|path| Checkpoint::open(&path).unwrap());
    let same = |name: &str| before.read(name).unwrap() == after.read(name).unwrap();
    let (mut frozen, mut moved) = (0, 0);
    for name in before.entries().keys() {
        let spatial = name.starts_with("spatial") || name.starts_with("patch_embed");
        assert!(!spatial || same(name), "{name} changed");
        frozen += usize::from(spatial);
        moved += usize::from(name.starts_with("temporal.blocks") && !same(name));
    }
    assert!(frozen > 10 && moved > 5, "{frozen} frozen, {moved} moved");
    assert!(after.entries().keys().any(|name| name.contains("adapter")));
}

/// Two classes that differ in brightness, a broken file and an empty one among them.
fn videos(here: &Path) {
    for (class, level) in [("dark", 40u8), ("light", 210)] {
        let class = here.join(class);
        fs::create_dir_all(&class).unwrap();
        for i in 0..4u8 {
            let mut y4m = b"YUV4MPEG2 W32 H32 F25:1 C444\n".to_vec();
            for t in 0..12u8 {
                y4m.extend_from_slice(b"FRAME\n");
                y4m.extend((0..32 * 32).map(|p| level.wrapping_add((p as u8).wrapping_mul(i + t) % 20)));
                y4m.extend([128u8; 2 * 32 * 32]);
            }
            fs::write(class.join(format!("{i}.y4m")), y4m).unwrap();
        }
    }
    fs::write(here.join("dark/broken.y4m"), b"YUV4MPEG2 W32 H32 F25:1 C444\nFRAME\nshort").unwrap();
    fs::write(here.join("light/empty.y4m"), b"").unwrap();
}

#[test]
fn broken_videos_are_told_and_training_goes_on() {
    let here = folder("videos");
    videos(&here.join("data"));
    let mut recipe = small("tubevit");
    let mut model = serde_json::to_value(recipe.config().unwrap()).unwrap();
    model["datasets"][0]["classes"] = 2.into();
    recipe.model = serde_json::from_value(model).unwrap();
    let data = here.join("data");
    recipe.data = serde_json::from_value(serde_json::json!({ "kind": "files", "train": data, "validation": data })).unwrap();
    (recipe.steps, recipe.regularisation, recipe.augmentation) = (40, Default::default(), Default::default());
    recipe.schedule = serde_json::from_str(r#"{"kind": "constant"}"#).unwrap();
    recipe.average = None;
    let (mut unread, mut notes) = (0, Vec::new());
    let outcome = train(&recipe, &here.join("run"), false, &never(), &mut |event| match event {
        Event::Step { skipped, .. } => unread = skipped,
        Event::Note(note) => notes.push(note),
        Event::Evaluated { .. } => {}
    });
    let evaluation = outcome.evaluation.unwrap();
    assert_eq!((evaluation.skipped, evaluation.accuracy.total), (2, 8));
    // Each clip is counted and told once, however often it was tried; at the end again.
    assert_eq!(unread, 2);
    let told =
        |lines: &[String], what: &str| lines.iter().filter(|line| line.starts_with(what) && line.contains("empty")).count();
    assert_eq!((told(&notes, "training: "), told(&notes, "validation: "), notes.len()), (1, 1, 4), "{notes:?}");
    assert_eq!((told(&outcome.summary, "training: 2 of 10 clips"), outcome.summary.len()), (1, 2), "{:?}", outcome.summary);
    let log = fs::read_to_string(here.join("run/metrics.jsonl")).unwrap();
    let lines = || log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(lines().filter(|line| line["skipped"]["reason"].is_string()).count(), 4, "{log}");
    let shares = lines().filter(|line| line["decoding"].as_f64().is_some_and(|share| share > 0.0 && share <= 1.0));
    assert!(shares.filter(|line| line["waiting"].is_f64()).count() >= 4, "{log}");
    // A strict run ends.
    let (device, stop) = (Device::cpu().unwrap(), never());
    let strict = Options {
        device,
        folder: here.join("strict"),
        resume: false,
        start: None,
        start_model: None,
        start_state_dict: None,
        threads: 1,
        captured: false,
        strict: true,
        stop: &stop,
    };
    let error = run(recipe.clone(), &strict, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("--strict") && (error.contains("broken.y4m") || error.contains("empty.y4m")), "{error}");
    assert_eq!(evaluation.accuracy.top1, 8, "dark and light are told apart: {evaluation:?}");
    // Only broken videos: an error that says so.
    let broken = here.join("broken");
    fs::create_dir_all(broken.join("a")).unwrap();
    fs::write(broken.join("a/x.y4m"), b"").unwrap();
    recipe.data = serde_json::from_value(serde_json::json!({ "kind": "files", "train": broken, "classes": 2 })).unwrap();
    let stop = never();
    let options = Options {
        device: Device::cpu().unwrap(),
        folder: here.join("hopeless"),
        resume: false,
        start: None,
        start_model: None,
        start_state_dict: None,
        threads: 1,
        captured: false,
        strict: false,
        stop: &stop,
    };
    let error = run(recipe, &options, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("in a row could not be read"), "{error}");
}

/// Six clips by heart: the loss falls to a part of chance in some dozens of steps, in f32 and with bf16 activations.
#[test]
fn all_four_systems_learn() {
    for (system, precision) in
        [("tubevit", "f32"), ("vivit", "f32"), ("vidtr", "f32"), ("uniformerv2", "f32"), ("tubevit", "bf16")]
    {
        let mut recipe = small(system);
        (recipe.steps, recipe.precision, recipe.accumulate) = (60, precision.into(), 2);
        (recipe.regularisation, recipe.augmentation, recipe.average) = (Default::default(), Default::default(), None);
        recipe.schedule = serde_json::from_str(r#"{"kind": "constant"}"#).unwrap();
        let here = folder(&format!("learn-{system}-{precision}"));
        videos(&here.join("data"));
        for file in ["dark/broken.y4m", "light/empty.y4m"] {
            fs::remove_file(here.join("data").join(file)).unwrap();
        }
        let mut model = serde_json::to_value(recipe.config().unwrap()).unwrap();
        match system {
            "tubevit" => model["datasets"][0]["classes"] = 2.into(),
            _ => model["classes"] = 2.into(),
        }
        recipe.model = serde_json::from_value(model).unwrap();
        recipe.data = serde_json::from_value(serde_json::json!({ "kind": "files", "train": here.join("data") })).unwrap();
        let mut losses = Vec::new();
        train(&recipe, &here.join("run"), false, &never(), &mut |event| {
            if let Event::Step { report, .. } = event {
                losses.push(report.loss);
            }
        });
        let late = losses[50..].iter().sum::<f64>() / 10.0;
        assert!(late < 0.35, "{system} {precision}: {losses:?}");
    }
}

#[test]
fn a_loss_that_explodes_names_the_operation() {
    let mut recipe = small("tubevit");
    (recipe.learning_rate, recipe.clip_norm, recipe.steps) = (1e30, None, 30);
    recipe.schedule = serde_json::from_str(r#"{"kind": "constant"}"#).unwrap();
    recipe.optimiser = serde_json::from_str(r#"{"kind": "sgd", "momentum": 0.9}"#).unwrap();
    let stop = never();
    let options = Options {
        device: Device::cpu().unwrap(),
        folder: folder("explodes"),
        resume: false,
        start: None,
        start_model: None,
        start_state_dict: None,
        threads: 1,
        captured: false,
        strict: false,
        stop: &stop,
    };
    let error = run(recipe, &options, &mut |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("step ")
            && ["gemm", "attention", "layer_norm", "conv3d", "unary", "binary"].iter().any(|op| error.contains(op)),
        "{error}"
    );
}
