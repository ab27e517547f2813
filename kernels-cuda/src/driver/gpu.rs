//! The handles that NVIDIA's driver gives away for a GPU, each returned when the last who uses it is gone.

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    ptr::NonNull,
    slice,
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};
use tubelet_engine::{DType, Error, Result};

use super::{
    EncodedMap, Launch, Module, TensorMap,
    staging::{CHUNK, Lane},
};

/// How many GPUs the driver knows, or why it cannot be asked.
pub fn count() -> std::result::Result<i32, String> {
    // SAFETY: asks whether the library can be opened, which runs the initialisers of NVIDIA's driver and nothing of ours.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver on this machine (libcuda.so.1, nvcuda.dll); a GPU needs driver 550 or later".into());
    }
    result::init().map_err(|code| format!("starting the driver: {}", explain(code)))?;
    result::device::get_count().map_err(|code| format!("counting GPUs: {}", explain(code)))
}

/// The driver's words for an error.
fn explain(code: DriverError) -> String {
    match (code.error_name(), code.error_string()) {
        (Ok(name), Ok(text)) => format!("{} ({})", text.to_string_lossy(), name.to_string_lossy()),
        _ => format!("{code:?}"),
    }
}

/// The primary context of a GPU.
struct Context {
    device: sys::CUdevice,
    handle: sys::CUcontext,
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once by `Gpu::open`. A failure leaves the context to the end of the process.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// An opened GPU: its primary context, a stream, and the kernels that have been loaded.
pub struct Gpu {
    pub name: String,
    /// What it is, in a line.
    pub chip: String,
    pub multiprocessors: usize,
    pub capability: (i32, i32),
    stream: sys::CUstream,
    loaded: Mutex<Loaded>,
    context: Context,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, sys::CUmodule>,
    functions: HashMap<String, Function>,
}

#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    /// The size of its parameter.
    parameter: usize,
    /// The dynamic shared memory that the driver has been told of.
    dynamic_shared: u32,
}

// SAFETY: contexts, streams, modules and functions are handles that the driver lets every thread use; each call makes the context current first.
unsafe impl Send for Gpu {}
// SAFETY: as above; the tables are behind a lock.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// GPU `ordinal`; an error for chips before Ampere.
    pub fn open(ordinal: usize) -> Result<Self> {
        let name = format!("cuda:{ordinal}");
        let error = |message: String| Error::Device { device: name.clone(), message };
        let failed = |what: &'static str| move |code: DriverError| (what, code);
        let describe = |(what, code): (&'static str, DriverError)| error(format!("{what}: {}", explain(code)));
        let count = count().map_err(error)?;
        let index = i32::try_from(ordinal).ok().filter(|&i| i < count);
        let index = index.ok_or_else(|| error(format!("this machine has {count} GPUs, counted from 0")))?;
        let device = result::device::get(index).map_err(failed("opening the GPU")).map_err(describe)?;
        let chip = result::device::get_name(device).map_err(failed("naming the GPU")).map_err(describe)?;
        let attribute = |which| {
            // SAFETY: the device came from the driver.
            unsafe { result::device::get_attribute(device, which) }.map_err(failed("asking the GPU")).map_err(describe)
        };
        let major = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        if major < 8 {
            return Err(error(format!("{chip} has compute capability {major}.{minor}; the kernels need 8.0 (Ampere) or later")));
        }
        let multiprocessors = attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        // SAFETY: the device came from the driver.
        let handle = unsafe { result::primary_ctx::retain(device) }.map_err(failed("making a context")).map_err(describe)?;
        let context = Context { device, handle };
        // SAFETY: the context was just retained.
        unsafe { result::ctx::set_current(handle) }.map_err(failed("entering the context")).map_err(describe)?;
        // Not the default stream: that one waits for all others, and cannot be captured.
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking);
        let stream = stream.map_err(failed("making a stream")).map_err(describe)?;
        let mut version = 0;
        // SAFETY: an integer to write to. Without an answer the version is 0.
        let _ = unsafe { sys::cuDriverGetVersion(&mut version) };
        let chip = format!(
            "{chip}, compute capability {major}.{minor}, {multiprocessors} multiprocessors, driver for CUDA {}.{}",
            version / 1000,
            version % 1000 / 10
        );
        let multiprocessors = usize::try_from(multiprocessors).unwrap_or(1);
        Ok(Gpu { name, chip, multiprocessors, capability: (major, minor), stream, loaded: Mutex::default(), context })
    }

    pub fn error(&self, what: &str, code: DriverError) -> Error {
        Error::Device { device: self.name.clone(), message: format!("{what}: {}", explain(code)) }
    }

    /// Makes the context this thread's, as every call below needs; gives the stream.
    pub fn enter(&self) -> Result<sys::CUstream> {
        // SAFETY: the context is alive as long as this value.
        unsafe { result::ctx::set_current(self.context.handle) }.map_err(|code| self.error("entering the context", code))?;
        Ok(self.stream)
    }

    /// The kernel, loaded and allowed as much shared memory as this launch wants.
    fn function(&self, module: &'static Module, kernel: &str, dynamic_shared: u32) -> Result<Function> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.functions.get(kernel).copied();
        if let Some(function) = known.filter(|function| dynamic_shared <= function.dynamic_shared) {
            return Ok(function);
        }
        let mut function = match known {
            Some(function) => function,
            None => self.load(&mut loaded, module, kernel)?,
        };
        if dynamic_shared > 0 {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = i32::try_from(dynamic_shared).unwrap_or(i32::MAX);
            // SAFETY: the function was found in a module that stays loaded.
            unsafe { result::function::set_function_attribute(function.handle, attribute, bytes) }
                .map_err(|code| self.error(&format!("{kernel}: {dynamic_shared} bytes of shared memory"), code))?;
            function.dynamic_shared = dynamic_shared;
        }
        loaded.functions.insert(kernel.to_owned(), function);
        Ok(function)
    }

    fn load(&self, loaded: &mut Loaded, module: &'static Module, kernel: &str) -> Result<Function> {
        let text = module.text(self.capability);
        let handle = match loaded.modules.get(module.name) {
            Some(&handle) => handle,
            None => {
                // SAFETY: the text ends in a NUL (`module!` appends it).
                let handle = unsafe { result::module::load_data(text.as_ptr().cast()) }.map_err(|code| {
                    self.error(&format!("loading the kernels of {} (PTX 8.4 needs driver 550)", module.name), code)
                })?;
                loaded.modules.insert(module.name, handle);
                handle
            }
        };
        let invalid =
            || Error::Device { device: self.name.clone(), message: format!("{kernel:?} is no kernel of {}", module.name) };
        let name = CString::new(kernel).map_err(|_| invalid())?;
        let parameter = Module::parameter_bytes(text, kernel).ok_or_else(invalid)?;
        // SAFETY: the module is loaded.
        let handle = unsafe { result::module::get_function(handle, name) }.map_err(|code| self.error(kernel, code))?;
        Ok(Function { handle, parameter, dynamic_shared: 0 })
    }

    /// Puts a launch into `stream`.
    pub fn launch(
        &self,
        stream: sys::CUstream,
        module: &'static Module,
        kernel: &str,
        launch: Launch,
        parameter: &[u8],
    ) -> Result<()> {
        let function = self.function(module, kernel, launch.dynamic_shared)?;
        if parameter.len() != function.parameter {
            let message = format!("{kernel}: a parameter of {} bytes, not {}", function.parameter, parameter.len());
            return Err(Error::Device { device: self.name.clone(), message });
        }
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        let (grid, block, shared) = ((gx, gy, gz), (bx, by, bz), launch.dynamic_shared);
        let mut parameters = [parameter.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the parameter is the struct that the kernel declares, as far as its size tells, which the driver copies before it returns;
        // the addresses in it are of tensors whose memory is reused only by later work of the same stream.
        unsafe { result::launch_kernel(function.handle, grid, block, shared, stream, &mut parameters) }
            .map_err(|code| self.error(kernel, code))
    }

    /// Encodes a tensor map.
    pub fn tensor_map(&self, map: &TensorMap) -> Result<EncodedMap> {
        let dtype = match map.dtype {
            DType::BF16 => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            _ => sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        };
        let sizes: Vec<u64> = map.sizes.iter().map(|&size| size as u64).collect();
        let strides: Vec<u64> = map.strides.iter().map(|&stride| stride as u64).collect();
        let (tile, steps) = (map.tile(), [1u32; 5]);
        let rank = sizes.len().min(strides.len() + 1).min(steps.len());
        let mut encoded = sys::CUtensorMap { opaque: [0; 16] };
        // SAFETY: each array has as many dimensions as the driver is told of; the address is only written down.
        let code = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut encoded,
                dtype,
                rank as u32,
                map.address as *mut c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                tile.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        code.result().map_err(|code| self.error(&format!("encoding a tensor map {map:?}"), code))?;
        Ok(encoded.opaque)
    }

    /// Puts a copy from one place of the device to another into `stream`.
    pub fn copy(&self, stream: sys::CUstream, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: the backend has checked both ranges, of memory that is reused only by later work of the same stream.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }.map_err(|code| self.error("copying on the GPU", code))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let loaded = self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the context is released after this.
        if unsafe { result::ctx::set_current(self.context.handle) }.is_err() {
            return;
        }
        // Failures here leave a handle to the end of the process.
        // SAFETY: made by `open`; the work in it is finished before the modules go.
        let _ = unsafe { result::stream::synchronize(self.stream) };
        for module in loaded.modules.values() {
            // SAFETY: loaded once, and no kernel of it can be launched any more.
            let _ = unsafe { result::module::unload(*module) };
        }
        // SAFETY: made by `open`, and nobody else has it any more.
        let _ = unsafe { result::stream::destroy(self.stream) };
    }
}

/// A moment in a GPU's stream.
pub struct Moment {
    gpu: Arc<Gpu>,
    handle: sys::CUevent,
}

// SAFETY: an event is a handle that the driver lets every thread use.
unsafe impl Send for Moment {}

impl Moment {
    /// Not yet in the stream.
    fn new(gpu: &Arc<Gpu>, flags: sys::CUevent_flags) -> Result<Self> {
        gpu.enter()?;
        let handle = result::event::create(flags).map_err(|code| gpu.error("making an event", code))?;
        Ok(Moment { gpu: Arc::clone(gpu), handle })
    }

    /// Where the stream is now.
    pub fn now(gpu: &Arc<Gpu>) -> Result<Self> {
        let moment = Moment::new(gpu, sys::CUevent_flags::CU_EVENT_DEFAULT)?;
        moment.record()?;
        Ok(moment)
    }

    fn record(&self) -> Result<()> {
        let stream = self.gpu.enter()?;
        // SAFETY: event and stream are alive.
        unsafe { result::event::record(self.handle, stream) }.map_err(|code| self.gpu.error("recording an event", code))
    }

    /// Waits until the stream has come here. One that is not in the stream is not waited for.
    fn wait(&self) -> Result<()> {
        self.gpu.enter()?;
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(self.handle) }.map_err(|code| self.gpu.error("waiting for the GPU", code))
    }

    /// Seconds since `earlier`.
    pub fn since(&self, earlier: &Moment) -> Result<f64> {
        self.wait()?;
        // SAFETY: both are alive and lie in the same stream.
        let milliseconds = unsafe { result::event::elapsed(earlier.handle, self.handle) };
        milliseconds.map(|ms| f64::from(ms) * 1e-3).map_err(|code| self.gpu.error("reading the GPU's clock", code))
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        if self.gpu.enter().is_ok() {
            // SAFETY: made by `new`. A failure leaves it to the end of the process.
            let _ = unsafe { result::event::destroy(self.handle) };
        }
    }
}

/// Pinned memory, and the copy that uses it.
pub struct Pinned {
    memory: NonNull<u8>,
    copied: Moment,
}

// SAFETY: the memory is this value's own; the handle in it is any thread's.
unsafe impl Send for Pinned {}

impl Pinned {
    pub fn new(gpu: &Arc<Gpu>) -> Result<Self> {
        let copied = Moment::new(gpu, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        // SAFETY: the context is current since the event was made.
        let memory = unsafe { result::malloc_host(CHUNK, 0) };
        let memory = memory.map_err(|code| gpu.error(&format!("pinning {CHUNK} bytes of memory"), code))?.cast::<u8>();
        let null = || Error::Device { device: gpu.name.clone(), message: "pinned memory at address 0".into() };
        let memory = NonNull::new(memory).ok_or_else(null)?;
        // SAFETY: as many bytes, and nobody else's; the buffer is read before all of it has been copied to.
        unsafe { memory.as_ptr().write_bytes(0, CHUNK) };
        Ok(Pinned { memory, copied })
    }
}

impl Lane for Pinned {
    fn buffer(&mut self) -> &mut [u8] {
        // SAFETY: initialised by `new`; `Lane`'s contract is that no copy is under way.
        unsafe { slice::from_raw_parts_mut(self.memory.as_ptr(), CHUNK) }
    }

    fn send(&mut self, bytes: usize, address: u64) -> Result<()> {
        let gpu = Arc::clone(&self.copied.gpu);
        let stream = gpu.enter()?;
        // SAFETY: the backend has checked the range; the buffer is not touched before `wait`.
        unsafe { result::memcpy_htod_async(address, &self.buffer()[..bytes], stream) }
            .map_err(|code| gpu.error("copying to the GPU", code))?;
        self.copied.record()
    }

    fn fetch(&mut self, address: u64, bytes: usize) -> Result<()> {
        let gpu = Arc::clone(&self.copied.gpu);
        let stream = gpu.enter()?;
        // SAFETY: the backend has checked the range; the buffer is not touched before `wait`.
        unsafe { result::memcpy_dtoh_async(&mut self.buffer()[..bytes], address, stream) }
            .map_err(|code| gpu.error("copying from the GPU", code))?;
        self.copied.record()
    }

    fn wait(&mut self) -> Result<()> {
        self.copied.wait()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Where the copy cannot be waited for, the memory is left to it.
        if self.copied.wait().is_ok() {
            // SAFETY: allocated by `new`, and no copy uses it any more.
            let _ = unsafe { result::free_host(self.memory.as_ptr().cast()) };
        }
    }
}
