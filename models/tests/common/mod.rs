//! What tests of whole models share: recipes of seconds, and a WebGPU device.
#![allow(clippy::unwrap_used, dead_code, reason = "each test binary uses a part")]

pub mod counted;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use tubelet_engine::Device;
use tubelet_models::{
    devices,
    train::{Event, Options, Outcome, Recipe, run},
};

/// A folder of its own for each test, empty.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("training-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A recipe of a few seconds for a system's smallest model: two layers, and 8 frames of 24×24 pixels.
pub fn small(system: &str) -> Recipe {
    let mut recipe = Recipe::named(format!("camera-motion-{system}")).unwrap();
    let mut model = serde_json::to_value(recipe.config().unwrap()).unwrap();
    model["input"]["frames"] = 8.into();
    model["input"]["size"] = [24, 24].into();
    model["width"] = 48.into();
    match system {
        "vivit" => {
            model["spatial"]["layers"] = 2.into();
            (model["spatial"]["hidden"], model["temporal"]["hidden"]) = (96.into(), 96.into());
        }
        "uniformerv2" => (model["layers"], model["global_layers"]) = (2.into(), [0, 1].into()),
        _ => (model["layers"], model["hidden"]) = (2.into(), 96.into()),
    }
    recipe.model = serde_json::from_value(model).unwrap();
    (recipe.steps, recipe.batch, recipe.evaluate_every, recipe.checkpoint_every) = (12, 6, 0, 5);
    recipe.data = serde_json::from_str(r#"{"kind": "camera_motion", "seed": 1, "held_out": 9}"#).unwrap();
    // Everything that draws at random, so that an interruption would show.
    recipe.regularisation = serde_json::from_str(r#"{"drop_path": 0.2, "dropout": 0.1, "head_dropout": 0.2}"#).unwrap();
    recipe.augmentation =
        serde_json::from_str(r#"{"flip": 0.5, "colour_jitter": 0.2, "randaugment": 1, "magnitude": 3.0, "mixup": 0.2}"#).unwrap();
    recipe
}

/// Trains on `device` in `folder`.
pub fn train(
    device: &Device,
    recipe: &Recipe,
    folder: &Path,
    resume: bool,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event<'_>),
) -> Outcome {
    let (device, folder) = (device.clone(), folder.to_owned());
    let options = Options {
        device,
        folder,
        resume,
        start: None,
        start_model: None,
        start_state_dict: None,
        threads: 2,
        captured: false,
        strict: false,
        stop,
    };
    run(recipe.clone(), &options, observe).unwrap()
}

/// The device; `None`, with the reason printed, where this machine has no adapter. Where `TUBELET_TEST_DEVICE` asks for one, that is a failure.
pub fn wgpu() -> Option<Device> {
    match devices::open("wgpu") {
        Ok(device) => Some(device),
        Err(error) if std::env::var("TUBELET_TEST_DEVICE").is_err() => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
