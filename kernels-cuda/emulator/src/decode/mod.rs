//! From names to slots: builds [`Kernel`]s from the tree that the parser made.

mod bits;
mod body;
mod bulk;
mod collective;
mod compare;
mod control;
mod convert;
mod float;
mod half;
mod integer;
mod memory;
mod modifiers;
mod operands;
mod phase;
mod registers;
mod scope;
mod slots;
mod tensor;
mod variables;
mod warpgroup;

pub use body::kernel;
pub use variables::place;
