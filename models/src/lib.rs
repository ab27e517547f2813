//! TubeViT, ViViT, VidTr and UniFormerV2 on the Tubelet engine.

pub mod attention;
#[cfg(feature = "cli")]
pub mod boxed;
pub mod checkpoint;
pub mod classify;
pub mod devices;
mod host;
pub mod init;
pub mod inspect;
mod labels;
pub mod layers;
pub mod model;
pub mod official;
pub mod output;
pub mod params;
#[cfg(feature = "train")]
pub mod parity;
mod pass;
#[cfg(feature = "cli")]
pub mod picture;
pub mod registry;
pub mod rollout;
#[cfg(feature = "train")]
pub mod train;
pub mod tubevit;
pub mod uniformerv2;
pub mod video;
pub mod vidtr;
pub mod vit;
pub mod vivit;
pub mod weights;

pub use pass::{Depth, Pass, Regularisation};
pub use tubelet_engine::{self as engine, Error, Result};

#[doc = include_str!("../../README.md")]
#[cfg(doctest)]
struct Readme;
