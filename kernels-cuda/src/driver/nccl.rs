//! GPUs that exchange numbers through NCCL, from memory to memory.
//!
//! The library is opened when first asked for. That is not left to cudarc: it looks for `libnccl.so`, which only packages for developers have, and
//! panics where a function is missing. Twelve functions of NCCL's C interface are called; all have been there since NCCL 2.7.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::{Arc, OnceLock},
};

use cudarc::driver::sys::CUstream;
use libloading::Library;
use tubelet_engine::{Device, Error, Result};

use super::{Communicator, cuda::Cuda, gpu::Gpu};
use crate::backend::CudaBackend;

/// That of packages that only run programs comes first.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// The first version that sends from rank to rank.
const OLDEST: c_int = 2700;
/// `ncclFloat32`.
const FLOAT: c_int = 7;

/// What all ranks of a group are told by the one that made it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Id(pub [u8; 128]);

type Handle = *mut c_void;

/// What is used of the library, which stays open: it has threads of its own.
struct Functions {
    error: unsafe extern "C" fn(c_int) -> *const c_char,
    unique_id: unsafe extern "C" fn(*mut Id) -> c_int,
    join: unsafe extern "C" fn(*mut Handle, c_int, Id, c_int) -> c_int,
    destroy: unsafe extern "C" fn(Handle) -> c_int,
    abort: unsafe extern "C" fn(Handle) -> c_int,
    group_start: unsafe extern "C" fn() -> c_int,
    group_end: unsafe extern "C" fn() -> c_int,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Handle, CUstream) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Handle, CUstream) -> c_int,
    all_gather: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Handle, CUstream) -> c_int,
    broadcast: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, CUstream) -> c_int,
}

fn unavailable(message: String) -> Error {
    Error::Device { device: "nccl".into(), message }
}

/// What failed and, behind it, what the system says.
fn reason(error: &libloading::Error) -> String {
    let behind = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", behind.unwrap_or_default())
}

impl Functions {
    /// The library's, opened once.
    fn get() -> Result<&'static Functions> {
        static OPENED: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
        OPENED.get_or_init(Functions::open).as_ref().map_err(|why| unavailable(why.clone()))
    }

    fn open() -> std::result::Result<Functions, String> {
        // SAFETY: opening runs the library's initialisers; those of NCCL touch nothing of ours.
        let open = |name: &str| unsafe { Library::new(name) };
        let opened = open(NAMES[0]).or_else(|first| open(NAMES[1]).map_err(|_| first));
        let missing =
            |why| format!("NCCL 2 cannot be opened ({}: package libnccl2, or nvidia-nccl-cu12 of PyPI): {why}", NAMES[0]);
        let library: &'static Library = Box::leak(Box::new(opened.map_err(|error| missing(reason(&error)))?));
        /// A function of the library.
        ///
        /// # Safety
        /// `T` is its type.
        unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> std::result::Result<T, String> {
            // SAFETY: the caller's promise.
            let found = unsafe { library.get::<T>(name.as_bytes()) };
            found.map(|x| *x).map_err(|error| format!("the library is not NCCL 2.7 or later: {}", reason(&error)))
        }
        // SAFETY: the types are those of `nccl.h`, where handles are pointers, enums are `int`s, and the id is a struct of 128 bytes.
        let (functions, version) = unsafe {
            let functions = Functions {
                error: symbol(library, "ncclGetErrorString")?,
                unique_id: symbol(library, "ncclGetUniqueId")?,
                join: symbol(library, "ncclCommInitRank")?,
                destroy: symbol(library, "ncclCommDestroy")?,
                abort: symbol(library, "ncclCommAbort")?,
                group_start: symbol(library, "ncclGroupStart")?,
                group_end: symbol(library, "ncclGroupEnd")?,
                send: symbol(library, "ncclSend")?,
                receive: symbol(library, "ncclRecv")?,
                all_gather: symbol(library, "ncclAllGather")?,
                broadcast: symbol(library, "ncclBroadcast")?,
            };
            type Version = unsafe extern "C" fn(*mut c_int) -> c_int;
            (functions, symbol::<Version>(library, "ncclGetVersion")?)
        };
        let mut number = 0;
        // SAFETY: an integer to write to.
        functions.check("ncclGetVersion", unsafe { version(&raw mut number) })?;
        if number < OLDEST { Err(format!("NCCL's version is {number}, expected at least {OLDEST}")) } else { Ok(functions) }
    }

    fn check(&self, function: &str, code: c_int) -> std::result::Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the library gives a constant text for every number.
        let text = unsafe { (self.error)(code) };
        // SAFETY: as above, if it gives any.
        let text = if text.is_null() { "no reason given".into() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy() };
        Err(format!("{function}: {text} (NCCL_DEBUG=WARN says more)"))
    }
}

impl Id {
    /// Of a new group.
    ///
    /// # Errors
    /// Where NCCL is not installed, or finds no way to other processes.
    pub fn new() -> Result<Self> {
        let functions = Functions::get()?;
        let mut id = Id([0; 128]);
        // SAFETY: an id to write to.
        functions.check("ncclGetUniqueId", unsafe { (functions.unique_id)(&raw mut id) }).map_err(unavailable)?;
        Ok(id)
    }
}

/// Whether NCCL can be used.
///
/// # Errors
/// Why it cannot.
pub fn available() -> Result<()> {
    Functions::get().map(|_| ())
}

/// A GPU's rank among those that joined with the same id.
pub struct Nccl {
    rank: usize,
    size: usize,
    handle: Handle,
    functions: &'static Functions,
    gpu: Arc<Gpu>,
}

// SAFETY: the library lets every thread use a communicator, though only one at a time; this value is not shared.
unsafe impl Send for Nccl {}

impl Nccl {
    /// Joins as rank `rank` of `size`, and waits for the others. Each rank has a GPU of its own.
    ///
    /// # Errors
    /// Where `device` is no GPU of the driver, NCCL is not installed, or the others cannot be reached.
    pub fn join(device: &Device, id: Id, rank: usize, size: usize) -> Result<Self> {
        let driver = device.downcast::<CudaBackend>().map(|cuda| cuda.driver().as_any());
        let other = || unavailable(format!("{} is not a GPU of NVIDIA's driver", device.name()));
        let gpu = Arc::clone(driver.and_then(|driver| driver.downcast_ref::<Cuda>()).ok_or_else(other)?.gpu());
        let functions = Functions::get()?;
        gpu.enter()?;
        let number = |n: usize| c_int::try_from(n).map_err(|_| unavailable(format!("{n} is no number of a rank")));
        let mut handle = ptr::null_mut();
        // SAFETY: the GPU's context is current, and there is a handle to write to.
        let code = unsafe { (functions.join)(&raw mut handle, number(size)?, id, number(rank)?) };
        functions.check("ncclCommInitRank", code).map_err(unavailable)?;
        Ok(Nccl { rank, size, handle, functions, gpu })
    }

    fn check(&self, function: &str, code: c_int) -> Result<()> {
        let error = |message| Error::Device { device: self.gpu.name.clone(), message };
        self.functions.check(function, code).map_err(error)
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_to_all(&self, from: u64, to: u64, count: usize) -> Result<()> {
        let stream = self.gpu.enter()?;
        // SAFETY: no arguments.
        self.check("ncclGroupStart", unsafe { (self.functions.group_start)() })?;
        let exchanged = (0..self.size).try_for_each(|rank| {
            let (at, peer) = ((rank * count * 4) as u64, rank as c_int);
            let (from, to) = ((from + at) as *const c_void, (to + at) as *mut c_void);
            // SAFETY: the caller has as many numbers for every rank in both places, which only later work of the stream uses again.
            self.check("ncclSend", unsafe { (self.functions.send)(from, count, FLOAT, peer, self.handle, stream) })?;
            // SAFETY: as above.
            self.check("ncclRecv", unsafe { (self.functions.receive)(to, count, FLOAT, peer, self.handle, stream) })
        });
        // SAFETY: the group was started, and ends whatever came of it.
        let ended = self.check("ncclGroupEnd", unsafe { (self.functions.group_end)() });
        exchanged.and(ended)
    }

    fn all_gather(&self, from: u64, to: u64, count: usize) -> Result<()> {
        let stream = self.gpu.enter()?;
        // SAFETY: the caller has `count` numbers at `from` and room for every rank's at `to`, which only later work of the stream uses again.
        let code =
            unsafe { (self.functions.all_gather)(from as *const c_void, to as *mut c_void, count, FLOAT, self.handle, stream) };
        self.check("ncclAllGather", code)
    }

    fn broadcast(&self, address: u64, count: usize) -> Result<()> {
        let (stream, place) = (self.gpu.enter()?, address as *mut c_void);
        // SAFETY: the caller has `count` numbers there; NCCL lets both pointers be one.
        let code = unsafe { (self.functions.broadcast)(place, place, count, FLOAT, 0, self.handle, stream) };
        self.check("ncclBroadcast", code)
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        if self.gpu.enter().is_err() {
            return;
        }
        // SAFETY: made by `join`, and used no more. To destroy it waits for work that a rank which panics leaves the others without.
        let _ = unsafe {
            if std::thread::panicking() { (self.functions.abort)(self.handle) } else { (self.functions.destroy)(self.handle) }
        };
    }
}
