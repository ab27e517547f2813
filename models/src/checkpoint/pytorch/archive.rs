//! The zip container of PyTorch's files since version 1.6.

use std::collections::BTreeMap;

use rawzip::{CompressionMethod, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive, ZipArchiveEntryWayfinder, ZipLocator};
use tubelet_engine::{Error, Result};

use super::{super::source::Source, FORMAT};

/// Entries of an archive, and bytes of all their names together.
const MAX_MEMBERS: usize = 1 << 21;
const MAX_NAMES: usize = 256 << 20;

/// An entry of the zip archive.
pub(super) struct Member {
    wayfinder: ZipArchiveEntryWayfinder,
    pub(super) size: u64,
    /// `None` if it was saved without one, which PyTorch does on demand and marks with 0.
    pub(super) crc: Option<u32>,
    readable: bool,
}

/// The zip archive and its table of contents.
pub(super) struct Archive<'a> {
    source: &'a Source,
    zip: ZipArchive<&'a Source>,
    members: BTreeMap<String, Member>,
    /// What stands before `data.pkl`.
    pub(super) prefix: String,
}

impl<'a> Archive<'a> {
    pub(super) fn open(source: &'a Source) -> Result<Self> {
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

    pub(super) fn fail(&self, message: impl Into<String>) -> Error {
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
    ///
    /// # Errors
    /// A message for an entry that is missing, truncated, compressed or encrypted.
    pub(super) fn range(&self, name: &str) -> Result<(u64, &Member), String> {
        let member = self.members.get(name).ok_or_else(|| format!("the entry `{name}` is missing"))?;
        if !member.readable {
            return Err(format!("the entry `{name}` is compressed or encrypted; PyTorch stores entries as they are: save again"));
        }
        let entry = self.zip.get_entry(member.wayfinder).map_err(|e| format!("the entry `{name}`: {e}"))?;
        let (begin, end) = entry.compressed_data_range();
        if end > self.source.len() || end.checked_sub(begin) != Some(member.size) {
            return Err(format!("truncated: the entry `{name}` lies at {begin}..{end} of {} bytes", self.source.len()));
        }
        Ok((begin, member))
    }

    /// A whole small entry.
    pub(super) fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let (begin, member) = self.range(name).map_err(|message| self.fail(message))?;
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
}
