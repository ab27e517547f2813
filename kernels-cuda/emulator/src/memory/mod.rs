//! Memories and what is known about their contents.

pub mod global;
pub mod init;
pub mod local;
pub mod shadow;
pub mod window;
