//! Roll-outs of models whose attention is known, and of every variant.
#![allow(clippy::unwrap_used)]

use tubelet_models::{
    Pass,
    engine::{DType, Device, Tensor},
    params::{Naming, Params, Reader, TensorFile},
    registry::Config,
    rollout::{Rollout, look},
    uniformerv2::UniformerV2Config,
    video::Frames,
    vidtr::{Mixing, Pool, Pooling, VidTrConfig},
};

/// Weights with which every query is the same, and a key is large for a bright token and 0 for a dark one; no layer changes the tokens.
struct Seeker(Device);

impl Seeker {
    fn value(name: &str, shape: &[usize], i: usize) -> f32 {
        let (last, rows) = (shape[shape.len() - 1], shape[0]);
        let (row, column) = (i / last.max(1), i % last.max(1));
        let third = rows / 3;
        match name {
            // A bright patch becomes (b, 0, 0 …), which a norm makes large in the first channel; everything else stays 0.
            _ if name.ends_with("patch_embed.proj.weight") || name.starts_with("tubes.") && name.ends_with("weight") => {
                f32::from(i < shape.iter().skip(1).product())
            }
            _ if name.contains("norm") && name.ends_with("weight") => 1.0,
            _ if name.contains("norm") && name.ends_with("var") => 1.0,
            _ if name.ends_with("qkv.bias") => f32::from(row * last + column < third),
            _ if name.ends_with("qkv.weight") && (third..2 * third).contains(&row) => f32::from(column == 0) * 40.0,
            _ => 0.0,
        }
    }
}

impl Naming for Seeker {
    fn name(&self) -> &'static str {
        "seeker"
    }

    fn translate(&self, name: &str, shape: &[usize], _: &mut Reader<'_>) -> tubelet_models::Result<Option<Tensor>> {
        let n = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..n).map(|i| Seeker::value(name, shape, i)).collect();
        Tensor::from_f32(&self.0, DType::F32, shape, &values).map(Some)
    }
}

impl TensorFile for Seeker {
    fn shapes(&self) -> std::collections::BTreeMap<String, Vec<usize>> {
        Default::default()
    }

    fn load(&self, name: &str, _: &Device) -> tubelet_models::Result<Tensor> {
        panic!("{name} is made, not loaded")
    }
}

/// The roll-out over a black video in which one box `[t, y, x]` of the model's patch size is bright.
fn seek(config: &Config, bright: impl Fn(usize, usize, usize) -> bool) -> Rollout {
    let seeker = Seeker(Device::reference());
    let model = config.build(&mut Params::from_file(&seeker.0, DType::F32, &seeker, &seeker)).unwrap();
    let (frames, [height, width]) = (config.input().frames, config.input().size);
    let pixel = |i: usize| {
        let (t, y, x) = (i / 3 / (height * width), i / 3 / width % height, i / 3 % width);
        if bright(t, y, x) { 1.0 } else { 0.0 }
    };
    let values: Vec<f32> = (0..frames * height * width * 3).map(pixel).collect();
    let video = Tensor::from_f32(&seeker.0, DType::F32, &[1, frames, height, width, 3], &values).unwrap();
    let mut pass = Pass::followed();
    model.forward(&video, &mut pass).unwrap();
    let rollout = Rollout::from_trail(&pass.into_trail(), [frames, height, width]).unwrap();
    let sum = rollout.shares.iter().sum::<f32>() + rollout.classes;
    assert!((sum - 1.0).abs() < 1e-5, "shares sum to {sum}");
    rollout
}

fn near(a: f32, b: f32) {
    assert!((a - b).abs() < 1e-5, "{a} is not {b}");
}

fn edited(name: &str, edit: impl FnOnce(&mut serde_json::Value)) -> Config {
    let mut value = serde_json::to_value(Config::named(name).unwrap()).unwrap();
    edit(&mut value);
    serde_json::from_value(value).unwrap()
}

/// All tokens attend to the bright one: two layers leave a quarter with the token that is read.
#[test]
fn joint_attention_finds_the_bright_patch() {
    let joint = edited("vivit-tiny", |c| c["temporal"] = serde_json::json!({ "kind": "joint" }));
    let vidtr = edited("vidtr-tiny", |c| c["mixing"] = "joint".into());
    for (config, frames) in [(joint, 2), (vidtr, 1)] {
        let inside = |t: usize, y: usize, x: usize| t / frames == 1 && y >= 16 && x < 16;
        let rollout = seek(&config, inside);
        near(rollout.classes, 0.25);
        near(rollout.shares.iter().fold(0.0, |most: f32, &x| most.max(x)), 0.75);
        let (heat, each) = (rollout.heat(), 0.75 / (frames * 256) as f32);
        for (i, x) in heat.iter().enumerate() {
            let bright = inside(i / 1024, i / 32 % 32, i % 32);
            assert!((x - if bright { each } else { 0.0 }).abs() < 1e-6, "voxel {i}: {x}");
        }
        near(rollout.over_time()[frames], 0.75 / frames as f32);
    }
}

/// The frame that is bright is read by the temporal class token; dark frames spread their attention evenly.
#[test]
fn the_factorised_encoder_goes_through_both_class_tokens() {
    let rollout = seek(&Config::named("vivit-tiny").unwrap(), |t, y, x| t >= 2 && y < 16 && x < 16);
    // One temporal layer over [class, 0, 1]: no key is large, for class tokens that nothing changes are all 0: ½ + ⅙, ⅙, ⅙. Of a sixth of the bright
    // time step two spatial layers leave a quarter with the class token; a dark one spreads: ¼ + ¼·⅕ + ½·⅕ stays, each patch gets 3⁄20.
    near(rollout.shares[4], 0.75 / 6.0);
    near(rollout.shares[5], 0.0);
    near(rollout.shares[0], 0.15 / 6.0);
    near(rollout.classes, 2.0 / 3.0 + 0.25 / 6.0 + 0.4 / 6.0);
}

/// Tubes of two sizes on one grid: the pooling reads all tokens evenly, every layer half from the bright one.
#[test]
fn tubes_add_up_on_the_frame_grid() {
    let config = Config::named("tubevit-tiny").unwrap();
    let Config::TubeVit(inner) = &config else { panic!("another system") };
    let tokens = inner.outline().tokens;
    // Only the first tube, of 4×8×8 voxels, sees the corner of frame 2.
    let rollout = seek(&config, |t, y, x| t == 2 && y < 8 && x < 8);
    near(rollout.shares[0], 0.75 + 0.25 / tokens as f32);
    assert!(rollout.shares[1..].iter().all(|x| (x - 0.25 / tokens as f32).abs() < 1e-5));
    let heat = rollout.heat();
    near(heat.iter().map(|&x| f64::from(x)).sum::<f64>() as f32, 1.0);
    let (tube, patch) = (rollout.shares[0] / 256.0, rollout.shares[tokens - 1] / 256.0);
    near(heat[0], tube + patch);
    near(heat[2 * 1024], tube);
    near(heat[8], patch);
    near(heat[4 * 1024 + 31 * 32 + 31], 0.0);
    assert_eq!(rollout.classes, 0.0);
}

#[test]
fn the_query_of_a_global_block_finds_the_bright_patch() {
    let config = Config::named("uniformerv2-tiny").unwrap();
    let Config::UniformerV2(inner) = &config else { panic!("another system") };
    let patch = inner.patch;
    let rollout = seek(&config, |t, y, x| t == 1 && y < patch && x < patch);
    near(rollout.shares.iter().fold(0.0, |most: f32, &x| most.max(x)), 1.0);
    // Where everything is dark, every token gets the same, the frames' class tokens too.
    let dark = seek(&config, |_, _, _| false);
    let each = 1.0 / inner.outline().tokens as f32;
    assert!(dark.shares.iter().all(|x| (x - each).abs() < 1e-6));
    near(dark.classes, inner.outline().tokens as f32 * each - dark.shares.len() as f32 * each);
}

fn vidtr(change: impl FnOnce(&mut VidTrConfig)) -> Config {
    let Config::VidTr(mut config) = Config::named("vidtr-tiny").unwrap() else { panic!("another system") };
    change(&mut config);
    Config::VidTr(config)
}

fn uniformer(change: impl FnOnce(&mut UniformerV2Config)) -> Config {
    let Config::UniformerV2(mut config) = Config::named("uniformerv2-tiny").unwrap() else { panic!("another system") };
    change(&mut config);
    Config::UniformerV2(config)
}

/// Every variant leaves a trail that ends in the video: shares are no less than 0, and with the class tokens' make 1.
#[test]
fn every_variant_can_be_followed() {
    use tubelet_models::uniformerv2::Fusion;
    let mut all: Vec<Config> =
        ["tubevit-tiny", "vivit-tiny", "vidtr-tiny", "uniformerv2-tiny"].map(|name| Config::named(name).unwrap()).into();
    for mixing in [Mixing::SeparableApart, Mixing::SeparablePatches, Mixing::Axial, Mixing::Joint, Mixing::Space] {
        let apart = matches!(mixing, Mixing::SeparablePatches | Mixing::Axial);
        all.push(vidtr(|c| (c.mixing, c.joint_after) = (mixing, apart.then_some(0))));
    }
    for pooling in [Pooling::TopkStd, Pooling::TopkStdPaper, Pooling::Average, Pooling::Convolution] {
        all.push(vidtr(|c| {
            (c.mixing, c.pooling, c.pools) = (Mixing::SeparablePatches, pooling, vec![Pool { layer: 0, keep: 2 }]);
        }));
    }
    for fusion in [Fusion::Parallel, Fusion::HierarchicalKv, Fusion::HierarchicalQ] {
        all.push(uniformer(|c| c.fusion = fusion));
    }
    all.push(uniformer(|c| c.global_layers = Vec::new()));
    all.push(uniformer(|c| c.queries = 3));
    for temporal in ["average", "joint", "factorised", "dot_product"] {
        all.push(edited("vivit-tiny", |c| {
            c["temporal"] = serde_json::json!({ "kind": temporal });
            // One half of the heads attends over time.
            c["spatial"]["heads"] = if temporal == "dot_product" { 4 } else { 3 }.into();
            c["class_token"] = (temporal == "joint").into();
        }));
    }
    for config in all {
        let device = Device::cpu().unwrap();
        let model = config.random(&device, DType::F32, 1).unwrap();
        let (frames, [height, width]) = (config.input().frames, config.input().size);
        let data = (0..frames * height * width * 3).map(|i| (i * 7919 % 251) as u8).collect();
        let view = Frames { width, height, data };
        let (logits, rollout) = look(&*model, &device, &view).unwrap_or_else(|error| panic!("{config:?}: {error}"));
        let video = Tensor::from_bytes(&device, DType::U8, &[1, frames, height, width, 3], &view.data).unwrap();
        let whole = model.forward(&video, &mut Pass::inference().whole()).unwrap();
        assert_eq!(logits, whole.to_f32_vec().unwrap(), "following changes nothing");
        let sum = rollout.shares.iter().sum::<f32>() + rollout.classes;
        assert!((sum - 1.0).abs() < 1e-5, "{config:?}: shares sum to {sum}");
        assert!(rollout.shares.iter().all(|&x| x >= 0.0) && rollout.shares.iter().any(|&x| x > 0.0));
        near(rollout.over_time().iter().sum::<f32>() + rollout.classes, 1.0);
    }
}
