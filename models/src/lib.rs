//! TubeViT, ViViT, VidTr and UniFormerV2 on the Tubelet engine.

pub use tubelet_engine::{Error, Result};
