//! Comparison with numbers of independent implementations: the library behind `tubelet parity`. The format is described in `docs/parity.md`.

mod kernels;
mod models;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tubelet_engine::{DType, Device, Error, Result, Tensor};

use crate::{checkpoint::Checkpoint, params::TensorFile};

/// Gradients that are zero in exact arithmetic are rounding dust: what is below this part of the largest gradient of the model, or of the case.
const DUST: f64 = 1e-6;

/// The largest magnitude of a tensor.
fn largest(x: &Tensor) -> Result<f64> {
    Ok(x.to_f64_vec()?.iter().fold(0.0, |m, x| m.max(x.abs())))
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The file, relative to the folder.
    pub file: String,
    /// The tensor.
    pub tensor: String,
    /// `max |ours − expected| / max |expected|`; not a number where there was nothing to compare.
    pub error: f64,
    /// What is allowed.
    pub tolerance: f64,
    /// Whether it is within.
    pub ok: bool,
    /// Why not, where that is not a matter of numbers.
    pub note: String,
}

/// All comparisons.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Comparisons.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether every comparison is within its tolerance, and there was one.
    pub fn ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }
}

/// Collects the comparisons of a file.
struct Sheet<'a> {
    report: &'a mut Report,
    file: String,
}

impl Sheet<'_> {
    /// Compares with `max |a − b| ≤ tolerance · max |b|`. A tensor of zeros must be zeros.
    fn compare(&mut self, tensor: &str, ours: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
        self.compare_above(tensor, ours, expected, tolerance, 0.0)
    }

    /// As [`Sheet::compare`], where deviations up to `dust` pass too.
    fn compare_above(&mut self, tensor: &str, ours: &Tensor, expected: &Tensor, tolerance: f64, dust: f64) -> Result<()> {
        let Some((worst, scale)) = self.measure(tensor, ours, expected, tolerance)? else { return Ok(()) };
        let error = if worst == 0.0 { 0.0 } else { worst / scale };
        let note = if error > tolerance && worst <= dust { "rounding dust" } else { "" };
        self.row(tensor, error, tolerance, error <= tolerance || worst <= dust, note.into());
        Ok(())
    }

    /// Compares with `max |a − b| ≤ tolerance`.
    fn compare_absolute(&mut self, tensor: &str, ours: &Tensor, expected: &Tensor, tolerance: f64) -> Result<()> {
        if let Some((worst, _)) = self.measure(tensor, ours, expected, tolerance)? {
            self.push(tensor, worst, tolerance, String::new());
        }
        Ok(())
    }

    /// The largest deviation and the largest expected magnitude; another shape is a row of its own.
    fn measure(&mut self, tensor: &str, ours: &Tensor, expected: &Tensor, tolerance: f64) -> Result<Option<(f64, f64)>> {
        if ours.shape() != expected.shape() {
            let note = format!("shape {}, expected {}", ours.shape(), expected.shape());
            self.push(tensor, f64::NAN, tolerance, note);
            return Ok(None);
        }
        let (a, b) = (ours.to_f64_vec()?, expected.to_f64_vec()?);
        let scale = b.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        // Once not a number, always so: `f64::max` would forget it.
        let larger = |m: f64, d: f64| if m.is_nan() || d.is_nan() { f64::NAN } else { m.max(d) };
        let worst = a.iter().zip(&b).fold(0.0, |m, (a, b)| larger(m, (a - b).abs()));
        Ok(Some((worst, scale)))
    }

    fn push(&mut self, tensor: &str, error: f64, tolerance: f64, note: String) {
        self.row(tensor, error, tolerance, error <= tolerance, note);
    }

    fn row(&mut self, tensor: &str, error: f64, tolerance: f64, ok: bool, note: String) {
        self.report.rows.push(Row { file: self.file.clone(), tensor: tensor.to_owned(), error, tolerance, ok, note });
    }
}

/// A fixture: an opened file whose tensors are asked for by name.
struct Fixture<'a> {
    file: &'a Checkpoint,
    device: &'a Device,
}

impl Fixture<'_> {
    fn meta(&self, key: &str) -> Option<&str> {
        self.file.metadata().get(key).map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.file.entries().contains_key(name)
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        self.file.load(name, self.device)
    }

    fn maybe(&self, name: &str) -> Result<Option<Tensor>> {
        if self.has(name) { self.get(name).map(Some) } else { Ok(None) }
    }
}

/// Compares every `.safetensors` file below `folder`; `progress` is told of each.
///
/// # Errors
/// Where the folder cannot be read or holds no fixtures. What goes wrong in a file is a row of the report.
pub fn run(folder: &Path, device: &Device, progress: &mut dyn FnMut(&Path)) -> Result<Report> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(Error::format(folder.display().to_string(), "no .safetensors files below this folder"));
    }
    let mut report = Report::default();
    for path in files {
        progress(&path);
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        let mut sheet = Sheet { report: &mut report, file: name };
        if let Err(error) = one(&path, device, &mut sheet) {
            sheet.push("", f64::NAN, 0.0, error.to_string());
        }
    }
    Ok(report)
}

/// What another element type costs: for every model's file below `folder` the logits computed in `dtype` beside those that the file holds in f32.
/// Nothing is judged: a tolerance is not a number.
///
/// # Errors
/// Where the folder cannot be read, and what loading and computing say.
pub fn logits_in(folder: &Path, device: &Device, dtype: DType) -> Result<Report> {
    let (mut files, mut report) = (Vec::new(), Report::default());
    collect(folder, &mut files)?;
    files.sort();
    for path in files {
        let file = Checkpoint::open(&path)?;
        let fixture = Fixture { file: &file, device };
        if fixture.meta("config").is_some() {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut sheet = Sheet { report: &mut report, file: name };
            sheet.compare("logits", &models::logits(&fixture, dtype)?, &fixture.get("logits")?, f64::NAN)?;
        }
    }
    Ok(report)
}

fn one(path: &Path, device: &Device, sheet: &mut Sheet<'_>) -> Result<()> {
    let file = Checkpoint::open(path)?;
    let fixture = Fixture { file: &file, device };
    if fixture.meta("config").is_some() { models::compare(&fixture, sheet) } else { kernels::compare(&fixture, sheet) }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verdict(ours: &[f32], expected: &[f32]) -> bool {
        let device = Device::reference();
        let tensor = |x: &[f32]| Tensor::from_slice(&device, &[x.len()], x).unwrap();
        let mut report = Report::default();
        let mut sheet = Sheet { report: &mut report, file: String::new() };
        sheet.compare("x", &tensor(ours), &tensor(expected), 0.25).unwrap();
        report.ok()
    }

    #[test]
    fn a_deviation_is_measured_against_the_largest_magnitude_and_nan_never_passes() {
        assert!(verdict(&[4.0, 1.0], &[4.0, 2.0]));
        assert!(!verdict(&[4.0, 0.5], &[4.0, 2.0]));
        assert!(!verdict(&[f32::NAN, 2.0], &[4.0, 2.0]), "a NaN before numbers that agree");
        assert!(!verdict(&[1e-30, 0.0], &[0.0, 0.0]), "zeros must be zeros");
        assert!(!verdict(&[4.0], &[4.0, 2.0]), "another shape");
    }
}
