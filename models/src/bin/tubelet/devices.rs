use clap::Args;
use serde_json::json;
use tubelet_models::{Result, devices};

use crate::table::Table;

/// List the devices that this build can use.
#[derive(Args)]
pub struct Arguments {
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let mut table = Table::new(["device", "state", "about"]);
    for (name, about) in devices::list() {
        let (state, detail) = match devices::open(&name) {
            Ok(device) => ("ready", format!("{about} ({})", device.backend().description())),
            Err(error) => ("not usable", error.to_string()),
        };
        if arguments.json {
            say!("{}", json!({ "device": name, "ready": state == "ready", "about": detail }));
        } else {
            table.row([name.as_str(), state, &detail]);
        }
    }
    if !arguments.json {
        table.print();
    }
    Ok(true)
}
