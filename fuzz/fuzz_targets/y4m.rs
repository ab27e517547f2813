//! y4m: any bytes end in frames or an error.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tubelet_models::video::{Options, Source, Y4m};

fuzz_target!(|data: &[u8]| {
    let Ok(mut video) = Y4m::new("fuzz", Cursor::new(data), &Options::default()) else { return };
    let info = video.info();
    // A header may promise frames larger than the input; reading one must fail without first taking that memory.
    if info.width * info.height <= 1 << 22 {
        let _ = video.read(&[0, 1, 1]);
    }
});
