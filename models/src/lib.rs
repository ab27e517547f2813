//! TubeViT, ViViT, VidTr and UniFormerV2 on the Tubelet engine.

pub mod video;

pub use tubelet_engine::{Error, Result};
