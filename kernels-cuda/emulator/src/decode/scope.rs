//! Names and the braces that limit them.

use std::collections::HashMap;

use crate::types::Type;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Symbol {
    Register(u32, Type),
    Predicate(u32),
    /// An offset in shared, local, parameter or constant memory.
    Offset(u32),
    /// Dynamic shared memory.
    Dynamic,
    /// An index among the module's globals.
    Global(u32),
}

/// Nested scopes. Scopes get numbers so that labels, which may be used before they stand, can be looked up later.
#[derive(Default)]
pub struct Scopes {
    /// The names of each scope ever opened, and the scope around it.
    all: Vec<(HashMap<Box<str>, Symbol>, usize)>,
    labels: HashMap<(usize, Box<str>), u32>,
    current: usize,
}

impl Scopes {
    pub fn open(&mut self) {
        self.all.push((HashMap::new(), self.current));
        self.current = self.all.len() - 1;
    }

    pub fn close(&mut self) {
        self.current = self.all.get(self.current).map_or(0, |s| s.1);
    }

    pub fn current(&self) -> usize {
        self.current
    }

    /// Whether the name was free.
    pub fn add(&mut self, name: Box<str>, symbol: Symbol) -> bool {
        match self.all.get_mut(self.current) {
            Some((names, _)) => names.insert(name, symbol).is_none(),
            None => false,
        }
    }

    /// Adds to the outermost scope.
    pub fn add_global(&mut self, name: Box<str>, symbol: Symbol) {
        if let Some((names, _)) = self.all.first_mut() {
            names.insert(name, symbol);
        }
    }

    pub fn find(&self, name: &str) -> Option<Symbol> {
        let mut scope = self.current;
        loop {
            let (names, outer) = self.all.get(scope)?;
            match names.get(name) {
                Some(&symbol) => return Some(symbol),
                None if *outer == scope => return None,
                None => scope = *outer,
            }
        }
    }

    /// Whether the label was free.
    pub fn add_label(&mut self, name: Box<str>, at: u32) -> bool {
        self.labels.insert((self.current, name), at).is_none()
    }

    pub fn find_label(&self, mut scope: usize, name: &str) -> Option<u32> {
        loop {
            if let Some(&at) = self.labels.get(&(scope, name.into())) {
                return Some(at);
            }
            let outer = self.all.get(scope)?.1;
            if outer == scope {
                return None;
            }
            scope = outer;
        }
    }
}
