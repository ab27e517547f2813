//! Checkpoints in several files: an index (`*.index.json`) maps tensor names to the files beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tubelet_engine::{Error, Result};

use super::{Checkpoint, Contents, Source, parse};

const FORMAT: &str = "index of shards";
/// Bytes. The index of the largest models has a few hundred kilobytes.
const MAX_INDEX: u64 = 100 << 20;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

pub(super) fn open(source: &Source) -> Result<Checkpoint> {
    if source.len() > MAX_INDEX {
        return Err(source.error(FORMAT, format!("{} bytes; at most {MAX_INDEX} are read", source.len())));
    }
    let text = source.read_vec(0, source.len() as usize)?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| source.error(FORMAT, e.to_string()))?;
    let folder = source.path().parent().unwrap_or(Path::new(""));
    let files: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let (mut sources, mut all) = (Vec::new(), Contents::default());
    for file in files {
        // A downloaded index must not reach outside its folder.
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(source.error(FORMAT, format!("the shard `{file}` is not a plain file name")));
        }
        let shard = Source::open(&folder.join(file))?;
        let contents = parse(&shard, sources.len())?;
        if let Some(name) = contents.names().find(|name| all.contains(name)) {
            return Err(source.error(FORMAT, format!("tensor `{name}` is in `{file}` and in another shard")));
        }
        all.tensors.extend(contents.tensors);
        all.unreadable.extend(contents.unreadable);
        all.metadata.extend(contents.metadata);
        sources.push(shard);
    }
    if let Some((name, file)) = index.weight_map.iter().find(|(name, _)| !all.contains(name)) {
        return Err(source.error(FORMAT, format!("tensor `{name}` is not in its shard `{file}`")));
    }
    Ok(Checkpoint::assemble(sources, all))
}

/// The checkpoint in a folder.
pub(super) fn pick(folder: &Path) -> Result<PathBuf> {
    const USUAL: [&str; 4] =
        ["model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin"];
    const ENDINGS: [&str; 5] = ["safetensors", "pth", "pt", "pyth", "bin"];
    if let Some(usual) = USUAL.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(usual);
    }
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = item.map_err(Error::io(folder))?.path();
        if path.extension().and_then(|e| e.to_str()).is_some_and(|e| ENDINGS.contains(&e)) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => {
            Err(Error::format(folder.display().to_string(), format!("no weight file (.{}) in this folder", ENDINGS.join(", ."))))
        }
        several => {
            let names: Vec<_> = several.iter().filter_map(|p| p.file_name()?.to_str()).collect();
            Err(Error::format(folder.display().to_string(), format!("several weight files, name one: {}", names.join(", "))))
        }
    }
}
