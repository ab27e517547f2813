//! Checkpoints of a training run: parameters, the optimiser's memory, and where it stands.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tubelet_engine::{Device, Error, Result, Tensor, bytes_of};

use crate::{
    checkpoint::{Checkpoint, Entry, safetensors},
    params::TensorFile,
};

/// What a run needs to go on with the same bits.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// The recipe, as JSON.
    pub recipe: String,
    /// `value.NAME`, `average.NAME` and `memory.NAME.I`.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The newest checkpoint of a run, and the one before it.
const FILES: [&str; 2] = ["last.safetensors", "previous.safetensors"];

impl State {
    /// Writes `last.safetensors` in `folder`; what was there becomes `previous.safetensors`. Whatever happens meanwhile, one of them is whole.
    ///
    /// # Errors
    /// [`Error::Io`], as of a full disk; then both files are as they were.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let metadata = BTreeMap::from([("step".to_owned(), self.step.to_string()), ("recipe".to_owned(), self.recipe.clone())]);
        let [last, previous] = FILES.map(|file| folder.join(file));
        let new = folder.join("next.safetensors");
        write(&new, &metadata, &self.tensors)?;
        let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(Error::io(from));
        if last.exists() {
            rename(&last, &previous)?;
        }
        rename(&new, &last)
    }

    /// The newest checkpoint in `folder` that can be read, with a message for each that cannot; `None` if there is none at all.
    ///
    /// # Errors
    /// [`Error::Format`] where there are checkpoints and none can be read.
    pub fn load(folder: &Path, device: &Device) -> Result<(Option<Self>, Vec<String>)> {
        let mut refused = Vec::new();
        for path in FILES.map(|file| folder.join(file)).into_iter().filter(|path| path.exists()) {
            match State::read(&path, device) {
                Ok(state) => return Ok((Some(state), refused)),
                Err(error) => refused.push(format!("{}: {error}", path.display())),
            }
        }
        if refused.is_empty() { Ok((None, refused)) } else { Err(Error::format("checkpoints", refused.join("; "))) }
    }

    fn read(path: &Path, device: &Device) -> Result<Self> {
        let file = Checkpoint::open(path)?;
        let meta =
            |key: &str| file.metadata().get(key).ok_or_else(|| Error::format(path.display().to_string(), format!("no {key}")));
        let step = meta("step")?.parse().map_err(|_| Error::format(path.display().to_string(), "its step is no number"))?;
        let tensors = file.entries().keys().map(|name| Ok((name.clone(), file.load(name, device)?))).collect::<Result<_>>()?;
        Ok(State { step, recipe: meta("recipe")?.clone(), tensors })
    }

    /// Every tensor whose name starts with `prefix`, without it.
    pub fn below(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let found = self.tensors.iter().filter_map(|(name, x)| Some((name.strip_prefix(prefix)?.to_owned(), x.clone())));
        found.collect()
    }
}

/// Writes tensors as safetensors, by a temporary name.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, metadata: &BTreeMap<String, String>, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let entry = |(name, x): (&String, &Tensor)| Entry { name: name.clone(), dtype: x.dtype(), shape: x.shape().to_vec() };
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    safetensors::write(path, metadata, &entries, |entry| {
        let tensor = tensors.get(&entry.name).ok_or_else(|| Error::invalid("checkpoint", "a tensor is gone"))?;
        tubelet_engine::with_element!(entry.dtype, T => Ok(bytes_of(&tensor.to_vec::<T>()?).to_vec()))
    })
}

/// The files that [`State::save`] writes in a folder.
pub fn files(folder: &Path) -> [PathBuf; 2] {
    FILES.map(|file| folder.join(file))
}
