use std::path::PathBuf;

use clap::Args;
use tubelet_models::{
    Error, Result,
    checkpoint::Checkpoint,
    devices,
    engine::DType,
    params::Params,
    train::{Stages, Trainer, data::Data},
    video::Views,
};

use crate::{
    classify::progress,
    source::dtype,
    train::{confusion, describe},
};

/// Evaluate weights on the held-out clips of a recipe.
#[derive(Args)]
pub struct Arguments {
    /// A recipe that comes with the program, or a JSON file; of several stages the last.
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
    /// f32, bf16 or f16; by default the recipe's.
    #[arg(long, value_parser = dtype)]
    dtype: Option<DType>,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let mut recipe = Stages::named(&arguments.recipe)?.into_last()?;
    if let Some(dtype) = arguments.dtype {
        recipe.precision = dtype.name().into();
    }
    match &mut recipe.data {
        Data::CameraMotion { pictures, still, .. } => {
            pictures.clone_from(&arguments.pictures);
            *still |= arguments.still;
        }
        Data::Files { .. } | Data::Joint { .. } if arguments.pictures.is_some() || arguments.still => {
            return Err(Error::invalid("--pictures, --still", "the recipe's clips are files"));
        }
        Data::Files { .. } | Data::Joint { .. } => {}
    }
    let (config, device) = (recipe.config()?, devices::open(&arguments.device)?);
    let sets = recipe.data.open(recipe.batch, config.input(), &config.protocol())?;
    if sets.iter().all(|set| set.held_out.is_none()) {
        return Err(Error::invalid("recipe", "it names no clips to evaluate on"));
    }
    let file = Checkpoint::open(&arguments.weights)?.state_dict();
    let naming = config.naming(&file, None)?;
    let views = recipe.views.unwrap_or(Views::CENTRE);
    let trainer = Trainer::new(recipe, &device, Params::from_file(&device, DType::F32, &file, &*naming))?;
    for (i, set) in sets.iter().enumerate() {
        let Some(held_out) = &set.held_out else { continue };
        let bar = progress(held_out.size().unwrap_or(arguments.clips).min(arguments.clips), false);
        let evaluation = trainer.evaluate(i, &**held_out, views, arguments.clips, &mut |n| bar.inc(n))?;
        bar.finish_and_clear();
        say!("{}", describe(0, set.name.as_deref(), &evaluation));
        confusion(&evaluation, &held_out.names().unwrap_or_default().join("\n"));
    }
    Ok(true)
}
