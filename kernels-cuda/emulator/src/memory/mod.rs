//! Memories and what is known about their contents.

pub mod heap;
pub mod proxies;
pub mod shadow;
pub mod storage;
pub mod window;
