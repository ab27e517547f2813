//! Recipes of several stages, each of which begins with what came of the one before: SFA's few and many frames, post-pretraining and fine-tuning.

use std::ffi::OsStr;

use serde::Deserialize;
use serde_json::Value;
use tubelet_engine::{Error, Result};

use super::{Options, Recipe, recipe::text};

/// One recipe, or several in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages(Vec<(Option<String>, Recipe)>);

/// A stage in a file: what it changes of the file's other fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    #[serde(default)]
    change: Value,
}

impl Stages {
    /// As [`Recipe::named`]; a file with the field `stages` is several recipes.
    ///
    /// # Errors
    /// As [`Recipe::named`].
    pub fn named(name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        Stages::parse(&name.to_string_lossy(), &text(name)?)
    }

    /// From JSON. `"stages": [{"name": N, "change": {…}}, …]` beside the fields of a recipe: each stage is that recipe with its changes, merged as
    /// RFC 7396 says (fields are replaced, objects entered, `null` removes).
    ///
    /// # Errors
    /// [`Error::Format`] and [`Error::Invalid`], with the stage's name.
    pub fn parse(what: &str, json: &str) -> Result<Self> {
        let mut base: Value =
            serde_json::from_str(json).map_err(|error| Error::format(what, format!("not a recipe: {error}")))?;
        let Some(stages) = base.as_object_mut().and_then(|fields| fields.remove("stages")) else {
            return Ok(Stages(vec![(None, Recipe::parse(what, json)?)]));
        };
        let stages: Vec<Stage> =
            serde_json::from_value(stages).map_err(|error| Error::format(what, format!("stages: {error}")))?;
        let mut all: Vec<(Option<String>, Recipe)> = Vec::new();
        for Stage { name, change } in stages {
            // It becomes a folder.
            let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if !plain || all.iter().any(|(other, _)| other.as_ref() == Some(&name)) {
                let message = format!("{name:?} is not a name of its own of letters, digits, - and _");
                return Err(Error::invalid("stages", message));
            }
            let mut fields = base.clone();
            if !change.is_null() {
                merge(&mut fields, change);
            }
            let mut recipe = Recipe::parse(&format!("{what}, stage {name}"), &fields.to_string())?;
            if !all.is_empty() {
                // What the file starts from is for its first stage.
                recipe.start.clear();
            }
            all.push((Some(name), recipe));
        }
        if all.is_empty() { Err(Error::invalid("stages", "there are none")) } else { Ok(Stages(all)) }
    }

    /// Each stage's name, if it has one, and recipe.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &Recipe)> {
        self.0.iter().map(|(name, recipe)| (name.as_deref(), recipe))
    }

    /// The same with `change` made to every recipe.
    pub fn map(self, change: impl Fn(Recipe) -> Recipe) -> Self {
        Stages(self.0.into_iter().map(|(name, recipe)| (name, change(recipe))).collect())
    }

    /// The last stage's recipe.
    pub fn into_last(mut self) -> Result<Recipe> {
        self.0.pop().map(|(_, recipe)| recipe).ok_or_else(|| Error::invalid("stages", "there are none"))
    }

    /// How to run stage `i`, where all run as `options` says: in a folder of its own, beginning with the weights of the stage before.
    ///
    /// # Errors
    /// Of the configuration of the stage before.
    pub fn options<'a>(&self, i: usize, options: &Options<'a>) -> Result<Options<'a>> {
        let folder = |i: usize| match self.0.get(i) {
            Some((Some(name), _)) => options.folder.join(name),
            _ => options.folder.clone(),
        };
        let Options { device, resume, threads, captured, strict, stop, .. } = options;
        let (start, start_model, start_state_dict) = match i.checked_sub(1).and_then(|before| Some((before, self.0.get(before)?)))
        {
            None => (options.start.clone(), options.start_model.clone(), options.start_state_dict.clone()),
            Some((before, (_, recipe))) => (Some(folder(before).join("weights.safetensors")), Some(recipe.config()?), None),
        };
        let (resume, threads, captured, strict) = (*resume, *threads, *captured, *strict);
        let (device, folder) = (device.clone(), folder(i));
        Ok(Options { device, folder, resume, start, start_model, start_state_dict, threads, captured, strict, stop })
    }
}

/// RFC 7396, JSON merge patch.
fn merge(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                if change.is_null() {
                    fields.remove(&name);
                } else {
                    merge(fields.entry(name).or_insert(Value::Null), change);
                }
            }
        }
        (target, Value::Object(changes)) => {
            *target = Value::Object(serde_json::Map::new());
            merge(target, Value::Object(changes));
        }
        (target, change) => *target = change,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_merge_as_the_rfc_says() {
        // From its appendix A.
        for (target, change, expected) in [
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = target;
            merge(&mut merged, change);
            assert_eq!(merged, expected);
        }
    }

    #[test]
    fn stages_are_the_recipe_with_changes() {
        let mut fields = serde_json::to_value(Recipe::named("camera-motion").unwrap()).unwrap();
        fields["start"] = json!([{"weights": "image.pth"}]);
        let change = json!({"batch": 8, "schedule": {"warm_up": 3}});
        fields["stages"] = json!([{"name": "one"}, {"name": "two", "change": change}]);
        let stages = Stages::parse("x", &fields.to_string()).unwrap();
        let all: Vec<_> = stages.iter().collect();
        assert_eq!((all[0].0, all[1].0), (Some("one"), Some("two")));
        assert_eq!((all[0].1.start.len(), all[1].1.start.len()), (1, 0));
        let expected = serde_json::from_value(json!({"kind": "cosine", "warm_up": 3, "end": 0.0})).unwrap();
        assert_eq!((all[1].1.batch, all[1].1.schedule.clone()), (8, expected));
        for name in ["", "../up", "one"] {
            fields["stages"][1]["name"] = name.into();
            assert!(Stages::parse("x", &fields.to_string()).unwrap_err().to_string().contains("is not a name"), "{name}");
        }
        fields["stages"][1] = json!({"name": "two", "change": {"batch": 0}});
        assert!(Stages::parse("x", &fields.to_string()).is_err());
    }
}
