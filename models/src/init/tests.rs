#![allow(clippy::unwrap_used)]

use tubelet_engine::meter::Meter;

use super::{
    rules::{Grid, inflate, parameters, reposition},
    *,
};
use crate::{
    params::Params,
    tubevit::{Kernels, TubeVitConfig},
};

fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(&Device::reference(), DType::F32, shape, values).unwrap()
}

#[test]
fn kernels_inflate() {
    let image = tensor(&[1, 1, 1, 2, 1], &[4.0, 8.0]);
    let central = inflate(&image, 3, Inflation::CentralFrame).unwrap();
    assert_eq!(central.to_f32_vec().unwrap(), [0.0, 0.0, 4.0, 8.0, 0.0, 0.0]);
    // Of two frames scenic takes the second.
    let second = inflate(&image, 2, Inflation::CentralFrame).unwrap();
    assert_eq!(second.to_f32_vec().unwrap(), [0.0, 0.0, 4.0, 8.0]);
    let repeated = inflate(&image, 2, Inflation::Repeat).unwrap();
    assert_eq!(repeated.to_f32_vec().unwrap(), [2.0, 4.0, 2.0, 4.0]);
}

#[test]
fn positions_stretch_with_their_ends_in_place() {
    let time = |class, t| Grid { class, size: [t, 1, 1] };
    let x = tensor(&[3, 1], &[9.0, 1.0, 5.0]);
    let longer = reposition(&x, time(1, 2), time(1, 5)).unwrap();
    assert_eq!(longer.to_f32_vec().unwrap(), [9.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let bare = reposition(&x, time(1, 2), time(0, 2)).unwrap();
    assert_eq!(bare.to_f32_vec().unwrap(), [1.0, 5.0]);
    assert!(reposition(&x, time(0, 2), time(0, 2)).is_err());
}

/// Tensors of these shapes, their elements numbered.
struct Numbered(BTreeMap<String, Vec<usize>>);

impl Numbered {
    fn of(config: &Config) -> Self {
        Numbered(parameters(config).unwrap())
    }
}

impl TensorFile for Numbered {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.0.clone()
    }
    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let shape = &self.0[name];
        if device.downcast::<Meter>().is_some() {
            return Tensor::empty(device, DType::F32, shape);
        }
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i % 4099) as f32).collect();
        Tensor::from_f32(device, DType::F32, shape, &values)
    }
}

fn own(config: &Config) -> Box<dyn Naming> {
    config.namings().remove(0)
}

#[test]
fn a_video_model_takes_what_the_image_model_has() {
    let (image, meter) = (Config::named("vit-b16").unwrap(), Device::meter());
    let (own, file) = (own(&image), Numbered::of(&image));
    for (name, missing) in [("vivit-b-fe", "spatial.cls_token"), ("tubevit-b", "tubes.0.weight")] {
        let target = Config::named(name).unwrap();
        let initial = Initial::new(&image, &file, &*own, &target, Inflation::CentralFrame).unwrap();
        let shapes = initial.shapes();
        assert!(!shapes.contains_key(missing), "{name}: {missing} is learned anew");
        assert!(shapes.keys().any(|name| name.contains("blocks.11.mlp.fc2.weight")), "{name}");
        let mut params = Params::from_file(&meter, DType::F32, &initial, &*own).or_random(1);
        target.build(&mut params).unwrap();
        params.finish().unwrap();
    }
    let large = Config::named("vivit-l-fe").unwrap();
    assert!(Initial::new(&image, &file, &*own, &large, Inflation::CentralFrame).is_err(), "widths differ");
}

/// An image ViT in the size of `tubevit-tiny`, and that with some of its fields changed.
fn tiny(change: impl FnOnce(&mut TubeVitConfig)) -> (Config, Config) {
    let Config::TubeVit(mut target) = Config::named("tubevit-tiny").unwrap() else { panic!("another system") };
    let Config::Vit(mut image) = Config::named("vit-b16").unwrap() else { panic!("another system") };
    (image.input.size, image.width, image.layers) = (target.input.size, target.width, target.layers);
    (image.heads, image.hidden) = (target.heads, target.hidden);
    change(&mut target);
    (Config::Vit(image), Config::TubeVit(target))
}

#[test]
fn every_tube_may_have_the_images_kernel() {
    let shared = Kernels::Interpolated { size: [8, 8, 8] };
    for (kernels, name, frames) in [(Kernels::Separate, "tubes.0.weight", 4), (shared, "tubes.weight", 8)] {
        let (image, target) = tiny(|config| (config.kernels, config.class_token) = (kernels, true));
        let (own, file, device) = (own(&image), Numbered::of(&image), Device::reference());
        let initial = Initial::new(&image, &file, &*own, &target, Inflation::Repeat).unwrap();
        let load = |name: &str| initial.load(name, &device).unwrap().to_f32_vec().unwrap();
        let kernel = file.load("patch_embed.proj.weight", &device).unwrap().to_f32_vec().unwrap();
        assert_eq!(load("cls_token"), file.load("cls_token", &device).unwrap().to_f32_vec().unwrap());
        // Half the height and half the width: means of four.
        let pixel = |o: usize, y: usize, x: usize, c: usize| kernel[((o * 16 + y) * 16 + x) * 3 + c];
        let mut expected = Vec::new();
        for (o, _, y, x, c) in every([48, frames, 8, 8, 3]) {
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| pixel(o, 2 * y + dy, 2 * x + dx, c));
            expected.push(four.iter().sum::<f32>() / 4.0 / frames as f32);
        }
        assert_eq!(load(name), expected, "{name}");
        if kernels == Kernels::Separate {
            assert_eq!(load("tubes.1.weight"), kernel, "the image patch");
        }
        let central = Initial::new(&image, &file, &*own, &target, Inflation::CentralFrame).unwrap();
        assert!(!central.shapes().contains_key(name), "learned anew");
    }
}

fn every([a, b, c, d, e]: [usize; 5]) -> impl Iterator<Item = (usize, usize, usize, usize, usize)> {
    (0..a * b * c * d * e).map(move |i| (i / (b * c * d * e), i / (c * d * e) % b, i / (d * e) % c, i / e % d, i % e))
}

#[test]
fn a_large_model_takes_the_tubes_of_a_small_one_and_the_rest_of_an_image_model() {
    let [small, image, target] = ["tubevit-ti", "vit-b16", "tubevit-b-from-ti"].map(|name| Config::named(name).unwrap());
    let (own, files) = (own(&image), [&small, &image].map(Numbered::of));
    let from = |source, file| Initial::new(source, file, &*own, &target, Inflation::CentralFrame).unwrap();
    let initial = from(&small, &files[0]).or(from(&image, &files[1]));
    let source = |name: &str| initial.rules.get(name).map(|(source, _)| *source);
    for tube in 0..3 {
        assert_eq!(source(&format!("tubes.{tube}.weight")), Some(0));
    }
    for name in ["tubes.3.weight", "tubes.3.bias", "blocks.11.attn.qkv.weight", "norm.bias"] {
        assert_eq!(source(name), Some(1), "{name}");
    }
    for name in ["late.alpha", "pooling.weight", "head.weight"] {
        assert_eq!(source(name), None, "{name} starts anew");
    }
    let weight = initial.load("blocks.0.mlp.fc1.bias", &Device::reference()).unwrap();
    assert_eq!(weight.shape()[0], 3072);
    // Of the same width everything goes along, but for the head of other classes.
    let [kinetics, something] = ["tubevit-l", "tubevit-l-ssv2"].map(|name| Config::named(name).unwrap());
    let file = Numbered::of(&kinetics);
    let shapes = Initial::new(&kinetics, &file, &*own, &something, Inflation::CentralFrame).unwrap().shapes();
    let left: Vec<_> = parameters(&something).unwrap().into_keys().filter(|name| !shapes.contains_key(name)).collect();
    assert_eq!(left, ["head.bias", "head.weight"]);
}
