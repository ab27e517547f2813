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

pub fn run(arguments: &Arguments) -> Result<bool> {
    let device = devices::open(&arguments.device)?;
    let bar = crate::classify::spinner(arguments.json);
    let report = parity::run(&arguments.folder, &device, &mut |path| {
        bar.set_message(path.display().to_string());
        bar.tick();
    })?;
    bar.finish_and_clear();
    if arguments.json {
        for row in &report.rows {
            say!("{}", json!(row));
        }
        return Ok(report.ok());
    }
    let mut table = Table::new(["file", "compared", "worst", "error", "tolerance", ""]);
    let mut files: Vec<&str> = report.rows.iter().map(|row| row.file.as_str()).collect();
    files.dedup();
    for file in files {
        let rows: Vec<_> = report.rows.iter().filter(|row| row.file == file).collect();
        let part = |row: &parity::Row| match (row.ok, row.note.is_empty()) {
            (false, _) => f64::INFINITY,
            // Rounding dust is not what a file is judged by.
            (true, false) => 0.0,
            (true, true) => row.error / row.tolerance.max(f64::MIN_POSITIVE),
        };
        let worst = rows.iter().max_by(|a, b| part(a).total_cmp(&part(b))).copied();
        let count = rows.len().to_string();
        for row in rows.iter().copied().filter(|row| arguments.all || !row.ok || worst.is_some_and(|w| std::ptr::eq(w, *row))) {
            let verdict = if row.ok { "ok".to_owned() } else { format!("FAILED {}", row.note) };
            let cells =
                [&row.file, &count, &row.tensor, &format!("{:.1e}", row.error), &format!("{:.0e}", row.tolerance), &verdict];
            table.row(cells.map(String::as_str));
        }
    }
    table.print();
    let failed = report.rows.iter().filter(|row| !row.ok).count();
    say!("\n{} compared, {failed} failed", report.rows.len());
    Ok(report.ok())
}
