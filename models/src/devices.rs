//! Devices by name, as in `--device`.

use tubelet_engine::{Device, Error, Result};
#[cfg(feature = "wgpu")]
use tubelet_wgsl::{Wgpu, WgpuOptions};

/// The names that [`open`] takes, each with what it is.
pub const NAMES: &[(&str, &str)] = &[
    ("cpu", "this machine's processor: vectorised, multi-threaded kernels"),
    #[cfg(feature = "cuda")]
    ("cuda", "an NVIDIA GPU, Ampere or later; cuda:1 is the second"),
    #[cfg(feature = "cuda-emulated")]
    (
        "cuda-emulated",
        "the CUDA kernels, their PTX executed by the processor; slow, and strict about every access; cuda-emulated:90 with those for Hopper",
    ),
    #[cfg(feature = "wgpu")]
    ("wgpu", "a GPU with a Vulkan, Metal or DX12 driver; wgpu:1 is the second"),
    ("reference", "plain loops in f64: the oracle, slow"),
    ("meter", "counts FLOPs, bytes, launches and memory; computes nothing"),
];

/// Opens a device.
///
/// # Errors
/// [`Error::Invalid`] for a name that is not known, and what the device says where it cannot be used.
pub fn open(name: &str) -> Result<Device> {
    let (kind, number) = name.split_once(':').map_or((name, None), |(kind, number)| (kind, Some(number)));
    match (kind, number) {
        ("cpu", None) => Device::cpu(),
        ("reference", None) => Ok(Device::reference()),
        ("meter", None) => Ok(Device::meter()),
        #[cfg(feature = "cuda")]
        ("cuda", number) => tubelet_cuda::cuda(ordinal(name, number)?),
        #[cfg(feature = "cuda-emulated")]
        ("cuda-emulated", None) => Ok(tubelet_cuda::emulated::device(Default::default())),
        #[cfg(feature = "cuda-emulated")]
        ("cuda-emulated", Some("90")) => Ok(tubelet_cuda::emulated::hopper(Default::default())),
        #[cfg(feature = "wgpu")]
        ("wgpu", number) => {
            let adapter = ordinal(name, number)?;
            Ok(Device::new(Wgpu::new(options(adapter))?))
        }
        _ => {
            let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            Err(Error::invalid("--device", format!("{name:?} is none of {}", known.join(", "))))
        }
    }
}

/// As [`open`], with a clock for its kernels.
///
/// # Errors
/// As [`open`], and for devices that cannot time their kernels.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub fn open_profiled(name: &str) -> Result<Device> {
    let (kind, number) = name.split_once(':').map_or((name, None), |(kind, number)| (kind, Some(number)));
    match (kind, number) {
        #[cfg(feature = "cuda")]
        ("cuda", number) => {
            tubelet_cuda::open(ordinal(name, number)?, tubelet_cuda::Options { profile: true, ..Default::default() })
        }
        #[cfg(feature = "cuda-emulated")]
        ("cuda-emulated", None) => {
            let options = tubelet_cuda::Options { profile: true, ..Default::default() };
            Ok(tubelet_cuda::emulated::open(Default::default(), options))
        }
        #[cfg(feature = "wgpu")]
        ("wgpu", number) => Ok(Device::new(Wgpu::new(WgpuOptions { profile: true, ..options(ordinal(name, number)?) })?)),
        _ => Err(Error::invalid("--profile", format!("only wgpu, cuda and cuda-emulated time their kernels, not {name}"))),
    }
}

/// Launches and seconds of each kernel of a device that [`open_profiled`] has opened, since this was last asked: the longest first.
///
/// # Errors
/// Where the device has failed meanwhile.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub fn take_times(device: &Device) -> Result<Vec<(String, u64, f64)>> {
    let mut times: Vec<(String, u64, f64)> = Vec::new();
    #[cfg(feature = "wgpu")]
    if let Some(wgpu) = device.downcast::<Wgpu>() {
        times.extend(wgpu.take_times()?.into_iter().map(|(name, (launches, seconds))| (name.to_owned(), launches, seconds)));
    }
    #[cfg(feature = "cuda")]
    if let Some(cuda) = device.downcast::<tubelet_cuda::CudaBackend>() {
        times.extend(cuda.take_times()?.into_iter().map(|(name, (launches, seconds))| (name, launches, seconds)));
    }
    times.sort_by(|a, b| b.2.total_cmp(&a.2));
    Ok(times)
}

#[cfg(feature = "wgpu")]
fn options(adapter: usize) -> WgpuOptions {
    // Measuring which tiles are fastest is for people's machines; `off` is for those who compare times.
    let tune = std::env::var("TUBELET_TUNE").as_deref() != Ok("off");
    WgpuOptions { adapter, tune, cache: tubelet_wgsl::cache_folder(), ..Default::default() }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn ordinal(name: &str, number: Option<&str>) -> Result<usize> {
    let ordinal = number.unwrap_or("0").parse();
    ordinal.map_err(|_| Error::invalid("--device", format!("{name:?}: after the colon comes a number")))
}

/// Every device of this machine that [`open`] would try: a kind that can have several is there once for each, and once where there is none.
pub fn list() -> Vec<(String, &'static str)> {
    let numbered = |&(name, about): &(&str, &'static str)| match count(name) {
        0 => vec![(name.to_owned(), about)],
        n => (0..n).map(|i| (format!("{name}:{i}"), about)).collect(),
    };
    NAMES.iter().flat_map(numbered).collect()
}

/// How many devices of a kind that is numbered there are.
fn count(name: &str) -> usize {
    match name {
        #[cfg(feature = "cuda")]
        "cuda" => tubelet_cuda::count(),
        #[cfg(feature = "wgpu")]
        "wgpu" => tubelet_wgsl::adapters().len(),
        _ => 0,
    }
}
