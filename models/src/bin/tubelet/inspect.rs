use std::ffi::OsString;

use clap::Args;
use tubelet_models::{
    Error, Result,
    engine::DType,
    inspect::{ADAMW, Report, Training, claims, measure, measure_training, tables},
    registry::{self, Config},
};

use crate::{
    source::{clips, dtype},
    table::{Table, si},
};

/// What a model costs: layers, tokens, parameters, FLOPs, bytes, launches, memory. Computes nothing.
///
/// Without a model: the list of presets.
#[derive(Args)]
pub struct Arguments {
    /// A preset or a configuration file in JSON.
    model: Option<OsString>,
    /// The papers' tables: paper, ours, ratio.
    #[arg(long, conflicts_with = "model")]
    tables: bool,
    /// What the papers claim of training cost and of scaling, by the meter.
    #[arg(long, conflicts_with_all = ["model", "tables"])]
    claims: bool,
    /// Also a training step with AdamW: what it keeps, and its peak.
    #[arg(long)]
    train: bool,
    /// Parameters whose names start so are not trained; may be given several times.
    #[arg(long, requires = "train")]
    freeze: Vec<String>,
    /// Clips at once.
    #[arg(long, default_value_t = 1, value_parser = clips)]
    batch: usize,
    /// Element type of weights and activations.
    #[arg(long, default_value = "f32", value_parser = dtype)]
    dtype: DType,
    /// Print the configuration as JSON, to start a variant from.
    #[arg(long)]
    config: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.tables || arguments.claims {
        return print_sections(if arguments.tables { tables::sections()? } else { claims::sections()? }, arguments.json);
    }
    let Some(name) = &arguments.model else {
        return presets(arguments.json);
    };
    let config = Config::named(name)?;
    if arguments.config {
        say!("{}", json(&config)?);
        return Ok(true);
    }
    let report = measure(&config, arguments.batch, arguments.dtype)?;
    let train = || measure_training(&config, ADAMW, arguments.batch, arguments.dtype, &arguments.freeze);
    let training = arguments.train.then(train).transpose()?;
    match (arguments.json, &training) {
        (true, None) => say!("{}", json(&report)?),
        (true, Some(training)) => say!("{}", json(&serde_json::json!({ "inference": report, "training": training }))?),
        (false, training) => print(&name.to_string_lossy(), &report, training.as_ref()),
    }
    Ok(true)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::invalid("json", error.to_string()))
}

fn presets(as_json: bool) -> Result<bool> {
    let mut table = Table::new(["preset", "about"]);
    for preset in registry::presets() {
        if as_json {
            say!("{}", serde_json::json!({ "preset": preset.name, "about": preset.about }));
        } else {
            table.row([&*preset.name, &*preset.about]);
        }
    }
    if !as_json {
        table.print();
    }
    Ok(true)
}

fn print(name: &str, report: &Report, training: Option<&Training>) {
    let [t, h, w] = report.clip;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut table = Table::new([name.to_owned(), format!("{} × [{t}, {h}, {w}, 3]", report.batch)]);
    table.row(["layers".into(), report.layers.to_string()]);
    table.row(["tokens of a clip".into(), report.tokens.to_string()]);
    table.row(["parameters".into(), format!("{:.2} M", report.parameters as f64 / 1e6)]);
    table.row(["weights".into(), mib(report.weight_bytes)]);
    table.row(["multiply-adds (the papers' FLOPs)".into(), format!("{}MAC", si(report.macs() as f64))]);
    table.row(["FLOPs of products (2 per multiply-add)".into(), format!("{}FLOP", si(report.flops as f64))]);
    table.row(["other FLOPs".into(), format!("{}FLOP", si(report.minor_flops as f64))]);
    table.row(["bytes read and written".into(), format!("{}B", si(report.bytes as f64))]);
    table.row(["kernel launches".into(), report.launches.to_string()]);
    table.row(["peak activations, inference".into(), mib(report.activation_bytes)]);
    if let Some(training) = training {
        table.row(["trained parameters".into(), format!("{:.2} M", training.parameters as f64 / 1e6)]);
        table.row(["FLOPs of products, training step".into(), format!("{}FLOP", si(training.flops as f64))]);
        table.row(["kernel launches, training step".into(), training.launches.to_string()]);
        table.row(["kept for the backward pass".into(), mib(training.saved_bytes)]);
        table.row(["peak of an AdamW step, weights and moments included".into(), mib(training.peak_bytes)]);
    }
    table.print();
    say!("");
    let mut table = Table::new(["operation", "launches", "FLOPs", "other FLOPs", "bytes"]);
    for (name, launches, flops, minor, bytes) in &report.operations {
        let cell = |x: u64| si(x as f64);
        table.row([(*name).into(), launches.to_string(), cell(*flops), cell(*minor), cell(*bytes)]);
    }
    table.print();
}

fn print_sections(sections: Vec<tables::Section>, as_json: bool) -> Result<bool> {
    for section in sections {
        if as_json {
            say!("{}", json(&section)?);
            continue;
        }
        say!("{}\n", section.title);
        let mut table = Table::new(["row", "figure", "paper", "ours", "ours / paper", "note"]);
        for row in &section.rows {
            let ratio = row.paper.map_or(String::new(), |paper| format!("{:.3}", row.ours / paper));
            let paper = row.paper.map_or_else(|| "-".into(), |paper| number(paper, row.decimals));
            table.row([row.label.clone(), row.figure.into(), paper, number(row.ours, row.decimals), ratio, row.note.clone()]);
        }
        table.print();
        say!("");
    }
    Ok(true)
}

fn number(x: f64, decimals: usize) -> String {
    format!("{x:.decimals$}")
}
