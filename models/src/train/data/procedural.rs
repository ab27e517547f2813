//! The procedural data set at a model's size.

use tubelet_engine::{Error, Philox, Result};

use super::{Data, Dataset, Sample};
use crate::{
    model::Input,
    train::camera_motion::{self, CameraMotion, Pictures},
};

/// [`CameraMotion`] at a model's size.
pub(super) struct Procedural {
    set: CameraMotion,
    size: Option<u64>,
    input: Input,
}

/// Training and held-out clips for a model of `classes` classes.
pub(super) fn open(data: &Data, input: &Input, classes: usize) -> Result<(Procedural, Procedural)> {
    let Data::CameraMotion { seed, held_out, still, pictures } = data else {
        return Err(Error::invalid("data", "a joint set is made of single ones"));
    };
    let own = camera_motion::CLASSES.len();
    if own != classes {
        return Err(Error::invalid("data", format!("camera motion has {own} classes, the model {classes}")));
    }
    let set = |set: CameraMotion, size| Procedural { set: CameraMotion { still: *still, ..set }, size, input: input.clone() };
    let pictures = pictures.as_deref().map(Pictures::open).transpose()?.unwrap_or_default();
    let held_out_set = CameraMotion { pictures, ..CameraMotion::held_out(seed.wrapping_add(1)) };
    Ok((set(CameraMotion::training(*seed), None), set(held_out_set, Some(*held_out))))
}

impl Dataset for Procedural {
    fn classes(&self) -> usize {
        camera_motion::CLASSES.len()
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(camera_motion::CLASSES.map(String::from).to_vec())
    }

    fn size(&self) -> Option<u64> {
        self.size
    }

    fn describe(&self, index: u64) -> String {
        format!("clip {index} of the procedural data set")
    }

    fn sample(&self, index: u64, _: Option<&mut Philox>) -> Result<Sample> {
        let (frames, class) = self.set.clip(index, self.input.frames, self.input.size)?;
        Ok(Sample { frames, labels: vec![class], notes: Vec::new() })
    }
}
