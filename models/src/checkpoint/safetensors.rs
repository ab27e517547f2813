//! The safetensors format: 8 bytes header length, a JSON header, the data. Its own crate reads whole files in memory only, so the
//! header is checked here: <https://github.com/huggingface/safetensors#format>.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use safetensors::{Dtype, tensor::TensorInfo};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, IntoDeserializer, MapAccess, Visitor},
    ser::SerializeMap,
};
use tubelet_engine::{DType, Error, Result};

use super::{
    Contents, Entry, Place, Unreadable,
    place::{Stored, elements},
    source::Source,
};

const FORMAT: &str = "safetensors";
/// Bytes, as the format says.
const MAX_HEADER: u64 = 100_000_000;
const METADATA: &str = "__metadata__";

struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Info>,
}

/// A tensor as the header describes it; its element type may be one that is not known.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Unlike a derived map, refuses a name that comes twice, and names the tensor in errors.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let (mut metadata, mut tensors) = (None, BTreeMap::new());
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == METADATA {
                metadata.replace(map.next_value::<Option<_>>()?).is_some()
            } else {
                let info = map.next_value::<Info>();
                let info = info.map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                tensors.insert(name.clone(), info).is_some()
            };
            if twice {
                return Err(A::Error::custom(format!("`{name}` is there twice")));
            }
        }
        Ok(Header { metadata: metadata.flatten().unwrap_or_default(), tensors })
    }
}

/// Reads and checks the header; the data stays unread.
pub(super) fn parse(source: &Source, file: usize) -> Result<Contents> {
    let fail = |message: String| source.error(FORMAT, message);
    let mut length = [0; 8];
    source.read_exact_at(0, &mut length)?;
    let header_len = u64::from_le_bytes(length);
    let room = source.len() - length.len() as u64;
    if header_len > MAX_HEADER || header_len > room {
        return Err(fail(format!("a header of {header_len} bytes; the file has room for {room}, the format for {MAX_HEADER}")));
    }
    let text = source.read_vec(length.len() as u64, header_len as usize)?;
    let header: Header = serde_json::from_slice(&text).map_err(|e| fail(format!("header: {e}")))?;
    let data = length.len() as u64 + header_len;

    let mut tensors: Vec<_> = header.tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut contents = Contents { metadata: header.metadata, ..Contents::default() };
    let mut next = 0;
    for (name, info) in tensors {
        let (begin, end) = info.data_offsets;
        let bytes = bytes_of(&info).map_err(|message| fail(format!("tensor `{name}`: {message}")))?;
        let length = end.checked_sub(begin);
        if begin != next || length.is_none() || bytes.is_some_and(|bytes| length != Some(bytes)) {
            let bytes = bytes.map_or("any number of".into(), |bytes| bytes.to_string());
            let message = format!(
                "tensor `{name}`: data offsets {begin}..{end}, expected {next}.. and {bytes} bytes for {} {:?}",
                info.dtype, info.shape
            );
            return Err(fail(message));
        }
        next = end;
        match stored(&info.dtype) {
            Some(stored) => {
                let (start, span) = (data + begin as u64, end - begin);
                let place = Place { file, start, span, stored, strides: None, crc: None, negative: false };
                contents.insert(Entry { name, dtype: stored.dtype(), shape: info.shape }, place);
            }
            None => {
                let reason = format!("element type {} is not supported", info.dtype);
                contents.insert_unreadable(name, Unreadable { shape: Some(info.shape), reason });
            }
        }
    }
    if data.checked_add(next as u64) != Some(source.len()) {
        let message = format!("the header describes {next} bytes of data, the file has {}", source.len() - data);
        return Err(fail(message));
    }
    Ok(contents)
}

/// The size that a tensor's shape and element type say, `None` for an element type of unknown size.
fn bytes_of(info: &Info) -> Result<Option<usize>, String> {
    let overflow = || format!("the size of shape {:?} overflows", info.shape);
    let count = elements(&info.shape).ok_or_else(overflow)?;
    let Some(bits) = bits(&info.dtype) else { return Ok(None) };
    let bits = count.checked_mul(bits).ok_or_else(overflow)?;
    Ok(Some(bits.div_ceil(8)))
}

/// Bits per element, of the types that the format's own crate knows and of complex numbers.
fn bits(dtype: &str) -> Option<usize> {
    let known = Dtype::deserialize(dtype.into_deserializer()).map_err(|_: serde::de::value::Error| ());
    match known {
        Ok(known) => Some(known.bitsize()),
        Err(()) => (dtype == "C64").then_some(64),
    }
}

fn stored(dtype: &str) -> Option<Stored> {
    Some(match dtype {
        "F64" => Stored::F64,
        "F32" => Stored::F32,
        "BF16" => Stored::BF16,
        "F16" => Stored::F16,
        "BOOL" => Stored::Bool,
        "I8" => Stored::I8,
        "I16" => Stored::I16,
        "I32" => Stored::I32,
        "I64" => Stored::I64,
        "U8" => Stored::U8,
        "U16" => Stored::U16,
        "U32" => Stored::U32,
        "U64" => Stored::U64,
        _ => return None,
    })
}

/// Writes a safetensors file. The file appears whole or not at all: it is written under a temporary name beside `path`, flushed to
/// disk and renamed, so that a crash leaves an earlier file of that name as it was.
///
/// `data` is asked for the tensors one after another, so that they need not all be in host memory: little-endian bytes, contiguous,
/// in the entry's element type. The bytes written depend on the arguments alone.
///
/// # Errors
/// [`Error::Invalid`] for a name that comes twice or is `__metadata__`, and for data of another length than the entry says;
/// [`Error::Io`]; whatever `data` returns.
pub fn write<'a, D: AsRef<[u8]>>(
    path: &Path,
    metadata: &'a BTreeMap<String, String>,
    entries: impl IntoIterator<Item = &'a Entry>,
    data: impl FnMut(&Entry) -> Result<D>,
) -> Result<()> {
    let layout = Layout::new(metadata, entries)?;
    let temporary = temporary_beside(path)?;
    let written = write_new(&temporary, &layout, data)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io(path)))
        .and_then(|()| sync_folder(path));
    if written.is_err() {
        // The error that led here matters more than one about the leftover.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Entries in file order, with their bytes' places.
struct Layout<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: Vec<(&'a Entry, TensorInfo)>,
}

impl<'a> Layout<'a> {
    fn new(metadata: &'a BTreeMap<String, String>, entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self> {
        let mut entries: Vec<&Entry> = entries.into_iter().collect();
        // Wide elements first keeps every tensor aligned to its element size.
        entries.sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then_with(|| a.name.cmp(&b.name)));
        let (mut names, mut tensors, mut next) = (BTreeSet::new(), Vec::new(), 0usize);
        for entry in entries {
            if entry.name == METADATA || !names.insert(&entry.name) {
                return Err(Error::invalid("tensor name", format!("`{}` is reserved or there twice", entry.name)));
            }
            let overflow = || Error::Overflow { what: "the size of the safetensors file".into() };
            let end = next.checked_add(entry.bytes()?).ok_or_else(overflow)?;
            let info = TensorInfo { dtype: dtype(entry.dtype), shape: entry.shape.clone(), data_offsets: (next, end) };
            tensors.push((entry, info));
            next = end;
        }
        Ok(Layout { metadata, tensors })
    }

    fn header(&self) -> Result<Vec<u8>> {
        let mut header = serde_json::to_vec(self).map_err(|e| Error::invalid("safetensors header", e.to_string()))?;
        // Spaces keep the data aligned to 8 bytes in the file.
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() as u64 > MAX_HEADER {
            return Err(Error::invalid("safetensors header", format!("{} bytes, at most {MAX_HEADER}", header.len())));
        }
        Ok(header)
    }
}

impl Serialize for Layout<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (entry, info) in &self.tensors {
            map.serialize_entry(&entry.name, info)?;
        }
        map.end()
    }
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::U8 => Dtype::U8,
        DType::I32 => Dtype::I32,
    }
}

fn write_new<D: AsRef<[u8]>>(path: &Path, layout: &Layout<'_>, mut data: impl FnMut(&Entry) -> Result<D>) -> Result<()> {
    let header = layout.header()?;
    let mut file = BufWriter::new(File::create_new(path).map_err(Error::io(path))?);
    let mut put = |bytes: &[u8]| file.write_all(bytes).map_err(Error::io(path));
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for (entry, info) in &layout.tensors {
        let (bytes, expected) = (data(entry)?, info.data_offsets.1 - info.data_offsets.0);
        let bytes = bytes.as_ref();
        if bytes.len() != expected {
            let message = format!("tensor `{}`: {} bytes given, {expected} expected", entry.name, bytes.len());
            return Err(Error::invalid("safetensors data", message));
        }
        put(bytes)?;
    }
    let file = file.into_inner().map_err(|e| Error::io(path)(e.into_error()))?;
    file.sync_all().map_err(Error::io(path))
}

/// A name in the same folder (a rename must not cross file systems) that no other writer takes.
pub(crate) fn temporary_beside(path: &Path) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let no_name = || Error::io(path)(io::Error::new(io::ErrorKind::InvalidInput, "not a file name"));
    path.file_name().ok_or_else(no_name)?;
    let unique = COUNT.fetch_add(1, Ordering::Relaxed);
    // Without the file's own name, which may be as long as a name can be.
    Ok(path.with_file_name(format!(".tubelet-{}-{unique}.tmp", std::process::id())))
}

/// Makes the rename itself durable where folders can be synchronised.
fn sync_folder(path: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))
}
