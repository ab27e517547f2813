use clap::Args;
use tubelet_models::{Result, devices};

/// Run every kernel on random operands and compare with the f64 reference.
#[derive(Args)]
pub struct Arguments {
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Random cases for each operation and element type.
    #[arg(long, default_value_t = 50)]
    cases: usize,
    /// Seed of the cases.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only operations whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// One JSON object per operation and element type.
    #[arg(long)]
    json: bool,
}
