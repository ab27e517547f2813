//! What several devices exchange among themselves.

use tubelet_engine::Result;

/// One device's place among several that exchange numbers from memory to memory, each exchange in the order of its device's work.
///
/// All ranks call the same methods in the same order with the same counts, of f32. As in [`super::Driver`], addresses are taken at their word.
pub trait Communicator: Send {
    /// Which of them this is, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn size(&self) -> usize;
    /// `count` numbers to each rank, its own included, from `from` on in the order of ranks; as many from each to `to` on.
    ///
    /// # Errors
    /// Of the transport and of the device.
    fn all_to_all(&self, from: u64, to: u64, count: usize) -> Result<()>;
    /// The same `count` numbers at `from` to each rank; those of each to `to` on, in the order of ranks.
    ///
    /// # Errors
    /// As [`Communicator::all_to_all`].
    fn all_gather(&self, from: u64, to: u64, count: usize) -> Result<()>;
    /// The `count` numbers that rank 0 has at `address` to the same place of every rank.
    ///
    /// # Errors
    /// As [`Communicator::all_to_all`].
    fn broadcast(&self, address: u64, count: usize) -> Result<()>;
}
