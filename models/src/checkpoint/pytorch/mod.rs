//! PyTorch's zip archives, as `torch.save` (since 1.6) and `torch.jit.save` write them.
//!
//! An archive holds `<any prefix>/data.pkl`, a pickle that describes the tensors, and one uncompressed entry
//! `<prefix>/data/<key>` per storage. The pickle is interpreted without executing anything; of TorchScript archives, as OpenAI
//! releases CLIP in, the attributes are read and the code is not.

mod flatten;
mod globals;
pub(super) mod opcodes;
mod pickle;
mod value;

use std::collections::BTreeMap;

use flatten::Found;
use rawzip::{CompressionMethod, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive, ZipArchiveEntryWayfinder, ZipLocator};
use tubelet_engine::{Error, Result};

use super::{
    Contents, Entry, Place,
    place::{elements, extent, is_contiguous},
    source::Source,
};

const FORMAT: &str = "PyTorch archive";
/// Bytes. The pickle of a model with a thousand tensors and its optimiser's state has less than one megabyte.
const MAX_PICKLE: u64 = 64 << 20;
/// Entries of an archive, and bytes of all their names together.
const MAX_MEMBERS: usize = 1 << 18;
const MAX_NAMES: usize = 64 << 20;

/// An entry of the zip archive.
struct Member {
    wayfinder: ZipArchiveEntryWayfinder,
    size: u64,
    /// `None` if it was saved without one, which PyTorch does on demand and marks with 0.
    crc: Option<u32>,
    readable: bool,
}

/// The zip archive and its table of contents.
struct Archive<'a> {
    source: &'a Source,
    zip: ZipArchive<&'a Source>,
    members: BTreeMap<String, Member>,
    /// What stands before `data.pkl`.
    prefix: String,
}

impl<'a> Archive<'a> {
    fn open(source: &'a Source) -> Result<Self> {
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let zip = ZipLocator::new()
            .locate_in_reader(source, &mut buffer, source.len())
            .map_err(|(_, e)| source.error(FORMAT, format!("truncated or damaged: {e}")))?;
        let mut archive = Archive { source, zip, members: BTreeMap::new(), prefix: String::new() };
        archive.list(&mut buffer)?;
        archive.prefix = archive.find_prefix()?;
        archive.check_byte_order()?;
        Ok(archive)
    }

    fn fail(&self, message: impl Into<String>) -> Error {
        self.source.error(FORMAT, message)
    }

    fn list(&mut self, buffer: &mut [u8]) -> Result<()> {
        let source = self.source;
        let fail = |message: String| source.error(FORMAT, message);
        let mut names = 0usize;
        let mut items = self.zip.entries(buffer);
        while let Some(item) = items.next_entry().map_err(|e| fail(format!("table of contents: {e}")))? {
            let path = item.file_path();
            let bytes = path.as_bytes();
            names = names.saturating_add(bytes.len());
            if self.members.len() >= MAX_MEMBERS || names > MAX_NAMES {
                return Err(fail(format!("more than {MAX_MEMBERS} entries or {MAX_NAMES} bytes of names")));
            }
            let name = std::str::from_utf8(bytes).map_err(|_| fail("an entry's name is not UTF-8".into()))?.to_owned();
            let (size, packed) = (item.uncompressed_size_hint(), item.compressed_size_hint());
            let stored = item.compression_method() == CompressionMethod::STORE && size == packed;
            let member = Member {
                wayfinder: item.wayfinder(),
                size,
                crc: Some(item.crc32()).filter(|&crc| crc != 0),
                readable: stored && !item.flags().is_encrypted(),
            };
            if let Some(_earlier) = self.members.insert(name.clone(), member) {
                return Err(fail(format!("the entry `{name}` is there twice")));
            }
        }
        Ok(())
    }

    fn find_prefix(&self) -> Result<String> {
        let prefix = |name: &str| name.strip_suffix("data.pkl").filter(|p| p.is_empty() || p.ends_with('/')).map(str::to_owned);
        let mut found = self.members.keys().filter_map(|name| prefix(name));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(self.fail("a zip archive without `data.pkl`: not saved by torch.save")),
            (Some(_), Some(_)) => Err(self.fail("a zip archive with several `data.pkl`")),
        }
    }

    fn check_byte_order(&self) -> Result<()> {
        let name = format!("{}byteorder", self.prefix);
        if self.members.contains_key(&name) && self.bytes(&name, 16)? != b"little" {
            return Err(self.fail("the byte order is not little-endian"));
        }
        Ok(())
    }

    /// The first byte and the length of an entry's data in the file.
    fn range(&self, name: &str) -> Result<(u64, &Member)> {
        let member = self.members.get(name).ok_or_else(|| self.fail(format!("the entry `{name}` is missing")))?;
        if !member.readable {
            let message =
                format!("the entry `{name}` is compressed or encrypted; PyTorch stores entries as they are: save again");
            return Err(self.fail(message));
        }
        let entry = self.zip.get_entry(member.wayfinder).map_err(|e| self.fail(format!("the entry `{name}`: {e}")))?;
        let (begin, end) = entry.compressed_data_range();
        if end > self.source.len() || end.checked_sub(begin) != Some(member.size) {
            return Err(self.fail(format!("truncated: the entry `{name}` lies at {begin}..{end} of {} bytes", self.source.len())));
        }
        Ok((begin, member))
    }

    /// A whole small entry.
    fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (begin, member) = self.range(name)?;
        if member.size > limit {
            return Err(self.fail(format!("the entry `{name}` has {} bytes, at most {limit} are read", member.size)));
        }
        let bytes = self.source.read_vec(begin, member.size as usize)?;
        match member.crc {
            Some(crc) if rawzip::crc32(&bytes) != crc => {
                Err(self.fail(format!("the entry `{name}` is corrupt (its CRC-32 differs)")))
            }
            _ => Ok(bytes),
        }
    }

    fn place(&self, found: &Found<'_>, file: usize) -> Result<(Entry, Place)> {
        let Found { name, wrapper, tensor } = found;
        let fail = |message: String| self.fail(format!("tensor `{name}`: {message}"));
        let stored = tensor.storage.stored.map_err(|other| fail(format!("element type {other} is not supported")))?;
        let (begin, member) = self.range(&format!("{}data/{}", self.prefix, tensor.storage.key))?;

        let bytes = |n: usize| n.checked_mul(stored.size());
        let (shape, strides) = (&tensor.shape, &tensor.strides);
        let sizes = elements(shape).and_then(bytes).zip(extent(shape, strides).and_then(bytes)).zip(bytes(tensor.offset));
        let ((size, span), offset) = sizes.ok_or_else(|| fail(format!("the size of shape {shape:?} overflows")))?;
        let storage = bytes(tensor.storage.elements).map(|n| n as u64).filter(|&n| n <= member.size);
        let storage = storage.ok_or_else(|| {
            fail(format!("its storage of {} elements is not in an entry of {} bytes", tensor.storage.elements, member.size))
        })?;
        // A repeated dimension (stride 0) could claim any size, so the tensor itself must fit its storage too.
        let end = (offset as u64).checked_add(span as u64);
        if end.is_none_or(|end| end > storage) || size as u64 > storage {
            return Err(fail(format!(
                "shape {shape:?}, strides {strides:?} and offset {} reach past its storage of {} elements",
                tensor.offset, tensor.storage.elements
            )));
        }
        let place = Place {
            file,
            start: begin + offset as u64,
            span,
            stored,
            strides: (!is_contiguous(shape, strides)).then(|| strides.clone()),
            // The checksum is of the whole entry.
            crc: member.crc.filter(|_| offset == 0 && span as u64 == member.size),
            wrapper: *wrapper,
        };
        Ok((Entry { name: name.clone(), dtype: stored.dtype(), shape: shape.clone() }, place))
    }
}

/// Reads and checks everything but the tensors' data.
pub(super) fn parse(source: &Source, file: usize) -> Result<Contents> {
    let archive = Archive::open(source)?;
    let pickle_name = format!("{}data.pkl", archive.prefix);
    let data = archive.bytes(&pickle_name, MAX_PICKLE)?;
    let pickle = pickle::run(&data).map_err(|message| archive.fail(message))?;
    let mut contents = Contents::default();
    for found in flatten::tensors(&pickle).map_err(|message| archive.fail(message))? {
        let (entry, place) = archive.place(&found, file)?;
        contents.insert(entry, place).map_err(|name| archive.fail(format!("two tensors are named `{name}`")))?;
    }
    Ok(contents)
}
