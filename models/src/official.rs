//! Reading the configurations of other implementations.

use serde_json::Value;
use tubelet_engine::{Error, Result};

/// Named fields of a configuration, with errors that name the field.
pub struct Fields<'a> {
    system: &'a str,
    config: &'a Value,
}

impl<'a> Fields<'a> {
    /// The fields of `config`, of the implementation `system`.
    pub fn new(system: &'a str, config: &'a Value) -> Self {
        Fields { system, config }
    }

    /// The field, if it is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.config.get(name).filter(|value| !value.is_null())
    }

    fn need<T>(&self, name: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T> {
        self.get(name).and_then(read).ok_or_else(|| {
            let message = format!("configuration field {name:?} is {:?}, expected {expected}", self.config.get(name));
            Error::invalid(self.system, message)
        })
    }

    /// A number that must be there.
    pub fn usize(&self, name: &str) -> Result<usize> {
        self.need(name, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    /// A list of numbers that must be there.
    pub fn usizes(&self, name: &str) -> Result<Vec<usize>> {
        let list = |value: &Value| value.as_array()?.iter().map(|n| n.as_u64().map(|n| n as usize)).collect();
        self.need(name, "a list of whole numbers", list)
    }

    /// A list of `N` numbers that must be there.
    pub fn array<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let list = self.usizes(name)?;
        list.try_into().map_err(|_| Error::invalid(self.system, format!("{name:?} is not a list of {N}")))
    }

    /// `[h, w]`, given as such or as one number.
    pub fn pair(&self, name: &str) -> Result<[usize; 2]> {
        self.usize(name).map(|n| [n, n]).or_else(|_| self.array(name))
    }

    /// Text, if it is there.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    /// A switch.
    pub fn bool_or(&self, name: &str, default: bool) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// A number.
    pub fn f64_or(&self, name: &str, default: f64) -> f64 {
        self.get(name).and_then(Value::as_f64).unwrap_or(default)
    }

    /// A number.
    pub fn f32_or(&self, name: &str, default: f32) -> f32 {
        self.get(name).and_then(Value::as_f64).map_or(default, |x| x as f32)
    }

    /// A whole number.
    pub fn usize_or(&self, name: &str, default: usize) -> usize {
        self.usize(name).unwrap_or(default)
    }

    /// A part of the configuration.
    pub fn inner(&self, name: &str) -> Fields<'a> {
        Fields { system: self.system, config: self.get(name).unwrap_or(&Value::Null) }
    }
}
