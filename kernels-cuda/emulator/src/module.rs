//! A parsed module.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::decode::{kernel, place};
use crate::fault::Fault;
use crate::flow;
use crate::memory::storage::Storage;
use crate::program::Kernel;
use crate::syntax::ast::Variable;
use crate::syntax::parse;

/// The next module's number.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Kernels, decoded and ready to launch.
pub struct Module {
    /// Tells modules apart: each has its own variables in each emulator.
    pub(crate) number: u64,
    pub(crate) kernels: Vec<Kernel>,
    /// `.global` variables, allocated at the first launch that needs them.
    pub(crate) globals: Vec<Variable>,
    pub(crate) constants: Storage,
}

impl Module {
    /// Parses and decodes the text of a module.
    ///
    /// # Errors
    /// [`crate::FaultKind::Malformed`] for what is not PTX, and [`crate::FaultKind::UnknownInstruction`] with the text of the first
    /// instruction that the emulator does not know.
    pub fn parse(text: &str) -> Result<Module, Fault> {
        let unit = parse(text).map_err(|e| e.fault(""))?;
        let variables = place(unit.variables).map_err(|e| e.fault(""))?;
        let mut kernels = Vec::new();
        for function in unit.functions.into_iter().filter(|f| f.entry) {
            let name = function.name.clone();
            let mut kernel = kernel(function, &variables).map_err(|e| e.fault(&name))?;
            flow::find_joins(&mut kernel.code);
            kernels.push(kernel);
        }
        let bytes = variables.constant_bytes;
        let out_of_memory = || Fault::host("", crate::FaultKind::OutOfMemory { bytes: bytes.len() as u64 });
        let constants = Storage::new(bytes.len()).ok_or_else(out_of_memory)?;
        constants.write(0, &bytes);
        Ok(Module { number: NEXT.fetch_add(1, Relaxed), kernels, globals: variables.globals, constants })
    }

    /// The names of the kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.kernels.iter().map(|k| &*k.name)
    }

    /// The sizes in bytes of a kernel's parameters.
    pub fn parameters(&self, kernel: &str) -> Option<Vec<usize>> {
        self.kernel(kernel).map(|k| k.parameters.iter().map(|p| p.bytes as usize).collect())
    }

    pub(crate) fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|k| &*k.name == name)
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kernels()).finish()
    }
}
