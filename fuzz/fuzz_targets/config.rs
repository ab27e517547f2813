//! Configuration files: any JSON ends in an error, or in a model that the meter can build and run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tubelet_models::{engine::DType, inspect::measure, registry::Config};

fuzz_target!(|data: &[u8]| {
    let Ok(config) = serde_json::from_slice::<Config>(data) else { return };
    let _ = measure(&config, 1, DType::F32);
});
