//! Which tensors of a file may be a model's weights, and under which names.
//!
//! Files wrap weights in dictionaries (`state_dict`, `teacher`), and programs wrap models in others that put their name in front of
//! every parameter's (`module.`, `_orig_mod.`). In a tensor's path both look the same, so every beginning of a path that ends in a
//! dot is a dictionary here. Which of them fits a model is for the model to say: [`Weights`](crate::weights::Weights) asks it.

use std::collections::{BTreeMap, BTreeSet};

use tubelet_engine::{Error, Result};

use super::{Checkpoint, Entry, place};

/// Parts of names that wrappers add, also in the middle: compiled, sharded or recomputed submodules, and the attributes
/// of modules that were saved whole.
const WRAPPERS: [&str; 8] = [
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_modules",
    "_parameters",
    "_buffers",
];
/// The counter beside the weights of `torch.optim.swa_utils.AveragedModel`.
const COUNTER: &str = "n_averaged";
/// Dictionaries that are tried on a model at most.
const MAX_CANDIDATES: usize = 256;
/// Parts of a path that may be dictionaries.
const MAX_PARTS: usize = 256;
/// Dictionaries that an error lists.
const MAX_LISTED: usize = 20;

/// Tensors of a file under the names that they may have in a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The path of the dictionary, without a final dot; empty for the whole file.
    pub key: String,
    /// Names in the file by names in the model.
    names: BTreeMap<String, String>,
}

impl Candidate {
    /// Names in the file by names in the model.
    pub fn names(&self) -> &BTreeMap<String, String> {
        &self.names
    }

    /// Whether all its tensors are also the other's.
    pub fn is_part_of(&self, other: &Candidate) -> bool {
        let others: BTreeSet<&String> = other.names.values().collect();
        self.names.values().all(|name| others.contains(name))
    }
}

/// The dictionaries of a file that are large enough to hold a model.
#[derive(Debug)]
pub struct Dictionaries<'a> {
    tensors: BTreeMap<&'a str, u128>,
    /// Paths with their final dot; the empty one is the whole file.
    prefixes: Vec<&'a str>,
}

impl<'a> Dictionaries<'a> {
    /// Those of `file` that may hold a model of so many `elements` in all tensors together; if there is none, the largest. With a
    /// `key`, only the dictionary at that path and those in it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a key that is none of the file's, which lists them, and where more than 256 dictionaries are so large;
    /// [`Error::Format`] for a file without tensors.
    pub fn new(file: &'a Checkpoint, elements: u64, key: Option<&str>) -> Result<Self> {
        let readable = file.entries.iter().map(|(name, entry)| (name.as_str(), Some(&entry.shape)));
        let unreadable = file.unreadable.iter().map(|(name, found)| (name.as_str(), found.shape.as_ref()));
        let is_counter =
            |name: &str, shape: Option<&Vec<usize>>| name.rsplit('.').next() == Some(COUNTER) && shape.is_some_and(Vec::is_empty);
        let tensors = readable.chain(unreadable).filter(|(name, shape)| !is_counter(name, *shape));
        let size = |shape: Option<&Vec<usize>>| shape.and_then(|shape| place::elements(shape)).unwrap_or(0) as u128;
        let tensors: BTreeMap<&str, u128> = tensors.map(|(name, shape)| (name, size(shape))).collect();
        let path = || file.path().display().to_string();
        if tensors.is_empty() {
            return Err(Error::format(path(), "the file holds no tensors under names"));
        }
        let all = prefixes(&tensors);
        let large = |least: u64, within: &dyn Fn(&str) -> bool| {
            let largest = all.iter().filter(|(prefix, _)| within(prefix)).map(|(_, size)| *size).max().unwrap_or(0);
            let least = u128::from(least).min(largest);
            let large = all.iter().filter(|(prefix, size)| within(prefix) && **size >= least);
            large.map(|(prefix, _)| *prefix).collect::<Vec<&str>>()
        };
        // Half leaves room for what several parameters share.
        let mut prefixes = large(elements / 2, &|prefix| is_within(prefix, key));
        if let (true, Some(key)) = (prefixes.is_empty(), key) {
            let known = large(elements, &|prefix| !prefix.is_empty());
            return Err(Error::invalid("--state-dict", format!("{} has no tensors in {key:?}; {}", path(), listed(&known))));
        }
        if prefixes.len() > MAX_CANDIDATES {
            let message = format!("more than {MAX_CANDIDATES} dictionaries of {} may be the weights: name one", path());
            return Err(Error::invalid("--state-dict", message));
        }
        prefixes.sort_by_key(|prefix| (prefix.matches('.').count(), *prefix));
        Ok(Dictionaries { tensors, prefixes })
    }

    /// The tensors of each as they are named in it, and where wrappers' parts can be left out of names, without them.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.prefixes.iter().flat_map(|prefix| self.variants(prefix, &|name| name)).collect()
    }

    /// The tensors of each dictionary where only some of the names have another prefix, which is taken off: a backbone beside its head.
    pub fn partial_candidates(&self) -> Vec<Candidate> {
        let pairs = self.prefixes.iter().flat_map(|outer| self.prefixes.iter().map(move |inner| (*outer, *inner)));
        let nested = pairs.filter_map(|(outer, inner)| Some((outer, inner.strip_prefix(outer).filter(|rest| !rest.is_empty())?)));
        nested
            .take(MAX_CANDIDATES)
            .flat_map(|(outer, rest)| self.variants(outer, &|name| name.strip_prefix(rest).unwrap_or(name)))
            .collect()
    }

    fn variants(&self, prefix: &str, rename: &dyn Fn(&'a str) -> &'a str) -> Vec<Candidate> {
        let within = self.tensors.keys().filter_map(|name| Some((rename(name.strip_prefix(prefix)?), *name)));
        let plain: Vec<(String, &str)> = within.map(|(new, old)| (new.to_owned(), old)).collect();
        let bare: Vec<(String, &str)> = plain.iter().map(|(new, old)| (without_wrappers(new), *old)).collect();
        let key = prefix.trim_end_matches('.');
        let second = (bare != plain).then(|| candidate(key, bare)).flatten();
        candidate(key, plain).into_iter().chain(second).collect()
    }
}

/// `None` where two tensors would have the same name.
fn candidate(key: &str, names: Vec<(String, &str)>) -> Option<Candidate> {
    let count = names.len();
    let names: BTreeMap<String, String> = names.into_iter().map(|(new, old)| (new, old.to_owned())).collect();
    (names.len() == count).then(|| Candidate { key: key.to_owned(), names })
}

/// Every beginning of a name that ends in a dot, and the empty one, with the elements of the tensors below.
fn prefixes<'a>(tensors: &BTreeMap<&'a str, u128>) -> BTreeMap<&'a str, u128> {
    let mut sizes = BTreeMap::new();
    for (name, size) in tensors {
        let dots = name.match_indices('.').take(MAX_PARTS).map(|(dot, _)| dot + 1);
        for end in std::iter::once(0).chain(dots) {
            *sizes.entry(&name[..end]).or_insert(0u128) += size;
        }
    }
    sizes
}

/// Paths for an error message.
fn listed(prefixes: &[&str]) -> String {
    if prefixes.is_empty() {
        return "its names have no parts that could be left out".into();
    }
    let shown: Vec<String> =
        prefixes.iter().take(MAX_LISTED).map(|prefix| format!("{:?}", prefix.trim_end_matches('.'))).collect();
    let more = prefixes.len().saturating_sub(MAX_LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("it has {}{more}", shown.join(", "))
}

fn is_within(prefix: &str, key: Option<&str>) -> bool {
    match key {
        None => true,
        Some("") => prefix.is_empty(),
        Some(key) => prefix.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')),
    }
}

fn without_wrappers(name: &str) -> String {
    let kept: Vec<&str> = name.split('.').filter(|part| !WRAPPERS.contains(part)).collect();
    kept.join(".")
}

impl Checkpoint {
    /// The tensors of a candidate only, under their names in the model.
    pub fn select(self, candidate: &Candidate) -> Checkpoint {
        let Checkpoint { sources, mut entries, mut places, mut unreadable, metadata } = self;
        let mut selected =
            Checkpoint { sources, entries: BTreeMap::new(), places: BTreeMap::new(), unreadable: BTreeMap::new(), metadata };
        for (new, old) in &candidate.names {
            if let (Some(entry), Some(place)) = (entries.remove(old), places.remove(old)) {
                selected.entries.insert(new.clone(), Entry { name: new.clone(), ..entry });
                selected.places.insert(new.clone(), place);
            } else if let Some(found) = unreadable.remove(old) {
                selected.unreadable.insert(new.clone(), found);
            }
        }
        selected
    }
}
