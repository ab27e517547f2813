//! Starting a model from another: a video model from an image model, a long video's from a short one's.
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
};

/// How an image kernel becomes a video kernel (ViViT, section 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inflation {
    /// In the frame `⌊t/2⌋`, zeros in the others: equation 9.
    CentralFrame,
    /// In every frame, divided by t: equation 8.
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    Copy,
    Kernel,
    Position {
        from: Grid,
        to: Grid,
    },
    /// These rows of a head, one for each class.
    Rows(Vec<usize>),
}

/// What of another model is taken, and how its classes become the new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Parameters whose new names start with one of these; all, if there are none.
    pub take: Vec<String>,
    /// For each class of the new head, the class of the old one whose row it takes; without it a head of other classes is drawn anew.
    pub head_rows: Option<Vec<usize>>,
}

struct Rule {
    from: String,
    from_shape: Vec<usize>,
    shape: Vec<usize>,
    how: How,
}

/// The part of a model's parameters that another model's checkpoint gives, under our names.
pub struct Initial<'a> {
    file: &'a dyn TensorFile,
    naming: &'a dyn Naming,
    inflation: Inflation,
    rules: BTreeMap<String, Rule>,
}

impl<'a> Initial<'a> {
    /// `target` from the checkpoint `file` of a `source`: a ViT for ViViT and TubeViT, or a model of the same system, as a ViViT for one of
    /// another length or size.
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
        Initial::select(source, file, naming, target, inflation, &Selection::default())
    }

    /// As [`Initial::new`], of a part of the source.
    ///
    /// # Errors
    /// Those, a selection of nothing, and rows that a head has not.
    pub fn select(
        source: &Config,
        file: &'a dyn TensorFile,
        naming: &'a dyn Naming,
        target: &Config,
        inflation: Inflation,
        selection: &Selection,
    ) -> Result<Self> {
        let video = matches!((source, target), (Config::Vit(_), Config::Vivit(_) | Config::TubeVit(_)));
        if !video && !is_same_system(source, target) {
            return Err(Error::invalid("initialisation", "known are ViT to ViViT, ViT to TubeViT, and models of one system"));
        }
        let Selection { take, head_rows } = selection;
        let have = parameters(source)?;
        let mut rules = BTreeMap::new();
        for (name, shape) in parameters(target)? {
            if !take.is_empty() && !take.iter().any(|prefix| name.starts_with(prefix.as_str())) {
                continue;
            }
            let Some(from) = origin(&name, &shape, source, target) else { continue };
            let Some(from_shape) = have.get(&from).cloned() else { continue };
            let how = match head_rows {
                // The head goes along where the classes are the same: the second stage of SFA.
                None if name.starts_with("head") && from_shape != shape => continue,
                Some(rows) if name.starts_with("head") && from_shape.len() == shape.len() && from_shape[1..] == shape[1..] => {
                    head(&name, rows, from_shape[0], shape[0])?
                }
                _ => how(&name, &from_shape, &shape, source, target)?,
            };
            rules.insert(name, Rule { from, from_shape, shape, how });
        }
        if let Some(prefix) = take.iter().find(|prefix| !rules.keys().any(|name| name.starts_with(prefix.as_str()))) {
            return Err(Error::invalid("take", format!("the source has nothing for names that start with {prefix:?}")));
        }
        Ok(Initial { file, naming, inflation, rules })
    }
}

fn is_same_system(source: &Config, target: &Config) -> bool {
    std::mem::discriminant(source) == std::mem::discriminant(target)
}

/// The rows of a head `[from, …]` that make one `[to, …]`; a head's norm, which has no classes, stays as it is.
fn head(name: &str, rows: &[usize], from: usize, to: usize) -> Result<How> {
    if name.contains(".norm.") {
        return Ok(How::Copy);
    }
    if rows.len() != to {
        return Err(Error::invalid("head_rows", format!("{} rows for the {to} classes of {name}", rows.len())));
    }
    match rows.iter().find(|&&row| row >= from) {
        Some(row) => Err(Error::invalid("head_rows", format!("row {row} of {name}, which has {from}"))),
        None => Ok(How::Rows(rows.to_vec())),
    }
}

/// The source's name for the target's parameter.
fn origin(name: &str, shape: &[usize], source: &Config, target: &Config) -> Option<String> {
    match (source, target) {
        _ if is_same_system(source, target) => Some(name.to_owned()),
        (_, Config::TubeVit(config)) => match name.strip_prefix("tubes.").and_then(|rest| rest.split_once('.')) {
            // The tube of one frame is the image patch; the others are learned anew (section 3.5).
            Some((i, part)) => {
                let tube = config.tubes.get(i.parse::<usize>().ok()?)?;
                (tube.kernel[0] == 1 && tube.space_to_depth == [1; 3]).then(|| format!("patch_embed.proj.{part}"))
            }
            None => (name.starts_with("blocks.") || name.starts_with("norm.")).then(|| name.to_owned()),
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
    if from.len() == 5 && to.len() == 5 && from[1] == 1 && from[0] == to[0] && from[2..] == to[2..] {
        return Ok(How::Kernel);
    }
    Err(Error::invalid("initialisation", format!("{name}: the source has {from:?}, the target needs {to:?}")))
}

impl TensorFile for Initial<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.rules.iter().map(|(name, rule)| (name.clone(), rule.shape.clone())).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let rule = self.rules.get(name).ok_or_else(|| Error::invalid(name, "the source has no such tensor"))?;
        let mut reader = Reader::new(self.file, device, DType::F32);
        let found = self.naming.translate(&rule.from, &rule.from_shape, &mut reader)?;
        let x = found.ok_or_else(|| Error::invalid(&rule.from, "missing from the source's checkpoint"))?;
        if **x.shape() != *rule.from_shape {
            let message = format!("{} has {}, expected {:?}", rule.from, x.shape(), rule.from_shape);
            return Err(Error::shape("initialisation", message));
        }
        match &rule.how {
            How::Copy => x.contiguous()?.reshape(&rule.shape),
            How::Kernel => inflate(&x, rule.shape[1], self.inflation),
            How::Rows(rows) => {
                let rows = rows.iter().map(|&row| x.narrow(0, row, 1)?.contiguous()).collect::<Result<Vec<_>>>()?;
                concat(&rows.iter().collect::<Vec<_>>(), 0)
            }
            &How::Position { from, to } => reposition(&x.contiguous()?, from, to)?.reshape(&rule.shape),
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
    use super::*;

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

    #[test]
    fn a_video_model_takes_what_the_image_model_has() {
        let (image, meter) = (Config::named("vit-b16").unwrap(), Device::meter());
        let own = &image.namings()[0];
        struct Shapes(BTreeMap<String, Vec<usize>>);
        impl TensorFile for Shapes {
            fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
                self.0.clone()
            }
            fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
                Tensor::empty(device, DType::F32, &self.0[name])
            }
        }
        let file = Shapes(parameters(&image).unwrap());
        for (name, missing) in [("vivit-b-fe", "spatial.cls_token"), ("tubevit-b", "tubes.0.weight")] {
            let target = Config::named(name).unwrap();
            let initial = Initial::new(&image, &file, &**own, &target, Inflation::CentralFrame).unwrap();
            let shapes = initial.shapes();
            assert!(!shapes.contains_key(missing), "{name}: {missing} is learned anew");
            assert!(shapes.keys().any(|name| name.contains("blocks.11.mlp.fc2.weight")), "{name}");
            let mut params = Params::from_file(&meter, DType::F32, &initial, &**own).or_random(1);
            target.build(&mut params).unwrap();
            params.finish().unwrap();
        }
        let large = Config::named("vivit-l-fe").unwrap();
        assert!(Initial::new(&image, &file, &**own, &large, Inflation::CentralFrame).is_err(), "widths differ");
    }
}
