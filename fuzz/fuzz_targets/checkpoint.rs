//! safetensors and PyTorch archives: opening and reading every tensor of any bytes ends in a value or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tubelet_models::checkpoint::Checkpoint;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = Checkpoint::from_bytes(data.to_vec()) else { return };
    for name in file.entries().keys() {
        let _ = file.read(name);
    }
});
