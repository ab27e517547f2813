//! Whole models: weights through the users' loader, logits and intermediate results.

use std::collections::BTreeMap;

use serde_json::Value;
use tubelet_engine::{DType, Device, Error, Result, Tensor};

use super::{Fixture, Sheet};
use crate::{Taps, params::TensorFile, registry::Config};

const LOGITS: f64 = 1e-5;
const INTERMEDIATE: f64 = 2e-5;

/// The tensors below `weights.`, without it.
struct Weights<'a>(&'a Fixture<'a>);

impl TensorFile for Weights<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let all = self.0.file.shapes().into_iter();
        all.filter_map(|(name, shape)| Some((name.strip_prefix("weights.")?.to_owned(), shape))).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        self.0.file.load(&format!("weights.{name}"), device)
    }
}

pub(super) fn compare(fixture: &Fixture<'_>, sheet: &mut Sheet<'_>) -> Result<()> {
    let system = fixture.meta("system").unwrap_or_default();
    let text = fixture.meta("config").unwrap_or_default();
    let fields: Value = serde_json::from_str(text).map_err(|error| Error::format("config", error.to_string()))?;
    let input = fixture.get("input")?;
    let mut fields = fields;
    // The class does not record the width of its output; the result does.
    if let (Some(map), Some(&classes)) = (fields.as_object_mut(), fixture.get("logits")?.shape().last()) {
        map.entry("output_dim").or_insert(classes.into());
        map.entry("num_labels").or_insert(classes.into());
    }
    let config = Config::from_official(system, &fields, input.shape())?;
    let config = config.ok_or_else(|| Error::invalid("system", format!("{system:?} is not known")))?;
    let weights = Weights(fixture);
    let naming = config.naming(&weights, None)?;
    let model = config.with_naming(fixture.device, DType::F32, &weights, &*naming)?;
    let mut taps = Taps::on();
    let logits = model.forward(&channels_last(system, &input)?, &mut taps)?;
    sheet.compare("logits", &logits, &fixture.get("logits")?, LOGITS)?;
    let ours = taps.into_map();
    for name in fixture.file.entries().keys().filter(|name| name.starts_with("mid.")) {
        let Some(tensor) = ours.get(name.trim_start_matches("mid.")) else {
            sheet.push(name, f64::NAN, INTERMEDIATE, "the model has no such intermediate result".into());
            continue;
        };
        let exact = tensor.dtype() == DType::I32;
        sheet.compare(name, tensor, &fixture.get(name)?, if exact { 0.0 } else { INTERMEDIATE })?;
    }
    Ok(())
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
