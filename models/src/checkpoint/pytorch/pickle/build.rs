//! Names, storages, tensors and objects of a pickle.

use super::{Machine, Result, op};
use crate::checkpoint::pytorch::{
    globals::{Global, lookup},
    value::{ElementType, Node, Storage, Tensor, Unreadable, Value},
};

/// PyTorch itself stops at 64 dimensions.
const MAX_RANK: usize = 64;

impl<'a> Machine<'a> {
    pub(super) fn global(&mut self, code: u8) -> Result<()> {
        let (module, name) = if code == op::GLOBAL {
            (self.line()?, self.line()?)
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (module, name),
                _ => return Err("STACK_GLOBAL expects two strings".into()),
            }
        };
        self.push_node(Node::Global(lookup(module, name)), false)
    }

    /// A name by its number in a registry that is no part of the file.
    pub(super) fn extension(&mut self, code: u8) -> Result<()> {
        self.take(1 << (code - op::EXT1))?;
        self.push_object()
    }

    /// `('storage', torch.FloatStorage, key, location, elements)`, in files from before 1.6 with a view behind it; or
    /// `('module', class, file, source)`, the class. What else programs make persistent says nothing about weights.
    pub(super) fn persistent(&mut self, code: u8) -> Result<()> {
        if code == op::PERSID {
            self.line()?;
            return self.push_object();
        }
        let id = self.pop()?;
        let items = self.tuple_items(&id).unwrap_or_default();
        match items {
            [Value::Text(b"storage"), class, Value::Text(key), _, Value::Int(elements), view @ ..] => {
                let Some(Node::Global(Global::Element(element))) = self.node(class) else { return self.push_object() };
                let Ok(elements) = usize::try_from(*elements) else {
                    return Err(format!("a storage of {elements} elements"));
                };
                let view = view.first().map(|view| self.view(view)).transpose()?.flatten();
                let storage = Storage { key, element: *element, elements, view };
                self.push_node(Node::Storage(storage), false)
            }
            [Value::Text(b"module"), class, ..] => {
                let class = *class;
                self.push(class)
            }
            _ => self.push_object(),
        }
    }

    /// `(key, offset, size)`, or None.
    fn view(&self, view: &Value<'a>) -> Result<Option<(usize, usize)>> {
        match self.tuple_items(view) {
            Some([_, Value::Int(offset), Value::Int(size)]) => Ok(Some((count(*offset)?, count(*size)?))),
            Some(_) => Err("the view of a storage is not (key, offset, size)".into()),
            None => Ok(None),
        }
    }

    pub(super) fn reduce(&mut self) -> Result<()> {
        let (args, callee) = (self.pop()?, self.pop()?);
        self.call(callee, args)
    }

    /// Pushes what a callable makes of its arguments, where it means something here; an object otherwise.
    fn call(&mut self, callee: Value<'a>, args: Value<'a>) -> Result<()> {
        let global = match self.node(&callee) {
            Some(Node::Global(global)) => *global,
            _ => return self.push_object(),
        };
        let items = self.tuple_items(&args).unwrap_or_default();
        match (global, items) {
            (Global::RebuildTensor | Global::RebuildTyped, _) => {
                let node = match self.tensor(global, items) {
                    Ok(tensor) => Node::Tensor(Box::new(tensor)),
                    Err(unreadable) => Node::Unreadable(unreadable),
                };
                self.push_node(node, true)
            }
            (Global::Unreadable(what), _) => {
                let unreadable = Unreadable { shape: None, reason: format!("it is {what}, which is not read") };
                self.push_node(Node::Unreadable(unreadable), true)
            }
            (Global::RebuildFromType, [function, _, args, ..]) => {
                let (function, args) = (*function, *args);
                match self.node(&function) {
                    Some(Node::Global(Global::RebuildFromType)) | None => self.push_object(),
                    Some(_) => self.call(function, args),
                }
            }
            (Global::RebuildParameter | Global::Same, [same, ..]) => {
                let same = *same;
                self.push(same)
            }
            (Global::Dict, _) => {
                let pairs = items.first().map(|list| self.pairs(list)).unwrap_or_default();
                self.push_node(Node::Dict(Vec::new()), false)?;
                self.set_pairs(pairs)
            }
            _ => self.push_object(),
        }
    }

    /// The keys and values of a list of pairs, in turns.
    fn pairs(&self, list: &Value<'a>) -> Vec<Value<'a>> {
        let Some(Node::List(list)) = self.node(list) else { return Vec::new() };
        let pair = |(_, item): &(usize, Value<'a>)| match self.node(item)? {
            Node::Tuple(items) => <[Value<'a>; 2]>::try_from(items.as_slice()).ok(),
            Node::List(pair) => match pair.items.as_slice() {
                [(0, key), (1, value)] => Some([*key, *value]),
                _ => None,
            },
            _ => None,
        };
        list.items.iter().filter_map(pair).flatten().collect()
    }

    /// The tensor of the arguments of a `_rebuild_tensor…`.
    fn tensor(&self, function: Global<'a>, items: &[Value<'a>]) -> Result<Tensor<'a>, Unreadable> {
        let [storage, offset, shape, strides, rest @ ..] = items else {
            return Err(Unreadable { shape: None, reason: format!("it is rebuilt from {} arguments", items.len()) });
        };
        let shape = self.sizes(shape).map_err(|reason| Unreadable { shape: None, reason })?;
        let known = Some(shape.clone());
        let unreadable = |reason: String| Unreadable { shape: known.clone(), reason };
        let Some(Node::Storage(storage)) = self.node(storage) else {
            return Err(unreadable("its storage is not one of the file".into()));
        };
        let Value::Int(offset) = *offset else { return Err(unreadable("its offset is no number".into())) };
        let offset = count(offset).map_err(unreadable)?;
        let strides = self.sizes(strides).map_err(unreadable)?;
        if shape.len() != strides.len() {
            return Err(unreadable(format!("it has {} sizes and {} strides", shape.len(), strides.len())));
        }
        let (element, metadata) = match (function, rest) {
            (Global::RebuildTyped, [_, _, element, metadata @ ..]) => (self.element_type(element), metadata.first()),
            (Global::RebuildTyped, _) => (None, None),
            (_, [_, _, metadata, ..]) => (Some(storage.element), Some(metadata)),
            (_, _) => (Some(storage.element), None),
        };
        let element = element.ok_or_else(|| unreadable("its element type is not known".into()))?;
        let negative = metadata.map_or(Ok(false), |metadata| self.is_negative(metadata)).map_err(unreadable)?;
        Ok(Tensor { storage: storage.clone(), element, offset, shape, strides, negative })
    }

    fn element_type(&self, value: &Value<'a>) -> Option<ElementType<'a>> {
        match self.node(value)? {
            Node::Global(Global::Element(element)) => Some(*element),
            _ => None,
        }
    }

    /// What a tensor's metadata says, `{'neg': …, 'conj': …}`, or None.
    fn is_negative(&self, metadata: &Value<'a>) -> Result<bool> {
        let Some(Node::Dict(pairs)) = self.node(metadata) else { return Ok(false) };
        let mut negative = false;
        for (key, value) in pairs {
            match (key, value) {
                (_, Value::Int(0)) => {}
                (Value::Text(b"neg"), Value::Int(_)) => negative = true,
                (Value::Text(b"conj"), _) => return Err("it is the conjugate of what is stored, which is not read".into()),
                (Value::Text(other), _) => {
                    let other = String::from_utf8_lossy(other);
                    return Err(format!("its metadata says `{}`, which is not known", excerpt(&other)));
                }
                _ => return Err("its metadata has keys that are no names".into()),
            }
        }
        Ok(negative)
    }

    fn sizes(&self, value: &Value<'a>) -> Result<Vec<usize>> {
        let items = self.tuple_items(value).ok_or("its sizes or strides are no tuple")?;
        if items.len() > MAX_RANK {
            return Err(format!("it has {} dimensions, at most {MAX_RANK} are possible", items.len()));
        }
        let one = |item: &Value<'a>| match item {
            Value::Int(n) => count(*n),
            _ => Err("its sizes or strides are no numbers".into()),
        };
        items.iter().map(one).collect()
    }

    fn tuple_items(&self, value: &Value<'a>) -> Option<&[Value<'a>]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Some(items),
            _ => None,
        }
    }

    /// `class.__new__(class, *arguments)`, with a dictionary of more arguments in NEWOBJ_EX.
    pub(super) fn new_object(&mut self, code: u8) -> Result<()> {
        let wanted = if code == op::NEWOBJ { 2 } else { 3 };
        for _ in 0..wanted {
            self.pop()?;
        }
        self.push_object()
    }

    /// An instance of protocols 0 and 1.
    pub(super) fn instance(&mut self, code: u8) -> Result<()> {
        if code == op::INST {
            self.line()?;
            self.line()?;
        }
        self.pop_mark()?;
        self.push_object()
    }

    /// Attributes: an object's may contain tensors (those of modules do); those of a dict (`_metadata` of a state dict) say nothing.
    pub(super) fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let holds = self.holds(&state);
        if let Value::Node(index) = self.top()?
            && let Some(Node::Object(object)) = self.nodes.get_mut(index as usize)
        {
            object.state = Some(state);
            self.contained += 1;
            self.holds[index as usize] |= holds;
        }
        self.check_kept()
    }
}

fn count(n: i64) -> Result<usize> {
    usize::try_from(n).map_err(|_| format!("{n} is no size"))
}

/// Enough of a name to know it: it comes from a file and may be anything.
fn excerpt(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_debug).collect()
}
