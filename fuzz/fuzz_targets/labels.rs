//! Label files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tubelet_models::classify::parse_labels;

fuzz_target!(|data: &[u8]| {
    if let Ok(labels) = parse_labels("fuzz", data) {
        assert!(!labels.is_empty() && labels.iter().all(|label| !label.is_empty()));
    }
});
