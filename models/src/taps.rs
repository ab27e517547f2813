//! Looking at what a model computes on the way.

use std::collections::BTreeMap;

use tubelet_engine::{Result, Tensor};

/// Collects named intermediate results of a forward pass, or, switched off, nothing: then a tap costs a branch.
#[derive(Debug, Default)]
pub struct Taps {
    collected: Option<BTreeMap<String, Tensor>>,
}

impl Taps {
    /// Collects nothing.
    pub fn off() -> Self {
        Taps { collected: None }
    }

    /// Collects everything.
    pub fn on() -> Self {
        Taps { collected: Some(BTreeMap::new()) }
    }

    /// Whether anything is collected.
    pub fn is_on(&self) -> bool {
        self.collected.is_some()
    }

    /// Records `value()` as `name`.
    pub fn record(&mut self, name: impl FnOnce() -> String, value: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        if let Some(collected) = &mut self.collected {
            collected.insert(name(), value()?);
        }
        Ok(())
    }

    /// What was collected.
    pub fn into_map(self) -> BTreeMap<String, Tensor> {
        self.collected.unwrap_or_default()
    }
}
