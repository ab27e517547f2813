//! Video models that start from image models, on made-up weights whose effect can be told.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use tubelet_models::{
    Pass, Result,
    engine::{DType, Device, Tensor},
    init::{Inflation, Initial, image_model},
    params::{Init, Params, TensorFile},
    registry::Config,
    uniformerv2::Backbone,
    vidtr::Mixing,
};

/// Tensors in memory, each filled with different numbers.
struct Image(BTreeMap<String, Vec<usize>>);

impl Image {
    fn new(tensors: &[(&str, &[usize])]) -> Self {
        Image(tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect())
    }
}

impl TensorFile for Image {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.0.clone()
    }
    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let shape = &self.0[name];
        // Small, different in every element, and depending on the name.
        let first = name.bytes().map(usize::from).sum::<usize>();
        let values: Vec<f32> =
            (0..shape.iter().product::<usize>()).map(|i| ((i * 37 + first) % 101) as f32 / 500.0 - 0.1).collect();
        Tensor::from_f32(device, DType::F32, shape, &values)
    }
}

/// CLIP's visual tower in the size of `uniformerv2-tiny`, and a part of CLIP that is not wanted.
fn clip_image() -> Image {
    let (c, mut tensors) = (48, vec![("logit_scale".to_owned(), vec![]), ("visual.proj".into(), vec![48, 20])]);
    let mut add = |name: &str, shape: &[usize]| tensors.push((format!("visual.{name}"), shape.to_vec()));
    add("conv1.weight", &[c, 3, 16, 16]);
    add("class_embedding", &[c]);
    add("positional_embedding", &[5, c]);
    for norm in ["ln_pre", "ln_post"] {
        add(&format!("{norm}.weight"), &[c]);
        add(&format!("{norm}.bias"), &[c]);
    }
    for i in 0..2 {
        let block = format!("transformer.resblocks.{i}");
        for (name, rows, columns) in
            [("attn.in_proj_", 3 * c, c), ("attn.out_proj.", c, c), ("mlp.c_fc.", 4 * c, c), ("mlp.c_proj.", c, 4 * c)]
        {
            add(&format!("{block}.{name}weight"), &[rows, columns]);
            add(&format!("{block}.{name}bias"), &[rows]);
        }
        for part in ["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"] {
            add(&format!("{block}.{part}"), &[c]);
        }
    }
    Image(tensors.into_iter().collect())
}

#[test]
fn uniformerv2_starts_as_the_mean_of_the_frames_class_tokens() {
    let (device, image) = (Device::reference(), clip_image());
    let config = Config::named("uniformerv2-tiny").unwrap();
    let model = config.start(&device, DType::F32, &image, 1).unwrap();
    let video: Vec<f32> = (0..4 * 32 * 32 * 3).map(|i| ((i * 7) % 23) as f32 / 23.0).collect();
    let video = Tensor::from_slice(&device, &[1, 4, 32, 32, 3], &video).unwrap();
    let mut pass = Pass::watched();
    model.forward(&video, &mut pass).unwrap();
    let watched = pass.into_map();
    let values = |name: &str| watched[name].to_f64_vec().unwrap();
    for j in 0..2 {
        assert!(values(&format!("dec{j}")).iter().all(|&x| x == 0.0), "global block {j} says nothing yet");
        assert!(values(&format!("resblock{j}.lmhra1")).iter().all(|&x| x == 0.0), "local block {j} changes nothing yet");
    }
    // The head's norm, which starts as ones and zeros, sees half of the mean of the class tokens [1 + H·W, B·T, C].
    let tokens = watched["resblock1"].narrow(0, 0, 1).unwrap().to_f64_vec().unwrap();
    let half: Vec<f64> = (0..48).map(|c| (0..4).map(|t| tokens[t * 48 + c]).sum::<f64>() / 8.0).collect();
    let mean = half.iter().sum::<f64>() / 48.0;
    let var = half.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 48.0;
    for (ours, x) in values("proj_ln").iter().zip(&half) {
        let expected = (x - mean) / (var + 1e-5).sqrt();
        // Tokens and result were rounded to f32; the norm magnifies by the deviation's inverse.
        assert!((ours - expected).abs() < 1e-6 / var.sqrt(), "{ours} {expected}");
    }
}

/// An image ViT in the size of `uniformerv2-tiny`; of DeiT III, with its scales and without a position of the class token.
fn vit_image(scales: Option<[&str; 2]>) -> Image {
    let (c, positions) = (48, if scales.is_some() { 4 } else { 5 });
    let mut tensors = vec![("pos_embed".to_owned(), vec![1, positions, c]), ("cls_token".into(), vec![1, 1, c])];
    let mut linear = |name: &str, shape: &[usize]| {
        tensors.extend([(format!("{name}.weight"), shape.to_vec()), (format!("{name}.bias"), vec![shape[0]])]);
    };
    linear("patch_embed.proj", &[c, 3, 16, 16]);
    linear("head", &[10, c]);
    linear("norm", &[c]);
    for i in 0..2 {
        for (name, rows, columns) in [("attn.qkv", 3 * c, c), ("attn.proj", c, c), ("mlp.fc1", 4 * c, c), ("mlp.fc2", c, 4 * c)] {
            linear(&format!("blocks.{i}.{name}"), &[rows, columns]);
        }
        linear(&format!("blocks.{i}.norm1"), &[c]);
        linear(&format!("blocks.{i}.norm2"), &[c]);
    }
    for scale in scales.into_iter().flatten() {
        tensors.extend((0..2).map(|i| (format!("blocks.{i}.{scale}"), vec![c])));
    }
    Image(tensors.into_iter().collect())
}

#[test]
fn uniformerv2_starts_from_the_image_models_of_table_5() {
    let device = Device::reference();
    let own = Some(["gamma_1", "gamma_2"]);
    let timm = Some(["ls1.gamma", "ls2.gamma"]);
    for (backbone, scales, naming) in
        [(Backbone::VIT, None, "timm"), (Backbone::DEIT3, own, "deit3"), (Backbone::DEIT3, timm, "timm")]
    {
        let Config::UniformerV2(mut config) = Config::named("uniformerv2-tiny").unwrap() else { panic!("another system") };
        config.backbone = backbone;
        let (config, image) = (Config::UniformerV2(config), vit_image(scales));
        let found = config.image_naming(&image).unwrap();
        assert_eq!(found.name(), naming);
        config.start(&device, DType::F32, &image, 1).unwrap();
        let mut params = Params::from_file(&device, DType::F32, &image, &*found).or_random(1);
        let bias = params.tensor("patch_embed.proj.bias", &[48], Init::Zeros).unwrap().to_f32_vec().unwrap();
        assert_eq!(bias, image.load("patch_embed.proj.bias", &device).unwrap().to_f32_vec().unwrap());
        if let Some([_, second]) = scales {
            let gamma = params.tensor("blocks.1.ls2.gamma", &[48], Init::Ones).unwrap().to_f32_vec().unwrap();
            assert_eq!(gamma, image.load(&format!("blocks.1.{second}"), &device).unwrap().to_f32_vec().unwrap());
        }
        // Without its scales or its bias it is another model.
        let other = if scales.is_some() { vit_image(None) } else { clip_image() };
        assert!(config.start(&device, DType::F32, &other, 1).is_err());
    }
}

/// BEiT in that size: biases of queries and values apart, no positions but those of pairs, which have a table in each layer or one for all.
fn beit_image(shared: bool) -> Image {
    let Image(mut tensors) = vit_image(Some(["gamma_1", "gamma_2"]));
    tensors.remove("pos_embed");
    // Of 2×2 patches there are 3·3 differences, and three rows are the class token's.
    let (table, tokens) = (vec![3 * 3 + 3, 3], vec![5, 5]);
    for i in 0..2 {
        let layer = format!("blocks.{i}.attn");
        tensors.remove(&format!("{layer}.qkv.bias"));
        tensors.extend(["q_bias", "v_bias"].map(|part| (format!("{layer}.{part}"), vec![48])));
        if !shared {
            tensors.insert(format!("{layer}.relative_position_bias_table"), table.clone());
            tensors.insert(format!("{layer}.relative_position_index"), tokens.clone());
        }
    }
    if shared {
        tensors.insert("rel_pos_bias.relative_position_bias_table".into(), table);
        tensors.insert("rel_pos_bias.relative_position_index".into(), tokens);
        tensors.insert("mask_token".into(), vec![1, 1, 48]);
    }
    Image(tensors)
}

#[test]
fn uniformerv2_starts_from_beit() {
    let device = Device::reference();
    let Config::UniformerV2(mut config) = Config::named("uniformerv2-tiny").unwrap() else { panic!("another system") };
    config.backbone = Backbone::BEIT;
    let config = Config::UniformerV2(config);
    for shared in [false, true] {
        let image = beit_image(shared);
        let naming = config.image_naming(&image).unwrap();
        assert_eq!(naming.name(), "beit");
        config.start(&device, DType::F32, &image, 1).unwrap();
        let mut params = Params::from_file(&device, DType::F32, &image, &*naming).or_random(1);
        let theirs = |name: &str| image.load(name, &device).unwrap().to_f32_vec().unwrap();
        let bias = params.tensor("blocks.1.attn.qkv.bias", &[144], Init::Zeros).unwrap().to_f32_vec().unwrap();
        assert_eq!(bias[..48], theirs("blocks.1.attn.q_bias"));
        assert!(bias[48..96].iter().all(|&x| x == 0.0), "keys have none");
        assert_eq!(bias[96..], theirs("blocks.1.attn.v_bias"));
        let name = if shared { "rel_pos_bias." } else { "blocks.1.attn." };
        let table = params.tensor("blocks.1.attn.relative_position_bias_table", &[12, 3], Init::Zeros).unwrap();
        assert_eq!(table.to_f32_vec().unwrap(), theirs(&format!("{name}relative_position_bias_table")));
    }
    assert!(config.start(&device, DType::F32, &vit_image(Some(["gamma_1", "gamma_2"])), 1).is_err());
}

#[test]
fn every_video_model_starts_from_the_image_model_in_it() {
    let (device, image) = (Device::reference(), vit_image(None));
    for (name, hidden, class) in [
        ("tubevit-tiny", "/hidden", None),
        ("vivit-tiny", "/spatial/hidden", Some("spatial.cls_token")),
        ("vidtr-tiny", "/hidden", None),
    ] {
        let mut config = serde_json::to_value(Config::named(name).unwrap()).unwrap();
        *config.pointer_mut(hidden).unwrap() = 192.into();
        let config: Config = serde_json::from_value(config).unwrap();
        config.start(&device, DType::F32, &image, 1).unwrap();
        let naming = config.image_naming(&image).unwrap();
        assert!(!naming.draws(if name == "vivit-tiny" { "spatial.blocks.1.mlp.fc2.bias" } else { "blocks.1.mlp.fc2.bias" }));
        assert!(naming.draws("head.weight") && class.is_none_or(|class| naming.draws(class)));
    }
    let error = Config::named("vit-b16").unwrap().start(&device, DType::F32, &image, 1).err().unwrap();
    assert!(error.to_string().contains("image model"), "{error}");
    // CLIP's norm before the layers has no place in a plain transformer.
    let Config::UniformerV2(clip) = Config::named("uniformerv2-tiny").unwrap() else { panic!("another system") };
    let source = Config::Vit(image_model(&Config::UniformerV2(clip)).unwrap());
    let (file, naming, target) = (clip_image(), source.namings().remove(0), Config::named("vidtr-tiny").unwrap());
    assert!(Initial::new(&source, &file, &*naming, &target, Inflation::CentralFrame).is_err());
}

#[test]
fn a_stem_of_several_frames_has_the_image_kernel_in_its_middle() {
    let (device, image) = (Device::reference(), clip_image());
    let Config::UniformerV2(mut config) = Config::named("uniformerv2-tiny").unwrap() else { panic!("another system") };
    config.temporal_downsample = true;
    let naming = Config::UniformerV2(config).image_naming(&image).unwrap();
    let mut params = Params::from_file(&device, DType::F32, &image, &*naming);
    let kernel = params.tensor("patch_embed.proj.weight", &[48, 3, 16, 16, 3], Init::Xavier).unwrap();
    let frame = |t: usize| kernel.narrow(1, t, 1).unwrap().to_f64_vec().unwrap();
    let expected = image.load("visual.conv1.weight", &device).unwrap().permute(&[0, 2, 3, 1]).unwrap().to_f64_vec().unwrap();
    assert_eq!(frame(1), expected);
    assert!(frame(0).iter().chain(&frame(2)).all(|&x| x == 0.0));
}

#[test]
fn vidtr_has_the_images_positions_at_every_time_and_its_class_token_in_every_class_slot() {
    let device = Device::reference();
    let Config::VidTr(mut config) = Config::named("vidtr-tiny").unwrap() else { panic!("another system") };
    (config.input.frames, config.width) = (3, 6);
    // The released file has names of VidTr, timm's has its own.
    for (name, names) in [("vit-inflate", ["cls", "pos_embedding"]), ("timm", ["cls_token", "pos_embed"])] {
        let image = Image::new(&[(names[0], &[1, 1, 6]), (names[1], &[1, 5, 6])]);
        let [class, position] = names.map(|name| image.load(name, &device).unwrap().to_f32_vec().unwrap());
        for mixing in [Mixing::Separable, Mixing::Joint] {
            config.mixing = mixing;
            let naming = Config::VidTr(config.clone()).image_naming(&image).unwrap();
            assert_eq!(naming.name(), name);
            let mut params = Params::from_file(&device, DType::F32, &image, &*naming);
            let mut get = |name: &str, shape: &[usize]| params.tensor(name, shape, Init::Zeros).unwrap().to_f32_vec().unwrap();
            if mixing == Mixing::Separable {
                assert_eq!(get("cls_space", &[1, 3, 1, 6]), class.repeat(3));
                assert_eq!(get("cls_time", &[1, 1, 5, 6]), class.repeat(5));
                assert_eq!(get("pos_embed", &[1, 4, 5, 6]), position.repeat(4));
            } else {
                assert_eq!(get("cls_token", &[1, 1, 1, 6]), class);
                assert_eq!(get("pos_embed", &[1, 1, 13, 6]), [&position[..6], &position[6..].repeat(3)].concat());
            }
        }
    }
}

#[test]
fn what_the_image_model_should_have_is_still_listed_as_missing() {
    let device = Device::meter();
    let image = Image::new(&[("visual.class_embedding", &[48])]);
    let error = Config::named("uniformerv2-tiny").unwrap().start(&device, DType::F32, &image, 0).err().unwrap().to_string();
    assert!(error.contains("patch_embed.proj.weight") && error.contains("blocks.1.mlp.fc2.bias"), "{error}");
    assert!(!error.contains("head.fc") && !error.contains("global") && !error.contains("local"), "{error}");
    assert!(Config::named("tubevit-b").unwrap().start(&device, DType::F32, &image, 0).is_err());
}
