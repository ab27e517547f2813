//! Executes decoded kernels: a grid of blocks over host threads, a block of warps in turns, a warp of 32 lanes in lockstep.

mod access;
mod arithmetic;
mod atomic;
mod barrier;
mod block;
mod bulk;
mod cluster;
mod collective;
mod copies;
mod descriptor;
mod flow;
mod grid;
mod matrix;
mod phase;
mod quota;
mod step;
mod traffic;
mod warp;
mod warpgroup;

pub use grid::Grid;

use crate::fault::FaultKind;

/// A fault before its place is written down.
#[derive(Debug)]
pub struct Stop {
    pub kind: FaultKind,
    pub lane: usize,
}

/// What an instruction gives.
pub type Step<T> = Result<T, Box<Stop>>;

/// The fault of a lane.
#[cold]
pub fn stop<T>(lane: usize, kind: FaultKind) -> Step<T> {
    Err(Box::new(Stop { kind, lane }))
}

/// The fault of the first lane of a mask.
#[cold]
pub fn stop_first<T>(mask: u32, kind: FaultKind) -> Step<T> {
    stop(mask.trailing_zeros().min(31) as usize, kind)
}
