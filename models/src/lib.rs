//! TubeViT, ViViT, VidTr and UniFormerV2 on the Tubelet engine.

pub mod checkpoint;
pub mod classify;
pub mod devices;
pub mod layers;
pub mod model;
pub mod official;
pub mod params;
mod taps;
pub mod uniformerv2;
pub mod video;
pub mod vidtr;

pub use taps::Taps;
pub use tubelet_engine::{self as engine, Error, Result};
