//! Devices by name, as in `--device`.

use tubelet_engine::{Device, Error, Result};

/// The names that [`open`] takes, each with what it is.
pub const NAMES: &[(&str, &str)] = &[
    ("cpu", "this machine's processor: vectorised, multi-threaded kernels"),
    ("reference", "plain loops in f64: the oracle, slow"),
    ("meter", "counts FLOPs, bytes, launches and memory; computes nothing"),
];

/// Opens a device.
///
/// # Errors
/// [`Error::Invalid`] for a name that is not known, and what the device says where it cannot be used.
pub fn open(name: &str) -> Result<Device> {
    match name {
        "cpu" => Device::cpu(),
        "reference" => Ok(Device::reference()),
        "meter" => Ok(Device::meter()),
        _ => {
            let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            Err(Error::invalid("--device", format!("{name:?} is none of {}", known.join(", "))))
        }
    }
}
