//! Arithmetic that the host does not have: narrow formats, directed rounding.

pub mod exact;
pub mod format;
pub mod lanes;
pub mod product;
pub mod swizzle;
