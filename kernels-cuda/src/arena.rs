//! Memory of a plan: one block, in which every tensor has its place before anything is computed.
//!
//! A plan's work is done again and again, in the order in which it was recorded, so memory may go from one tensor to the next within the plan, but never
//! to anybody else. A recording is made twice. The first, a rehearsal, only notes how large every tensor is, and from when to when it is there; then
//! each has an offset, and the second recording is served by these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tubelet_engine::{Error, Result};

use crate::memory::{CudaBuffer, Pool};

/// What an arena hands out starts at multiples of this, as the pool's blocks do.
const GRAIN: usize = 512;

/// A tensor's size, and the moments between which it is there.
#[derive(Clone, Copy)]
struct Lifetime {
    bytes: usize,
    from: usize,
    /// [`usize::MAX`] for what outlives the recording: inputs and outputs.
    to: usize,
}

enum State {
    /// Of a rehearsal: all tensors so far, and the moment.
    Rehearsal(Vec<Lifetime>, usize),
    /// Sizes and offsets in the order of allocation, how many have been handed out, and the memory: one block, or without caching one for each.
    Performance(Vec<(usize, usize)>, usize, Vec<CudaBuffer>),
}

/// The memory of one plan.
pub(crate) struct Arena {
    pub pool: Arc<Pool>,
    state: Mutex<State>,
}

impl Arena {
    /// Without memory: for a rehearsal.
    pub fn rehearsal(pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Arena { pool: Arc::clone(pool), state: Mutex::new(State::Rehearsal(Vec::new(), 0)) })
    }

    /// With memory for what was rehearsed in this one, while what outlives the recording is still there.
    pub fn performance(&self) -> Result<Arc<Self>> {
        let state = match &*self.lock() {
            State::Rehearsal(lifetimes, _) if self.pool.caching() => {
                let (offsets, bytes) = lay_out(lifetimes);
                let sizes = lifetimes.iter().map(|tensor| tensor.bytes);
                State::Performance(sizes.zip(offsets).collect(), 0, vec![self.pool.allocate(bytes)?])
            }
            State::Rehearsal(lifetimes, _) => {
                State::Performance(lifetimes.iter().map(|tensor| (tensor.bytes, 0)).collect(), 0, Vec::new())
            }
            State::Performance(..) => return Err(Error::invalid("plan", "the arena has memory already")),
        };
        Ok(Arc::new(Arena { pool: Arc::clone(&self.pool), state: Mutex::new(state) }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no memory behind its addresses.
    pub fn rehearses(&self) -> bool {
        matches!(&*self.lock(), State::Rehearsal(..))
    }

    /// As [`Pool::allocate`].
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<CudaBuffer> {
        if bytes == 0 {
            return self.pool.allocate(0);
        }
        // Without caching every tensor has just its size, so that an emulator sees every access beside it.
        let size = if self.pool.caching() { bytes.next_multiple_of(GRAIN) } else { bytes };
        let (address, number) = match &mut *self.lock() {
            State::Rehearsal(lifetimes, now) => {
                *now += 1;
                lifetimes.push(Lifetime { bytes: size, from: *now, to: usize::MAX });
                // Aligned as in the performance, so that the same kernels are chosen.
                ((lifetimes.len() * GRAIN) as u64, lifetimes.len() - 1)
            }
            State::Performance(places, next, blocks) => {
                let differs = || Error::invalid("plan", "the computation asks for other memory than the first time");
                let (_, offset) = *places.get(*next).filter(|place| place.0 == size).ok_or_else(differs)?;
                if !self.pool.caching() {
                    blocks.push(self.pool.allocate(size)?);
                }
                *next += 1;
                (blocks.last().ok_or_else(differs)?.address + offset as u64, *next - 1)
            }
        };
        Ok(CudaBuffer::of_arena(self, number, address, bytes))
    }

    /// Tensor `number` is gone.
    pub fn give_back(&self, number: usize) {
        if let State::Rehearsal(lifetimes, now) = &mut *self.lock() {
            *now += 1;
            lifetimes[number].to = *now;
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match &*self.lock() {
            State::Rehearsal(..) => 0,
            State::Performance(_, _, blocks) => blocks.iter().map(CudaBuffer::size).sum(),
        }
    }
}

/// An offset for each tensor such that no two which are there at once overlap, and the bytes of all. Which layout is the smallest is NP-hard to say; the
/// largest first, each into the tightest gap, comes within a few percent for networks (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
/// Inference", 2020: greedy by size).
fn lay_out(lifetimes: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lifetimes[i].bytes));
    let (mut offsets, mut total) = (vec![0; lifetimes.len()], 0);
    // Offset and number of what has a place, by offset.
    let mut placed: Vec<(usize, usize)> = Vec::new();
    for i in order {
        let Lifetime { bytes, from, to } = lifetimes[i];
        let (mut end, mut tightest) = (0, None::<(usize, usize)>);
        for &(offset, other) in &placed {
            let neighbour = lifetimes[other];
            if neighbour.to < from || to < neighbour.from {
                continue;
            }
            let gap = offset.saturating_sub(end);
            if gap >= bytes && tightest.is_none_or(|(least, _)| gap < least) {
                tightest = Some((gap, end));
            }
            end = end.max(offset + neighbour.bytes);
        }
        offsets[i] = tightest.map_or(end, |(_, offset)| offset);
        total = total.max(offsets[i] + bytes);
        let at = placed.partition_point(|&place| place < (offsets[i], i));
        placed.insert(at, (offsets[i], i));
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use tubelet_engine::Philox;

    use super::*;

    /// The most bytes that are there at once: no layout needs less.
    fn most(lifetimes: &[Lifetime]) -> usize {
        let at = |moment: usize| lifetimes.iter().filter(|x| x.from <= moment && moment <= x.to).map(|x| x.bytes).sum();
        lifetimes.iter().map(|x| at(x.from)).max().unwrap_or(0)
    }

    #[test]
    fn what_is_there_at_once_lies_apart() {
        let mut rng = Philox::new(5);
        for _ in 0..50 {
            let lifetimes: Vec<Lifetime> = (0..rng.range(1, 200))
                .map(|i| {
                    let to = if rng.below(20) == 0 { usize::MAX } else { 2 * i + 1 + rng.below(12) };
                    Lifetime { bytes: GRAIN * rng.range(1, 50), from: 2 * i, to }
                })
                .collect();
            let (offsets, total) = lay_out(&lifetimes);
            for (i, a) in lifetimes.iter().enumerate() {
                assert!(offsets[i] + a.bytes <= total && offsets[i] % GRAIN == 0);
                for (j, b) in lifetimes.iter().enumerate().skip(i + 1) {
                    let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                    assert!(apart || a.to < b.from || b.to < a.from, "{i} and {j} share memory");
                }
            }
            assert!(total >= most(&lifetimes));
            assert!(4 * total <= 5 * most(&lifetimes), "{total} bytes, where {} are there at once", most(&lifetimes));
        }
    }

    /// A block for each as it comes would want 3 + 2 + 4.
    #[test]
    fn the_largest_is_placed_first_and_gaps_are_filled() {
        let tensor = |grains: usize, from, to| Lifetime { bytes: GRAIN * grains, from, to };
        let (offsets, total) = lay_out(&[tensor(1, 0, 1), tensor(3, 0, 3), tensor(4, 4, 9), tensor(2, 5, 6)]);
        assert_eq!((offsets, total), ([3, 0, 0, 4].map(|grains| grains * GRAIN).to_vec(), 6 * GRAIN));
    }
}
