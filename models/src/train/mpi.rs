//! Processes that `mpirun` started, through Open MPI.
//!
//! The library is opened when the program runs, as the CUDA driver is: building needs no MPI, and a machine without one gets an error that says
//! so. That is also why the crate `mpi` is not used: it compiles against MPI's headers and needs libclang to read them. Eight functions of the
//! MPI standard (3.1) are called, all from the thread that opened the library. Handles are what Open MPI's `mpi.h` makes of them, pointers
//! to objects of its library, and no other implementation has those objects: MPICH is refused by name.

use std::{
    ffi::{c_int, c_void},
    marker::PhantomData,
    ptr,
};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tubelet_engine::{Error, Result, Tensor};

use super::parallel::{Group, on_host};

/// Open MPI's library: version 4 and 5 have the same number, Debian's packages without headers have no other name.
const NAMES: [&str; 2] = ["libmpi.so.40", "libmpi.so"];
/// Numbers of a message, for each process: an `int` counts them, and the two buffers stay small.
const MESSAGE: usize = 1 << 20;
/// `MPI_THREAD_FUNNELED`: other threads exist, and do not call MPI.
const FUNNELED: c_int = 1;

type Handle = *mut c_void;
type Exchange = unsafe extern "C" fn(*const c_void, c_int, Handle, *mut c_void, c_int, Handle, Handle) -> c_int;

/// What is used of the library.
struct Functions {
    world: Handle,
    float: Handle,
    all_to_all: Exchange,
    all_gather: Exchange,
    broadcast: unsafe extern "C" fn(*mut c_void, c_int, Handle, c_int, Handle) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
    abort: unsafe extern "C" fn(Handle, c_int) -> c_int,
    /// The functions are its.
    library: Library,
}

/// The processes of `MPI_COMM_WORLD`. There can be one such value in a process, once.
pub struct Mpi {
    functions: Functions,
    rank: usize,
    size: usize,
    /// MPI is called from the thread that opened it.
    thread: PhantomData<*const ()>,
}

fn unavailable(message: String) -> Error {
    Error::Device { device: "mpi".into(), message }
}

/// What failed and, behind it, what the system says.
fn reason(error: &libloading::Error) -> String {
    let behind = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", behind.unwrap_or_default())
}

fn check(function: &str, code: c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(unavailable(format!("{function} gave the error code {code}"))) }
}

impl Mpi {
    /// Joins the processes that `mpirun` started with this one; without `mpirun` it is one of one.
    ///
    /// # Errors
    /// [`Error::Device`] where Open MPI is not installed, or another MPI answers to its name.
    pub fn open() -> Result<Self> {
        let open = |name: &str| {
            // SAFETY: opening runs the library's initialisers; those of Open MPI only register it. Its plug-ins look for its symbols among the
            // global ones.
            unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| reason(&error))
        };
        let library = open(NAMES[0]).or_else(|first| open(NAMES[1]).map_err(|_| first));
        let library = library.map_err(|why| unavailable(format!("Open MPI (Debian: openmpi-bin) cannot be opened: {why}")))?;
        /// A function or object of the library.
        ///
        /// # Safety
        /// `T` is its type.
        unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T> {
            // SAFETY: the caller's promise.
            let found = unsafe { library.get::<T>(name.as_bytes()) };
            found.map(|x| *x).map_err(|error| unavailable(format!("the library is not Open MPI's: {}", reason(&error))))
        }
        // SAFETY: handles are the addresses of these objects (`OMPI_PREDEFINED_GLOBAL` in `mpi.h`), and the functions are as the standard's C
        // bindings declare them, with handles that are pointers.
        let (functions, initialize, rank, size) = unsafe {
            let functions = Functions {
                world: symbol(&library, "ompi_mpi_comm_world")?,
                float: symbol(&library, "ompi_mpi_float")?,
                all_to_all: symbol(&library, "MPI_Alltoall")?,
                all_gather: symbol(&library, "MPI_Allgather")?,
                broadcast: symbol(&library, "MPI_Bcast")?,
                finalize: symbol(&library, "MPI_Finalize")?,
                abort: symbol(&library, "MPI_Abort")?,
                library,
            };
            type Initialize = unsafe extern "C" fn(*mut c_int, *mut *mut *mut i8, c_int, *mut c_int) -> c_int;
            type Ask = unsafe extern "C" fn(Handle, *mut c_int) -> c_int;
            let initialize: Initialize = symbol(&functions.library, "MPI_Init_thread")?;
            let rank: Ask = symbol(&functions.library, "MPI_Comm_rank")?;
            let size: Ask = symbol(&functions.library, "MPI_Comm_size")?;
            (functions, initialize, rank, size)
        };
        let (mut provided, mut numbers) = (0, [0; 2]);
        // SAFETY: null arguments are allowed since MPI 2; the other pointers are to this function's own variables.
        unsafe {
            check("MPI_Init_thread", initialize(ptr::null_mut(), ptr::null_mut(), FUNNELED, &raw mut provided))?;
            check("MPI_Comm_rank", rank(functions.world, &raw mut numbers[0]))?;
            check("MPI_Comm_size", size(functions.world, &raw mut numbers[1]))?;
        }
        let [rank, size] = numbers.map(|n| n.max(0) as usize);
        Ok(Mpi { functions, rank, size: size.max(1), thread: PhantomData })
    }

    /// The sum over the processes: each adds up a slice of it in the order of ranks, and has the slices of the others. Twice the numbers travel, as
    /// in any all-reduce; `MPI_Allreduce` leaves the order of its sums to the implementation.
    fn sum(&self, numbers: &mut [f32]) -> Result<()> {
        let slice = numbers.len().div_ceil(self.size).clamp(1, MESSAGE);
        let [mut window, mut received] = [vec![0.0f32; slice * self.size], vec![0.0f32; slice * self.size]];
        for part in numbers.chunks_mut(slice * self.size) {
            window[..part.len()].copy_from_slice(part);
            window[part.len()..].fill(0.0);
            self.exchange("MPI_Alltoall", self.functions.all_to_all, &window, &mut received, slice)?;
            let mut sum = received[..slice].to_vec();
            for other in received[slice..].chunks(slice) {
                sum.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
            }
            self.exchange("MPI_Allgather", self.functions.all_gather, &sum, &mut window, slice)?;
            part.copy_from_slice(&window[..part.len()]);
        }
        Ok(())
    }

    /// `count` numbers for each process from `send`, as many from each into `receive`.
    fn exchange(&self, name: &str, function: Exchange, send: &[f32], receive: &mut [f32], count: usize) -> Result<()> {
        let Functions { world, float, .. } = self.functions;
        let n = count as c_int;
        // SAFETY: an all-to-all sends, and both receive, `count` numbers for each process: the callers' windows have them; an all-gather sends
        // `count`. `count` is at most `MESSAGE`.
        check(name, unsafe { function(send.as_ptr().cast(), n, float, receive.as_mut_ptr().cast(), n, float, world) })
    }
}

impl Group for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, tensors: &mut [Tensor]) -> Result<()> {
        on_host(tensors, &mut |numbers| self.sum(numbers))
    }

    fn broadcast(&self, tensors: &mut [Tensor]) -> Result<()> {
        on_host(tensors, &mut |numbers| {
            numbers.chunks_mut(MESSAGE).try_for_each(|part| {
                let (start, n) = (part.as_mut_ptr().cast(), part.len() as c_int);
                // SAFETY: every process has as many numbers, and `n` of them are there.
                check("MPI_Bcast", unsafe { (self.functions.broadcast)(start, n, self.functions.float, 0, self.functions.world) })
            })
        })
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // SAFETY: MPI was initialised, and is used no more. A process that panics will never come to the others' next exchange: it ends them.
        unsafe {
            if std::thread::panicking() {
                (self.functions.abort)(self.functions.world, 1);
            } else {
                (self.functions.finalize)();
            }
        }
    }
}
