//! Starting a model from another: a video model from an image model, a long video's from a short one's, a large model's tubes from a small one's.
//!
//! Rules say for each parameter of the target which one of the source it is made of, and how. Two readers follow them: [`Initial`], a file of what
//! the target takes from given models, and [`FromImage`], a naming for files of the image model that the target contains.
//! What the source has not (temporal encoders, adapters, new heads) the target draws at random as its layers say
//! ([`Params::or_random`](crate::params::Params::or_random)).

mod image;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Device, Error, Result, Tensor};

pub use image::image_model;
use rules::{Rule, rules};

use crate::{
    params::{Naming, Reader, TensorFile},
    registry::Config,
};

/// How an image kernel becomes a video kernel (ViViT, section 3.4), and which of TubeViT's tubes have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inflation {
    /// In the frame `⌊t/2⌋`, zeros in the others: equation 9. Of the tubes those of one frame are image patches; the others are learned anew
    /// (TubeViT, section 3.5).
    CentralFrame,
    /// In every frame, divided by t: equation 8. Every tube has the image's kernel, bilinearly resized to its height and width: TubeViT's
    /// third-party code.
    Repeat,
}

/// What of another model is taken, and how its classes become the new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Parameters whose new names start with one of these; all, if there are none.
    pub take: Vec<String>,
    /// For each class of the new head, the class of the old one whose row it takes; without it a head of other classes is drawn anew.
    pub head_rows: Option<Vec<usize>>,
}

/// The part of a model's parameters that another model's checkpoint gives, or several do, under our names.
pub struct Initial<'a> {
    sources: Vec<(&'a dyn TensorFile, &'a dyn Naming)>,
    /// Number of the source, and how the parameter is made from it.
    rules: BTreeMap<String, (usize, Rule)>,
}

impl<'a> Initial<'a> {
    /// `target` from the checkpoint `file` of a `source`: a ViT for a video model, or a model of the same system, as a ViViT for one of another
    /// length or size, or a TubeViT for one of another width, which takes its tubes alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other pairs, and for widths or patches that do not agree.
    pub fn new(
        source: &Config,
        file: &'a dyn TensorFile,
        naming: &'a dyn Naming,
        target: &Config,
        inflation: Inflation,
    ) -> Result<Self> {
        Initial::select(source, file, naming, target, inflation, &Selection::default())
    }

    /// As [`Initial::new`], of a part of the source.
    ///
    /// # Errors
    /// Those, a selection of nothing, and rows that a head has not.
    pub fn select(
        source: &Config,
        file: &'a dyn TensorFile,
        naming: &'a dyn Naming,
        target: &Config,
        inflation: Inflation,
        selection: &Selection,
    ) -> Result<Self> {
        let rules = rules(source, target, inflation, selection)?.into_iter().map(|(name, rule)| (name, (0, rule))).collect();
        Ok(Initial { sources: vec![(file, naming)], rules })
    }

    /// This, and from `other` what it lacks: TubeViT's image-to-video scaling (section 3.6) has the tubes of a small TubeViT, and of a large image
    /// model all the rest.
    pub fn or(mut self, other: Initial<'a>) -> Self {
        let first = self.sources.len();
        self.sources.extend(other.sources);
        for (name, (source, rule)) in other.rules {
            self.rules.entry(name).or_insert((first + source, rule));
        }
        self
    }
}

impl TensorFile for Initial<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.rules.iter().map(|(name, (_, rule))| (name.clone(), rule.shape.clone())).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let (source, rule) = self.rules.get(name).ok_or_else(|| Error::invalid(name, "the source has no such tensor"))?;
        let (file, naming) = self.sources[*source];
        let x = rule.read(naming, &mut Reader::new(file, device, DType::F32))?;
        let x = x.ok_or_else(|| Error::invalid(&rule.from, "missing from the source's checkpoint"))?;
        if **x.shape() != *rule.shape {
            let message = format!("{} has {}, expected {:?}", rule.from, x.shape(), rule.from_shape);
            return Err(Error::shape("initialisation", message));
        }
        Ok(x)
    }
}

/// The naming of files of the image model that a video model contains: it names all that the video model takes from it.
pub struct FromImage {
    naming: Box<dyn Naming>,
    rules: BTreeMap<String, Rule>,
}

impl FromImage {
    /// For `target`, from a file in any naming of image models.
    ///
    /// # Errors
    /// As [`image_model`].
    pub fn new(target: &Config, file: &dyn TensorFile) -> Result<Self> {
        let source = Config::Vit(image_model(target)?);
        Ok(FromImage {
            naming: source.naming(file, None)?,
            rules: rules(&source, target, Inflation::CentralFrame, &Selection::default())?,
        })
    }
}

impl Naming for FromImage {
    fn name(&self) -> &'static str {
        self.naming.name()
    }

    fn translate(&self, name: &str, _: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        self.rules.get(name).map_or(Ok(None), |rule| rule.read(&*self.naming, file))
    }

    /// The image model's head, and CLIP's text model.
    fn ignores(&self, _: &str) -> bool {
        true
    }

    fn draws(&self, name: &str) -> bool {
        !self.rules.contains_key(name)
    }
}
