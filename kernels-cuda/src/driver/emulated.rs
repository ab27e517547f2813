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

use super::{Driver, Event, Graph, Launch, Module, Work};
use crate::backend::{self, CudaBackend};

/// A GPU that is not there.
#[derive(Clone)]
pub struct Emulated {
    emulator: Arc<Emulator>,
    counters: Arc<Mutex<BTreeMap<String, Counters>>>,
}

const NAME: &str = "cuda-emulated";
/// What it executes: the instructions that every chip from Ampere on has.
const CAPABILITY: (i32, i32) = (8, 0);

impl Emulated {
    /// One with empty memory.
    pub fn new(options: Options) -> Self {
        Emulated { emulator: Arc::new(Emulator::new(options)), counters: Arc::default() }
    }
}

/// A device over the emulator. Every tensor is an allocation of its own, so that accesses beside it are seen.
pub fn device(options: Options) -> Device {
    open(options, backend::Options { caching: false, ..backend::Options::default() })
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

fn error(fault: Fault) -> Error {
    Error::Device { device: NAME.into(), message: fault.to_string() }
}

/// The module's kernels, decoded once for all devices: that takes longer than most launches.
fn decoded(module: &'static Module) -> Result<Arc<emulator::Module>> {
    static DECODED: OnceLock<Mutex<HashMap<&'static str, Arc<emulator::Module>>>> = OnceLock::new();
    let mut decoded = DECODED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = decoded.get(module.name) {
        return Ok(Arc::clone(found));
    }
    let parsed = Arc::new(emulator::Module::parse(module.text(CAPABILITY).trim_end_matches('\0')).map_err(error)?);
    decoded.insert(module.name, Arc::clone(&parsed));
    Ok(parsed)
}

impl Driver for Emulated {
    fn name(&self) -> &str {
        NAME
    }

    fn description(&self) -> String {
        let (major, minor) = CAPABILITY;
        let Options { threads, memory, .. } = *self.emulator.options();
        format!(
            "compute capability {major}.{minor}, {threads} threads of the CPU, no driver, {} GiB; PTX for compute_80",
            memory >> 30
        )
    }

    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        match self.emulator.allocate(bytes) {
            Ok(address) => Ok(Some(address)),
            Err(fault) if matches!(fault.kind, FaultKind::OutOfMemory { .. }) => Ok(None),
            Err(fault) => Err(error(fault)),
        }
    }

    fn free(&self, address: u64) -> Result<()> {
        self.emulator.free(address).map_err(error)
    }

    fn upload(&self, src: &[u8], address: u64) -> Result<()> {
        self.emulator.write(address, src).map_err(error)
    }

    fn download(&self, address: u64, dst: &mut [u8]) -> Result<()> {
        self.emulator.read(address, dst).map_err(error)
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let mut content = vec![0; bytes];
        self.emulator.read(from, &mut content).map_err(error)?;
        self.emulator.write(to, &content).map_err(error)
    }

    fn launch(&self, module: &'static Module, kernel: &str, launch: Launch, parameter: &[u8]) -> Result<()> {
        let Launch { grid, block, dynamic_shared } = launch;
        let launch = emulator::Launch { grid, block, dynamic_shared };
        let cost = self.emulator.launch(&*decoded(module)?, kernel, launch, &[parameter]).map_err(error)?;
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
        let foreign = || Error::Device { device: NAME.into(), message: "the event is another device's".into() };
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
