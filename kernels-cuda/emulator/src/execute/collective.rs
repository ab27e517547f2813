//! What lanes of a warp do together.

use super::warp::Warp;
use super::{Step, stop};
use crate::fault::{FaultKind, Space};
use crate::memory::storage::lanes;
use crate::program::{PredicateSource, Shuffle, Source, Vote};

impl Warp {
    /// `elect.sync`: the lowest lane that is named leads.
    pub fn elect(&mut self, d: Option<u32>, p: Option<u32>, members: Source, mask: u32) {
        let first = mask.trailing_zeros().min(31);
        let leader = (self.source(members)[first as usize] as u32).trailing_zeros().min(31);
        if let Some(d) = d {
            self.fill(d, u64::from(leader), mask);
        }
        if let Some(p) = p {
            self.set_predicate(p, 1 << leader, mask);
        }
    }

    /// `shfl.sync`: every lane takes the value of another one of its segment, or keeps its own.
    pub fn shuffle(
        &mut self,
        mode: Shuffle,
        (d, p): (u32, Option<u32>),
        (a, b, c): (Source, Source, Source),
        mask: u32,
    ) -> Step<()> {
        let (values, by, limits) = (*self.source(a), *self.source(b), *self.source(c));
        let mut inside = 0;
        for lane in lanes(mask) {
            let at = lane as i64;
            let (by, clamp, segment) = ((by[lane] & 31) as i64, (limits[lane] & 31) as i64, (limits[lane] >> 8 & 31) as i64);
            let last = at & segment | clamp & !segment;
            let (from, valid) = match mode {
                Shuffle::Up => (at - by, at - by >= last),
                Shuffle::Down => (at + by, at + by <= last),
                Shuffle::Butterfly => (at ^ by, at ^ by <= last),
                Shuffle::Index => {
                    let from = at & segment | by & !segment;
                    (from, from <= last)
                }
            };
            let from = if valid { from as usize & 31 } else { lane };
            if mask >> from & 1 == 0 {
                return stop(lane, FaultKind::Uninitialised { space: Space::Register, address: u64::from(d) });
            }
            inside |= u32::from(valid) << lane;
            self.scratch[lane] = values[from];
        }
        self.keep(d, mask);
        if let Some(p) = p {
            self.set_predicate(p, inside, mask);
        }
        Ok(())
    }

    /// `vote.sync`.
    pub fn vote(&mut self, mode: Vote, d: u32, a: PredicateSource, mask: u32) {
        let votes = self.predicate(a) & mask;
        let holds = match mode {
            Vote::Ballot => return self.fill(d, u64::from(votes), mask),
            Vote::Any => votes != 0,
            Vote::All => votes == mask,
            Vote::Uniform => votes == mask || votes == 0,
        };
        self.set_predicate(d, u32::from(holds).wrapping_neg(), mask);
    }

    /// `match.any` gives the lanes with the same value, `match.all` all lanes if all have the same.
    pub fn matching(&mut self, all: bool, d: u32, p: Option<u32>, a: Source, mask: u32) {
        let values = *self.source(a);
        let like = |lane: usize| lanes(mask).fold(0, |set, other| set | u32::from(values[other] == values[lane]) << other);
        let same = lanes(mask).all(|lane| like(lane) == mask);
        for lane in lanes(mask) {
            let found = match all {
                true if same => mask,
                true => 0,
                false => like(lane),
            };
            self.registers[d as usize][lane] = u64::from(found);
        }
        if let Some(p) = p {
            self.set_predicate(p, u32::from(same).wrapping_neg(), mask);
        }
    }

    /// `redux.sync`.
    pub fn reduce(&mut self, f: fn(u64, u64) -> u64, d: u32, a: Source, mask: u32) {
        let values = self.source(a);
        let result = lanes(mask).map(|lane| values[lane]).reduce(f).unwrap_or(0);
        self.fill(d, result, mask);
    }
}
