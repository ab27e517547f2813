use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use tubelet_models::{
    Error, Result, boxed,
    picture::{Picture, draw_kernels, kernels_of},
    registry::Config,
    weights::{Choice, Weights},
};

use crate::{source::open_weights, table::Table};

/// Draw the patches and tubes that a model has learned, as a PNG (TubeViT, figure 5).
///
/// Each kernel's time steps stand side by side, the kernels of largest norm first, shape below shape; grey is 0, each kernel is scaled by its own
/// largest value.
#[derive(Args)]
pub struct Arguments {
    /// The picture: a file that ends in .png.
    #[arg(long, short)]
    out: PathBuf,
    /// A preset or a configuration file in JSON; without one, the camera-motion model that comes with the program.
    #[arg(long, short, requires = "weights")]
    model: Option<OsString>,
    /// The model's checkpoint.
    #[arg(long, short, requires = "model")]
    weights: Option<PathBuf>,
    /// How the checkpoint names its tensors; found out if not given.
    #[arg(long)]
    naming: Option<String>,
    /// Which dictionary of the checkpoint holds the weights: its path. Without it the one that fits the model.
    #[arg(long, value_name = "KEY", requires = "weights")]
    state_dict: Option<String>,
    /// Kernels of each shape.
    #[arg(long, short = 'n', default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=4096))]
    count: u16,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    Picture::check_path(&arguments.out)?;
    let choice = Choice { naming: arguments.naming.as_deref(), state_dict: arguments.state_dict.as_deref() };
    let (config, weights) = match (&arguments.model, &arguments.weights) {
        (Some(model), Some(path)) => {
            let config = Config::named(model)?;
            let weights = open_weights(&config, path, choice)?;
            (config, weights)
        }
        (None, None) => {
            let (config, file) = boxed::weights()?;
            let weights = Weights::find(&config, file, choice)?;
            (config, weights)
        }
        _ => return Err(Error::invalid("--model", "a model and its weights go together")),
    };
    let all = kernels_of(&config, &weights.file, &*weights.naming)?;
    draw_kernels(&all, usize::from(arguments.count))?.save(&arguments.out)?;
    let mut table = Table::new(["kernels", "frames", "height", "width"]);
    for kernels in &all {
        let [t, h, w] = kernels.size.map(|n| n.to_string());
        table.row([kernels.name.clone(), t, h, w]);
    }
    table.print();
    say!("picture: {}", arguments.out.display());
    Ok(true)
}
