//! Training: recipes, data, augmentation, optimisers, the loop.

pub mod augment;
pub mod camera_motion;
pub mod data;
pub mod loader;
mod log;
pub mod metrics;
#[cfg(all(feature = "mpi", unix))]
pub mod mpi;
#[cfg(all(feature = "nccl", unix))]
pub mod nccl;
pub mod optimiser;
pub mod parallel;
#[cfg(feature = "cuda")]
mod ranks;
pub mod recipe;
pub mod report;
mod run;
pub mod schedule;
mod stages;
mod start;
mod state;
mod store;
mod trainer;

pub use recipe::Recipe;
pub use run::{Event, Options, Outcome, run, run_with};
pub use stages::Stages;
pub use start::Start;
pub use state::{State, files, write};
pub use store::Store;
pub use trainer::{Evaluation, Seen, StepReport, Trainer};
