use clap::Args;
use serde_json::json;
use tubelet_cuda::emulated;
use tubelet_models::{
    Error, Result, devices,
    engine::{
        DType, Device, Op, Philox,
        samples::{self, Report, Values},
    },
};

use crate::table::Table;

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
    /// What each kernel costs: instructions, sectors of global memory, conflicts of shared memory. Of `cuda-emulated` only.
    #[arg(long)]
    counters: bool,
    /// One JSON object per operation and element type.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let device = devices::open(&arguments.device)?;
    let wanted = |name: &&&str| arguments.only.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let names: Vec<&str> = Op::NAMES.iter().filter(wanted).copied().collect();
    let bar = crate::classify::progress((names.len() * DType::FLOATS.len()) as u64, arguments.json);
    let mut table = Table::new(["operation", "type", "cases", "elements", "worst error / tolerance", ""]);
    let mut failures = Vec::new();
    for name in names {
        for dtype in DType::FLOATS {
            let mut total = Report::default();
            let mut failed = 0;
            for case in 0..arguments.cases as u64 {
                let values = [Values::Integers, Values::Normal, Values::Special][case as usize % 3];
                let mut rng = Philox::stream(arguments.seed, case);
                let Some(sample) = samples::sample(name, &mut rng, 8 + case as usize % 64, dtype, values) else { continue };
                match samples::check(&device, &sample) {
                    Ok(report) => {
                        total.elements += report.elements;
                        total.worst = total.worst.max(report.worst);
                    }
                    Err(error) => {
                        failed += 1;
                        failures.push(error.to_string());
                    }
                }
            }
            bar.inc(1);
            if arguments.json {
                say!(
                    "{}",
                    json!({ "operation": name, "dtype": dtype.name(), "cases": arguments.cases, "failed": failed, "worst": total.worst })
                );
            } else {
                let verdict = if failed == 0 { "ok".to_owned() } else { format!("{failed} FAILED") };
                let (cases, elements) = (arguments.cases.to_string(), total.elements.to_string());
                table.row([name, dtype.name(), &cases, &elements, &format!("{:.3}", total.worst), &verdict]);
            }
        }
    }
    bar.finish_and_clear();
    if !arguments.json {
        table.print();
        if arguments.counters {
            counters(&device)?.print();
        }
        failures.iter().take(10).for_each(|failure| say!("\n{failure}"));
    }
    Ok(failures.is_empty())
}

/// A row for each kernel that was launched.
fn counters(device: &Device) -> Result<Table> {
    let all = emulated::take_counters(device);
    let all = all.ok_or_else(|| Error::invalid("--counters", "only cuda-emulated counts instructions"))?;
    let columns =
        ["kernel", "blocks", "instructions", "of them mma", "sectors a request", "bank conflicts a request", "barriers"];
    let mut table = Table::new(columns);
    let each = |count: u64, requests: u64| format!("{:.2}", count as f64 / requests.max(1) as f64);
    for (kernel, c) in all {
        let [blocks, all, mma, barriers] = [c.blocks, c.instructions(), c.tensor, c.barriers].map(|n| n.to_string());
        let sectors = each(c.global_transactions, c.global_requests);
        let conflicts = each(c.shared_bank_conflicts, c.shared_requests);
        table.row([&kernel, &blocks, &all, &mma, &sectors, &conflicts, &barriers].map(String::as_str));
    }
    Ok(table)
}
