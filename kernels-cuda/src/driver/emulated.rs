//! The emulator as a driver: no GPU, and no forgiveness.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use tubelet_engine::{Device, Error, Result};
use tubelet_ptx_emulator::{self as emulator, Emulator, Fault, FaultKind};

pub use tubelet_ptx_emulator::{Counters, Options};

use super::{Driver, EncodedMap, Event, Graph, HOPPER, Launch, Module, TensorMap, Work};
use crate::backend::{self, CudaBackend};

/// A GPU that is not there.
#[derive(Clone)]
pub struct Emulated {
    emulator: Arc<Emulator>,
    capability: (i32, i32),
    counters: Arc<Mutex<BTreeMap<String, Counters>>>,
}

/// What every chip from Ampere on has.
const AMPERE: (i32, i32) = (8, 0);

impl Emulated {
    /// An Ampere with empty memory.
    pub fn new(options: Options) -> Self {
        Self::of(AMPERE, options)
    }

    /// A Hopper: it takes the texts for compute_90a.
    pub fn hopper(options: Options) -> Self {
        Self::of(HOPPER, options)
    }

    fn of(capability: (i32, i32), options: Options) -> Self {
        Emulated { emulator: Arc::new(Emulator::new(options)), capability, counters: Arc::default() }
    }

    fn error(&self, fault: Fault) -> Error {
        Error::Device { device: self.name().into(), message: fault.to_string() }
    }
}

/// A device over the emulator. Every tensor is an allocation of its own, so that accesses beside it are seen.
pub fn device(options: Options) -> Device {
    open(options, backend::Options { caching: false, ..backend::Options::default() })
}

/// [`device`], with the kernels that Hopper has of its own.
pub fn hopper(options: Options) -> Device {
    let backend = backend::Options { caching: false, ..backend::Options::default() };
    Device::new(CudaBackend::new(Box::new(Emulated::hopper(options)), backend))
}

/// A device over the emulator that is used as `options` say.
pub fn open(emulator: Options, options: backend::Options) -> Device {
    Device::new(CudaBackend::new(Box::new(Emulated::new(emulator)), options))
}

/// What each kernel has cost since this was last asked; `None` for a device that is not emulated.
pub fn take_counters(device: &Device) -> Option<BTreeMap<String, Counters>> {
    let backend = device.backend().as_any().downcast_ref::<CudaBackend>()?;
    let emulated = backend.driver().as_any().downcast_ref::<Emulated>()?;
    Some(std::mem::take(&mut *emulated.counters.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The module's kernels, decoded once for all devices: that takes longer than most launches.
fn decoded(text: &'static str) -> std::result::Result<Arc<emulator::Module>, Fault> {
    static DECODED: OnceLock<Mutex<HashMap<usize, Arc<emulator::Module>>>> = OnceLock::new();
    let key = text.as_ptr() as usize;
    let mut decoded = DECODED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = decoded.get(&key) {
        return Ok(Arc::clone(found));
    }
    let parsed = Arc::new(emulator::Module::parse(text.trim_end_matches('\0'))?);
    decoded.insert(key, Arc::clone(&parsed));
    Ok(parsed)
}

impl Driver for Emulated {
    fn name(&self) -> &str {
        if self.capability == HOPPER { "cuda-emulated:90" } else { "cuda-emulated" }
    }

    fn description(&self) -> String {
        let (major, minor) = self.capability;
        let Options { threads, memory, .. } = *self.emulator.options();
        format!(
            "compute capability {major}.{minor}, {threads} threads of the CPU, no driver, {} GiB; PTX for compute_{}",
            memory >> 30,
            if self.capability == HOPPER { "90a" } else { "80" }
        )
    }

    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        match self.emulator.allocate(bytes) {
            Ok(address) => Ok(Some(address)),
            Err(fault) if matches!(fault.kind, FaultKind::OutOfMemory { .. }) => Ok(None),
            Err(fault) => Err(self.error(fault)),
        }
    }

    fn free(&self, address: u64) -> Result<()> {
        self.emulator.free(address).map_err(|fault| self.error(fault))
    }

    fn upload(&self, src: &[u8], address: u64) -> Result<()> {
        self.emulator.write(address, src).map_err(|fault| self.error(fault))
    }

    fn download(&self, address: u64, dst: &mut [u8]) -> Result<()> {
        self.emulator.read(address, dst).map_err(|fault| self.error(fault))
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let mut content = vec![0; bytes];
        self.emulator.read(from, &mut content).map_err(|fault| self.error(fault))?;
        self.emulator.write(to, &content).map_err(|fault| self.error(fault))
    }

    fn launch(&self, module: &'static Module, kernel: &str, launch: Launch, parameter: &[u8]) -> Result<()> {
        let Launch { grid, block, dynamic_shared } = launch;
        let launch = emulator::Launch { grid, block, dynamic_shared };
        let cost = decoded(module.text(self.capability)).and_then(|m| self.emulator.launch(&m, kernel, launch, &[parameter]));
        let cost = cost.map_err(|fault| self.error(fault))?;
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.entry(kernel.to_owned()).or_default() += cost;
        Ok(())
    }

    fn graph(&self, work: Vec<Work>) -> Result<Box<dyn Graph>> {
        Ok(Box::new(List { emulated: self.clone(), work }))
    }

    fn event(&self) -> Result<Event> {
        Ok(Event(Box::new(Instant::now())))
    }

    /// Of the emulator's own time: what a launch took here, and nothing of what it would take on a GPU.
    fn elapsed(&self, from: &Event, to: &Event) -> Result<f64> {
        let moment = |event: &Event| event.0.downcast_ref::<Instant>().copied();
        let foreign = || Error::Device { device: self.name().into(), message: "the event is another device's".into() };
        let (from, to) = moment(from).zip(moment(to)).ok_or_else(foreign)?;
        Ok(to.saturating_duration_since(from).as_secs_f64())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> Result<(usize, usize)> {
        let (used, total) = self.emulator.memory();
        let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok((bytes(total - used), bytes(total)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn capability(&self) -> (i32, i32) {
        self.capability
    }

    fn tensor_map(&self, map: &TensorMap) -> Result<EncodedMap> {
        let map = emulator::TensorMap {
            address: map.address,
            element: 2,
            sizes: map.sizes.iter().map(|&size| size as u64).collect(),
            strides: map.strides.iter().map(|&stride| stride as u64).collect(),
            tile: map.tile(),
            swizzle: emulator::Swizzle::B128,
        };
        map.encode().map_err(|fault| self.error(fault))
    }

    fn multiprocessors(&self) -> usize {
        self.emulator.options().threads
    }
}

/// A graph without a GPU: the list.
struct List {
    emulated: Emulated,
    work: Vec<Work>,
}

impl Graph for List {
    fn launch(&mut self) -> Result<()> {
        self.work.iter().try_for_each(|work| match work {
            Work::Launch { module, kernel, launch, parameter } => self.emulated.launch(module, kernel, *launch, parameter),
            Work::Copy { from, to, bytes } => self.emulated.copy(*from, *to, *bytes),
        })
    }
}
