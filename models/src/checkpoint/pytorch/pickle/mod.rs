//! A pickle machine that cannot run code: it knows every opcode, builds plain [values](super::value) of the names in
//! [`globals`](super::globals), and makes of any other class or function an object that nothing is done with.

mod build;
mod read;

use std::collections::HashMap;

use super::{
    opcodes as op,
    value::{List, Node, Object, Pickle, Value},
};

/// Values that are kept at one time: on the stack, in the memo, in containers. Numbers in lists are not kept. A checkpoint with an
/// optimiser's state has some ten thousand; this many take about half a gigabyte.
const MAX_KEPT: usize = 1 << 24;

/// Why a pickle was refused.
type Result<T, E = String> = std::result::Result<T, E>;

/// Why a pickle was refused, with its position.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) message: String,
    /// Whether the bytes ended before the pickle did.
    pub(super) truncated: bool,
}

/// Runs the pickle at the beginning of `data`.
pub(super) fn run(data: &[u8]) -> Result<Pickle<'_>, Refused> {
    let mut machine = Machine { data, ..Machine::default() };
    match machine.run() {
        Ok(root) => Ok(Pickle { nodes: machine.nodes, holds: machine.holds, root, len: machine.pos }),
        Err(message) => {
            let message = format!("pickle byte {}: {message}", machine.at);
            Err(Refused { message, truncated: machine.truncated })
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    data: &'a [u8],
    pos: usize,
    /// Where the current opcode stands.
    at: usize,
    truncated: bool,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    nodes: Vec<Node<'a>>,
    /// For each node whether a tensor can be reached from it.
    holds: Vec<bool>,
    /// Values in containers.
    contained: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value<'a>> {
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
            op::POP => self.discard(),
            op::POP_MARK => self.pop_mark().map(drop),
            op::DUP => self.top().and_then(|top| self.push(top)),
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.memoise(code),
            op::GET | op::BINGET | op::LONG_BINGET => self.recall(code),
            op::EMPTY_DICT | op::DICT => self.dict(code),
            op::EMPTY_LIST | op::LIST => self.list(code),
            op::EMPTY_TUPLE | op::TUPLE | op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => self.tuple(code),
            op::APPEND | op::APPENDS => self.append(code),
            op::SETITEM | op::SETITEMS => self.set_items(code),
            op::FROZENSET => self.pop_mark().and_then(|_| self.push(Value::Plain)),
            op::ADDITEMS => self.pop_mark().and_then(|_| self.top()).map(drop),
            op::GLOBAL | op::STACK_GLOBAL => self.global(code),
            op::EXT1 | op::EXT2 | op::EXT4 => self.extension(code),
            op::PERSID | op::BINPERSID => self.persistent(code),
            op::REDUCE => self.reduce(),
            op::NEWOBJ | op::NEWOBJ_EX => self.new_object(code),
            op::INST | op::OBJ => self.instance(code),
            op::BUILD => self.build(),
            op::READONLY_BUFFER => self.top().map(drop),
            _ => self.literal(code),
        }
    }

    // The stack.

    /// An error where more is kept than fits the limit.
    fn check_kept(&self) -> Result<()> {
        let kept = self.stack.len() + self.marks.len() + self.memo.len() + self.nodes.len() + self.contained;
        if kept > MAX_KEPT { Err(format!("more than {MAX_KEPT} values are kept at one time")) } else { Ok(()) }
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.stack.push(value);
        self.check_kept()
    }

    /// Pushes a new node; `holds` says whether it is a tensor or contains one.
    fn push_node(&mut self, node: Node<'a>, holds: bool) -> Result<()> {
        let index = u32::try_from(self.nodes.len()).map_err(|_| "too many values")?;
        self.nodes.push(node);
        self.holds.push(holds);
        self.push(Value::Node(index))
    }

    fn push_object(&mut self) -> Result<()> {
        self.push_node(Node::Object(Object::default()), false)
    }

    /// Values below the last mark cannot be reached.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    /// Takes off a value, or the mark where there is none above it.
    fn discard(&mut self) -> Result<()> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn top(&self) -> Result<Value<'a>> {
        self.stack.get(self.floor()..).and_then(<[Value<'a>]>::last).copied().ok_or_else(|| "the stack is empty".into())
    }

    fn mark(&mut self) -> Result<()> {
        self.marks.push(self.stack.len());
        self.check_kept()
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    // The memo.

    fn memoise(&mut self, code: u8) -> Result<()> {
        let key = match code {
            op::MEMOIZE => u32::try_from(self.memo.len()).map_err(|_| "the memo is full")?,
            _ => self.memo_key(code)?,
        };
        let value = self.top()?;
        self.memo.insert(key, value);
        self.check_kept()
    }

    fn recall(&mut self, code: u8) -> Result<()> {
        let key = self.memo_key(code)?;
        let value = self.memo.get(&key).copied().ok_or_else(|| format!("memo {key} was never set"))?;
        self.push(value)
    }

    fn memo_key(&mut self, code: u8) -> Result<u32> {
        match code {
            op::BINPUT | op::BINGET => self.byte().map(u32::from),
            op::LONG_BINPUT | op::LONG_BINGET => self.array().map(u32::from_le_bytes),
            _ => self.decimal(),
        }
    }

    // Containers.

    fn dict(&mut self, code: u8) -> Result<()> {
        self.push_node(Node::Dict(Vec::new()), false)?;
        if code == op::DICT {
            let dict = self.pop()?;
            let items = self.pop_mark()?;
            self.push(dict)?;
            self.set_pairs(items)?;
        }
        Ok(())
    }

    fn list(&mut self, code: u8) -> Result<()> {
        let items = if code == op::LIST { self.pop_mark()? } else { Vec::new() };
        self.push_node(Node::List(List::default()), false)?;
        self.extend_list(items)
    }

    fn tuple(&mut self, code: u8) -> Result<()> {
        let items = match code {
            op::EMPTY_TUPLE => Vec::new(),
            op::TUPLE => self.pop_mark()?,
            _ => {
                let n = usize::from(code - op::TUPLE1) + 1;
                let start = self.stack.len().checked_sub(n).filter(|&start| start >= self.floor());
                self.stack.split_off(start.ok_or("the stack is empty")?)
            }
        };
        self.contained += items.len();
        let holds = items.iter().any(|item| self.holds(item));
        self.push_node(Node::Tuple(items), holds)
    }

    fn append(&mut self, code: u8) -> Result<()> {
        let items = if code == op::APPEND { vec![self.pop()?] } else { self.pop_mark()? };
        self.extend_list(items)
    }

    /// Appends to the list on top; objects that append in a way of their own keep nothing.
    fn extend_list(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let holds = items.iter().any(|item| self.holds(item));
        let index = self.top_node()?;
        match self.nodes.get_mut(index) {
            Some(Node::List(list)) => {
                let before = list.items.len();
                let kept = items.iter().enumerate().filter(|(_, item)| matches!(item, Value::Node(_) | Value::Text(_)));
                list.items.extend(kept.map(|(i, item)| (list.len + i, *item)));
                list.len += items.len();
                self.contained += list.items.len() - before;
                self.holds[index] |= holds;
            }
            Some(Node::Object(_)) => {}
            _ => return Err("items are appended to what is no list".into()),
        }
        self.check_kept()
    }

    fn set_items(&mut self, code: u8) -> Result<()> {
        let items = if code == op::SETITEM {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.pop_mark()?
        };
        self.set_pairs(items)
    }

    /// Sets items of the dictionary, or of the object of some class, on top.
    fn set_pairs(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key without a value".into());
        }
        let holds = pairs.iter().any(|[_, value]| self.holds(value));
        let index = self.top_node()?;
        let Some(Node::Dict(dict) | Node::Object(Object { items: dict, .. })) = self.nodes.get_mut(index) else {
            return Err("items are set of what is no dictionary".into());
        };
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        self.contained += items.len();
        self.holds[index] |= holds;
        self.check_kept()
    }

    fn top_node(&self) -> Result<usize> {
        match self.top()? {
            Value::Node(index) => Ok(index as usize),
            _ => Err("a container is expected".into()),
        }
    }

    fn node(&self, value: &Value<'a>) -> Option<&Node<'a>> {
        match *value {
            Value::Node(index) => self.nodes.get(index as usize),
            _ => None,
        }
    }

    /// Whether a tensor can be reached from a value.
    fn holds(&self, value: &Value<'a>) -> bool {
        matches!(*value, Value::Node(index) if self.holds.get(index as usize) == Some(&true))
    }
}
