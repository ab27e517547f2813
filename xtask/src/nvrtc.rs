//! NVIDIA's run-time compiler, called ahead of time: it is the only CUDA compiler that comes as a library without a toolkit.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    path::{Path, PathBuf},
    ptr::null,
};

use libloading::Library;

/// `nvrtcProgram`.
type Program = *mut c_void;
/// `nvrtcResult`: 0 is success.
type Status = c_int;
type SizeOf = unsafe extern "C" fn(Program, *mut usize) -> Status;
type TextOf = unsafe extern "C" fn(Program, *mut c_char) -> Status;

/// The compiler, loaded.
pub struct Nvrtc {
    library: Library,
    /// Where it was found.
    pub path: PathBuf,
}

/// What is left of a compilation, destroyed with it.
struct Compilation<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Nvrtc {
    /// The library that `TUBELET_NVRTC` names, else the newest among the system's.
    pub fn load() -> Result<Self, String> {
        let path = match std::env::var_os("TUBELET_NVRTC") {
            Some(path) => PathBuf::from(path),
            None => newest().ok_or("no libnvrtc among the system's libraries; TUBELET_NVRTC may name one")?,
        };
        // SAFETY: NVRTC's initialisers have no demands.
        let library = unsafe { Library::new(&path) }.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Nvrtc { library, path })
    }

    fn function<F: Copy>(&self, name: &str) -> Result<F, String> {
        // SAFETY: each caller names the type that nvrtc.h declares; the pointer is used while the library is loaded.
        let symbol = unsafe { self.library.get::<F>(name) };
        symbol.map(|f| *f).map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// Major and minor version.
    pub fn version(&self) -> Result<(i32, i32), String> {
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status = self.function("nvrtcVersion")?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two integers to write to.
        succeeded("nvrtcVersion", unsafe { version(&mut major, &mut minor) })?;
        Ok((major, minor))
    }

    /// PTX of `source`. An error is the compiler's log.
    pub fn compile(&self, name: &str, source: &str, options: &[String]) -> Result<String, String> {
        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> Status;
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
        let text = |text: &str| CString::new(text).map_err(|_| format!("{name}: a NUL in the text"));
        let (title, source) = (text(name)?, text(source)?);
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| "too many options")?;

        let create: Create = self.function("nvrtcCreateProgram")?;
        let compile: Compile = self.function("nvrtcCompileProgram")?;
        let mut compilation = Compilation { nvrtc: self, program: std::ptr::null_mut() };
        // SAFETY: two strings, and no headers in memory.
        let created = unsafe { create(&mut compilation.program, source.as_ptr(), title.as_ptr(), 0, null(), null()) };
        succeeded("nvrtcCreateProgram", created)?;
        // SAFETY: the program was created; `count` strings.
        let compiled = unsafe { compile(compilation.program, count, pointers.as_ptr()) };
        if compiled != 0 {
            return Err(compilation.text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?);
        }
        compilation.text("nvrtcGetPTXSize", "nvrtcGetPTX")
    }
}

impl Compilation<'_> {
    fn text(&self, size: &str, get: &str) -> Result<String, String> {
        let size_of: SizeOf = self.nvrtc.function(size)?;
        let text_of: TextOf = self.nvrtc.function(get)?;
        let mut bytes = 0;
        // SAFETY: a program and a size to write to.
        succeeded(size, unsafe { size_of(self.program, &mut bytes) })?;
        let mut text = vec![0_u8; bytes];
        // SAFETY: as many bytes as it asked for.
        succeeded(get, unsafe { text_of(self.program, text.as_mut_ptr().cast()) })?;
        while text.last() == Some(&0) {
            text.pop();
        }
        String::from_utf8(text).map_err(|error| format!("{get}: {error}"))
    }
}

impl Drop for Compilation<'_> {
    fn drop(&mut self) {
        if let Ok(destroy) = self.nvrtc.function::<unsafe extern "C" fn(*mut Program) -> Status>("nvrtcDestroyProgram") {
            // SAFETY: created once, or null, which NVRTC refuses.
            unsafe { destroy(&mut self.program) };
        }
    }
}

fn succeeded(what: &str, status: Status) -> Result<(), String> {
    if status == 0 { Ok(()) } else { Err(format!("{what} failed with code {status}")) }
}

/// The newest NVRTC where systems and toolkits put it.
fn newest() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("LD_LIBRARY_PATH").iter().flat_map(std::env::split_paths).collect();
    folders.extend(
        ["/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
            .map(PathBuf::from),
    );
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let libraries = entries.map(|entry| entry.path()).filter_map(|path| Some((suffix(&path)?, path)));
    libraries.max().map(|(_, path)| path)
}

/// The version in `libnvrtc.so.12.4`.
fn suffix(path: &Path) -> Option<Vec<u32>> {
    let rest = path.file_name()?.to_str()?.strip_prefix("libnvrtc.so")?;
    Some(rest.split('.').filter_map(|part| part.parse().ok()).collect())
}
