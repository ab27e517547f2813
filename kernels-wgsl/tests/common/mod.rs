//! A device for tests, or the reason why there is none.

use tubelet_wgsl::{Wgpu, WgpuOptions, adapters};

/// A guarded device; `None`, with the reason printed, where this machine has no adapter. Where `TUBELET_TEST_DEVICE` asks for one, that is a
/// failure.
pub fn device(options: WgpuOptions) -> Option<Wgpu> {
    if adapters().is_empty() && std::env::var("TUBELET_TEST_DEVICE").is_err() {
        println!("skipped: no adapter; install a Vulkan driver (on Debian: mesa-vulkan-drivers)");
        return None;
    }
    Some(Wgpu::new(WgpuOptions { guard: true, ..options }).expect("an adapter"))
}
