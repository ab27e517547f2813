//! Module variables: constants get their place here, globals get theirs at launch.

use crate::fault::ParseError;
use crate::syntax::ast::{Variable, VariableSpace};

/// The constant bank of a GPU.
const CONSTANT_BYTES: u64 = 64 << 10;

/// The variables at module level.
pub struct Variables {
    /// `.global`: allocated at the first launch.
    pub globals: Vec<Variable>,
    /// `.shared`: placed in the kernels that use them.
    pub shared: Vec<Variable>,
    /// `.const`: names and offsets.
    pub constants: Vec<(Box<str>, u32)>,
    /// The contents of constant memory.
    pub constant_bytes: Vec<u8>,
}

/// Sorts variables by space and lays out constant memory.
pub fn place(all: Vec<Variable>) -> Result<Variables, ParseError> {
    let mut placed = Variables { globals: Vec::new(), shared: Vec::new(), constants: Vec::new(), constant_bytes: Vec::new() };
    for variable in all {
        match variable.space {
            VariableSpace::Global => placed.globals.push(variable),
            VariableSpace::Shared => placed.shared.push(variable),
            VariableSpace::Const => {
                let start = placed.constant_bytes.len().next_multiple_of(variable.align as usize);
                let size = variable.bytes.unwrap_or(0) as usize;
                if (start + size) as u64 > CONSTANT_BYTES {
                    return Err(ParseError::new(variable.line, "more than 64 KiB of constant memory"));
                }
                placed.constant_bytes.resize(start + size, 0);
                let initial = variable.initial.unwrap_or_default();
                let used = initial.len().min(size);
                placed.constant_bytes[start..start + used].copy_from_slice(&initial[..used]);
                placed.constants.push((variable.name, start as u32));
            }
            VariableSpace::Local | VariableSpace::Param => {
                return Err(ParseError::new(variable.line, "a variable of this space at module level"));
            }
        }
    }
    Ok(placed)
}
