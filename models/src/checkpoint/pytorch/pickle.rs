//! A pickle machine that cannot run code: it knows the opcodes that `torch.save` emits (protocols 2 to 5) and the names in
//! [`globals`](super::globals), builds plain [values](super::value), and refuses everything else by name and position.

use std::{collections::HashMap, rc::Rc};

use super::{
    globals::{Global, lookup},
    opcodes as op,
    value::{Node, Pickle, Storage, Tensor, Value},
};

/// Values pushed, kept or stored in all. A checkpoint with an optimiser's state has some ten thousand; this many take about 100 MB.
const MAX_VALUES: usize = 1 << 21;
/// Bytes of a module or class name.
const MAX_NAME: usize = 4096;
/// PyTorch itself stops at 64 dimensions.
const MAX_RANK: usize = 64;

/// Why a pickle was refused, with the position.
type Result<T, E = String> = std::result::Result<T, E>;

/// Runs a pickle.
pub(super) fn run(data: &[u8]) -> Result<Pickle> {
    let mut machine = Machine { data, ..Machine::default() };
    let result = machine.run();
    let root = result.map_err(|message| format!("pickle byte {}: {message}", machine.at))?;
    Ok(Pickle { nodes: machine.nodes, root })
}

#[derive(Default)]
struct Machine<'a> {
    data: &'a [u8],
    pos: usize,
    /// Where the current opcode stands.
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    nodes: Vec<Node>,
    values: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value> {
        loop {
            self.at = self.pos;
            let code = self.byte()?;
            if code == op::STOP {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            op::PROTO => self.protocol(),
            op::FRAME => self.take(8).map(drop),
            op::MARK => self.mark(),
            op::POP => self.pop().map(drop),
            op::POP_MARK => self.pop_mark().map(drop),
            op::DUP => self.top().cloned().and_then(|top| self.push(top)),
            op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.memoise(code),
            op::BINGET | op::LONG_BINGET => self.recall(code),
            op::EMPTY_DICT | op::EMPTY_LIST | op::EMPTY_TUPLE => self.empty(code),
            op::TUPLE | op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => self.tuple(code),
            op::APPEND | op::APPENDS => self.append(code),
            op::SETITEM | op::SETITEMS => self.set_items(code),
            op::GLOBAL | op::STACK_GLOBAL => self.global(code),
            op::BINPERSID => self.storage(),
            op::REDUCE => self.reduce(),
            op::NEWOBJ => self.new_object(),
            op::BUILD => self.build(),
            _ if op::name(code).is_some() => self.literal(code),
            _ => Err(format!("the opcode {} (0x{code:02x}) has no place in a file of weights: refused", op::refused_name(code))),
        }
    }

    // Bytes.

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        let bytes = rest.get(..n).ok_or_else(|| format!("truncated: {n} bytes wanted, {} left", rest.len()))?;
        self.pos += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "truncated".to_owned())
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    /// A length of `width` little-endian bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a length does not fit the address space".to_owned())
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        let rest = rest.get(..MAX_NAME).unwrap_or(rest);
        let end = rest.iter().position(|&b| b == b'\n').ok_or_else(|| format!("no name of at most {MAX_NAME} bytes"))?;
        let line = self.take(end)?;
        self.pos += 1;
        text(line)
    }

    // The stack.

    /// Counts a value against the limit.
    fn count(&mut self) -> Result<()> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(format!("more than {MAX_VALUES} values")) } else { Ok(()) }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.count()?;
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<()> {
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    /// Values below the last mark cannot be reached.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value> {
        if self.stack.len() <= self.floor() {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn top(&self) -> Result<&Value> {
        self.stack.get(self.floor()..).and_then(<[Value]>::last).ok_or_else(|| "the stack is empty".into())
    }

    fn mark(&mut self) -> Result<()> {
        self.count()?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    // Memo.

    fn memoise(&mut self, code: u8) -> Result<()> {
        let key = match code {
            op::BINPUT => u32::from(self.byte()?),
            op::LONG_BINPUT => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).map_err(|_| "the memo is full")?,
        };
        self.count()?;
        let value = self.top()?.clone();
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<()> {
        let key = if code == op::BINGET { u32::from(self.byte()?) } else { u32::from_le_bytes(self.array()?) };
        let value = self.memo.get(&key).cloned().ok_or_else(|| format!("memo {key} was never set"))?;
        self.push(value)
    }

    // Numbers, text, containers.

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(format!("pickle protocol {other}, expected 2 to 5")),
        }
    }

    fn literal(&mut self, code: u8) -> Result<()> {
        let value = match code {
            op::BININT => Value::Int(i32::from_le_bytes(self.array()?).into()),
            op::BININT1 => Value::Int(self.byte()?.into()),
            op::BININT2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            op::LONG1 => self.long(1)?,
            op::LONG4 => self.long(4)?,
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING => self.string(1)?,
            op::BINUNICODE | op::BINSTRING => self.string(4)?,
            op::BINUNICODE8 => self.string(8)?,
            op::NONE | op::NEWTRUE | op::NEWFALSE => Value::Plain,
            op::BINFLOAT => self.bytes(8)?,
            op::SHORT_BINBYTES => self.length(1).and_then(|n| self.bytes(n))?,
            op::BINBYTES => self.length(4).and_then(|n| self.bytes(n))?,
            op::BINBYTES8 => self.length(8).and_then(|n| self.bytes(n))?,
            other => return Err(format!("the opcode 0x{other:02x} is no literal")),
        };
        self.push(value)
    }

    /// Steps over data that nothing asks for.
    fn bytes(&mut self, n: usize) -> Result<Value> {
        self.take(n).map(|_| Value::Plain)
    }

    fn string(&mut self, width: usize) -> Result<Value> {
        let n = self.length(width)?;
        Ok(Value::Str(text(self.take(n)?)?.into()))
    }

    /// A two's-complement integer of any length; beyond 64 bits it can be no size.
    fn long(&mut self, width: usize) -> Result<Value> {
        let n = self.length(width)?;
        let bytes = self.take(n)?;
        if n > 8 {
            return Ok(Value::Plain);
        }
        let negative = bytes.last().is_some_and(|&b| b >= 0x80);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..n].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    fn empty(&mut self, code: u8) -> Result<()> {
        self.push_node(match code {
            op::EMPTY_DICT => Node::Dict(Vec::new()),
            op::EMPTY_LIST => Node::List(Vec::new()),
            _ => Node::Tuple(Vec::new()),
        })
    }

    fn tuple(&mut self, code: u8) -> Result<()> {
        let items = match code {
            op::TUPLE => self.pop_mark()?,
            _ => {
                let n = usize::from(code - op::TUPLE1) + 1;
                let start = self.stack.len().checked_sub(n).filter(|&start| start >= self.floor());
                self.stack.split_off(start.ok_or("the stack is empty")?)
            }
        };
        self.push_node(Node::Tuple(items))
    }

    fn append(&mut self, code: u8) -> Result<()> {
        let items = if code == op::APPEND { vec![self.pop()?] } else { self.pop_mark()? };
        match self.top_node()? {
            Node::List(list) => list.extend(items),
            other => return Err(format!("cannot append to {}", kind(other))),
        }
        Ok(())
    }

    fn set_items(&mut self, code: u8) -> Result<()> {
        let items = if code == op::SETITEM {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.pop_mark()?
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key without a value".into());
        }
        match self.top_node()? {
            Node::Dict(dict) => dict.extend(pairs.iter().cloned().map(|[key, value]| (key, value))),
            other => return Err(format!("cannot set items of {}", kind(other))),
        }
        Ok(())
    }

    fn top_node(&mut self) -> Result<&mut Node> {
        match *self.top()? {
            Value::Node(index) => self.nodes.get_mut(index).ok_or_else(|| "no such value".into()),
            _ => Err("a container is expected".into()),
        }
    }

    // Names, storages, tensors, objects.

    fn global(&mut self, code: u8) -> Result<()> {
        let (module, name): (Rc<str>, Rc<str>) = if code == op::GLOBAL {
            (self.line()?.into(), self.line()?.into())
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Str(name), Value::Str(module)) => (module, name),
                _ => return Err("STACK_GLOBAL expects two strings".into()),
            }
        };
        let global = lookup(&module, &name).ok_or_else(|| {
            let (module, name) = (excerpt(&module), excerpt(&name));
            format!(
                "the file wants the Python object `{module}.{name}`, which is no part of a tensor: refused; save the weights alone \
                 with torch.save(model.state_dict(), new) or as safetensors"
            )
        })?;
        self.push(Value::Global(global))
    }

    /// `('storage', torch.FloatStorage, key, location, elements)`.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.tuple_items(&id)? {
            [Value::Str(tag), Value::Global(Global::Storage(stored)), Value::Str(key), Value::Str(_), Value::Int(elements)]
                if &**tag == "storage" =>
            {
                Storage { key: key.clone(), stored: *stored, elements: size(*elements)? }
            }
            _ => return Err("BINPERSID expects ('storage', torch.…Storage, key, location, elements)".into()),
        };
        self.push_node(Node::Storage(storage))
    }

    fn reduce(&mut self) -> Result<()> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let Value::Global(global) = callee else { return Err("REDUCE calls something that is no name: refused".into()) };
        let items = self.tuple_items(&args)?;
        match (global, items) {
            (Global::RebuildTensor, [storage, offset, shape, strides, _, _] | [storage, offset, shape, strides, _, _, _]) => {
                let tensor = self.tensor(storage, offset, shape, strides)?;
                self.push_node(Node::Tensor(Box::new(tensor)))
            }
            (Global::RebuildParameter, [tensor, ..]) if matches!(self.node(tensor), Some(Node::Tensor(_))) => {
                let tensor = tensor.clone();
                self.push(tensor)
            }
            (Global::OrderedDict, []) => self.push_node(Node::Dict(Vec::new())),
            (Global::Same, [same, ..]) => {
                let same = same.clone();
                self.push(same)
            }
            (Global::Plain, _) => self.push(Value::Plain),
            (global, items) => Err(format!("REDUCE of {global:?} with {} arguments: refused", items.len())),
        }
    }

    fn tensor(&self, storage: &Value, offset: &Value, shape: &Value, strides: &Value) -> Result<Tensor> {
        let (Some(Node::Storage(storage)), Value::Int(offset)) = (self.node(storage), offset) else {
            return Err("a tensor needs a storage and an offset".into());
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() || shape.len() > MAX_RANK {
            return Err(format!("a tensor with {} sizes and {} strides", shape.len(), strides.len()));
        }
        Ok(Tensor { storage: storage.clone(), offset: size(*offset)?, shape, strides })
    }

    fn sizes(&self, value: &Value) -> Result<Vec<usize>> {
        let items = self.tuple_items(value)?;
        if items.len() > MAX_RANK {
            return Err(format!("{} dimensions, at most {MAX_RANK}", items.len()));
        }
        let one = |item: &Value| match item {
            Value::Int(n) => size(*n),
            _ => Err("a size is expected".into()),
        };
        items.iter().map(one).collect()
    }

    fn node(&self, value: &Value) -> Option<&Node> {
        match *value {
            Value::Node(index) => self.nodes.get(index),
            _ => None,
        }
    }

    fn tuple_items(&self, value: &Value) -> Result<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Ok(items),
            _ => Err("a tuple is expected".into()),
        }
    }

    fn new_object(&mut self) -> Result<()> {
        let (args, class) = (self.pop()?, self.pop()?);
        let no_args = self.tuple_items(&args)?.is_empty();
        match class {
            Value::Global(Global::ScriptClass) if no_args => self.push_node(Node::Object(None)),
            _ => Err("NEWOBJ of something that is no TorchScript class, or with arguments: refused".into()),
        }
    }

    /// Attributes: those of a TorchScript object are its content, those of a dict (`_metadata` of a state dict) say nothing.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        match self.top_node()? {
            Node::Object(attributes) => *attributes = Some(state),
            Node::Dict(_) => {}
            other => return Err(format!("BUILD of {}: refused", kind(other))),
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())
}

fn size(n: i64) -> Result<usize> {
    usize::try_from(n).map_err(|_| format!("{n} is no size"))
}

/// Enough of a name to know it: it comes from a file and may be anything.
fn excerpt(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_debug).collect()
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Dict(_) => "a dict",
        Node::List(_) => "a list",
        Node::Tuple(_) => "a tuple",
        Node::Object(_) => "a TorchScript object",
        Node::Storage(_) => "a storage",
        Node::Tensor(_) => "a tensor",
    }
}
