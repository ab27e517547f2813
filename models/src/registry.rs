//! All systems by name: presets, configuration files, and models from them.

use std::{ffi::OsStr, fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tubelet_engine::{DType, Device, Error, Result, Tensor, cpu::Cpu};

use crate::{
    classify::Average,
    init::FromImage,
    model::{Input, Model, Outline},
    params::{Naming, Params, Reader, TensorFile},
    tubevit::{self, TubeVitConfig},
    uniformerv2::{self, UniformerV2Config},
    video::{Geometry, Sampling},
    vidtr::{self, VidTrConfig},
    vit::{self, VitConfig},
    vivit::{self, VivitConfig},
    weights::{Choice, Weights},
};

/// Any model: what a configuration file holds, with the system's name under `model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase")]
pub enum Config {
    /// An image backbone.
    Vit(VitConfig),
    /// TubeViT.
    TubeVit(TubeVitConfig),
    /// ViViT and SFA-ViViT.
    Vivit(VivitConfig),
    /// VidTr and compact VidTr.
    VidTr(VidTrConfig),
    /// UniFormerV2.
    UniformerV2(UniformerV2Config),
}

/// A named configuration.
#[derive(Clone, Debug)]
pub struct Preset {
    /// For `--model`.
    pub name: String,
    /// In a line.
    pub about: String,
    /// The model.
    pub config: Config,
}

/// Every preset.
pub fn presets() -> Vec<Preset> {
    fn all<C>(list: Vec<(String, String, C)>, wrap: impl Fn(C) -> Config) -> Vec<Preset> {
        list.into_iter().map(|(name, about, config)| Preset { name, about, config: wrap(config) }).collect()
    }
    let mut presets = all(tubevit::presets(), Config::TubeVit);
    presets.extend(all(vivit::presets(), Config::Vivit));
    presets.extend(all(vidtr::presets(), Config::VidTr));
    presets.extend(all(uniformerv2::presets(), Config::UniformerV2));
    presets.extend(all(vit::presets(), Config::Vit));
    presets
}

/// How a system looks at a video (specification, section 8.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Protocol {
    /// Which frames.
    pub sampling: Sampling,
    /// Which pixels.
    pub geometry: Geometry,
    /// How views become one prediction.
    pub average: Average,
}

/// Our own names and layouts: what a model asks for is what the file has.
pub(crate) struct Own;

impl Naming for Own {
    fn name(&self) -> &'static str {
        "tubelet"
    }

    fn translate(&self, name: &str, _: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        file.get(name)
    }
}

impl Config {
    /// A preset by name, or a configuration file by path; a preset is tried first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is neither, [`Error::Format`] for a file that is no configuration.
    pub fn named(name: impl AsRef<OsStr>) -> Result<Config> {
        let name = name.as_ref();
        if let Some(preset) = presets().into_iter().find(|preset| *preset.name == *name) {
            return Ok(preset.config);
        }
        let path = Path::new(name);
        if !path.exists() {
            return Err(Error::invalid("--model", format!("{name:?} is neither a preset (see `tubelet inspect`) nor a file")));
        }
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::format(path.display().to_string(), format!("not a model configuration: {error}")))
    }

    /// The configuration that another implementation's fields mean, for an input of a shape; `None` where the system is not known.
    pub fn from_official(system: &str, config: &Value, input: &[usize]) -> Result<Option<Config>> {
        if let Some(config) = vit::from_official(system, config, input)? {
            return Ok(Some(Config::Vit(config)));
        }
        if let Some(config) = tubevit::from_official(system, config, input)? {
            return Ok(Some(Config::TubeVit(config)));
        }
        if let Some(config) = vivit::from_official(system, config, input)? {
            return Ok(Some(Config::Vivit(config)));
        }
        if let Some(config) = vidtr::from_official(system, config, input)? {
            return Ok(Some(Config::VidTr(config)));
        }
        Ok(uniformerv2::from_official(system, config, input)?.map(Config::UniformerV2))
    }

    /// The model with parameters from `params`.
    pub fn build(&self, params: &mut Params<'_>) -> Result<Box<dyn Model>> {
        Ok(match self {
            Config::Vit(config) => Box::new(config.build(params)?),
            Config::TubeVit(config) => Box::new(config.build(params)?),
            Config::Vivit(config) => Box::new(config.build(params)?),
            Config::VidTr(config) => Box::new(config.build(params)?),
            Config::UniformerV2(config) => Box::new(config.build(params)?),
        })
    }

    /// Layers and tokens.
    pub fn outline(&self) -> Outline {
        match self {
            Config::Vit(config) => config.outline(),
            Config::TubeVit(config) => config.outline(),
            Config::Vivit(config) => config.outline(),
            Config::VidTr(config) => config.outline(),
            Config::UniformerV2(config) => config.outline(),
        }
    }

    /// Which head is that of a data set; `None` where the model has one head, or none of this name.
    pub fn head(&self, set: &str) -> Option<usize> {
        match self {
            Config::TubeVit(config) => config.datasets.iter().position(|dataset| dataset.name == set),
            _ => None,
        }
    }

    /// The namings that this system's checkpoints come in; ours first.
    pub fn namings(&self) -> Vec<Box<dyn Naming>> {
        let mut all: Vec<Box<dyn Naming>> = vec![Box::new(Own)];
        all.extend(match self {
            Config::Vit(_) => vit::namings(),
            Config::TubeVit(_) => tubevit::namings(),
            Config::Vivit(_) => vivit::namings(),
            Config::VidTr(_) => vidtr::namings(),
            Config::UniformerV2(_) => uniformerv2::namings(),
        });
        all
    }

    /// What to feed it.
    pub fn input(&self) -> &Input {
        match self {
            Config::Vit(c) => &c.input,
            Config::TubeVit(c) => &c.input,
            Config::Vivit(c) => &c.input,
            Config::VidTr(c) => &c.input,
            Config::UniformerV2(c) => &c.input,
        }
    }

    /// How the system looks at a video.
    pub fn protocol(&self) -> Protocol {
        let input = self.input();
        let (frames, short) = (input.frames, input.size[0].min(input.size[1]));
        // ViViT resizes to 256 for crops of 224; the others to the crop itself.
        let (sampling, short, average) = match self {
            Config::Vit(_) => (Sampling::Dense { frames, stride: 1 }, short, Average::Logits),
            Config::TubeVit(_) => (Sampling::Rate { frames, fps: 15.0 }, short, Average::Logits),
            Config::Vivit(_) => (Sampling::Dense { frames, stride: 2 }, short * 8 / 7, Average::Logits),
            Config::VidTr(_) => {
                (Sampling::Segments { frames, stride: (64 / frames.max(1)).max(1) }, short, Average::Probabilities)
            }
            Config::UniformerV2(_) => (Sampling::Sparse { frames }, short, Average::Probabilities),
        };
        Protocol { sampling, geometry: Geometry::ShortSide { short: short.max(input.size[0]), crop: input.size }, average }
    }

    /// The model with random weights.
    pub fn random(&self, device: &Device, dtype: DType, seed: u64) -> Result<Box<dyn Model>> {
        let mut params = Params::random(device, dtype, seed);
        let model = self.build(&mut params)?;
        settle(device);
        Ok(model)
    }

    /// The model with the weights of a checkpoint, in the naming called `naming` or the one that fits. [`Weights`] says which
    /// of several dictionaries was taken, and takes another on demand.
    ///
    /// # Errors
    /// Of [`Weights::open`]; and [`Error::Weights`] with every missing, unexpected and mis-shaped tensor where no naming fits.
    pub fn load(&self, device: &Device, dtype: DType, path: &Path, naming: Option<&str>) -> Result<Box<dyn Model>> {
        Weights::open(self, path, Choice { naming, state_dict: None })?.build(self, device, dtype)
    }

    /// The model with the tensors of a file in a naming.
    pub fn with_naming(
        &self,
        device: &Device,
        dtype: DType,
        file: &dyn TensorFile,
        naming: &dyn Naming,
    ) -> Result<Box<dyn Model>> {
        let mut params = Params::from_file(device, dtype, file, naming);
        let model = self.build(&mut params)?;
        params.finish()?;
        settle(device);
        Ok(model)
    }

    /// The model as its paper starts it: from the weights of an image model, with what it adds to them drawn under `seed`.
    ///
    /// # Errors
    /// As [`Config::load`]; and [`Error::Invalid`] for an image model.
    pub fn start(&self, device: &Device, dtype: DType, file: &dyn TensorFile, seed: u64) -> Result<Box<dyn Model>> {
        let naming = self.image_naming(file)?;
        let mut params = Params::from_file(device, dtype, file, &*naming).or_random(seed);
        let model = self.build(&mut params)?;
        params.finish()?;
        settle(device);
        Ok(model)
    }

    /// The naming of a file of the image model that this one contains, by names and shapes.
    pub fn image_naming(&self, file: &dyn TensorFile) -> Result<Box<dyn Naming>> {
        Ok(Box::new(FromImage::new(self, file)?))
    }

    /// The naming called `name`, or the one in which the file fits the model, found on the meter by names and shapes alone; if none fits,
    /// the one with the fewest misfits, for its error message.
    pub fn naming(&self, file: &dyn TensorFile, name: Option<&str>) -> Result<Box<dyn Naming>> {
        let all = self.chosen_namings(name)?;
        let best = all.into_iter().map(|naming| (self.misfits(file, &*naming), naming)).min_by_key(|(misfits, _)| *misfits);
        best.map(|(_, naming)| naming).ok_or_else(|| Error::invalid("--naming", "no naming is known"))
    }

    /// The naming called `name`, or all.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is none of theirs.
    pub(crate) fn chosen_namings(&self, name: Option<&str>) -> Result<Vec<Box<dyn Naming>>> {
        let mut all = self.namings();
        if let Some(name) = name {
            let known: Vec<&str> = all.iter().map(|naming| naming.name()).collect();
            let message = format!("{name:?} is none of {}", known.join(", "));
            all.retain(|naming| naming.name() == name);
            if all.is_empty() {
                return Err(Error::invalid("--naming", message));
            }
        }
        Ok(all)
    }

    /// How many tensors are missing, unexpected or of another shape, and one more; 0 where the file fits. Found on the meter, by names
    /// and shapes alone.
    pub(crate) fn misfits(&self, file: &dyn TensorFile, naming: &dyn Naming) -> usize {
        match self.with_naming(&Device::meter(), DType::F32, file, naming) {
            Ok(_) => 0,
            Err(Error::Weights { missing, unexpected, mismatched }) => 1 + missing.len() + unexpected.len() + mismatched.len(),
            Err(_) => usize::MAX,
        }
    }
}

/// Loading leaves blocks of unprepared weights in the allocator; a model that stays needs them no more.
fn settle(device: &Device) {
    if let Some(cpu) = device.downcast::<Cpu>() {
        cpu.trim();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::inspect::measure;

    /// A clip goes through each on the meter, and what `tubelet inspect --config` prints is the same model again.
    #[test]
    fn every_preset_runs_and_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for Preset { name, about, config } in presets() {
            assert!(names.insert(name.clone()), "{name} twice");
            assert!(!about.is_empty(), "{name}");
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config, "{name}");
            let report = measure(&config, 1, DType::F32).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(report.tokens, config.outline().tokens);
        }
    }
}
