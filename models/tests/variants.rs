//! Variants without released weights: each runs, and does what sets it apart.
#![allow(clippy::unwrap_used)]

use tubelet_models::{
    Depth, Pass, Regularisation,
    engine::{DType, Device, Function, Tensor, meter::Meter},
    layers::{Block, BlockConfig},
    params::{Init, Naming, Params, Reader, TensorFile},
    registry::Config,
    tubevit::{Centre, Frequencies, Interleaving, Position, TubeVitConfig},
    uniformerv2::{Backbone, Fusion, LocalKind, UniformerV2Config},
    vidtr::{Mixing, Pool, Pooling, Stem, VidTrConfig},
    vit::VitConfig,
};

/// Any tensor that is asked for, made of small numbers that depend on its name; variances are positive.
struct Made(Device);

impl Naming for Made {
    fn name(&self) -> &'static str {
        "made"
    }

    fn translate(&self, name: &str, shape: &[usize], _: &mut Reader<'_>) -> tubelet_models::Result<Option<Tensor>> {
        let first = name.bytes().map(usize::from).sum::<usize>();
        let centre = if name.ends_with("norm.var") || name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
        let n = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..n).map(|i| ((i * 37 + first) % 101) as f32 / 250.0 - 0.2 + centre).collect();
        Tensor::from_f32(&self.0, DType::F32, shape, &values).map(Some)
    }
}

impl TensorFile for Made {
    fn shapes(&self) -> std::collections::BTreeMap<String, Vec<usize>> {
        Default::default()
    }

    fn load(&self, name: &str, _: &Device) -> tubelet_models::Result<Tensor> {
        panic!("{name} is made, not loaded")
    }
}

fn video(device: &Device, config: &Config, frame: impl Fn(usize) -> usize) -> Tensor {
    let (frames, size) = (config.input().frames, config.input().size);
    let pixels = size[0] * size[1] * 3;
    let values: Vec<f32> = (0..frames)
        .flat_map(|t| (0..pixels).map(move |i| (t, i)))
        .map(|(t, i)| ((frame(t) * 53 + i * 7) % 97) as f32 / 50.0 - 1.0)
        .collect();
    Tensor::from_f32(device, DType::F32, &[1, frames, size[0], size[1], 3], &values).unwrap()
}

fn logits_with(config: &Config, frame: impl Fn(usize) -> usize, norms: bool) -> Vec<f32> {
    let made = Made(Device::reference());
    let params = Params::from_file(&made.0, DType::F32, &made, &made);
    let mut params = if norms { params.with_batch_norms() } else { params };
    let model = config.build(&mut params).unwrap();
    model.forward(&video(&made.0, config, frame), &mut Pass::inference()).unwrap().to_f32_vec().unwrap()
}

fn logits(config: &Config) -> Vec<f32> {
    logits_with(config, |t| t, false)
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

fn uniformer(change: impl FnOnce(&mut UniformerV2Config)) -> Config {
    let Config::UniformerV2(mut config) = Config::named("uniformerv2-tiny").unwrap() else { panic!("another system") };
    change(&mut config);
    Config::UniformerV2(config)
}

fn vidtr(change: impl FnOnce(&mut VidTrConfig)) -> Config {
    let Config::VidTr(mut config) = Config::named("vidtr-tiny").unwrap() else { panic!("another system") };
    change(&mut config);
    Config::VidTr(config)
}

fn tubevit(change: impl FnOnce(&mut TubeVitConfig)) -> Config {
    let Config::TubeVit(mut config) = Config::named("tubevit-tiny").unwrap() else { panic!("another system") };
    change(&mut config);
    Config::TubeVit(config)
}

#[test]
fn without_positions_tubes_have_no_order() {
    let (frequencies, interleaving) = (Frequencies::Geometric, Interleaving::ByFrequency);
    let fixed = |centre| Position::Fixed { frequencies, interleaving, centre };
    let mut seen: Vec<Vec<f32>> = Vec::new();
    for position in [fixed(Centre::Floor), fixed(Centre::Index), Position::Learned, Position::None] {
        // Two tubes of four frames, one after the other; swapping them swaps two sets of tokens.
        let config = tubevit(|c| {
            c.tubes.truncate(1);
            c.position = position;
        });
        let (forwards, swapped) = (logits(&config), logits_with(&config, |t| (t + 4) % 8, false));
        let moved = furthest(&forwards, &swapped);
        // Without, the pooled sum has its terms in another order.
        assert!(if position == Position::None { moved < 1e-6 } else { moved > 1e-5 }, "{position:?}: {moved}");
        seen.iter().for_each(|other| assert!(furthest(other, &forwards) > 1e-5, "{position:?} as another"));
        seen.push(forwards);
    }
}

#[test]
fn batch_norms_apart_give_what_folded_ones_give() {
    let config = uniformer(|c| c.local = 2);
    let (folded, apart) = (logits_with(&config, |t| t, false), logits_with(&config, |t| t, true));
    // f64 throughout, one rounding to f32 at the end.
    assert!(furthest(&folded, &apart) <= 1e-6 * folded.iter().fold(0.0, |m, x| x.abs().max(m)), "{folded:?} {apart:?}");
    let launches = |norms: bool| {
        let meter = Device::meter();
        let params = Params::empty(&meter, DType::F32);
        let mut params = if norms { params.with_batch_norms() } else { params };
        let model = config.build(&mut params).unwrap();
        let video = Tensor::empty(&meter, DType::F32, &[1, 4, 32, 32, 3]).unwrap();
        let meter = meter.downcast::<Meter>().unwrap();
        meter.reset();
        model.forward(&video, &mut Pass::inference()).unwrap();
        meter.count().launches
    };
    // Two local blocks in each of two layers.
    assert_eq!(launches(true), launches(false) + 4);
}

/// What layer 1 gives for one frame, `[tokens, 1, C]` in both systems.
fn last_layer(config: &Config) -> Vec<f32> {
    let made = Made(Device::reference());
    let model = config.build(&mut Params::from_file(&made.0, DType::F32, &made, &made)).unwrap();
    let mut pass = Pass::watched();
    model.forward(&video(&made.0, config, |t| t), &mut pass).unwrap();
    pass.into_map()["resblock1"].to_f32_vec().unwrap()
}

#[test]
fn a_backbone_without_additions_is_its_image_model() {
    let Config::Vit(vit) = Config::named("vit-b16").unwrap() else { panic!("another system") };
    let mut all: Vec<Vec<f32>> = Vec::new();
    for backbone in [Backbone::CLIP, Backbone::VIT, Backbone::DEIT3, Backbone::BEIT] {
        let bare = uniformer(|c| {
            (c.local, c.backbone, c.input.frames) = (0, backbone, 1);
            c.global_layers.clear();
        });
        let Config::UniformerV2(c) = &bare else { panic!("another system") };
        let image = Config::Vit(VitConfig {
            input: c.input.clone(),
            patch: c.patch,
            width: c.width,
            layers: c.layers,
            heads: c.heads,
            hidden: 4 * c.width,
            activation: backbone.activation,
            eps: backbone.eps,
            patch_bias: backbone.patch_bias,
            pre_norm: backbone.pre_norm,
            class_position: backbone.class_position,
            layer_scale: backbone.layer_scale,
            absolute_positions: backbone.absolute_positions,
            relative_positions: backbone.relative_positions,
            ..vit.clone()
        });
        let ours = last_layer(&bare);
        // Positions are added in another order: roundings to f32 of numbers of order 1, which two layers pass on.
        assert!(furthest(&ours, &last_layer(&image)) < 1e-5, "{backbone:?}");
        all.iter().for_each(|other| assert!(furthest(other, &ours) > 1e-3, "{backbone:?} as another"));
        all.push(ours);
    }
}

#[test]
fn layer_scale_multiplies_what_attention_and_mlp_add() {
    let made = Made(Device::reference());
    let x: Vec<f32> = (0..3 * 6).map(|i| ((i * 7) % 11) as f32 / 5.0 - 1.0).collect();
    let x = Tensor::from_f32(&made.0, DType::F32, &[1, 1, 3, 6], &x).unwrap();
    let added = |layer_scale: bool| {
        let (width, eps, function) = (6, 1e-6, Function::GeluErf);
        let config = BlockConfig { width, heads: 2, hidden: 12, eps, function, qkv_bias: true, layer_scale };
        let block = Block::load(&mut Params::from_file(&made.0, DType::F32, &made, &made), "blocks.0", &config).unwrap();
        let (depth, mut pass) = (Depth { layer: 0, of: 1 }, Pass::inference());
        let halves = [block.mix(&x, 2, depth, &mut pass).unwrap(), block.refine(&x, depth, &mut pass).unwrap()];
        halves.map(|y| {
            let (x, y) = (x.to_f32_vec().unwrap(), y.to_f32_vec().unwrap());
            y.iter().zip(&x).map(|(y, x)| y - x).collect::<Vec<f32>>()
        })
    };
    let (scaled, plain) = (added(true), added(false));
    for (half, name) in ["blocks.0.ls1.gamma", "blocks.0.ls2.gamma"].into_iter().enumerate() {
        let mut params = Params::from_file(&made.0, DType::F32, &made, &made);
        let gamma = params.tensor(name, &[6], Init::Ones).unwrap().to_f32_vec().unwrap();
        let expected: Vec<f32> = plain[half].iter().enumerate().map(|(i, x)| gamma[i % 6] * x).collect();
        // Sum and difference were rounded at the size of x, 1.
        assert!(furthest(&scaled[half], &expected) < 1e-6, "{name}");
        assert!(furthest(&scaled[half], &plain[half]) > 1e-2, "{name}");
    }
}

/// As [`Made`], but for tensors whose name has a part: they have this value in every element.
struct With<'a>(&'a Made, &'a [(&'a str, f32)]);

impl Naming for With<'_> {
    fn name(&self) -> &'static str {
        "made, but for some"
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> tubelet_models::Result<Option<Tensor>> {
        match self.1.iter().find(|(part, _)| name.contains(part)) {
            Some((_, value)) => Tensor::full(&self.0.0, DType::F32, shape, *value).map(Some),
            None => self.0.translate(name, shape, file),
        }
    }
}

fn logits_without(config: &Config, part: &str) -> Vec<f32> {
    logits_given(config, &[(part, 0.0)])
}

fn logits_given(config: &Config, values: &[(&str, f32)]) -> Vec<f32> {
    let made = Made(Device::reference());
    let naming = With(&made, values);
    let model = config.build(&mut Params::from_file(&made.0, DType::F32, &made, &naming)).unwrap();
    model.forward(&video(&made.0, config, |t| t), &mut Pass::inference()).unwrap().to_f32_vec().unwrap()
}

#[test]
fn local_blocks_stand_in_the_layers_named() {
    let of = |layers: Option<&[usize]>| logits(&uniformer(|c| c.local_layers = layers.map(<[usize]>::to_vec)));
    assert_eq!(of(Some(&[0, 1])), of(None));
    assert_eq!(of(Some(&[])), logits(&uniformer(|c| c.local = 0)));
    let [all, first, last, none] = [of(None), of(Some(&[0])), of(Some(&[1])), of(Some(&[]))];
    for (a, b) in [(&all, &first), (&all, &last), (&first, &last), (&first, &none), (&last, &none)] {
        assert!(furthest(a, b) > 1e-5);
    }
    assert!(uniformer(|c| c.local_layers = Some(vec![2])).build(&mut Params::empty(&Device::meter(), DType::F32)).is_err());
}

#[test]
fn position_encodings_of_zeros_are_none() {
    let global = |dpe| uniformer(|c| c.dpe = dpe);
    let local = |dpe| uniformer(|c| c.local_dpe = dpe);
    for (with, without, name) in [(global(true), global(false), ".dpe.dw"), (local(true), local(false), ".local1.dpe.dw")] {
        assert_eq!(logits_without(&with, name), logits(&without), "{name}");
        assert!(furthest(&logits(&with), &logits(&without)) > 1e-5, "{name}");
    }
}

#[test]
fn queries_that_are_alike_are_one() {
    let with = |queries| uniformer(|c| c.queries = queries);
    let alike = logits_without(&with(4), "global_token");
    // Means of four equal numbers, and products of other shapes: roundings of numbers of order 1.
    assert!(furthest(&alike, &logits_without(&with(1), "global_token")) < 1e-6);
    assert!(furthest(&alike, &logits(&with(4))) > 1e-5);
    for config in [with(0), uniformer(|c| (c.queries, c.fusion) = (2, Fusion::Parallel))] {
        assert!(config.build(&mut Params::empty(&Device::meter(), DType::F32)).is_err());
    }
}

#[test]
fn st_adapters_have_an_activation_and_no_norm() {
    let adapter = uniformer(|c| c.local_kind = LocalKind::StAdapter);
    // A norm that changes nothing but by its epsilon leaves the activation.
    let no_norm = ["weight", "bias", "mean", "var"]
        .map(|part| (format!(".local1.norm.{part}"), f32::from(part == "weight" || part == "var")));
    let no_norm = no_norm.each_ref().map(|(name, value)| (name.as_str(), *value));
    assert!(furthest(&logits_given(&adapter, &no_norm), &logits_given(&uniformer(|_| {}), &no_norm)) > 1e-4);
    // Nothing goes through the convolution, and its bias is 0: nothing is added.
    let nothing = logits_without(&adapter, ".local1.dw");
    let expand = logits_without(&adapter, ".local1.");
    assert!(furthest(&nothing, &expand) > 1e-5, "the last layer's bias remains");
    assert_eq!(expand, logits(&uniformer(|c| c.local = 0)));
}

#[test]
fn the_four_fusions_differ() {
    let of = |fusion| logits(&uniformer(|c| c.fusion = fusion));
    let all = [Fusion::Sequential, Fusion::Parallel, Fusion::HierarchicalKv, Fusion::HierarchicalQ].map(of);
    for (i, a) in all.iter().enumerate() {
        assert!(a.iter().all(|x| x.is_finite()));
        all[..i].iter().for_each(|b| assert!(furthest(a, b) > 1e-5, "{a:?}"));
    }
}

#[test]
fn attention_over_time_sees_the_order_of_frames() {
    for mixing in [Mixing::Separable, Mixing::SeparableApart, Mixing::SeparablePatches, Mixing::Axial, Mixing::Joint] {
        let apart = matches!(mixing, Mixing::SeparablePatches | Mixing::Axial);
        let config = vidtr(|c| (c.mixing, c.joint_after) = (mixing, apart.then_some(0)));
        let backwards = logits_with(&config, |t| 3 - t, false);
        assert!(furthest(&logits(&config), &backwards) > 1e-5, "{mixing:?}");
    }
}

#[test]
fn space_alone_mixes_no_frames() {
    let config = vidtr(|c| c.mixing = Mixing::Space);
    let Config::VidTr(inner) = &config else { panic!("another system") };
    assert_eq!(inner.outline().tokens, 4 * (2 * 2 + 1));
    // The head is linear, and sees the mean of what each frame gives alone: changes of two frames add up.
    let of = |a: usize, b: usize| logits_with(&config, |t| [a, 1, b, 3][t], false);
    let (none, first, third, both) = (of(0, 2), of(9, 2), of(0, 8), of(9, 8));
    assert!(furthest(&none, &first) > 1e-5 && furthest(&none, &third) > 1e-5);
    let sum: Vec<f32> = (0..none.len()).map(|i| first[i] + third[i] - none[i]).collect();
    // Three f32 roundings of numbers of order 1.
    assert!(furthest(&sum, &both) <= 1e-5, "{sum:?} {both:?}");
}

#[test]
fn poolings_differ() {
    let pooled = |pooling| {
        vidtr(|c| {
            (c.mixing, c.pooling, c.pools) = (Mixing::SeparablePatches, pooling, vec![Pool { layer: 0, keep: 2 }]);
        })
    };
    let all = [Pooling::TopkStd, Pooling::TopkStdPaper, Pooling::Average, Pooling::Convolution].map(|p| logits(&pooled(p)));
    for (i, a) in all.iter().enumerate() {
        assert!(a.iter().all(|x| x.is_finite()));
        all[..i].iter().for_each(|b| assert!(furthest(a, b) > 1e-6, "{a:?}"));
    }
}

/// Scores that are formed and scores that are not: two ways of the same numbers, each rounded to f32 where the other is not.
const TWO_WAYS: f32 = 1e-5;

#[test]
fn relative_positions_of_zeros_are_none() {
    let of = |position| {
        tubevit(|c| {
            c.tubes.truncate(1);
            c.position = position;
        })
    };
    let (relative, none) = (of(Position::Relative), logits(&of(Position::None)));
    assert!(furthest(&logits_without(&relative, "relative_position"), &none) < TWO_WAYS);
    assert!(furthest(&logits(&relative), &none) > 1e-4);
    // One number for all pairs changes no probability.
    assert!(furthest(&logits_given(&relative, &[("relative_position", 0.7)]), &none) < TWO_WAYS);
    // Both tubes of four frames see what is before and after them.
    let swapped = logits_with(&relative, |t| (t + 4) % 8, false);
    assert!(furthest(&logits(&relative), &swapped) > 1e-5);
    let model = relative.build(&mut Params::empty(&Device::meter(), DType::F32)).unwrap();
    let image = Tensor::empty(&Device::meter(), DType::F32, &[1, 1, 32, 32, 3]).unwrap();
    assert!(model.forward(&image, &mut Pass::inference()).is_err(), "an image has no such positions");
}

#[test]
fn added_attention_adds() {
    let of = |layers: &[usize]| tubevit(|c| c.added_attention = layers.to_vec());
    let plain = logits(&of(&[]));
    assert_eq!(logits_without(&of(&[0, 1]), ".added.attn.proj"), plain);
    let [first, last, both] = [&[0][..], &[1], &[0, 1]].map(|layers| logits(&of(layers)));
    for (a, b) in [(&first, &plain), (&last, &plain), (&both, &first), (&both, &last), (&first, &last)] {
        assert!(furthest(a, b) > 1e-5);
    }
    assert!(of(&[2]).build(&mut Params::empty(&Device::meter(), DType::F32)).is_err());
}

#[test]
fn all_local_blocks_mix_time() {
    let of = |kind| uniformer(|c| c.local_kind = kind);
    let without = logits(&uniformer(|c| c.local = 0));
    let mut seen: Vec<Vec<f32>> = Vec::new();
    for (kind, last) in [
        (LocalKind::Mhra, ".local1.expand"),
        (LocalKind::StAdapter, ".local1.expand"),
        (LocalKind::TemporalAttention, ".local1.attn.proj"),
        (LocalKind::TemporalConvolution, ".local1.conv"),
    ] {
        let config = of(kind);
        let ours = logits(&config);
        assert_eq!(logits_without(&config, last), without, "{kind:?}");
        seen.iter().chain([&without]).for_each(|other| assert!(furthest(other, &ours) > 1e-5, "{kind:?} as another"));
        // What the last frame is changes what the block gives in the frame before.
        let block = |last: usize| {
            let made = Made(Device::reference());
            let model = config.build(&mut Params::from_file(&made.0, DType::F32, &made, &made)).unwrap();
            let mut pass = Pass::watched();
            model.forward(&video(&made.0, &config, |t| if t == 3 { last } else { t }), &mut pass).unwrap();
            // [B, C, T, H, W]
            pass.into_map()["resblock0.lmhra1"].narrow(2, 2, 1).unwrap().to_f32_vec().unwrap()
        };
        assert!(furthest(&block(3), &block(9)) > 1e-5, "{kind:?}");
        seen.push(ours);
    }
}

#[test]
fn every_data_set_has_its_head() {
    let Config::UniformerV2(base) = Config::named("uniformerv2-b16-k400-k600-k700").unwrap() else { panic!("another system") };
    let config = uniformer(|c| c.also = base.also.clone());
    let made = Made(Device::reference());
    let model = config.build(&mut Params::from_file(&made.0, DType::F32, &made, &made)).unwrap();
    assert_eq!(model.heads(), [10, 600, 700]);
    let video = video(&made.0, &config, |t| t);
    let of = |head| model.forward_for(head, &video, &mut Pass::inference()).unwrap().to_f32_vec().unwrap();
    assert_eq!(of(0), logits(&uniformer(|_| {})));
    assert_eq!((of(1).len(), of(2).len()), (600, 700));
    assert!(model.forward_for(3, &video, &mut Pass::inference()).is_err());
}

#[test]
fn tokens_to_token_are_a_stem() {
    let of = |stem| vidtr(|c| c.stem = stem);
    let config = of(Stem::TokensToToken);
    let ours = logits(&config);
    assert!(ours.iter().all(|x| x.is_finite()));
    assert!(furthest(&ours, &logits(&of(Stem::Patches))) > 1e-5);
    for (part, value) in [("tokens.0.attn", 0.0), ("tokens.1.mlp", 0.0), ("tokens.project", 0.1)] {
        assert!(furthest(&ours, &logits_given(&config, &[(part, value)])) > 1e-6, "{part}");
    }
    let wide = vidtr(|c| (c.stem, c.patch) = (Stem::TokensToToken, [2, 16, 16]));
    assert!(wide.build(&mut Params::empty(&Device::meter(), DType::F32)).is_err());
}

#[test]
fn attention_drops_probabilities() {
    let systems = [
        tubevit(|_| {}),
        Config::named("vivit-tiny").unwrap(),
        vidtr(|c| c.mixing = Mixing::Separable),
        vidtr(|c| (c.mixing, c.joint_after) = (Mixing::Axial, Some(0))),
        uniformer(|_| {}),
    ];
    for config in systems {
        let made = Made(Device::reference());
        let mut params = Params::from_file(&made.0, DType::F32, &made, &made);
        let model = config.build(&mut params).unwrap();
        let of = |attention_dropout, seed| {
            let regularisation = Regularisation { attention_dropout, ..Regularisation::default() };
            let video = video(&made.0, &config, |t| t);
            model.forward(&video, &mut Pass::training(regularisation, seed, 0)).unwrap().to_f32_vec().unwrap()
        };
        // Nothing is drawn at a probability below the draws' resolution, but the scores are formed.
        assert!(furthest(&of(0.0, 1), &of(1e-30, 1)) < TWO_WAYS);
        assert_eq!(of(0.5, 1), of(0.5, 1));
        assert!(furthest(&of(0.5, 1), &of(0.5, 2)) > 1e-4 && furthest(&of(0.0, 1), &of(0.5, 1)) > 1e-4);
    }
}

/// What the class token does not need is left out of the last layer, which changes nothing but the work.
#[test]
fn plain_passes_leave_out_what_nobody_reads() {
    let vit = |relative: bool| {
        let Config::Vit(mut config) = Config::named("vit-ti16").unwrap() else { panic!("another system") };
        (config.input.size, config.layers, config.relative_positions) = ([64; 2], 2, relative);
        (config.width, config.hidden, config.classes) = (48, 96, 10);
        Config::Vit(config)
    };
    let configs = [
        Config::named("vivit-tiny").unwrap(),
        vit(false),
        vit(true),
        vidtr(|c| c.mixing = Mixing::Separable),
        vidtr(|c| c.mixing = Mixing::Space),
        vidtr(|c| c.mixing = Mixing::Joint),
        vidtr(|c| (c.mixing, c.position) = (Mixing::Joint, tubelet_models::vidtr::Position::EveryLayer)),
    ];
    for config in configs {
        let made = Made(Device::reference());
        let meter = Device::meter();
        let run = |pass: fn() -> Pass| {
            let model = config.build(&mut Params::from_file(&made.0, DType::F32, &made, &made)).unwrap();
            let logits = model.forward(&video(&made.0, &config, |t| t), &mut pass()).unwrap().to_f32_vec().unwrap();
            let model = config.build(&mut Params::empty(&meter, DType::F32)).unwrap();
            let clip = [1, config.input().frames, config.input().size[0], config.input().size[1], 3];
            let count = meter.downcast::<Meter>().unwrap();
            count.reset();
            model.forward(&Tensor::empty(&meter, DType::F32, &clip).unwrap(), &mut pass()).unwrap();
            (logits, count.count().total.flops)
        };
        let ((plain, less), (whole, more)) = (run(Pass::inference), run(|| Pass::inference().whole()));
        // The reference sums in f64 and rounds what it stores to f32; the stored numbers are the same ones.
        assert!(furthest(&plain, &whole) < 1e-6, "{config:?}: {plain:?} and {whole:?}");
        assert!((less as f64) < 0.9 * more as f64, "{less} of {more} FLOPs: {config:?}");
    }
}

/// A file may ask for anything; the answer comes before memory is taken for it.
#[test]
fn what_no_machine_holds_is_an_error() {
    let beyond: [(&str, Config); 6] = [
        ("layers", uniformer(|c| c.layers = 8_888_888_888_881)),
        ("layers", vidtr(|c| c.layers = usize::MAX)),
        ("frames", tubevit(|c| c.input.frames = usize::MAX)),
        ("pixels", vidtr(|c| c.input.size = [1 << 40, 1 << 40])),
        ("channels", uniformer(|c| c.width = 3 << 40)),
        ("tokens", vidtr(|c| (c.input.frames, c.input.size) = (1 << 16, [1 << 14; 2]))),
    ];
    for (what, config) in beyond {
        let error = tubelet_models::inspect::measure(&config, 1, DType::F32).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("at most"), "{what}: {error}");
    }
}
