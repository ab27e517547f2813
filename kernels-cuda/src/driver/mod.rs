//! What the backend needs from whatever executes PTX: the driver of a GPU, or an emulator.

pub mod blank;
#[cfg(feature = "emulator")]
pub mod channels;
mod communicator;
pub mod cuda;
#[cfg(feature = "emulator")]
pub mod emulated;
mod gpu;
mod graph;
#[cfg(feature = "nccl")]
pub mod nccl;
mod staging;

use std::any::Any;

pub use communicator::Communicator;
use tubelet_engine::{DType, Result};

/// A PTX module of this crate: the kernels of one operation.
#[derive(Debug)]
pub struct Module {
    /// The operation.
    pub name: &'static str,
    /// The text for compute_80, ending in a NUL as the driver wants it.
    pub ptx: &'static str,
    /// The text for compute_90a, likewise, if there is one.
    pub hopper: Option<&'static str>,
}

impl Module {
    /// The text for chips of a compute capability. That for Hopper is for 9.0 alone: it has what no other chip, not even a later one, has.
    pub fn text(&self, capability: (i32, i32)) -> &'static str {
        self.hopper.filter(|_| capability == HOPPER).unwrap_or(self.ptx)
    }

    /// The size of the one parameter that `kernel` declares in `text`.
    pub fn parameter_bytes(text: &str, kernel: &str) -> Option<usize> {
        let declaration = format!(" {kernel}_param_0[");
        let (_, rest) = text.split_once(&declaration)?;
        rest.split_once(']')?.0.parse().ok()
    }
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond what the kernel declares.
    pub dynamic_shared: u32,
}

/// The compute capability of Hopper, whose kernels may be others.
pub const HOPPER: (i32, i32) = (9, 0);

/// Matrices of a half type as the copy engine of Hopper reads them, in tiles whose rows are 64 elements, permuted within 128 bytes. Innermost first, with
/// two to five dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// bf16 or f16.
    pub dtype: DType,
    /// The address of element zero, a multiple of 16.
    pub address: u64,
    /// Elements of a row, rows, and whatever there is of matrices.
    pub sizes: Vec<usize>,
    /// Bytes from row to row, from matrix to matrix and so on, multiples of 16.
    pub strides: Vec<usize>,
    /// Rows of a tile, 256 at most.
    pub rows: u32,
}

impl TensorMap {
    /// A tile: 64 elements of so many rows of one matrix.
    pub fn tile(&self) -> Vec<u32> {
        self.sizes.iter().enumerate().map(|(d, _)| [64, self.rows].get(d).copied().unwrap_or(1)).collect()
    }
}

/// A tensor map as the device wants it, a parameter of kernels.
pub type EncodedMap = [u64; 16];

/// Work that can be done later, and again.
#[derive(Clone, Debug)]
pub enum Work {
    /// As [`Driver::launch`].
    Launch {
        /// The operation.
        module: &'static Module,
        /// One of its kernels.
        kernel: String,
        /// The shape.
        launch: Launch,
        /// The bytes of its parameter.
        parameter: Vec<u8>,
    },
    /// As [`Driver::copy`].
    Copy {
        /// The source's address.
        from: u64,
        /// The destination's.
        to: u64,
        /// How much.
        bytes: usize,
    },
}

/// A list of work that a device has been given once, to do as often as it is told.
pub trait Graph: Send + Sync {
    /// Does all of it, after all work before.
    fn launch(&mut self) -> Result<()>;
}

/// A moment in a device's work, by the device's own clock; its driver knows what is inside.
pub struct Event(pub Box<dyn Any + Send>);

/// One device that executes PTX, and one stream of work on it: all work is done in the order of the calls, and only downloads,
/// [`Driver::elapsed`] and [`Driver::synchronize`] wait.
///
/// The methods take addresses and kernels at their word: this crate's launchers are the only callers.
pub trait Driver: Send + Sync {
    /// As in `--device`: `"cuda:0"`.
    fn name(&self) -> &str;
    /// One line for people: the chip, its memory, its driver.
    fn description(&self) -> String;
    /// `bytes` bytes, aligned to 256. `None` where there is not so much left.
    fn allocate(&self, bytes: usize) -> Result<Option<u64>>;
    /// Gives an allocation back.
    fn free(&self, address: u64) -> Result<()>;
    /// Copies from the host, which may have its memory back when this returns.
    fn upload(&self, src: &[u8], address: u64) -> Result<()>;
    /// Copies to the host, after all work before.
    fn download(&self, address: u64, dst: &mut [u8]) -> Result<()>;
    /// Copies from one place of the device to another.
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;
    /// Runs `kernel` of `module` with one by-value parameter.
    fn launch(&self, module: &'static Module, kernel: &str, launch: Launch, parameter: &[u8]) -> Result<()>;
    /// Prepares a list of work, to be done in its order. Whoever has the graph keeps the memory that it uses.
    fn graph(&self, work: Vec<Work>) -> Result<Box<dyn Graph>>;
    /// Marks where the work has come to.
    fn event(&self) -> Result<Event>;
    /// Seconds of the device from one moment to a later one; waits for the later.
    fn elapsed(&self, from: &Event, to: &Event) -> Result<f64>;
    /// Waits for all work.
    fn synchronize(&self) -> Result<()>;
    /// Bytes free and bytes there are.
    fn memory(&self) -> Result<(usize, usize)>;
    /// The driver itself, for those who know what it is.
    fn as_any(&self) -> &dyn Any;
    /// The compute capability, which decides between the texts of a [`Module`].
    fn capability(&self) -> (i32, i32);
    /// Encodes a tensor map; the device must be a Hopper.
    fn tensor_map(&self, map: &TensorMap) -> Result<EncodedMap>;
    /// Multiprocessors: how many blocks keep the device busy.
    fn multiprocessors(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_in_the_text() {
        let ptx = ".visible .entry add_f32(\n.param .align 8 .b8 add_f32_param_0[208]\n)";
        assert_eq!((Module::parameter_bytes(ptx, "add_f32"), Module::parameter_bytes(ptx, "add")), (Some(208), None));
    }

    #[test]
    fn the_text_for_hopper_is_for_hopper_alone() {
        let both = Module { name: "add", ptx: "base", hopper: Some("hopper") };
        let texts = [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)].map(|capability| both.text(capability));
        assert_eq!(texts, ["base", "base", "hopper", "base", "base"]);
        assert_eq!(Module { hopper: None, ..both }.text((9, 0)), "base");
    }
}
