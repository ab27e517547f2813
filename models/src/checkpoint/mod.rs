//! Weight files: safetensors, PyTorch's zip archives (`.pth`, `.pt`, `.pyth`, `.bin`), and both in shards.
//!
//! [`Checkpoint::open`] looks at the content, never at the extension. It reads the index only; [`Checkpoint::read`] then reads one
//! tensor at a time, so that loading a model never holds the whole file. Nothing in a file is executed: PyTorch's pickle is
//! interpreted by a machine that knows tensors, containers and numbers, and passes over everything else without constructing it.
//!
//! # Names
//! safetensors names are taken as they are. A tensor in a PyTorch file is named by its path through dictionaries, lists (by index)
//! and objects' attributes, joined with `.`; values that are no tensors, and keys that are neither strings nor integers, are passed
//! over. Released files wrap their weights and add an optimiser's state;
//! [`Weights`](crate::weights::Weights) finds the tensors of a model among them.
//!
//! # Element types
//! f64, f32, bf16, f16, u8 and i32 stay as they are; bool becomes u8; other integers become i32, and reading a value that does not fit
//! is an error. A tensor of another type, or in a form that is not read (sparse, quantised), is [unreadable](Checkpoint::unreadable):
//! it does not keep the others from being read, and reading it is an error that names it.
//!
//! # Not read
//! PyTorch's tar files from before 2017 and Flax msgpack (restore it with
//! `flax.serialization`, flatten the tree with `flax.traverse_util.flatten_dict(tree, sep="/")`, save with
//! `safetensors.flax.save_file`) are recognised and refused with instructions.

mod dictionaries;
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

pub use dictionaries::{Candidate, Dictionaries};
use place::Place;
use pytorch::Unreadable;
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
    unreadable: BTreeMap<String, Unreadable>,
    metadata: BTreeMap<String, String>,
}

impl Contents {
    /// Every name.
    fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys().chain(self.unreadable.keys())
    }

    fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.unreadable.contains_key(name)
    }

    /// Adds a tensor. One whose name is taken cannot be told from the other, so that neither is read.
    fn insert(&mut self, entry: Entry, place: Place) {
        if self.contains(&entry.name) {
            return self.clash(entry.name);
        }
        self.tensors.insert(entry.name.clone(), (entry, place));
    }

    /// Adds a tensor that is not read.
    fn insert_unreadable(&mut self, name: String, unreadable: Unreadable) {
        if self.contains(&name) {
            return self.clash(name);
        }
        self.unreadable.insert(name, unreadable);
    }

    fn clash(&mut self, name: String) {
        self.tensors.remove(&name);
        self.unreadable.insert(name, Unreadable { shape: None, reason: "two tensors of the file have this name".into() });
    }
}

/// An opened weight file: the index in memory, the data on disk. See the [module](self) for names and element types.
pub struct Checkpoint {
    sources: Vec<Source>,
    entries: BTreeMap<String, Entry>,
    places: BTreeMap<String, Place>,
    unreadable: BTreeMap<String, Unreadable>,
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
        Checkpoint { sources, entries, places, unreadable: contents.unreadable, metadata: contents.metadata }
    }

    /// The file's path, or what stands for it in errors; of several shards the first one's.
    pub fn path(&self) -> &Path {
        self.sources.first().map_or(Path::new(""), Source::path)
    }

    /// Every tensor that can be read, by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Names, dimensions (where they are known) and reasons of the tensors that cannot be read.
    ///
    /// # Example
    /// ```
    /// use tubelet_models::checkpoint::Checkpoint;
    ///
    /// let header = br#"{"scale":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#;
    /// let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 2]].concat();
    /// let file = Checkpoint::from_bytes(file)?;
    /// let (name, shape, reason) = file.unreadable().next().ok_or("it is not listed")?;
    /// assert_eq!((name, shape), ("scale", Some(&[2][..])));
    /// assert!(reason.contains("F8_E4M3"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unreadable(&self) -> impl Iterator<Item = (&str, Option<&[usize]>, &str)> {
        self.unreadable.iter().map(|(name, found)| (name.as_str(), found.shape.as_deref(), found.reason.as_str()))
    }

    /// Why the tensor `name` cannot be read; `None` if it can, or is not there.
    pub fn unreadable_reason(&self, name: &str) -> Option<&str> {
        self.unreadable.get(name).map(|found| found.reason.as_str())
    }

    /// The string metadata of a safetensors header; empty for other formats.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The data of one tensor: little-endian, contiguous in logical order, in its entry's element type.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that the file lacks; [`Error::Format`] for corrupt data, an integer that does not fit 32 bits,
    /// and a tensor that cannot be read; [`Error::Io`]; [`Error::OutOfMemory`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        zeroed(&mut out, self.entry(name)?.bytes()?)?;
        self.read_into(name, &mut out)?;
        Ok(out)
    }

    /// As [`Checkpoint::read`], into memory that is there already. Tensors that are contiguous in the file, and of an element type of the
    /// engine, need no other.
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
        self.entries.get(name).ok_or_else(|| match self.unreadable_reason(name) {
            Some(reason) => Error::format(self.path().display().to_string(), format!("tensor `{name}`: {reason}")),
            None => missing(name),
        })
    }
}

fn missing(name: &str) -> Error {
    Error::invalid("checkpoint", format!("it has no tensor `{name}`"))
}

fn first_byte(source: &Source) -> Result<Option<u8>> {
    let first = source.read_vec(0, source.len().min(1) as usize)?;
    Ok(first.first().copied())
}

/// Where a tar file has its magic, and how many bytes tell the formats apart.
const TAR_MAGIC: usize = 257;
const HEAD: u64 = 262;

/// Recognises the format of a file by its first bytes, and reads its index.
fn parse(source: &Source, file: usize) -> Result<Contents> {
    let head = source.read_vec(0, source.len().min(HEAD) as usize)?;
    let refuse = |message: &str| Err(source.error("checkpoint", message));
    if pytorch::is_legacy(&head) {
        return pytorch::parse_legacy(source, file);
    }
    if head.get(TAR_MAGIC..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        return refuse(
            "a tar file, as PyTorch saved them before 2017, which is not read; convert it in PyTorch: \
             torch.save(torch.load(old, weights_only=False), new)",
        );
    }
    match head.as_slice() {
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::parse(source, file),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => pytorch::parse(source, file),
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
