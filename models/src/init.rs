//! Starting a model from another: a video model from an image model, a long video's from a short one's, a large model's tubes from a small one's.
//!
//! What the source has not (temporal encoders, adapters, new heads) the target draws at random as its layers say
//! ([`Params::or_random`](crate::params::Params::or_random)).

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    DType, Device, Error, Result, Tensor,
    ops::{
        binary::mul,
        concat::concat,
        interpolate::{Interpolate, interpolate},
    },
};

use crate::{
    params::{Naming, Params, Reader, TensorFile},
    registry::Config,
    tubevit::TubeVitConfig,
};

/// How an image kernel becomes a video kernel (ViViT, section 3.4), and which of TubeViT's tubes have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inflation {
    /// In the frame `⌊t/2⌋`, zeros in the others: equation 9. Of the tubes those of one frame are image patches; the others are learned anew
    /// (TubeViT, section 3.5).
    CentralFrame,
    /// In every frame, divided by t: equation 8. Every tube has the image's kernel, bilinearly resized to its height and width: TubeViT's
    /// third-party code.
    Repeat,
}

/// Collects what a model asks for.
struct Recorder(RefCell<BTreeMap<String, Vec<usize>>>);

impl Naming for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn translate(&self, name: &str, shape: &[usize], _: &mut Reader<'_>) -> Result<Option<Tensor>> {
        self.0.borrow_mut().insert(name.to_owned(), shape.to_vec());
        Ok(None)
    }
}

struct Nothing;

impl TensorFile for Nothing {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        BTreeMap::new()
    }

    fn load(&self, name: &str, _: &Device) -> Result<Tensor> {
        Err(Error::invalid(name, "an empty file has no tensors"))
    }
}

/// Our names and shapes of a model's parameters.
fn parameters(config: &Config) -> Result<BTreeMap<String, Vec<usize>>> {
    let recorder = Recorder(RefCell::default());
    config.build(&mut Params::from_file(&Device::meter(), DType::F32, &Nothing, &recorder))?;
    Ok(recorder.0.into_inner())
}

/// A grid of positions `[t, h, w]` and the class tokens before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    class: usize,
    size: [usize; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Copy,
    Kernel,
    /// A kernel of another size.
    Tube,
    Position {
        from: Grid,
        to: Grid,
    },
}

struct Rule {
    /// Number of the source.
    source: usize,
    from: String,
    from_shape: Vec<usize>,
    shape: Vec<usize>,
    how: How,
}

/// The part of a model's parameters that another model's checkpoint gives, or several do, under our names.
pub struct Initial<'a> {
    sources: Vec<Source<'a>>,
    rules: BTreeMap<String, Rule>,
}

#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a dyn TensorFile,
    naming: &'a dyn Naming,
    inflation: Inflation,
}

impl<'a> Initial<'a> {
    /// `target` from the checkpoint `file` of a `source`: a ViT for ViViT and TubeViT, a ViViT for one of another length or size, or a TubeViT
    /// for one of another width, which takes its tubes alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other pairs, and for widths or patches that do not agree.
    pub fn new(
        source: &Config,
        file: &'a dyn TensorFile,
        naming: &'a dyn Naming,
        target: &Config,
        inflation: Inflation,
    ) -> Result<Self> {
        let known = matches!(
            (source, target),
            (Config::Vit(_), Config::Vivit(_) | Config::TubeVit(_))
                | (Config::Vivit(_), Config::Vivit(_))
                | (Config::TubeVit(_), Config::TubeVit(_))
        );
        if !known {
            let message = "known are ViT to ViViT, ViT to TubeViT, ViViT to ViViT and TubeViT to TubeViT";
            return Err(Error::invalid("initialisation", message));
        }
        let have = parameters(source)?;
        let mut rules = BTreeMap::new();
        for (name, shape) in parameters(target)? {
            let Some(from) = origin(&name, &shape, source, target, inflation) else { continue };
            let Some(from_shape) = have.get(&from).cloned() else { continue };
            let how = how(&name, &from_shape, &shape, source, target)?;
            rules.insert(name, Rule { source: 0, from, from_shape, shape, how });
        }
        Ok(Initial { sources: vec![Source { file, naming, inflation }], rules })
    }

    /// This, and from `other` what it lacks: TubeViT's image-to-video scaling (section 3.6) has the tubes of a small TubeViT, and of a large image
    /// model all the rest.
    pub fn or(mut self, other: Initial<'a>) -> Self {
        let first = self.sources.len();
        self.sources.extend(other.sources);
        for (name, rule) in other.rules {
            self.rules.entry(name).or_insert(Rule { source: first + rule.source, ..rule });
        }
        self
    }
}

/// The source's name for the target's parameter.
fn origin(name: &str, shape: &[usize], source: &Config, target: &Config, inflation: Inflation) -> Option<String> {
    match (source, target) {
        // The head goes along where the classes are the same: the second stage of SFA.
        (Config::Vivit(from), Config::Vivit(to)) => {
            (!name.starts_with("head") || from.classes == to.classes).then(|| name.to_owned())
        }
        (Config::TubeVit(from), Config::TubeVit(to)) => from_tubes(name, from, to),
        (_, Config::TubeVit(config)) => match name.strip_prefix("tubes.").map(|rest| rest.split_once('.')) {
            Some(Some((i, part))) => {
                let tube = config.tubes.get(i.parse::<usize>().ok()?)?;
                let wanted = tube.kernel[0] == 1 || inflation == Inflation::Repeat;
                (wanted && tube.space_to_depth == [1; 3]).then(|| format!("patch_embed.proj.{part}"))
            }
            // The kernel that all are interpolated from; in the third-party code each tube's bias starts at 0.
            Some(None) => (name == "tubes.weight" && inflation == Inflation::Repeat).then(|| "patch_embed.proj.weight".into()),
            None => ["blocks.", "norm.", "cls_token"].iter().any(|part| name.starts_with(part)).then(|| name.to_owned()),
        },
        (_, Config::Vivit(_)) if name.starts_with("patch_embed.") => Some(name.to_owned()),
        (_, Config::Vivit(_)) => {
            let name = name.strip_prefix("spatial.")?;
            // As released: a class token for each time step starts at zero, although its row of the position table is copied.
            let own_class = name == "cls_token" && shape.len() == 1 && !is_joint(target);
            let space = name.replace(".norm_space", ".norm1").replace(".space.", ".attn.");
            (!own_class).then_some(space)
        }
        _ => None,
    }
}

/// The tubes go along where they are the same, and the rest where the widths are; heads where there are as many classes.
fn from_tubes(name: &str, from: &TubeVitConfig, to: &TubeVitConfig) -> Option<String> {
    let same = if let Some(rest) = name.strip_prefix("tubes.") {
        match rest.split_once('.').map(|(i, _)| i.parse::<usize>().ok()) {
            Some(i) => {
                let channels = |config: &TubeVitConfig| {
                    let tube = config.tubes.get(i?)?;
                    Some((tube.kernel, config.width / tube.space_to_depth.iter().product::<usize>().max(1)))
                };
                channels(from).is_some() && channels(from) == channels(to)
            }
            None => from.width == to.width && from.kernels == to.kernels && from.tubes.len() == to.tubes.len(),
        }
    } else if name.starts_with("head") {
        from.width == to.width && from.representation == to.representation && from.datasets == to.datasets
    } else {
        from.width == to.width && from.hidden == to.hidden && !name.starts_with("pos_embed")
    };
    same.then(|| name.to_owned())
}

fn is_joint(config: &Config) -> bool {
    matches!(config, Config::Vivit(config) if config.temporal == crate::vivit::Temporal::Joint)
}

/// Grid of a position table called `name`.
fn grid(config: &Config, name: &str) -> Option<Grid> {
    match config {
        Config::Vit(c) => {
            let [h, w] = c.input.size.map(|n| n / c.patch.max(1));
            Some(Grid { class: usize::from(c.class_token), size: [1, h, w] })
        }
        Config::Vivit(c) => {
            let [t, h, w] = c.grid();
            let joint = matches!(c.temporal, crate::vivit::Temporal::Joint | crate::vivit::Temporal::Factorised { .. });
            let size = match name {
                "temporal.pos_embed" => [t, 1, 1],
                _ if joint => [t, h, w],
                _ => [1, h, w],
            };
            Some(Grid { class: usize::from(c.class_token), size })
        }
        _ => None,
    }
}

fn how(name: &str, from: &[usize], to: &[usize], source: &Config, target: &Config) -> Result<How> {
    if let (true, Some(from), Some(to)) = (name.ends_with("pos_embed"), grid(source, name), grid(target, name)) {
        return Ok(How::Position { from, to });
    }
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    if from == to || (name.ends_with("cls_token") && elements(from) == elements(to)) {
        return Ok(How::Copy);
    }
    if from.len() == 5 && to.len() == 5 && from[1] == 1 && from[0] == to[0] {
        if from[2..] == to[2..] {
            return Ok(How::Kernel);
        }
        if name.starts_with("tubes.") {
            return Ok(How::Tube);
        }
    }
    Err(Error::invalid("initialisation", format!("{name}: the source has {from:?}, the target needs {to:?}")))
}

impl TensorFile for Initial<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.rules.iter().map(|(name, rule)| (name.clone(), rule.shape.clone())).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let rule = self.rules.get(name).ok_or_else(|| Error::invalid(name, "the source has no such tensor"))?;
        let Source { file, naming, inflation } = self.sources[rule.source];
        let mut reader = Reader::new(file, device, DType::F32);
        let found = naming.translate(&rule.from, &rule.from_shape, &mut reader)?;
        let x = found.ok_or_else(|| Error::invalid(&rule.from, "missing from the source's checkpoint"))?;
        if **x.shape() != *rule.from_shape {
            let message = format!("{} has {}, expected {:?}", rule.from, x.shape(), rule.from_shape);
            return Err(Error::shape("initialisation", message));
        }
        match rule.how {
            How::Copy => x.contiguous()?.reshape(&rule.shape),
            How::Kernel => inflate(&x, rule.shape[1], inflation),
            How::Tube => {
                let size = [1, rule.shape[2], rule.shape[3]];
                inflate(&interpolate(Interpolate { size, align_corners: false }, &x.contiguous()?)?, rule.shape[1], inflation)
            }
            How::Position { from, to } => reposition(&x.contiguous()?, from, to)?.reshape(&rule.shape),
        }
    }
}

/// `[O, 1, h, w, C]` to `[O, t, h, w, C]`.
fn inflate(x: &Tensor, t: usize, inflation: Inflation) -> Result<Tensor> {
    let s = *x.shape();
    let frames = |n: usize| [s[0], n, s[2], s[3], s[4]];
    match inflation {
        Inflation::Repeat => {
            let share = Tensor::full(x.device(), x.dtype(), &[1], 1.0 / t as f32)?;
            mul(x, &share)?.broadcast_to(&frames(t))?.contiguous()
        }
        Inflation::CentralFrame => {
            let zeros = |n: usize| Tensor::zeros(x.device(), x.dtype(), &frames(n));
            concat(&[&zeros(t / 2)?, x, &zeros(t - t / 2 - 1)?], 1)
        }
    }
}

/// A position table on another grid: linear between the rows with the ends aligned (scenic's `zoom` of order 1); over time an image's table repeats.
fn reposition(x: &Tensor, from: Grid, to: Grid) -> Result<Tensor> {
    let (c, [t, h, w]) = (x.shape()[x.rank() - 1], from.size);
    let rows = x.elements() / c.max(1);
    if rows != from.class + t * h * w {
        return Err(Error::shape("initialisation", format!("{} has {rows} positions, not those of {from:?}", x.shape())));
    }
    let x = x.reshape(&[rows, c])?;
    let mut grid = x.narrow(0, from.class, t * h * w)?.contiguous()?.reshape(&[1, t, h, w, c])?;
    if from.size != to.size {
        grid = interpolate(Interpolate { size: to.size, align_corners: true }, &grid)?;
    }
    let grid = grid.reshape(&[to.size.iter().product(), c])?;
    match (from.class, to.class) {
        (_, 0) => Ok(grid),
        (0, n) => concat(&[&Tensor::zeros(x.device(), x.dtype(), &[n, c])?, &grid], 0),
        (n, _) => concat(&[&x.narrow(0, 0, n)?.contiguous()?, &grid], 0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tubelet_engine::meter::Meter;

    use super::*;
    use crate::tubevit::Kernels;

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
        let source = |name: &str| initial.rules.get(name).map(|rule| rule.source);
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
}
