//! TubeViT, ViViT, VidTr and UniFormerV2 on the Tubelet engine.

pub mod layers;
pub mod model;
pub mod params;
mod taps;

pub use taps::Taps;
pub use tubelet_engine::{self as engine, Error, Result};
