//! What a pickle builds. Containers live in one table and are referred to by index, so a file that makes a container contain itself
//! makes neither a leak nor a loop here.

use std::rc::Rc;

use super::{super::place::Stored, globals::Global};

/// A value on the stack, in the memo or in a container.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// None, booleans, floats, bytes, devices, integers beyond 64 bits: never looked at.
    Plain,
    Int(i64),
    Str(Rc<str>),
    Global(Global),
    /// Index into [`Pickle::nodes`].
    Node(usize),
}

/// A container, storage or tensor.
#[derive(Debug)]
pub(super) enum Node {
    Dict(Vec<(Value, Value)>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    /// An instance of a TorchScript class, and its attributes once they are set.
    Object(Option<Value>),
    Storage(Storage),
    Tensor(Box<Tensor>),
}

/// A storage: an entry of the archive.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// The entry is `data/<key>`.
    pub(super) key: Rc<str>,
    /// The element type, or the name of one that the engine lacks.
    pub(super) stored: Result<Stored, &'static str>,
    pub(super) elements: usize,
}

/// A view of a storage, in elements.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A finished pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Value,
}
