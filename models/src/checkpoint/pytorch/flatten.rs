//! Finds the tensors in what a pickle built, and names them by their path.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::value::{Node, Pickle, Tensor, Unreadable, Value};

/// Containers within containers; a module of a module is three. What lies deeper is not read.
const MAX_DEPTH: usize = 256;
/// Containers and tensors visited. Shared containers can make a small file a huge tree, so the walk has limits of its own.
const MAX_VISITS: usize = 1 << 22;
/// Bytes of all names together.
const MAX_NAMES: usize = 256 << 20;
/// Bytes of the path of something that is nested too deep.
const MAX_DEEP_NAME: usize = 200;

/// What is found at a path.
pub(super) struct Found<'a> {
    pub(super) name: String,
    pub(super) tensor: Result<&'a Tensor<'a>, Unreadable>,
}

/// Everything that is or may be a tensor and that names lead to from the root, depth first.
pub(super) fn tensors<'a>(pickle: &'a Pickle<'a>) -> Result<Vec<Found<'a>>, String> {
    let mut walk = Walk { pickle, path: String::new(), above: HashSet::new(), found: Vec::new(), visits: 0, names: 0 };
    walk.visit(&pickle.root)?;
    Ok(walk.found)
}

struct Walk<'a> {
    pickle: &'a Pickle<'a>,
    /// With its final dot.
    path: String,
    /// The containers that the path leads through.
    above: HashSet<u32>,
    found: Vec<Found<'a>>,
    visits: usize,
    names: usize,
}

impl<'a> Walk<'a> {
    /// Visits what holds a tensor; a container inside of itself is not entered again.
    fn visit(&mut self, value: &'a Value<'a>) -> Result<(), String> {
        let Value::Node(index) = *value else { return Ok(()) };
        let (Some(node), Some(true)) = (self.pickle.nodes.get(index as usize), self.pickle.holds.get(index as usize)) else {
            return Ok(());
        };
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return Err(format!("more than {MAX_VISITS} paths lead to tensors"));
        }
        if self.above.len() >= MAX_DEPTH {
            let reason = format!("it is nested more than {MAX_DEPTH} deep");
            return self.add(Err(Unreadable { shape: None, reason }));
        }
        if !self.above.insert(index) {
            return Ok(());
        }
        let result = self.enter(node);
        self.above.remove(&index);
        result
    }

    fn enter(&mut self, node: &'a Node<'a>) -> Result<(), String> {
        match node {
            Node::Tensor(tensor) => self.add(Ok(tensor)),
            Node::Unreadable(unreadable) => self.add(Err(unreadable.clone())),
            Node::Dict(pairs) => self.visit_pairs(pairs),
            Node::List(list) => list.items.iter().try_for_each(|(i, item)| self.visit_named(&i.to_string(), item)),
            Node::Tuple(items) => items.iter().enumerate().try_for_each(|(i, item)| self.visit_named(&i.to_string(), item)),
            Node::Object(object) => {
                self.visit_pairs(&object.items)?;
                let Some(state) = &object.state else { return Ok(()) };
                match self.pickle.node(state) {
                    // Attributes in a dictionary, and those in slots.
                    Some(Node::Tuple(states)) => states.iter().try_for_each(|state| self.visit(state)),
                    _ => self.visit(state),
                }
            }
            Node::Global(_) | Node::Storage(_) => Ok(()),
        }
    }

    /// Of equal keys the last counts, as in Python.
    fn visit_pairs(&mut self, pairs: &'a [(Value<'a>, Value<'a>)]) -> Result<(), String> {
        let mut last = HashMap::new();
        for (i, (key, _)) in pairs.iter().enumerate() {
            last.insert(key_name(key), i);
        }
        for (i, (key, value)) in pairs.iter().enumerate() {
            let name = key_name(key);
            if let Some(name) = name.as_deref()
                && last.get(&Some(Cow::Borrowed(name))) == Some(&i)
            {
                self.visit_named(name, value)?;
            }
        }
        Ok(())
    }

    fn visit_named(&mut self, key: &str, value: &'a Value<'a>) -> Result<(), String> {
        // Numbers and text need no name; most values of a checkpoint are these.
        if !matches!(*value, Value::Node(index) if self.pickle.holds.get(index as usize) == Some(&true)) {
            return Ok(());
        }
        let length = self.path.len();
        // Building the path costs its length at every visit, so it counts as a name does.
        self.count_name(key.len())?;
        self.path.push_str(key);
        self.path.push('.');
        let result = self.visit(value);
        self.path.truncate(length);
        result
    }

    fn add(&mut self, tensor: Result<&'a Tensor<'a>, Unreadable>) -> Result<(), String> {
        let name = self.path.strip_suffix('.').unwrap_or("tensor");
        let deep = self.above.len() >= MAX_DEPTH;
        let name: String = if deep { name.chars().take(MAX_DEEP_NAME).collect() } else { name.to_owned() };
        self.count_name(name.len())?;
        self.found.push(Found { name, tensor });
        Ok(())
    }

    fn count_name(&mut self, bytes: usize) -> Result<(), String> {
        self.names = self.names.saturating_add(bytes);
        if self.names > MAX_NAMES { Err(format!("names of more than {MAX_NAMES} bytes in all")) } else { Ok(()) }
    }
}

/// A key's part of a path: text and integers have one.
fn key_name<'a>(key: &Value<'a>) -> Option<Cow<'a, str>> {
    match *key {
        Value::Text(text) => Some(String::from_utf8_lossy(text)),
        Value::Int(n) => Some(Cow::Owned(n.to_string())),
        Value::Plain | Value::Node(_) => None,
    }
}
