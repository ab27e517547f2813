//! The papers' tables, beside the same figures from the meter.

use serde::Serialize;
use tubelet_engine::{DType, Result};

use super::{Report, measure};
use crate::registry::Config;

/// One table.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// Paper and table.
    pub title: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The model and its input.
    pub label: String,
    /// What is counted, with its unit.
    pub figure: &'static str,
    /// The paper's figure, if it gives one.
    pub paper: Option<f64>,
    /// The meter's.
    pub ours: f64,
    /// Decimals worth printing: those of the paper.
    pub decimals: usize,
    /// Where and why the two differ.
    pub note: String,
}

/// Every table.
pub fn sections() -> Result<Vec<Section>> {
    Ok(Vec::new())
}
