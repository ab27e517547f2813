//! The device: an adapter, its memory and its pipelines.

use std::{
    any::Any,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tubelet_engine::{Backend, DType, DeviceBuffer, Error, MemoryStats, Op, Result, Tensor, for_each_operation};
use wgpu::{Backends, Features, Instance, InstanceDescriptor, InstanceFlags};

use crate::{
    cache,
    memory::Pool,
    pipeline::Pipelines,
    profile::{Profile, Times},
    recorder::Recorder,
    tuner::Tuner,
};

/// How to open a device.
#[derive(Clone, Debug, Default)]
pub struct WgpuOptions {
    /// Which adapter, in the order of [`adapters`].
    pub adapter: usize,
    /// Bytes of tensors beyond which allocation fails.
    pub memory_limit: Option<usize>,
    /// Where compiled pipelines (on drivers that give them away) and the tiles found best are kept between runs; see [`cache_folder`].
    ///
    /// [`cache_folder`]: crate::cache_folder
    pub cache: Option<PathBuf>,
    /// Measure which tile is best for a product of a shape that is new to the adapter. It changes no bit of the result.
    pub tune: bool,
    /// Measure how long each kernel takes, by the device's clock: see [`Wgpu::take_times`]. Slows everything down.
    pub profile: bool,
    /// Take a processor for a GPU: for tests of the kernels with workgroup memory.
    pub as_gpu: bool,
    /// Use no optional feature of the adapter, and take it for a GPU: for tests of the paths that every adapter can take.
    pub plain: bool,
    /// For tests: new memory is filled with NaN, and shaders check their bounds and loops.
    pub guard: bool,
    /// For tests: kernels are written, for [`Wgpu::shaders`], and neither compiled nor run.
    pub dry: bool,
}

/// See the [crate].
pub struct Wgpu {
    name: String,
    info: wgpu::AdapterInfo,
    pub(crate) features: Features,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pool: Arc<Pool>,
    pub(crate) recorder: Mutex<Recorder>,
    pub(crate) pipelines: Pipelines,
    pub(crate) tuner: Tuner,
    failure: Arc<Mutex<Option<String>>>,
    lost: Arc<OnceLock<String>>,
    /// Whether a subgroup has one size on this adapter, and reductions can use it.
    pub(crate) subgroup: Option<u32>,
    processor: bool,
    /// See [`crate::halves`].
    pub(crate) exact_halves: OnceLock<bool>,
    pub(crate) guard: bool,
    pub(crate) dry: bool,
}

fn instance() -> Instance {
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = Backends::PRIMARY;
    descriptor.flags = InstanceFlags::empty();
    Instance::new(descriptor)
}

/// The adapters of this machine, the software ones last.
fn found(instance: &Instance) -> Vec<wgpu::Adapter> {
    let mut adapters = pollster::block_on(instance.enumerate_adapters(Backends::PRIMARY));
    adapters.sort_by_key(|adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu);
    adapters
}

/// One line for each adapter: its name, driver, and the features and limits that matter. The index is the `n` of `wgpu:n`.
pub fn adapters() -> Vec<String> {
    found(&instance()).iter().map(|adapter| describe(&adapter.get_info(), adapter.features(), &adapter.limits())).collect()
}

fn describe(info: &wgpu::AdapterInfo, features: Features, limits: &wgpu::Limits) -> String {
    let kinds = [(Features::SHADER_F16, "f16"), (Features::SHADER_I16, "16-bit integers")];
    let halves: Vec<&str> = kinds.iter().filter(|(kind, _)| features.contains(*kind)).map(|(_, name)| *name).collect();
    let halves = if halves.is_empty() { "no halves in shaders".to_owned() } else { halves.join(", ") };
    let subgroup = match subgroup(info, features) {
        Some(size) => format!("subgroups of {size}"),
        None => "no subgroups of one size".into(),
    };
    format!(
        "{} ({:?}, {:?}, {} {}), {halves}, {subgroup}, {} MiB per tensor",
        info.name,
        info.device_type,
        info.backend,
        info.driver,
        info.driver_info,
        largest_tensor(limits) >> 20,
    )
}

fn subgroup(info: &wgpu::AdapterInfo, features: Features) -> Option<u32> {
    let (min, max) = (info.subgroup_min_size, info.subgroup_max_size);
    (features.contains(Features::SUBGROUP) && min == max && min.is_power_of_two()).then_some(min)
}

/// A kernel binds a tensor's whole buffer.
fn largest_tensor(limits: &wgpu::Limits) -> u64 {
    limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
}

impl Wgpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no such adapter, with what would help, or if its driver refuses.
    pub fn new(options: WgpuOptions) -> Result<Self> {
        let name = format!("wgpu:{}", options.adapter);
        let failed = |message: String| Error::Device { device: name.clone(), message };
        let mut adapters = found(&instance());
        if options.adapter >= adapters.len() {
            let message = match adapters.len() {
                0 => "no adapter found; install a Vulkan driver (on Debian: mesa-vulkan-drivers, which has a software device)"
                    .into(),
                n => format!("no such adapter; there are {n}, counted from 0"),
            };
            return Err(failed(message));
        }
        let adapter = adapters.swap_remove(options.adapter);
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let wanted =
            if options.plain { Features::empty() } else { Features::SHADER_F16 | Features::SHADER_I16 | Features::SUBGROUP };
        let clock = if options.profile { Features::TIMESTAMP_QUERY } else { Features::empty() };
        if !adapter.features().contains(clock) {
            return Err(failed("this adapter has no timestamps".into()));
        }
        let features = adapter.features() & (wanted | clock | Features::PIPELINE_CACHE);
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("tubelet"),
            required_features: features,
            required_limits: limits.clone(),
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(request).map_err(|error| failed(error.to_string()))?;
        let failure = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&failure);
        // Without a handler wgpu panics. The first failure is reported by the next call.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| explained(&error));
        }));
        let lost = Arc::new(OnceLock::new());
        let sink = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            sink.get_or_init(|| format!("the device was lost ({reason:?}): {message}"));
        });
        let in_cache = |kind, extension| Some(options.cache.as_ref()?.join(cache::file_name(kind, &info, extension)));
        let pool = Pool::new(name.clone(), device.clone(), options.memory_limit, largest_tensor(&limits));
        Ok(Wgpu {
            recorder: Mutex::new(Recorder::new(&device, options.profile.then(|| Profile::new(&device, &queue)))),
            pipelines: Pipelines::new(&device, &limits, in_cache("pipelines", "bin")),
            tuner: Tuner::new(options.tune, in_cache("tiles", "txt")),
            subgroup: subgroup(&info, features),
            processor: info.device_type == wgpu::DeviceType::Cpu && !options.plain && !options.as_gpu,
            exact_halves: OnceLock::new(),
            guard: options.guard,
            dry: options.dry,
            name,
            info,
            features,
            device,
            queue,
            pool,
            failure,
            lost,
        })
    }

    /// How many kernels have been launched on this device.
    pub fn launches(&self) -> u64 {
        self.recorder().launches()
    }

    /// Launches and seconds of each kernel since this was last asked, for a device that measures them ([`WgpuOptions::profile`]). Waits for all
    /// work before.
    ///
    /// # Errors
    /// What the driver has reported.
    pub fn take_times(&self) -> Result<Times> {
        self.wait()?;
        Ok(self.recorder().take_times())
    }

    /// Gives cached memory back to the driver.
    pub fn trim(&self) {
        self.pool.trim();
    }

    pub(crate) fn recorder(&self) -> std::sync::MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first failure that the driver has reported since the last call.
    pub(crate) fn check(&self) -> Result<()> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None if self.lost.get().is_none() => Ok(()),
            message => Err(self.failed(message.unwrap_or_default())),
        }
    }

    /// What failed; of a lost device, that it is lost, which is why everything fails from then on.
    pub(crate) fn failed(&self, message: impl Into<String>) -> Error {
        // wgpu tells of a loss when it is asked for news.
        let _ = self.device.poll(wgpu::PollType::Poll);
        let message = self.lost.get().cloned().unwrap_or_else(|| message.into());
        Error::Device { device: self.name.clone(), message }
    }

    /// Invocations of a workgroup that shares sums: a subgroup where there is one size of it, so that no barrier is needed.
    pub(crate) fn row_lanes(&self) -> u32 {
        self.subgroup.unwrap_or(64)
    }

    /// Invocations of a workgroup that shares nothing: as many as run together.
    pub(crate) fn direct_lanes(&self) -> u32 {
        // Processors' vectors of 256 bits; else what no GPU falls short of.
        self.subgroup.unwrap_or(if self.is_processor() { 8 } else { 64 })
    }

    /// Whether the adapter is a processor: a software device.
    pub(crate) fn is_processor(&self) -> bool {
        self.processor
    }

    pub(crate) fn wait(&self) -> Result<()> {
        self.recorder().submit(self);
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| self.failed(error.to_string()))?;
        self.check()
    }
}

/// An error with its reasons.
fn explained(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

macro_rules! dispatch {
    ($(($variant:ident, $module:ident)),*) => {
        impl Wgpu {
            fn dispatch(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
                match op {
                    $(Op::$variant(op) => crate::$module::run(op, inputs, outputs, self)),*
                }
            }
        }
    };
}
for_each_operation!(dispatch);

impl Backend for Wgpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        describe(&self.info, self.features, &self.device.limits())
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>> {
        let buffer = self.pool.allocate(bytes)?;
        if self.guard && bytes > 0 {
            // As a float of any width this is a NaN.
            self.upload(&vec![0xFF; bytes], &buffer, 0)?;
        }
        Ok(Arc::new(buffer))
    }

    fn upload(&self, src: &[u8], dst: &dyn DeviceBuffer, offset: usize) -> Result<()> {
        self.write(src, dst, offset)
    }

    fn download(&self, src: &dyn DeviceBuffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        self.read(src, offset, dst)
    }

    fn synchronize(&self) -> Result<()> {
        self.wait()
    }

    fn run(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
        if let Some(x) = inputs.iter().flatten().copied().chain(outputs).find(|x| !self.supports(x.dtype())) {
            let message = format!("no kernels for {}; the reference device has them", x.dtype());
            return Err(Error::Unsupported { op: op.name(), device: self.name.clone(), message });
        }
        if outputs.iter().all(|out| out.elements() == 0) {
            return Ok(());
        }
        outputs.iter().try_for_each(|out| self.clear_packed(out))?;
        self.dispatch(op, inputs, outputs)?;
        self.check()
    }

    fn supports(&self, dtype: DType) -> bool {
        dtype != DType::F64
    }

    fn memory(&self) -> MemoryStats {
        self.pool.stats()
    }

    fn reset_peak(&self) {
        self.pool.reset_peak();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use tubelet_engine::{Device, Error, Tensor, ops::softmax::softmax};

    use super::{Wgpu, WgpuOptions};

    #[test]
    fn a_lost_device_is_an_error_from_then_on() {
        let wgpu = match Wgpu::new(WgpuOptions::default()) {
            Ok(wgpu) => wgpu,
            Err(error) => return println!("skipped: {error}"),
        };
        let device = Device::new(wgpu);
        let work = || -> Result<Vec<f32>, Error> {
            let x = Tensor::from_slice(&device, &[2, 3], &[1.0f32; 6])?;
            softmax(&x)?.to_f32_vec()
        };
        assert!(work().is_ok());
        let kept = Tensor::from_slice(&device, &[3], &[1.0f32; 3]).expect("a tensor");
        device.backend().as_any().downcast_ref::<Wgpu>().expect("our own device").device.destroy();
        for _ in 0..3 {
            for result in [work(), kept.to_f32_vec()] {
                let error = result.expect_err("nothing can be computed").to_string();
                assert!(error.contains("wgpu:0") && error.contains("lost"), "{error}");
            }
        }
    }
}
