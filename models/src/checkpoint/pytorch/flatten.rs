//! Finds the tensors in what a pickle built, and names them by their path.

use super::value::{Node, Pickle, Tensor, Value};

/// Containers within containers. Shared containers can make a small file a huge tree, so the walk has limits of its own.
const MAX_DEPTH: usize = 64;
const MAX_VISITS: usize = 1 << 21;
/// Bytes of all names together.
const MAX_NAMES: usize = 64 << 20;

/// A tensor and its path.
pub(super) struct Found<'a> {
    pub(super) name: String,
    /// Length of the part of the name that is the path of the state dict (or TorchScript module) holding the tensor.
    pub(super) wrapper: usize,
    pub(super) tensor: &'a Tensor,
}

/// Every tensor reachable from the root, depth first.
pub(super) fn tensors(pickle: &Pickle) -> Result<Vec<Found<'_>>, String> {
    let mut walk = Walk { pickle, path: String::new(), found: Vec::new(), visits: 0, names: 0 };
    walk.visit(&pickle.root, Context { depth: 0, wrapper: 0, fixed: false })?;
    Ok(walk.found)
}

#[derive(Clone, Copy)]
struct Context {
    depth: usize,
    /// Length of the path of the innermost state dict.
    wrapper: usize,
    /// Inside a list or a TorchScript module, where a dict is no state dict of its own.
    fixed: bool,
}

struct Walk<'a> {
    pickle: &'a Pickle,
    /// With its final dot.
    path: String,
    found: Vec<Found<'a>>,
    visits: usize,
    names: usize,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, value: &'a Value, context: Context) -> Result<(), String> {
        self.visits += 1;
        if self.visits > MAX_VISITS || context.depth > MAX_DEPTH {
            return Err(format!(
                "containers nested more than {MAX_DEPTH} deep (or in a circle), or more than {MAX_VISITS} values"
            ));
        }
        let Value::Node(index) = *value else { return Ok(()) };
        let here = if context.fixed { context.wrapper } else { self.path.len() };
        match self.pickle.nodes.get(index) {
            Some(Node::Tensor(tensor)) => self.add(tensor, context),
            Some(Node::Dict(pairs)) => {
                let inner = Context { depth: context.depth + 1, wrapper: here, fixed: context.fixed };
                pairs.iter().try_for_each(|(key, value)| self.visit_key(key, value, inner))
            }
            Some(Node::List(items) | Node::Tuple(items)) => {
                let inner = Context { depth: context.depth + 1, fixed: true, ..context };
                items.iter().enumerate().try_for_each(|(i, item)| self.visit_named(&i.to_string(), item, inner))
            }
            Some(Node::Object(Some(attributes))) => {
                self.visit(attributes, Context { depth: context.depth + 1, wrapper: here, fixed: true })
            }
            Some(Node::Object(None) | Node::Storage(_)) | None => Ok(()),
        }
    }

    fn visit_key(&mut self, key: &Value, value: &'a Value, context: Context) -> Result<(), String> {
        match key {
            Value::Str(key) => self.visit_named(key, value, context),
            Value::Int(key) => self.visit_named(&key.to_string(), value, context),
            _ => Ok(()),
        }
    }

    fn visit_named(&mut self, key: &str, value: &'a Value, context: Context) -> Result<(), String> {
        // Numbers and text need no name; most values of a checkpoint are these.
        if !matches!(value, Value::Node(_)) {
            return Ok(());
        }
        let length = self.path.len();
        // Building the path costs its length at every visit, so it counts as a name does.
        self.names = self.names.saturating_add(key.len());
        if self.names > MAX_NAMES {
            return Err(format!("names of more than {MAX_NAMES} bytes in all"));
        }
        self.path.push_str(key);
        self.path.push('.');
        let result = self.visit(value, context);
        self.path.truncate(length);
        result
    }

    fn add(&mut self, tensor: &'a Tensor, context: Context) -> Result<(), String> {
        let name = self.path.strip_suffix('.').unwrap_or("tensor").to_owned();
        self.names = self.names.saturating_add(name.len());
        if self.names > MAX_NAMES {
            return Err(format!("names of more than {MAX_NAMES} bytes in all"));
        }
        self.found.push(Found { name, wrapper: context.wrapper, tensor });
        Ok(())
    }
}
