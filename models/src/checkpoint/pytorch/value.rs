//! What a pickle builds. Containers live in one table and are referred to by index, so a file that makes a container contain itself
//! makes neither a leak nor a loop here. Text is borrowed from the pickle.

use super::{super::place::Stored, globals::Global};

/// A value on the stack, in the memo or in a container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// None, floats, bytes, sets, integers beyond 64 bits: never looked at.
    Plain,
    /// An integer or a boolean.
    Int(i64),
    /// Text as the pickle has it. It is UTF-8 in every name that matters; others are never decoded.
    Text(&'a [u8]),
    /// Index into [`Pickle::nodes`].
    Node(u32),
}

/// A container, name, storage or tensor.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Dict(Vec<(Value<'a>, Value<'a>)>),
    List(List<'a>),
    Tuple(Vec<Value<'a>>),
    Global(Global<'a>),
    /// An instance of a class that means nothing here.
    Object(Object<'a>),
    Storage(Storage<'a>),
    Tensor(Box<Tensor<'a>>),
    /// A tensor or array in a form that is not read.
    Unreadable(Unreadable),
}

/// A list without the numbers in it, which nothing asks for and of which there may be millions.
#[derive(Debug, Default)]
pub(super) struct List<'a> {
    pub(super) len: usize,
    /// Positions and values of the others.
    pub(super) items: Vec<(usize, Value<'a>)>,
}

/// An object that is not constructed: what was put into it, and its state.
#[derive(Debug, Default)]
pub(super) struct Object<'a> {
    /// Items, where its class is a kind of dictionary.
    pub(super) items: Vec<(Value<'a>, Value<'a>)>,
    /// Its attributes, as a rule a dictionary.
    pub(super) state: Option<Value<'a>>,
}

/// A storage: an entry of an archive, or one of the blocks at the end of a file from before 1.6.
#[derive(Clone, Debug)]
pub(super) struct Storage<'a> {
    /// The entry is `data/<key>`.
    pub(super) key: &'a [u8],
    pub(super) element: ElementType<'a>,
    /// Elements of the whole storage; bytes, where it is untyped.
    pub(super) elements: usize,
    /// Offset and size of the part that this storage is, where it is a view of another (files from before 1.6).
    pub(super) view: Option<(usize, usize)>,
}

/// The element type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType<'a> {
    Known(Stored),
    /// Bytes of which the tensor says what they are.
    Untyped,
    /// One that is not read, by name, with its size in bytes if that is known.
    Other(&'a str, Option<usize>),
}

impl ElementType<'_> {
    /// Bytes per element.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            ElementType::Known(stored) => Some(stored.size()),
            ElementType::Untyped => Some(1),
            ElementType::Other(_, size) => size,
        }
    }
}

/// A view of a storage, in elements.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    pub(super) storage: Storage<'a>,
    /// The tensor's own element type, which an untyped storage does not have.
    pub(super) element: ElementType<'a>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) negative: bool,
}

/// Why something that stands where a tensor may be is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::checkpoint) struct Unreadable {
    /// Its dimensions, if they are known.
    pub(in crate::checkpoint) shape: Option<Vec<usize>>,
    /// For an error message that names the tensor.
    pub(in crate::checkpoint) reason: String,
}

/// A finished pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    /// For each node whether a tensor can be reached from it.
    pub(super) holds: Vec<bool>,
    pub(super) root: Value<'a>,
    /// Bytes up to the end of the pickle.
    pub(super) len: usize,
}

impl<'a> Pickle<'a> {
    pub(super) fn node(&self, value: &Value<'a>) -> Option<&Node<'a>> {
        match *value {
            Value::Node(index) => self.nodes.get(index as usize),
            _ => None,
        }
    }
}
