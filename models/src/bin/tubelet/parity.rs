use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tubelet_models::{Result, devices, parity};

use crate::table::Table;

/// Compare models and kernels with numbers of independent implementations.
///
/// FOLDER holds safetensors files with weights, inputs and expected results; the format is described in docs/parity.md.
#[derive(Args)]
pub struct Arguments {
    /// Searched for .safetensors files, with its subfolders.
    folder: PathBuf,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Every comparison, not only the worst of each file.
    #[arg(long)]
    all: bool,
    /// One JSON object per comparison.
    #[arg(long)]
    json: bool,
}
