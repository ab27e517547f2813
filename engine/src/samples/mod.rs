//! Random operands.
