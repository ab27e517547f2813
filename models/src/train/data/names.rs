//! Names of classes: one mapping from names to numbers, which is kept with the weights.

use std::{collections::BTreeMap, fs, path::Path};

use tubelet_engine::{Error, Result};

use crate::{checkpoint::Checkpoint, classify::parse_labels};

/// The names of the classes that weights were trained on, by number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// The names of each data set, where there are several; otherwise those of the only one.
    sets: BTreeMap<Option<String>, Vec<String>>,
    /// The file that has them, for messages.
    file: String,
}

/// The key of a safetensors header under which the names of a set's classes are, one on a line.
pub(crate) fn key(set: Option<&str>) -> String {
    set.map_or_else(|| "labels".to_owned(), |set| format!("labels.{set}"))
}

impl Stored {
    /// The names in the header of weights that this program has written, or those in `labels.txt` beside the
    /// weights. Weights of others have none.
    ///
    /// # Errors
    /// Of reading `labels.txt`.
    pub fn read(weights: &Path, file: &Checkpoint) -> Result<Self> {
        let mut stored = Stored { sets: BTreeMap::new(), file: weights.display().to_string() };
        for (name, labels) in file.metadata() {
            let set = match name.strip_prefix("labels") {
                Some("") => None,
                Some(rest) if rest.starts_with('.') => Some(rest[1..].to_owned()),
                _ => continue,
            };
            stored.sets.insert(set, labels.split('\n').map(str::to_owned).collect());
        }
        let beside = weights.with_file_name("labels.txt");
        if stored.sets.is_empty() && beside.is_file() {
            let labels = fs::read(&beside).map_err(Error::io(&beside))?;
            stored.file = beside.display().to_string();
            stored.sets.insert(None, parse_labels(&stored.file, &labels)?);
        }
        Ok(stored)
    }

    /// The names of a set's classes, by number, if they are known; `None` for `set` is the only set.
    ///
    /// # Errors
    /// [`Error::Format`] where there are not as many names as the model has classes.
    pub fn of(&self, set: Option<&str>, classes: usize) -> Result<Option<&[String]>> {
        match self.sets.get(&set.map(str::to_owned)) {
            Some(names) if names.len() != classes => {
                let message = format!("there are {} class names for the {classes} classes of the model", names.len());
                Err(Error::format(&self.file, message))
            }
            names => Ok(names.map(Vec::as_slice)),
        }
    }

    /// Checks that a data set has the classes of the weights. Their order does not matter, because clips are
    /// matched by name.
    ///
    /// # Errors
    /// [`Error::Format`] with all names that only one of them has.
    pub(super) fn check(&self, what: &str, names: &[String], stored: &[String]) -> Result<()> {
        let unknown = lacking(names, stored);
        let missing = lacking(stored, names);
        if unknown.is_empty() && missing.is_empty() {
            return Ok(());
        }
        let say =
            |names: &[&str], text: &str| if names.is_empty() { String::new() } else { format!("; {text}: {}", names.join(", ")) };
        let message = format!(
            "its classes are not those of {}{}{}",
            self.file,
            say(&unknown, "unknown to the weights"),
            say(&missing, "missing here")
        );
        Err(Error::format(what, message))
    }
}

/// The names in `all` that `others` lacks.
pub(super) fn lacking<'a>(all: &'a [String], others: &[String]) -> Vec<&'a str> {
    all.iter().filter(|name| !others.contains(name)).map(String::as_str).collect()
}

/// For each of `own` its number among `known`, the names of the training set.
///
/// # Errors
/// [`Error::Format`] that lists all names that are unknown.
pub(super) fn numbers(what: &str, own: &[String], known: &[String]) -> Result<Vec<usize>> {
    let unknown = lacking(own, known);
    if !unknown.is_empty() {
        let message =
            format!("class folders that the training set does not have: {}; it has: {}", unknown.join(", "), known.join(", "));
        return Err(Error::format(what, message));
    }
    Ok(own.iter().filter_map(|name| known.iter().position(|other| other == name)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_are_matched_and_unknown_ones_are_listed() {
        assert_eq!(numbers("x", &names("c a"), &names("a b c")).unwrap(), [2, 0]);
        let error = numbers("x", &names("d a e"), &names("a b")).unwrap_err().to_string();
        assert!(error.contains("d, e; it has: a, b"), "{error}");
    }

    #[test]
    fn sets_differ_by_names_and_not_by_their_order() {
        let stored = Stored { file: "weights".into(), ..Stored::default() };
        stored.check("x", &names("b a"), &names("a b")).unwrap();
        let error = stored.check("x", &names("b c d"), &names("a b")).unwrap_err().to_string();
        assert!(error.contains("unknown to the weights: c, d") && error.contains("missing here: a"), "{error}");
    }
}
