//! Weight files: safetensors, PyTorch's zip archives (`.pth`, `.pt`, `.pyth`, `.bin`), and both in shards.
//!
//! [`Checkpoint::open`] looks at the content, never at the extension. It reads the index only; [`Checkpoint::read`] then reads one
//! tensor at a time, so that loading a model never holds the whole file. Nothing in a file is executed: PyTorch's pickle is
//! interpreted by a machine that knows tensors, containers and numbers, and refuses everything else by name.
//!
//! # Names
//! safetensors names are taken as they are. A tensor in a PyTorch file is named by its path through dictionaries, lists (by index)
//! and TorchScript attributes, joined with `.`; values that are no tensors, and keys that are neither strings nor integers, are passed
//! over. Released files wrap their weights and add an optimiser's state; [`Checkpoint::state_dict`] finds the weights.
//!
//! # Element types
//! f64, f32, bf16, f16, u8 and i32 stay as they are; bool becomes u8; i64 (labels, indices, BatchNorm counters) becomes i32, and
//! reading a value that does not fit is an error. Other types are refused when the file is opened.
//!
//! # Not read
//! PyTorch's format before 1.6 (`torch.save(torch.load(old), new)` converts it) and Flax msgpack (restore it with
//! `flax.serialization`, flatten the tree with `flax.traverse_util.flatten_dict(tree, sep="/")`, save with
//! `safetensors.flax.save_file`) are recognised and refused with these instructions.

mod place;
mod pytorch;
pub mod safetensors;
mod shards;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Seek},
    path::Path,
};

use place::Place;
use source::{Source, zeroed};
use tubelet_engine::{DType, Error, Result};

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// The element type that [`Checkpoint::read`] gives.
    pub dtype: DType,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

impl Entry {
    /// Length of the tensor's data in bytes.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the shape times the element size does not fit `usize`; never for an entry of an opened checkpoint.
    pub fn bytes(&self) -> Result<usize> {
        place::elements(&self.shape)
            .and_then(|n| n.checked_mul(self.dtype.size()))
            .ok_or_else(|| Error::Overflow { what: format!("tensor `{}` of shape {:?}", self.name, self.shape) })
    }
}

/// What a format's parser finds in a file.
#[derive(Default)]
struct Contents {
    tensors: BTreeMap<String, (Entry, Place)>,
    metadata: BTreeMap<String, String>,
}

impl Contents {
    /// Adds a tensor, or gives its name back if the name is taken.
    fn insert(&mut self, entry: Entry, place: Place) -> Result<(), String> {
        match self.tensors.entry(entry.name.clone()) {
            std::collections::btree_map::Entry::Occupied(taken) => Err(taken.key().clone()),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert((entry, place));
                Ok(())
            }
        }
    }
}

/// An opened weight file: the index in memory, the data on disk. See the [module](self) for names and element types.
pub struct Checkpoint {
    sources: Vec<Source>,
    entries: BTreeMap<String, Entry>,
    places: BTreeMap<String, Place>,
    metadata: BTreeMap<String, String>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<_> = self.sources.iter().map(Source::path).collect();
        f.debug_struct("Checkpoint").field("files", &files).field("tensors", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Opens a weight file, a `*.index.json` of shards, or a folder with one of them
    /// (`model.safetensors` or `pytorch_model.bin`, whole or sharded, or else its only weight file).
    ///
    /// # Errors
    /// [`Error::Io`] where reading fails; [`Error::Format`] where the content is none of the formats or is damaged.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Checkpoint::open(&shards::pick(path)?);
        }
        let source = Source::open(path)?;
        match first_byte(&source)? {
            Some(b'{') => shards::open(&source),
            _ => Checkpoint::single(source),
        }
    }

    /// A weight file held in memory.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; an index of shards is refused, since it names other files.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Checkpoint::from_reader(Path::new("<memory>"), Cursor::new(bytes))
    }

    /// A weight file behind any reader; `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`Checkpoint::from_bytes`].
    pub fn from_reader(name: &Path, reader: impl Read + Seek + Send + 'static) -> Result<Self> {
        Checkpoint::single(Source::new(name, reader)?)
    }

    fn single(source: Source) -> Result<Self> {
        let contents = parse(&source, 0)?;
        Ok(Checkpoint::assemble(vec![source], contents))
    }

    fn assemble(sources: Vec<Source>, contents: Contents) -> Self {
        let (mut entries, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (name, (entry, place)) in contents.tensors {
            entries.insert(name.clone(), entry);
            places.insert(name, place);
        }
        Checkpoint { sources, entries, places, metadata: contents.metadata }
    }

    /// Every tensor, by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The string metadata of a safetensors header; empty for other formats.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The data of one tensor: little-endian, contiguous in logical order, in its entry's element type.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that the file lacks; [`Error::Format`] for corrupt data or a 64-bit integer that does not fit
    /// 32 bits; [`Error::Io`]; [`Error::OutOfMemory`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        zeroed(&mut out, self.entry(name)?.bytes()?)?;
        self.read_into(name, &mut out)?;
        Ok(out)
    }

    /// As [`Checkpoint::read`], into memory that is there already. Tensors that are contiguous in the file, and not i64, need no other.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; [`Error::Invalid`] if `out` is not exactly the tensor's [`Entry::bytes`] long.
    pub fn read_into(&self, name: &str, out: &mut [u8]) -> Result<()> {
        let entry = self.entry(name)?;
        let expected = entry.bytes()?;
        if out.len() != expected {
            let message = format!("tensor `{name}` has {expected} bytes, the buffer {}", out.len());
            return Err(Error::invalid("read_into", message));
        }
        let found = self.places.get(name).and_then(|place| Some((place, self.sources.get(place.file)?)));
        let (place, source) = found.ok_or_else(|| missing(name))?;
        place.read(source, &entry.shape, name, out)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| missing(name))
    }

    /// Keeps the model's weights only, under their own names.
    ///
    /// 1. The state dict is the dictionary that directly holds the most tensors. On a tie it is the file's outermost dictionary,
    ///    then one whose key is `model_state`, `state_dict`, `model` or `module`, in this order, then the first by name.
    ///    The path to it is taken off the names; tensors elsewhere (an optimiser's state) are dropped.
    ///    A TorchScript module counts as one dictionary with all attributes of its submodules.
    /// 2. If every name then starts with `module.` (PyTorch's data parallelism), that goes too.
    ///
    /// safetensors files are flat: for them only the second step does anything.
    pub fn state_dict(self) -> Self {
        let prefix = self.largest_dictionary();
        let module = |name: &str| name.strip_prefix(prefix.as_str()).is_none_or(|rest| rest.starts_with("module."));
        let strip = if self.entries.keys().all(|name| module(name)) { prefix + "module." } else { prefix };
        let rename = |name: &str| name.strip_prefix(&strip).map(str::to_owned);
        let mut entries = BTreeMap::new();
        for (name, mut entry) in self.entries {
            if let Some(name) = rename(&name) {
                entry.name.clone_from(&name);
                entries.insert(name, entry);
            }
        }
        let keep = |(name, place): (String, Place)| {
            let wrapper = place.wrapper.saturating_sub(strip.len());
            Some((rename(&name)?, Place { wrapper, ..place }))
        };
        let places = self.places.into_iter().filter_map(keep).collect();
        Checkpoint { sources: self.sources, entries, places, metadata: self.metadata }
    }

    /// The path, with its final dot, of the dictionary that step 1 of [`Checkpoint::state_dict`] chooses.
    fn largest_dictionary(&self) -> String {
        const WRAPPERS: [&str; 4] = ["model_state", "state_dict", "model", "module"];
        let mut counts = BTreeMap::<&str, usize>::new();
        for (name, place) in &self.places {
            *counts.entry(name.get(..place.wrapper).unwrap_or("")).or_default() += 1;
        }
        let rank = |prefix: &str| {
            let key = prefix.trim_end_matches('.').rsplit('.').next().unwrap_or("");
            if prefix.is_empty() { 0 } else { 1 + WRAPPERS.iter().position(|w| *w == key).unwrap_or(WRAPPERS.len()) }
        };
        let best = counts.iter().min_by_key(|(prefix, count)| (std::cmp::Reverse(**count), rank(prefix)));
        best.map_or_else(String::new, |(prefix, _)| (*prefix).to_owned())
    }
}

fn missing(name: &str) -> Error {
    Error::invalid("checkpoint", format!("it has no tensor `{name}`"))
}

fn first_byte(source: &Source) -> Result<Option<u8>> {
    let first = source.read_vec(0, source.len().min(1) as usize)?;
    Ok(first.first().copied())
}

/// Recognises the format of a file by its first bytes, and reads its index.
fn parse(source: &Source, file: usize) -> Result<Contents> {
    let head = source.read_vec(0, source.len().min(32) as usize)?;
    let refuse = |message: &str| Err(source.error("checkpoint", message));
    match head.as_slice() {
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::parse(source, file),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => pytorch::parse(source, file),
        [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, ..] => refuse(
            "saved in PyTorch's format before 1.6, which is not read; convert it in PyTorch: \
             torch.save(torch.load(old, weights_only=True), new)",
        ),
        [0x80, 0..=5, ..] => refuse(
            "a bare pickle, which is not read; save the weights with torch.save(model.state_dict(), new) or as safetensors",
        ),
        [b'{', ..] => refuse("an index of shards, which can only be opened from disk, beside its shards"),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', b't', b't', b'p', ..] => {
            refuse("a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
        }
        [0x81..=0x8f | 0xde | 0xdf, ..] => refuse(
            "neither safetensors nor a PyTorch archive; if it is Flax msgpack, restore it with flax.serialization, flatten it with \
             flax.traverse_util.flatten_dict(tree, sep=\"/\") and save it with safetensors.flax.save_file",
        ),
        [] => refuse("the file is empty"),
        _ => refuse("neither safetensors nor a PyTorch archive (or its first bytes are damaged)"),
    }
}
