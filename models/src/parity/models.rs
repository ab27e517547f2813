//! Whole models: weights through the users' loader, logits and intermediate results, gradients, and a pass in training mode.

use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
};

use serde_json::Value;
use tubelet_autograd::{Gradients, Variable, backward};
use tubelet_engine::{
    DType, Device, Error, Result, Tensor,
    ops::cross_entropy::{CrossEntropy, LossReduction, cross_entropy},
};

use super::{DUST, Fixture, Sheet};
use crate::{
    Pass, Regularisation,
    params::{Naming, Params, Reader, TensorFile},
    registry::Config,
};

const LOGITS: f64 = 1e-5;
const INTERMEDIATE: f64 = 2e-5;
/// Of gradients and of what follows from the statistics of a batch.
const GRADIENT: f64 = 1e-4;

/// The tensors below a prefix, without it; floating-point ones as variables.
struct Weights<'a> {
    fixture: &'a Fixture<'a>,
    prefix: &'static str,
    variables: RefCell<BTreeMap<String, Variable>>,
}

impl<'a> Weights<'a> {
    fn new(fixture: &'a Fixture<'a>, prefix: &'static str) -> Self {
        Weights { fixture, prefix, variables: RefCell::default() }
    }
}

impl TensorFile for Weights<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let all = self.fixture.file.shapes().into_iter();
        all.filter_map(|(name, shape)| Some((name.strip_prefix(self.prefix)?.to_owned(), shape))).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let tensor = || self.fixture.file.load(&format!("{}{name}", self.prefix), device);
        // The meter, on which namings are found out, has other variables than the device.
        if device != self.fixture.device {
            return tensor();
        }
        match self.variables.borrow_mut().entry(name.to_owned()) {
            Entry::Occupied(entry) => Ok((**entry.get()).clone()),
            Entry::Vacant(entry) => {
                let tensor = tensor()?;
                if !tensor.dtype().is_float() {
                    return Ok(tensor);
                }
                Ok((**entry.insert(Variable::new(tensor)?)).clone())
            }
        }
    }
}

/// The configuration that a fixture describes.
fn config(fixture: &Fixture<'_>, input: &Tensor) -> Result<Config> {
    let system = fixture.meta("system").unwrap_or_default();
    let text = fixture.meta("config").unwrap_or_default();
    let fields: Value = serde_json::from_str(text).map_err(|error| Error::format("config", error.to_string()))?;
    let mut fields = fields;
    // The class does not record the width of its output; the result does.
    if let (Some(map), Some(&classes)) = (fields.as_object_mut(), fixture.get("logits")?.shape().last()) {
        map.entry("output_dim").or_insert(classes.into());
        map.entry("num_labels").or_insert(classes.into());
    }
    let config = Config::from_official(system, &fields, input.shape())?;
    config.ok_or_else(|| Error::invalid("system", format!("{system:?} is not known")))
}

/// The logits of a fixture's model in another element type.
pub(super) fn logits(fixture: &Fixture<'_>, dtype: DType) -> Result<Tensor> {
    let input = fixture.get("input")?;
    let config = config(fixture, &input)?;
    let weights = Weights::new(fixture, "weights.");
    let naming = config.naming(&weights, None)?;
    let mut params = Params::from_file(fixture.device, dtype, &weights, &*naming);
    let model = config.build(&mut params)?;
    params.finish()?;
    let system = fixture.meta("system").unwrap_or_default();
    model.forward(&channels_last(system, &input.cast(dtype)?)?, &mut Pass::inference())?.cast(DType::F32)
}

pub(super) fn compare(fixture: &Fixture<'_>, sheet: &mut Sheet<'_>) -> Result<()> {
    let input = fixture.get("input")?;
    let config = config(fixture, &input)?;
    let naming = config.naming(&Weights::new(fixture, "weights."), None)?;
    let case = Case { fixture, config: &config, naming: &*naming, input, labels: labels(fixture)? };
    case.compare("", Pass::watched(), sheet)?;
    // Nobody watches most passes, and those leave out what nobody reads.
    case.compare("", Pass::inference(), sheet)?;
    if fixture.has("train.logits") {
        case.compare("train.", Pass::training(Regularisation::default(), 0, 0).watching(), sheet)?;
    }
    Ok(())
}

/// One model and its input.
struct Case<'a> {
    fixture: &'a Fixture<'a>,
    config: &'a Config,
    naming: &'a dyn Naming,
    input: Tensor,
    labels: Option<Tensor>,
}

impl Case<'_> {
    /// Compares one pass with the tensors below `prefix`.
    fn compare(&self, prefix: &str, mut pass: Pass, sheet: &mut Sheet<'_>) -> Result<()> {
        let weights = Weights::new(self.fixture, "weights.");
        let mut params = Params::from_file(self.fixture.device, DType::F32, &weights, self.naming);
        if !prefix.is_empty() {
            params = params.with_batch_norms();
        }
        let model = self.config.build(&mut params)?;
        params.finish()?;
        let input = Variable::new(self.input.clone())?;
        let system = self.fixture.meta("system").unwrap_or_default();
        let logits = model.forward(&channels_last(system, &input)?, &mut pass)?;
        let name = |part: &str| format!("{prefix}{part}");
        // Statistics of a batch of few numbers lose digits.
        let lossy = if prefix.is_empty() { 1.0 } else { GRADIENT / INTERMEDIATE };
        sheet.compare(&name("logits"), &logits, &self.fixture.get(&name("logits"))?, LOGITS * lossy)?;
        self.statistics(prefix, &mut pass, sheet)?;
        let watched = pass.is_watched();
        let ours = pass.into_map();
        for full in self.names(&name("mid.")).filter(|_| watched) {
            let Some(tensor) = ours.get(full.trim_start_matches(&name("mid."))) else {
                sheet.push(full, f64::NAN, INTERMEDIATE, "the model has no such intermediate result".into());
                continue;
            };
            let exact = tensor.dtype() == DType::I32;
            sheet.compare(full, tensor, &self.fixture.get(full)?, if exact { 0.0 } else { INTERMEDIATE * lossy })?;
        }
        drop(ours);
        let Some(labels) = &self.labels else { return Ok(()) };
        let op = CrossEntropy { label_smoothing: 0.0, reduction: LossReduction::Mean };
        let loss = cross_entropy(op, &logits, labels)?;
        if let Some(expected) = self.fixture.maybe(&name("loss"))? {
            sheet.compare(&name("loss"), &loss.reshape(expected.shape())?, &expected, LOGITS * lossy)?;
        }
        self.gradients(&name("grad."), &backward(&loss)?, &input, &weights, sheet)
    }

    /// The file's names below a prefix.
    fn names(&self, prefix: &str) -> impl Iterator<Item = &String> {
        self.fixture.file.entries().keys().filter(move |name| name.starts_with(prefix))
    }

    fn gradients(
        &self,
        prefix: &str,
        gradients: &Gradients,
        input: &Tensor,
        weights: &Weights<'_>,
        sheet: &mut Sheet<'_>,
    ) -> Result<()> {
        let mut largest = 0f64;
        for name in self.names(prefix) {
            largest = largest.max(super::largest(&self.fixture.get(name)?)?);
        }
        let variables = weights.variables.borrow();
        for full in self.names(prefix) {
            let name = full.trim_start_matches(prefix);
            let variable = if name == "input" { Some(input) } else { variables.get(name).map(|v| &**v) };
            let expected = self.fixture.get(full)?;
            let Some(variable) = variable else {
                sheet.push(full, f64::NAN, GRADIENT, "the model has no such parameter".into());
                continue;
            };
            let ours = match gradients.get(variable) {
                Some(gradient) => gradient.clone(),
                None => Tensor::zeros(self.fixture.device, DType::F32, variable.shape())?,
            };
            sheet.compare_above(full, &ours, &expected, GRADIENT, DUST * largest)?;
        }
        Ok(())
    }

    /// The running statistics after a training pass, in the names of the file.
    fn statistics(&self, prefix: &str, pass: &mut Pass, sheet: &mut Sheet<'_>) -> Result<()> {
        let after = Weights::new(self.fixture, "train.after.");
        let mut reader = Reader::new(&after, self.fixture.device, DType::F32);
        for (name, ours) in pass.take_statistics() {
            let label = format!("{prefix}after {name}");
            match self.naming.translate(&name, ours.shape(), &mut reader)? {
                Some(expected) => sheet.compare(&label, &ours, &expected, GRADIENT)?,
                None => sheet.push(&label, f64::NAN, GRADIENT, "the file has no such statistic".into()),
            }
        }
        Ok(())
    }
}

/// The labels in the metadata.
fn labels(fixture: &Fixture<'_>) -> Result<Option<Tensor>> {
    let Some(text) = fixture.meta("labels") else { return Ok(None) };
    let labels: Vec<i32> = serde_json::from_str(text).map_err(|error| Error::format("labels", error.to_string()))?;
    Tensor::from_slice(fixture.device, &[labels.len()], &labels).map(Some)
}

/// `[B, T, H, W, 3]` from the layout of the implementation.
fn channels_last(system: &str, input: &Tensor) -> Result<Tensor> {
    let s = *input.shape();
    match (s.rank(), system) {
        (4, _) => input.reshape(&[s[0], s[1], 1, s[2], s[3]])?.permute(&[0, 2, 3, 4, 1]),
        // Frames before channels.
        (5, "ViViT (joint space-time)") => input.permute(&[0, 1, 3, 4, 2]),
        (5, _) if system.starts_with("ViViT") => Ok(input.clone()),
        (5, _) => input.permute(&[0, 2, 3, 4, 1]),
        _ => Err(Error::shape("parity", format!("input is {s}, expected an image or a video"))),
    }
}
