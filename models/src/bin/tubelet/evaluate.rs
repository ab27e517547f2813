use std::path::PathBuf;

use clap::Args;
use tubelet_models::{
    Error, Result,
    checkpoint::Checkpoint,
    devices,
    engine::DType,
    params::Params,
    train::{Recipe, Trainer, data::Data},
};

use crate::{
    classify::progress,
    train::{confusion, describe},
};

/// Evaluate weights on the held-out clips of a recipe.
#[derive(Args)]
pub struct Arguments {
    /// A recipe that comes with the program, or a JSON file.
    recipe: String,
    /// A checkpoint, in any naming of the recipe's system.
    #[arg(long, short)]
    weights: PathBuf,
    /// For camera motion: pictures or videos to look at instead of drawn textures, a folder or one file.
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// For camera motion: take the motion away, to see what a single frame tells.
    #[arg(long)]
    still: bool,
    /// At most so many clips.
    #[arg(long, default_value_t = u64::MAX)]
    clips: u64,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let mut recipe = Recipe::named(&arguments.recipe)?;
    match &mut recipe.data {
        Data::CameraMotion { pictures, still, .. } => {
            pictures.clone_from(&arguments.pictures);
            *still |= arguments.still;
        }
        Data::Files { .. } if arguments.pictures.is_some() || arguments.still => {
            return Err(Error::invalid("--pictures, --still", "the recipe's clips are files"));
        }
        Data::Files { .. } => {}
    }
    let (config, device) = (recipe.config()?, devices::open(&arguments.device)?);
    let [_, held_out] = recipe.data.open(config.input(), &config.protocol())?;
    let held_out = held_out.ok_or_else(|| Error::invalid("recipe", "it names no clips to evaluate on"))?;
    let file = Checkpoint::open(&arguments.weights)?.state_dict();
    let naming = config.naming(&file, None)?;
    let trainer = Trainer::new(recipe, &device, Params::from_file(&device, DType::F32, &file, &*naming))?;
    let bar = progress(held_out.size().unwrap_or(arguments.clips).min(arguments.clips), false);
    let evaluation = trainer.evaluate(&*held_out, arguments.clips, &mut |n| bar.inc(n))?;
    bar.finish_and_clear();
    say!("{}", describe(0, &evaluation));
    confusion(&evaluation, &held_out.names().unwrap_or_default().join("\n"));
    Ok(true)
}
