//! What `torch.save` wrote before version 1.6, and still does on demand: a pickle each of a magic number, the protocol's version, the
//! system and the object; a pickle of the list of storage keys; and the storages in this order, each as the number of its elements
//! in eight bytes and the elements.

use std::collections::HashMap;

use tubelet_engine::Result;

use super::{
    Block, MAX_PICKLE, contents,
    pickle::run,
    value::{Node, Pickle, Storage, Value},
};
use crate::checkpoint::{Contents, source::Source};

const FORMAT: &str = "PyTorch file from before 1.6";
/// The magic number 0x1950a86a20f9469cfc6c, as protocols 2 and later write it, and as protocols 0 and 1 do.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const MAGIC_TEXT: &[u8] = b"L119547037146038801333356L\n.";
const PROTOCOL: i64 = 1001;
/// Bytes that are read at first of a pickle, whose length is not known beforehand.
const FIRST_WINDOW: u64 = 1 << 20;

/// Whether a file that begins with `head` is one.
pub(in crate::checkpoint) fn is_legacy(head: &[u8]) -> bool {
    let after_length = |window: &[u8]| window.starts_with(&[0x8a, 10]) && window.ends_with(&MAGIC);
    head.starts_with(MAGIC_TEXT) || (head.first() == Some(&0x80) && head.windows(12).any(after_length))
}

/// Reads and checks everything but the tensors' data.
pub(in crate::checkpoint) fn parse(source: &Source, file: usize) -> Result<Contents> {
    let mut position = 0;
    let next = |position: u64, what: &str| Window::read(source, position, what);
    position += next(position, "magic number")?.run(source)?.len as u64;
    let version = next(position, "protocol version")?;
    let version = version.run(source)?;
    if !matches!(version.root, Value::Int(PROTOCOL)) {
        return Err(source.error(FORMAT, format!("its protocol version is {:?}, expected {PROTOCOL}", version.root)));
    }
    position += version.len as u64;
    let system = next(position, "system")?;
    let system = system.run(source)?;
    if is_big_endian(&system) {
        return Err(source.error(FORMAT, "the byte order is not little-endian"));
    }
    position += system.len as u64;
    let object = next(position, "object")?;
    let object = object.run(source)?;
    position += object.len as u64;
    let keys = next(position, "list of storages")?;
    let keys = keys.run(source)?;
    position += keys.len as u64;
    let blocks = blocks(source, &object, &keys, position)?;
    let block = |storage: &Storage<'_>| match blocks.get(storage.key) {
        Some(&(begin, size)) => Ok(Block { begin, size, crc: None }),
        None => Err("its storage is not in the file".to_owned()),
    };
    contents(&object, file, block).map_err(|message| source.error(FORMAT, message))
}

/// The bytes of one of the pickles, and of what follows it.
struct Window {
    bytes: Vec<u8>,
    what: String,
}

impl Window {
    /// Reads as much from `position` on as the pickle there needs: a large file is not read as a whole.
    fn read(source: &Source, position: u64, what: &str) -> Result<Self> {
        let left = source.len().saturating_sub(position).min(MAX_PICKLE);
        let mut size = FIRST_WINDOW.min(left);
        loop {
            let window = Window { bytes: source.read_vec(position, size as usize)?, what: what.to_owned() };
            if size >= left || !run(&window.bytes).is_err_and(|refused| refused.truncated) {
                return Ok(window);
            }
            size = size.saturating_mul(4).min(left);
        }
    }

    fn run(&self, source: &Source) -> Result<Pickle<'_>> {
        run(&self.bytes).map_err(|refused| source.error(FORMAT, format!("{}: {}", self.what, refused.message)))
    }
}

/// Whether the system that wrote the file says so.
fn is_big_endian(system: &Pickle<'_>) -> bool {
    let Some(Node::Dict(pairs)) = system.node(&system.root) else { return false };
    pairs.iter().any(|pair| matches!(pair, (Value::Text(b"little_endian"), Value::Int(0))))
}

/// First byte and size in bytes of each storage by its key. `position` is that of the first.
fn blocks<'a>(
    source: &Source,
    object: &Pickle<'a>,
    keys: &Pickle<'a>,
    mut position: u64,
) -> Result<HashMap<&'a [u8], (u64, u64)>> {
    let fail = |message: &str| source.error(FORMAT, message);
    let Some(Node::List(list)) = keys.node(&keys.root) else { return Err(fail("the list of storages is no list")) };
    let storages: HashMap<&[u8], &Storage<'_>> = object.nodes.iter().filter_map(storage).collect();
    let mut blocks = HashMap::new();
    for (_, key) in &list.items {
        let Value::Text(key) = *key else { return Err(fail("a key in the list of storages is no text")) };
        let name = String::from_utf8_lossy(key).escape_debug().take(100).collect::<String>();
        let storage = storages.get(key).ok_or_else(|| fail(&format!("no tensor has the storage `{name}` of the list")))?;
        let size = storage.element.size().and_then(|size| (storage.elements as u64).checked_mul(size as u64));
        let size = size.ok_or_else(|| fail(&format!("the size of the storage `{name}` is not known")))?;
        let mut count = [0; 8];
        source.read_exact_at(position, &mut count)?;
        let count = u64::from_le_bytes(count);
        if count != storage.elements as u64 {
            let message = format!("the storage `{name}` has {count} elements, its tensors say {}", storage.elements);
            return Err(fail(&message));
        }
        let begin = position.saturating_add(8);
        let end = begin.checked_add(size).filter(|&end| end <= source.len());
        position = end.ok_or_else(|| {
            let left = source.len().saturating_sub(begin);
            fail(&format!("truncated: the storage `{name}` has {size} bytes, the file has {left} more"))
        })?;
        blocks.insert(key, (begin, size));
    }
    Ok(blocks)
}

fn storage<'a, 'b>(node: &'b Node<'a>) -> Option<(&'a [u8], &'b Storage<'a>)> {
    match node {
        Node::Storage(storage) => Some((storage.key, storage)),
        _ => None,
    }
}
