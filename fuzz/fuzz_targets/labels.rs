//! Label files, lists of videos, and recipes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tubelet_models::{
    classify::parse_labels,
    train::{Recipe, data::parse_list},
};

fuzz_target!(|data: &[u8]| {
    if let Ok(labels) = parse_labels("fuzz", data) {
        assert!(!labels.is_empty() && labels.iter().all(|label| !label.is_empty()));
    }
    for exists in [true, false] {
        if let Ok(entries) = parse_list("fuzz", data, &|_| exists) {
            assert!(entries.iter().all(|entry| !entry.path.as_os_str().is_empty() && !entry.labels.is_empty()));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(recipe) = Recipe::parse("fuzz", text) {
        assert!(recipe.steps > 0 && recipe.batch.is_multiple_of(recipe.accumulate));
    }
});
