//! safetensors and PyTorch files, of before 1.6 too: opening, choosing dictionaries and reading every tensor of any bytes ends in
//! values or errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tubelet_models::checkpoint::{Checkpoint, Dictionaries};

/// Bytes of a tensor that is read: one that repeats its elements may claim any size.
const MAX_READ: usize = 1 << 24;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = Checkpoint::from_bytes(data.to_vec()) else { return };
    for (name, entry) in file.entries() {
        if entry.bytes().is_ok_and(|bytes| bytes <= MAX_READ) {
            let _ = file.read(name);
        }
    }
    for (name, _, reason) in file.unreadable() {
        assert!(!reason.is_empty() && file.read(name).is_err());
    }
    let Ok(dictionaries) = Dictionaries::new(&file, 1, None) else { return };
    let mut candidates = dictionaries.candidates();
    candidates.extend(dictionaries.partial_candidates());
    let Some(last) = candidates.pop() else { return };
    let wanted = last.names().len();
    let selected = file.select(&last);
    assert_eq!(selected.entries().len() + selected.unreadable().count(), wanted);
});
