//! Files that PyTorch saves: the zip archives of `torch.save` since 1.6 and of `torch.jit.save`, and what `torch.save` wrote before.
//!
//! An archive holds `<any prefix>/data.pkl`, a pickle that describes the tensors, and one uncompressed entry
//! `<prefix>/data/<key>` per storage. The pickle is interpreted without executing anything; of TorchScript archives, as OpenAI
//! releases CLIP in, the attributes are read and the code is not. The [older format](legacy) is a sequence of pickles with the
//! storages behind them.

mod archive;
mod flatten;
mod globals;
mod legacy;
pub(super) mod opcodes;
mod pickle;
mod value;

use archive::Archive;
use tubelet_engine::Result;
use value::{ElementType, Pickle, Storage, Tensor};

pub(super) use legacy::{is_legacy, parse as parse_legacy};
pub(super) use value::Unreadable;

use super::{
    Contents, Entry, Place,
    place::{elements, extent, is_contiguous},
    source::Source,
};

const FORMAT: &str = "PyTorch archive";
/// Bytes. The pickle of a model with a thousand tensors and its optimiser's state has less than one megabyte; long histories have more.
const MAX_PICKLE: u64 = 1 << 30;

/// Where the bytes of a storage lie in the file.
struct Block {
    begin: u64,
    size: u64,
    /// CRC-32 of all of it, where the file has one.
    crc: Option<u32>,
}

/// Reads and checks everything but the tensors' data.
pub(super) fn parse(source: &Source, file: usize) -> Result<Contents> {
    let archive = Archive::open(source)?;
    let data = archive.bytes(&format!("{}data.pkl", archive.prefix), MAX_PICKLE)?;
    let pickle = pickle::run(&data).map_err(|refused| archive.fail(refused.message))?;
    let block = |storage: &Storage<'_>| {
        let key = std::str::from_utf8(storage.key).map_err(|_| "the key of its storage is not UTF-8".to_owned())?;
        let (begin, member) = archive.range(&format!("{}data/{key}", archive.prefix))?;
        Ok(Block { begin, size: member.size, crc: member.crc })
    };
    contents(&pickle, file, block).map_err(|message| archive.fail(message))
}

/// The tensors of a pickle, whose storages lie where `block` says.
fn contents(pickle: &Pickle<'_>, file: usize, block: impl Fn(&Storage<'_>) -> Result<Block, String>) -> Result<Contents, String> {
    let mut contents = Contents::default();
    for found in flatten::tensors(pickle)? {
        let placed = found.tensor.and_then(|tensor| {
            let placed = block(&tensor.storage).and_then(|block| place(tensor, &block, file));
            placed.map_err(|reason| Unreadable { shape: Some(tensor.shape.clone()), reason })
        });
        match placed {
            Ok((dtype, shape, place)) => contents.insert(Entry { name: found.name, dtype, shape }, place),
            Err(unreadable) => contents.insert_unreadable(found.name, unreadable),
        }
    }
    Ok(contents)
}

type Placed = (tubelet_engine::DType, Vec<usize>, Place);

/// Where the elements of a tensor lie, checked against its storage; or why it cannot be read.
fn place(tensor: &Tensor<'_>, block: &Block, file: usize) -> Result<Placed, String> {
    let stored = match tensor.element {
        ElementType::Known(stored) => stored,
        ElementType::Untyped => return Err("its element type is not known".into()),
        ElementType::Other(name, _) => return Err(format!("element type {name} is not supported")),
    };
    if tensor.negative && !stored.is_signed() {
        return Err("it is the negative of unsigned numbers".into());
    }
    let (shape, strides, storage) = (&tensor.shape, &tensor.strides, &tensor.storage);
    let bytes = |n: usize| n.checked_mul(stored.size());
    let sizes = elements(shape).and_then(bytes).zip(extent(shape, strides).and_then(bytes)).zip(bytes(tensor.offset));
    let ((_, span), offset) = sizes.ok_or_else(|| format!("the size of shape {shape:?} overflows"))?;
    let whole = storage.element.size().and_then(|size| storage.elements.checked_mul(size));
    let whole = whole
        .map(|n| n as u64)
        .filter(|&n| n <= block.size)
        .ok_or_else(|| format!("its storage of {} elements is not in an entry of {} bytes", storage.elements, block.size))?;
    let (first, room) = match storage.view {
        Some((offset, size)) => bytes(offset).zip(bytes(size)).ok_or("the view of its storage overflows")?,
        None => (0, whole as usize),
    };
    let past = || {
        let (offset, elements) = (tensor.offset, storage.elements);
        format!("shape {shape:?}, strides {strides:?} and offset {offset} reach past its storage of {elements} elements")
    };
    let end = offset.checked_add(span).filter(|&end| end <= room).and_then(|end| end.checked_add(first));
    if end.is_none_or(|end| end as u64 > whole) {
        return Err(past());
    }
    let place = Place {
        file,
        start: block.begin + (first + offset) as u64,
        span,
        stored,
        strides: (!is_contiguous(shape, strides)).then(|| strides.clone()),
        // The checksum is of the whole entry.
        crc: block.crc.filter(|_| first + offset == 0 && span as u64 == block.size),
        negative: tensor.negative,
    };
    Ok((stored.dtype(), shape.clone(), place))
}
