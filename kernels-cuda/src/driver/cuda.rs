//! NVIDIA's driver, loaded when first asked for.

use std::{
    any::Any,
    collections::HashMap,
    ffi::{CString, c_void},
    sync::{Mutex, PoisonError},
};

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};
use tubelet_engine::{Error, Result};

use super::{Driver, Launch, Module};

/// A GPU of this machine: its primary context and one stream of work, the default one.
pub struct Cuda {
    name: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    chip: String,
    multiprocessors: usize,
    loaded: Mutex<Loaded>,
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

// SAFETY: contexts, modules and functions are handles that the driver lets every thread use; each call makes the context current first.
unsafe impl Send for Cuda {}
// SAFETY: as above; the tables are behind a lock.
unsafe impl Sync for Cuda {}

impl Cuda {
    /// GPU `ordinal`.
    ///
    /// # Errors
    /// Without a driver, without that GPU, and for chips before Ampere (compute capability 8.0), which the kernels are not written for.
    pub fn new(ordinal: usize) -> Result<Self> {
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
        // SAFETY: the device came from the driver; the context is released when this value is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed("making a context")).map_err(describe)?;
        let chip = format!("{chip}, compute capability {major}.{minor}, {multiprocessors} multiprocessors");
        let multiprocessors = usize::try_from(multiprocessors).unwrap_or(1);
        Ok(Cuda { name, device, context, chip, multiprocessors, loaded: Mutex::default() })
    }

    fn error(&self, what: &str, code: DriverError) -> Error {
        Error::Device { device: self.name.clone(), message: format!("{what}: {}", explain(code)) }
    }

    /// Makes the context this thread's, as every call below needs.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context is alive as long as this value.
        unsafe { result::ctx::set_current(self.context) }.map_err(|code| self.error("entering the context", code))
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
        let handle = match loaded.modules.get(module.name) {
            Some(&handle) => handle,
            None => {
                // SAFETY: the text ends in a NUL (`module!` appends it).
                let handle = unsafe { result::module::load_data(module.ptx.as_ptr().cast()) }.map_err(|code| {
                    self.error(&format!("loading the kernels of {} (PTX 8.4 needs driver 550)", module.name), code)
                })?;
                loaded.modules.insert(module.name, handle);
                handle
            }
        };
        let invalid =
            || Error::Device { device: self.name.clone(), message: format!("{kernel:?} is no kernel of {}", module.name) };
        let name = CString::new(kernel).map_err(|_| invalid())?;
        let parameter = module.parameter_bytes(kernel).ok_or_else(invalid)?;
        // SAFETY: the module is loaded.
        let handle = unsafe { result::module::get_function(handle, name) }.map_err(|code| self.error(kernel, code))?;
        Ok(Function { handle, parameter, dynamic_shared: 0 })
    }
}

/// How many GPUs the driver knows, or why it cannot be asked.
pub(crate) fn count() -> std::result::Result<i32, String> {
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

impl Driver for Cuda {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> String {
        let memory = self.memory().map_or(0, |(_, total)| total >> 30);
        format!("{}, {memory} GiB; PTX for compute_80", self.chip)
    }

    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        self.enter()?;
        // SAFETY: the context is current.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(address)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(code) => Err(self.error(&format!("allocating {bytes} bytes"), code)),
        }
    }

    fn free(&self, address: u64) -> Result<()> {
        self.enter()?;
        // SAFETY: the allocator frees each allocation once; the driver waits for work that uses it.
        unsafe { result::free_sync(address) }.map_err(|code| self.error("freeing memory", code))
    }

    fn upload(&self, src: &[u8], address: u64) -> Result<()> {
        self.enter()?;
        // SAFETY: the backend has checked the range; a copy from pageable memory has read `src` when it returns.
        unsafe { result::memcpy_htod_sync(address, src) }.map_err(|code| self.error("copying to the GPU", code))
    }

    fn download(&self, address: u64, dst: &mut [u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the backend has checked the range; the copy comes after all work of the stream and is done when it returns.
        unsafe { result::memcpy_dtoh_sync(dst, address) }.map_err(|code| self.error("copying from the GPU", code))
    }

    fn launch(&self, module: &'static Module, kernel: &str, launch: Launch, parameter: &[u8]) -> Result<()> {
        self.enter()?;
        let function = self.function(module, kernel, launch.dynamic_shared)?;
        if parameter.len() != function.parameter {
            let message = format!("{kernel}: a parameter of {} bytes, not {}", function.parameter, parameter.len());
            return Err(Error::Device { device: self.name.clone(), message });
        }
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        let mut parameters = [parameter.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the parameter is the struct that the kernel declares, as far as its size tells, which the driver copies before it returns;
        // the addresses in it are of tensors whose memory is reused only by later work of the same stream.
        unsafe {
            result::launch_kernel(
                function.handle,
                (gx, gy, gz),
                (bx, by, bz),
                launch.dynamic_shared,
                std::ptr::null_mut(),
                &mut parameters,
            )
        }
        .map_err(|code| self.error(kernel, code))
    }

    fn synchronize(&self) -> Result<()> {
        self.enter()?;
        result::ctx::synchronize().map_err(|code| self.error("waiting for the GPU", code))
    }

    fn memory(&self) -> Result<(usize, usize)> {
        self.enter()?;
        result::mem_get_info().map_err(|code| self.error("asking for memory", code))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        let loaded = self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner);
        if enter(self.context) {
            for module in loaded.modules.values() {
                // SAFETY: loaded once, and no kernel of it can be launched any more. A failure leaves the module to the end of the process.
                let _ = unsafe { result::module::unload(*module) };
            }
        }
        // SAFETY: retained once by `new`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

fn enter(context: sys::CUcontext) -> bool {
    // SAFETY: called before the context is released.
    unsafe { result::ctx::set_current(context) }.is_ok()
}
