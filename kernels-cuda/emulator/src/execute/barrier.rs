//! Barriers of a block.
//!
//! Without a count, every thread of the block must arrive: one that has exited never does. With a count, a warp counts as 32 threads whatever
//! its lanes do, as the ISA says.

use super::block::{BARRIERS, Block};
use super::warp::{State, Warp};
use super::{Step, stop_first};
use crate::fault::FaultKind;
use crate::memory::shadow::{Clock, later};
use crate::program::{Code, Meeting, Op, PredicateSource, Source};

/// What has arrived at a barrier.
#[derive(Clone, Copy, Default)]
pub struct Barrier {
    pub arrived: u32,
    pub expected: u32,
    /// What those that arrived have done.
    known: Clock,
    /// Threads whose predicate held, and threads that had one.
    votes: u32,
    voters: u32,
}

/// A barrier that has been completed.
pub struct Wake {
    pub barrier: usize,
    pub known: Clock,
    votes: u32,
    voters: u32,
}

/// The operands of a barrier.
#[derive(Clone, Copy)]
pub struct Arrival {
    pub meeting: Meeting,
    pub id: Source,
    pub count: Option<Source>,
    pub p: Option<PredicateSource>,
}

impl Warp {
    /// The active lanes, which are all that live, arrive at a barrier.
    pub fn arrive(&mut self, block: &mut Block<'_>, arrival: Arrival, mask: u32) -> Step<()> {
        let lane = mask.trailing_zeros().min(31) as usize;
        let bad = |what: &str| stop_first(mask, FaultKind::BadArguments(what.into()));
        let id = self.source(arrival.id)[lane] as usize;
        if id >= BARRIERS {
            return bad("a block has barriers 0 to 15");
        }
        let (threads, expected) = match arrival.count {
            None => (mask.count_ones(), block.grid.threads()),
            Some(count) => (32, self.source(count)[lane] as u32),
        };
        if arrival.count.is_some() && (expected == 0 || !expected.is_multiple_of(32)) {
            return bad("a barrier's count is a multiple of 32");
        }
        let id = id + self.rank as usize * BARRIERS;
        let votes = arrival.p.map(|p| self.predicate(p) & mask);
        let told = block.shadow.tell(self.index as usize);
        let barrier = &mut block.barriers[id];
        if barrier.arrived != 0 && barrier.expected != expected {
            return bad("threads disagree about the count of a barrier");
        }
        block.changes += 1;
        barrier.expected = expected;
        barrier.arrived += threads;
        later(&mut barrier.known, &told);
        if let Some(votes) = votes {
            barrier.votes += votes.count_ones();
            barrier.voters += mask.count_ones();
        }
        if barrier.arrived >= expected {
            let Barrier { known, votes, voters, .. } = std::mem::take(barrier);
            block.wake = Some(Wake { barrier: id, known, votes, voters });
        }
        match arrival.meeting {
            Meeting::Arrive => block.shadow.tick(),
            _ => self.state = State::Waiting(id),
        }
        Ok(())
    }

    /// Goes on after a barrier.
    pub fn wake(&mut self, wake: &Wake, code: &Code) {
        let mask = self.flow.active;
        if let Op::Barrier { meeting, d: Some(d), .. } = code.op {
            let value = match meeting {
                Meeting::And => u32::from(wake.votes == wake.voters),
                Meeting::Or => u32::from(wake.votes != 0),
                _ => wake.votes,
            };
            match meeting {
                Meeting::Count => self.fill(d, u64::from(value), mask),
                _ => self.set_predicate(d, value.wrapping_neg(), mask),
            }
        }
        for &slot in &code.writes {
            self.mark(slot, mask);
        }
        self.state = State::Ready;
        // All lanes are here, so none is stuck elsewhere.
        let _ = self.flow.advance();
    }
}
