//! The papers' ways of training, in small: several data sets with a head each, views in evaluation, stages, parts of other models.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{folder, small};
use serde_json::json;
use tubelet_engine::{DType, Device};
use tubelet_models::{
    checkpoint::Checkpoint,
    params::Params,
    registry::Config,
    train::{Evaluation, Event, Recipe, Store, write},
};

/// Clips of 12 frames of 96×32 pixels, three of each class; classes are levels of grey, in the middle third alone.
fn videos(here: &Path, levels: &[u8]) {
    for level in levels {
        let class = here.join(format!("level-{level:03}"));
        fs::create_dir_all(&class).unwrap();
        for i in 0..3u8 {
            let mut y4m = b"YUV4MPEG2 W96 H32 F25:1 C444\n".to_vec();
            for t in 0..12u8 {
                y4m.extend_from_slice(b"FRAME\n");
                let grey = |p: usize| if (32..64).contains(&(p % 96)) { *level } else { 128 };
                y4m.extend((0..96 * 32).map(|p| grey(p).wrapping_add((p as u8).wrapping_mul(i + t) % 20)));
                y4m.extend([128u8; 2 * 96 * 32]);
            }
            fs::write(class.join(format!("{i}.y4m")), y4m).unwrap();
        }
    }
}

/// Pictures likewise.
fn pictures(here: &Path, levels: &[u8]) {
    for level in levels {
        let class = here.join(format!("level-{level:03}"));
        fs::create_dir_all(&class).unwrap();
        for i in 0..3u8 {
            let pixel = |x: u32, y: u32| image::Rgb([level.wrapping_add((x as u8 ^ y as u8).wrapping_mul(i) % 20); 3]);
            image::RgbImage::from_fn(32, 32, pixel).save(class.join(format!("{i}.png"))).unwrap();
        }
    }
}

fn tensor(folder: &Path, name: &str) -> Vec<u8> {
    Checkpoint::open(&folder.join("weights.safetensors")).unwrap().read(name).unwrap()
}

/// A recipe with two sets: videos of two classes, images of three, with tubes for both.
fn joint(here: &Path) -> Recipe {
    let (video, images) = (here.join("video"), here.join("images"));
    videos(&video, &[40, 210]);
    pictures(&images, &[20, 120, 220]);
    let mut recipe = small("tubevit");
    let mut model = serde_json::to_value(recipe.config().unwrap()).unwrap();
    model["tubes"] = json!([
        { "kernel": [4, 8, 8], "stride": [4, 8, 8], "offset": [0, 0, 0] },
        { "kernel": [1, 8, 8], "stride": [8, 8, 8], "offset": [0, 0, 0] },
    ]);
    model["datasets"] = json!([{ "name": "clips", "classes": 2 }, { "name": "pictures", "classes": 3 }]);
    recipe.model = serde_json::from_value(model).unwrap();
    let sets = json!([
        { "name": "pictures", "clips": 4, "data": { "kind": "files", "train": images, "validation": images, "images": true } },
        { "name": "clips", "clips": 2, "data": { "kind": "files", "train": video, "validation": video } },
    ]);
    recipe.data = serde_json::from_value(json!({ "kind": "joint", "sets": sets })).unwrap();
    (recipe.steps, recipe.average) = (60, None);
    (recipe.regularisation, recipe.augmentation) = (Default::default(), Default::default());
    recipe.schedule = serde_json::from_str(r#"{"kind": "constant"}"#).unwrap();
    recipe
}

/// TubeViT, section 3.5: both sets are learned, each by its head, and interruptions leave the bits alone.
#[test]
fn images_and_videos_train_one_model_with_two_heads() {
    let here = folder("joint");
    let recipe = joint(&here);
    let device = Device::cpu().unwrap();
    let evaluations = Mutex::new(Vec::<(Option<String>, Evaluation)>::new());
    let stop = AtomicBool::new(false);
    let mut observe = |event: Event<'_>| {
        if let Event::Evaluated { set, evaluation, .. } = event {
            evaluations.lock().unwrap().push((set.map(str::to_owned), evaluation.clone()));
        }
    };
    let whole = here.join("whole");
    assert!(common::train(&device, &recipe, &whole, false, &stop, &mut observe).finished);
    let evaluations = evaluations.into_inner().unwrap();
    let names: Vec<_> = evaluations.iter().map(|(set, _)| set.as_deref()).collect();
    assert_eq!(names, [Some("pictures"), Some("clips")]);
    for (set, evaluation) in &evaluations {
        let accuracy = evaluation.accuracy;
        assert_eq!(accuracy.top1, accuracy.total, "{set:?}: {evaluation:?}");
        assert_eq!(evaluation.confusion.len(), if set.as_deref() == Some("clips") { 2 } else { 3 });
    }
    let log = fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    assert!(log.contains(r#""set":"pictures""#) && log.contains(r#""set":"clips""#), "{log}");
    // Interrupted, the same.
    let parts = here.join("parts");
    common::train(&device, &recipe, &parts, false, &stop, &mut |event| {
        if let Event::Step { done: 13, .. } = event {
            stop.store(true, Ordering::Relaxed);
        }
    });
    stop.store(false, Ordering::Relaxed);
    assert!(common::train(&device, &recipe, &parts, true, &stop, &mut |_| {}).finished);
    for name in ["head.weight", "head.pictures.weight", "tubes.0.weight", "tubes.1.weight"] {
        assert!(tensor(&whole, name) == tensor(&parts, name), "{name}");
    }
}

#[test]
fn sets_that_do_not_fit_are_named() {
    let here = folder("joint-errors");
    let recipe = joint(&here);
    let text = serde_json::to_string(&recipe).unwrap();
    let refused = |from: &str, to: &str| Recipe::parse("x", &text.replace(from, to)).unwrap_err().to_string();
    assert!(refused(r#""clips":4"#, r#""clips":5"#).contains("7 clips of a batch, which has 6"));
    assert!(refused(r#""accumulate":1"#, r#""accumulate":3"#).contains("not a positive multiple"));
    let other = Recipe::parse("x", &text.replace(r#""name":"pictures","clips""#, r#""name":"paintings","clips""#)).unwrap();
    let stop = AtomicBool::new(false);
    let options = tubelet_models::train::Options {
        device: Device::cpu().unwrap(),
        folder: here.join("run"),
        resume: false,
        start: None,
        start_model: None,
        start_state_dict: None,
        threads: 1,
        captured: false,
        strict: false,
        stop: &stop,
    };
    let error = tubelet_models::train::run(other, &options, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("no head for the set \"paintings\""), "{error}");
}

/// The same weights, looked at in one view and in six.
#[test]
fn evaluation_averages_the_views_of_a_video() {
    let here = folder("views");
    let mut recipe = joint(&here);
    let sets = serde_json::to_value(&recipe.data).unwrap();
    recipe.data = serde_json::from_value(sets["sets"][1]["data"].clone()).unwrap();
    recipe.steps = 20;
    let losses = [None, Some([1, 1]), Some([2, 3])].map(|views| {
        recipe.views = views.map(|[clips, crops]| tubelet_models::video::Views { clips, crops });
        let run = here.join(format!("{views:?}"));
        let outcome = common::train(&Device::cpu().unwrap(), &recipe, &run, false, &AtomicBool::new(false), &mut |_| {});
        outcome.evaluation.unwrap().loss
    });
    assert!(losses[0] == losses[1] && losses[0] != losses[2], "{losses:?}");
    let text = serde_json::to_string(&recipe).unwrap();
    let error = Recipe::parse("x", &text.replace(r#""crops":3"#, r#""crops":2"#)).unwrap_err().to_string();
    assert!(error.contains("1 or 3 crops"), "{error}");
}

/// TubeViT, section 3.6: the tubes of a small model, the layers of a larger image model, and a gate that lets the tokens in late.
#[test]
fn a_large_image_model_takes_the_tubes_of_a_small_video_model() {
    let here = folder("scaling");
    let device = Device::cpu().unwrap();
    let never = AtomicBool::new(false);
    let mut recipe = joint(&here);
    (recipe.steps, recipe.learning_rate) = (8, 0.01);
    let mut small = serde_json::to_value(recipe.config().unwrap()).unwrap();
    small["width"] = 24.into();
    recipe.model = serde_json::from_value(small.clone()).unwrap();
    common::train(&device, &recipe, &here.join("small"), false, &never, &mut |_| {});
    let mut image = serde_json::to_value(Config::named("vit-b16").unwrap()).unwrap();
    for (field, value) in [("patch", 8), ("width", 96), ("layers", 3), ("heads", 3), ("hidden", 192), ("classes", 5)] {
        image[field] = value.into();
    }
    image["input"]["size"] = json!([24, 24]);
    let config: Config = serde_json::from_value(image.clone()).unwrap();
    let weights = Store::collect(&config, Params::random(&device, DType::F32, 5), &[]).unwrap().values;
    fs::create_dir_all(here.join("image")).unwrap();
    write(&here.join("image/weights.safetensors"), &Default::default(), &weights).unwrap();
    // Four neighbours of 24 channels make a token of 96; the image patch has 96 of its own.
    let mut large = small.clone();
    for (field, value) in [("width", 96), ("layers", 3), ("heads", 3), ("hidden", 192)] {
        large[field] = value.into();
    }
    large["tubes"][0]["space_to_depth"] = json!([1, 2, 2]);
    large["late"] = json!({ "layer": 2 });
    recipe.model = serde_json::from_value(large).unwrap();
    let [image_file, tubes] = ["image", "small"].map(|run| here.join(run).join("weights.safetensors"));
    recipe.start = serde_json::from_value(json!([
        { "model": image, "weights": image_file },
        { "model": small, "weights": tubes, "take": ["tubes.0."] },
    ]))
    .unwrap();
    recipe.freeze = ["tubes.", "blocks.0.", "blocks.1."].map(String::from).to_vec();
    let run = here.join("large");
    assert!(common::train(&device, &recipe, &run, false, &never, &mut |_| {}).finished);
    assert!(tensor(&run, "tubes.0.weight") == tensor(&here.join("small"), "tubes.0.weight"), "the small model's tubes");
    assert!(tensor(&run, "tubes.1.weight") == tensor(&here.join("image"), "patch_embed.proj.weight"), "the image's patch");
    let same = |name: &str| tensor(&run, name) == tensor(&here.join("image"), name);
    assert!(same("blocks.0.attn.qkv.weight") && same("blocks.1.mlp.fc2.weight"), "frozen");
    assert!(!same("blocks.2.attn.qkv.weight") && !same("norm.weight"), "trained");
    assert!(tensor(&run, "late.alpha") != [0; 4], "the gate opens");
    // What gives nothing is named.
    recipe.start[1].take = vec!["tubes.7.".into()];
    let text = serde_json::to_string(&recipe).unwrap();
    let file = here.join("recipe.json");
    fs::write(&file, text).unwrap();
    let output = program(&file, &here.join("nothing"), false).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("\"tubes.7.\""));
}

fn program(recipe: &Path, out: &Path, resume: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tubelet"));
    command.args(["train", recipe.to_str().unwrap(), "--out", out.to_str().unwrap()]).args(resume.then_some("--resume"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// SFA, section 3: few frames with everything trained, then more of them with the spatial encoder frozen and an adapter, by one command.
#[test]
fn sfa_is_one_command_that_may_be_killed() {
    let here = folder("stages");
    let mut recipe = small("vivit");
    (recipe.steps, recipe.checkpoint_every) = (10, 3);
    let adapter = match Config::named("sfa-vivit-b-8").unwrap() {
        Config::Vivit(vivit) => serde_json::to_value(vivit.adapter).unwrap(),
        _ => unreachable!("it is a ViViT"),
    };
    let mut fields = serde_json::to_value(&recipe).unwrap();
    let change =
        json!({ "model": { "input": { "frames": 16 }, "adapter": adapter }, "freeze": ["patch_embed", "spatial"], "steps": 6 });
    fields["stages"] = json!([{ "name": "few-frames" }, { "name": "more-frames", "change": change }]);
    let file = here.join("recipe.json");
    fs::write(&file, fields.to_string()).unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| here.join(name));
    let output = program(&file, &whole, false).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (few, more) = (whole.join("few-frames"), whole.join("more-frames"));
    for name in ["spatial.blocks.0.attn.qkv.weight", "patch_embed.proj.weight"] {
        assert!(tensor(&few, name) == tensor(&more, name), "{name} is frozen");
    }
    let temporal = "temporal.blocks.0.attn.qkv.weight";
    assert!(tensor(&few, temporal) != tensor(&more, temporal));
    // Killed in either stage, the same bits. Stage two cannot begin before stage one has ended.
    for milliseconds in [150, 300, 450, 600, 750] {
        let mut child = program(&file, &killed, true).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(program(&file, &killed, true).output().unwrap().status.success());
    assert!(tensor(&more, temporal) == tensor(&killed.join("more-frames"), temporal), "other bits after being killed");
    // A second run without --resume is refused.
    assert!(!program(&file, &whole, false).output().unwrap().status.success());
}

/// UniFormerV2, section 4.1: after Kinetics-710 the head of Kinetics-400 begins with the rows of its classes.
#[test]
fn fine_tuning_takes_the_rows_of_the_classes_that_it_keeps() {
    let here = folder("rows");
    let mut recipe = small("uniformerv2");
    (recipe.steps, recipe.average) = (3, None);
    let mut fields = serde_json::to_value(&recipe).unwrap();
    let rows = here.join("rows.json");
    fs::write(&rows, "[8, 7, 6, 5, 4, 3, 2, 1, 0]").unwrap();
    // A learning rate that changes nothing, to see what it begins with.
    let change = json!({ "head_rows": rows, "learning_rate": 1e-30, "steps": 1 });
    fields["stages"] = json!([{ "name": "post-pretraining" }, { "name": "fine-tuning", "change": change }]);
    let file = here.join("recipe.json");
    fs::write(&file, fields.to_string()).unwrap();
    let output = program(&file, &here.join("run"), false).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [first, second] = ["post-pretraining", "fine-tuning"].map(|name| here.join("run").join(name));
    let (old, new) = (tensor(&first, "head.fc.weight"), tensor(&second, "head.fc.weight"));
    let row = old.len() / 9;
    assert!(old.chunks(row).rev().eq(new.chunks(row)) && old != new);
    let block = "blocks.0.attn.qkv.weight";
    assert!(tensor(&first, block) == tensor(&second, block));
    // Rows that are not there.
    fs::write(&rows, "[9, 7, 6, 5, 4, 3, 2, 1, 0]").unwrap();
    fs::remove_dir_all(&second).unwrap();
    let output = program(&file, &here.join("run"), true).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("row 9"), "{error}");
}
