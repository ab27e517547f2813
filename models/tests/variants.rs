//! Variants without released weights: each runs, and does what sets it apart.
#![allow(clippy::unwrap_used)]

use tubelet_models::{
    Pass,
    engine::{DType, Device, Tensor, meter::Meter},
    params::{Naming, Params, Reader, TensorFile},
    registry::Config,
    tubevit::{Centre, Frequencies, Interleaving, Position, TubeVitConfig},
    uniformerv2::{Fusion, UniformerV2Config},
    vidtr::{Mixing, Pool, Pooling, VidTrConfig},
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
