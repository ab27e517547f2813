//! Which parameter of a source each of a target's is made of, and how.

use std::{cell::RefCell, collections::BTreeMap};

use tubelet_engine::{
    DType, Device, Error, Result, Tensor,
    ops::{
        binary::mul,
        concat::concat,
        interpolate::{Interpolate, interpolate},
    },
};

use super::{Inflation, Selection};
use crate::{
    params::{Naming, Params, Reader, TensorFile},
    registry::Config,
    tubevit::TubeVitConfig,
    vidtr::Mixing,
    vivit::Temporal,
};

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
pub(super) fn parameters(config: &Config) -> Result<BTreeMap<String, Vec<usize>>> {
    let recorder = Recorder(RefCell::default());
    config.build(&mut Params::from_file(&Device::meter(), DType::F32, &Nothing, &recorder))?;
    Ok(recorder.0.into_inner())
}

/// A grid of positions `[t, h, w]` and the class tokens before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub class: usize,
    pub size: [usize; 3],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// The same numbers.
    Copy,
    /// A class token in every place for one.
    Spread,
    /// An image kernel as a video kernel of the same height and width.
    Kernel(Inflation),
    /// Of another height and width, too.
    Tube(Inflation),
    /// A position table on another grid, at every time.
    Position { from: Grid, to: Grid },
    /// These rows of a head, one for each class.
    Rows(Vec<usize>),
    /// Zeros, whatever the source.
    Zero,
}

/// How a parameter of the target is made.
pub(super) struct Rule {
    /// Our name and shape of the source's parameter.
    pub from: String,
    pub from_shape: Vec<usize>,
    /// What the target needs.
    pub shape: Vec<usize>,
    how: How,
}

impl Rule {
    /// From a source's file, `None` if that lacks it; where it has another shape than the source's, as it is.
    pub fn read(&self, naming: &dyn Naming, file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        if self.how == How::Zero {
            return file.zeros(&self.shape).map(Some);
        }
        let found = naming.translate(&self.from, &self.from_shape, file)?;
        found.map(|x| if **x.shape() == *self.from_shape { self.apply(&x.contiguous()?) } else { Ok(x) }).transpose()
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let shape = &self.shape;
        // Rows over one or all times and places.
        let spread = |x: &Tensor| {
            let c = shape.last().copied().unwrap_or(1).max(1);
            x.reshape(&[1, 1, x.elements() / c, c])?.broadcast_to(shape)?.contiguous()
        };
        match &self.how {
            How::Zero => Tensor::zeros(x.device(), x.dtype(), shape),
            How::Copy => x.reshape(shape),
            How::Spread => spread(x),
            How::Kernel(inflation) => inflate(x, shape[1], *inflation),
            How::Tube(inflation) => {
                let size = [1, shape[2], shape[3]];
                inflate(&interpolate(Interpolate { size, align_corners: false }, x)?, shape[1], *inflation)
            }
            How::Rows(rows) => {
                let rows = rows.iter().map(|&row| x.narrow(0, row, 1)?.contiguous()).collect::<Result<Vec<_>>>()?;
                concat(&rows.iter().collect::<Vec<_>>(), 0)
            }
            &How::Position { from, to } => {
                let x = reposition(x, from, to)?;
                if x.elements() == shape.iter().product::<usize>() { x.reshape(shape) } else { spread(&x) }
            }
        }
    }
}

fn is_same_system(source: &Config, target: &Config) -> bool {
    std::mem::discriminant(source) == std::mem::discriminant(target)
}

/// How `target`'s parameters are made from the `selection` of `source`'s, by name; what has no rule starts anew.
pub(super) fn rules(
    source: &Config,
    target: &Config,
    inflation: Inflation,
    selection: &Selection,
) -> Result<BTreeMap<String, Rule>> {
    let Selection { take, head_rows } = selection;
    let invalid = |message: &str| Err(Error::invalid("initialisation", message));
    match (source, target) {
        (Config::Vit(_), Config::Vit(_)) => return invalid("an image model starts from no other"),
        (Config::Vit(image), _) => {
            let wanted = match target {
                Config::UniformerV2(c) => [c.backbone.pre_norm, c.backbone.layer_scale, c.backbone.relative_positions],
                _ => [false; 3],
            };
            if [image.pre_norm, image.layer_scale, image.relative_positions] != wanted {
                return invalid(
                    "one of the two has a norm before its layers, scales what they add, or knows relative positions, and the other not",
                );
            }
        }
        _ if is_same_system(source, target) => {}
        _ => return invalid("known are a ViT to any video model, and models of one system"),
    }
    let have = parameters(source)?;
    let mut rules = BTreeMap::new();
    for (name, shape) in parameters(target)? {
        if !take.is_empty() && !take.iter().any(|prefix| name.starts_with(prefix.as_str())) {
            continue;
        }
        if matches!((source, target), (Config::Vit(_), Config::UniformerV2(_))) && starts_as_nothing(&name) {
            rules.insert(name, Rule { from: String::new(), from_shape: Vec::new(), shape, how: How::Zero });
            continue;
        }
        let Some(from) = origin(&name, &shape, source, target, inflation) else { continue };
        let Some(from_shape) = have.get(&from).cloned() else { continue };
        let head = name.starts_with("head");
        let how = match head_rows {
            // The head goes along where the classes are the same: the second stage of SFA.
            None if head && from_shape != shape => continue,
            Some(rows) if head && from_shape.len() == shape.len() && from_shape[1..] == shape[1..] => {
                head_of(&name, rows, from_shape[0], shape[0])?
            }
            _ => how(&name, &from_shape, &shape, source, target, inflation)?,
        };
        rules.insert(name, Rule { from, from_shape, shape, how });
    }
    match take.iter().find(|prefix| !rules.keys().any(|name| name.starts_with(prefix.as_str()))) {
        Some(prefix) => Err(Error::invalid("take", format!("the source has nothing for names that start with {prefix:?}"))),
        None => Ok(rules),
    }
}

/// The rows of a head `[from, …]` that make one `[to, …]`; a head's norm, which has no classes, stays as it is.
fn head_of(name: &str, rows: &[usize], from: usize, to: usize) -> Result<How> {
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
fn origin(name: &str, shape: &[usize], source: &Config, target: &Config, inflation: Inflation) -> Option<String> {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    match (source, target) {
        (Config::TubeVit(from), Config::TubeVit(to)) => from_tubes(name, from, to),
        _ if is_same_system(source, target) => Some(name.to_owned()),
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
        // As released: the class token in every place for one.
        (_, Config::VidTr(_)) if has(&["cls_space", "cls_time"]) => Some("cls_token".to_owned()),
        (_, Config::VidTr(_)) => (!has(&["head.", ".attn_space.", ".pool."])).then(|| name.to_owned()),
        (_, Config::UniformerV2(_)) => (!has(&[".local", "global", "balance", "fusion", "head."])).then(|| name.to_owned()),
        _ => None,
    }
}

/// The last projections of what UniFormerV2 adds to an image model, so that its first prediction rests on the mean of the frames' class tokens
/// alone (the official code).
fn starts_as_nothing(name: &str) -> bool {
    let Some((layer, "weight" | "bias")) = name.rsplit_once('.') else { return false };
    let ends = |parts: &[&str]| parts.iter().any(|part| layer.ends_with(part));
    (layer.contains(".local") && ends(&["expand", "attn.proj", "conv", "dpe.dw"]))
        || (layer.starts_with("global.") && ends(&["attn.proj", "mlp.fc2"]))
}

/// The tubes go along where they are the same, and the rest where the widths are.
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
        from.width == to.width && from.representation == to.representation
    } else {
        from.width == to.width && from.hidden == to.hidden && !name.starts_with("pos_embed")
    };
    same.then(|| name.to_owned())
}

fn is_joint(config: &Config) -> bool {
    matches!(config, Config::Vivit(config) if config.temporal == Temporal::Joint)
}

/// Grid of a position table called `name`.
fn grid(config: &Config, name: &str) -> Option<Grid> {
    Some(match config {
        Config::Vit(c) => {
            let [h, w] = c.input.size.map(|n| n / c.patch.max(1));
            Grid { class: usize::from(c.class_token && c.class_position), size: [1, h, w] }
        }
        Config::Vivit(c) => {
            let [t, h, w] = c.grid();
            let joint = matches!(c.temporal, Temporal::Joint | Temporal::Factorised { .. } | Temporal::DotProduct);
            let size = match name {
                "temporal.pos_embed" => [t, 1, 1],
                _ if joint => [t, h, w],
                _ => [1, h, w],
            };
            Grid { class: usize::from(c.class_token), size }
        }
        // A grid with a row of class tokens has the image's table at every time, and one of its own.
        Config::VidTr(c) => {
            let [t, h, w] = c.grid();
            let rows = matches!(c.mixing, Mixing::Separable | Mixing::SeparableApart | Mixing::Space);
            Grid { class: 1, size: [if rows { 1 } else { t }, h, w] }
        }
        Config::UniformerV2(c) => {
            let [h, w] = c.input.size.map(|n| n / c.patch.max(1));
            Grid { class: usize::from(c.backbone.class_position), size: [1, h, w] }
        }
        Config::TubeVit(_) => return None,
    })
}

fn how(name: &str, from: &[usize], to: &[usize], source: &Config, target: &Config, inflation: Inflation) -> Result<How> {
    if let (true, Some(from), Some(to)) = (name.ends_with("pos_embed"), grid(source, name), grid(target, name)) {
        return Ok(How::Position { from, to });
    }
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    if from == to {
        return Ok(How::Copy);
    }
    if name.contains("cls_") && from.last() == to.last() {
        return Ok(if elements(from) == elements(to) { How::Copy } else { How::Spread });
    }
    if from.len() == 5 && to.len() == 5 && from[1] == 1 && from[0] == to[0] {
        if from[2..] == to[2..] {
            return Ok(How::Kernel(inflation));
        }
        if name.starts_with("tubes.") {
            return Ok(How::Tube(inflation));
        }
    }
    Err(Error::invalid("initialisation", format!("{name}: the source has {from:?}, the target needs {to:?}")))
}

/// `[O, 1, h, w, C]` to `[O, t, h, w, C]`.
pub(super) fn inflate(x: &Tensor, t: usize, inflation: Inflation) -> Result<Tensor> {
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
pub(super) fn reposition(x: &Tensor, from: Grid, to: Grid) -> Result<Tensor> {
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
