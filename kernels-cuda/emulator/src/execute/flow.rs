//! Which lanes of a warp execute what.
//!
//! Lanes that part at a branch take turns, and meet again at its join: a stack of paths. An instruction that lanes execute together (a
//! barrier, a shuffle) waits for those that it names: a path that comes too early is parked, until the others come to the same instruction or
//! can never do so.

use crate::flow::NEVER;

/// Lanes with a place to go on, up to a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Path {
    pc: u32,
    mask: u32,
    join: u32,
}

/// Lanes that wait for others at an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parked {
    pc: u32,
    mask: u32,
    wanted: Wanted,
}

/// Whom an instruction waits for, among the lanes that have not exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    Members(u32),
}

/// Lanes that wait for others that never come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub pc: u32,
    pub mask: u32,
    pub wanted: u32,
}

/// The paths of a warp.
#[derive(Default)]
pub struct Flow {
    pub pc: u32,
    /// The lanes at `pc`; none when all have exited.
    pub active: u32,
    /// The lanes that have not exited.
    pub alive: u32,
    join: u32,
    stack: Vec<Path>,
    parked: Vec<Parked>,
}

impl Flow {
    /// All lanes at the first instruction.
    pub fn start(&mut self, lanes: u32) {
        (self.pc, self.active, self.alive, self.join) = (0, lanes, lanes, NEVER);
        self.stack.clear();
        self.parked.clear();
    }

    /// The next instruction.
    #[inline]
    pub fn advance(&mut self) -> Result<(), Stuck> {
        self.jump(self.pc + 1)
    }

    /// All active lanes go to `to`.
    #[inline]
    pub fn jump(&mut self, to: u32) -> Result<(), Stuck> {
        self.pc = to;
        match self.pc == self.join {
            true => self.next_path(),
            false => Ok(()),
        }
    }

    /// Some lanes go elsewhere before they meet the others at `join`.
    pub fn part(&mut self, pc: u32, mask: u32, join: u32) -> Result<(), Stuck> {
        self.begin_parting(join);
        self.push_paths(&[(pc, mask)], join);
        self.next_path()
    }

    /// Lanes branch to targets, or stay.
    pub fn branch(&mut self, targets: &[(u32, u32)], stay: u32, join: u32) -> Result<(), Stuck> {
        self.begin_parting(join);
        self.push_paths(&[(self.pc + 1, stay)], join);
        self.push_paths(targets, join);
        self.next_path()
    }

    /// Where the join is the path's own already, its lanes are waited for there as it is: without this test, loops would pile up.
    fn begin_parting(&mut self, join: u32) {
        if join != NEVER && join != self.join {
            self.stack.push(Path { pc: join, mask: self.active, join: self.join });
        }
    }

    fn push_paths(&mut self, paths: &[(u32, u32)], join: u32) {
        for &(pc, mask) in paths.iter().filter(|(pc, mask)| *pc != join && *mask != 0) {
            self.stack.push(Path { pc, mask, join });
        }
    }

    /// Lanes leave for good.
    pub fn exit(&mut self, mask: u32) -> Result<(), Stuck> {
        self.alive &= !mask;
        self.remove(mask);
        match self.active {
            0 => self.next_path(),
            _ => self.advance(),
        }
    }

    /// Whether all wanted lanes are active. If not, the path is parked, and another one is active now.
    pub fn gather(&mut self, wanted: Wanted) -> Result<bool, Stuck> {
        if self.active == self.lanes(wanted) {
            return Ok(true);
        }
        self.parked.push(Parked { pc: self.pc, mask: self.active, wanted });
        self.remove(self.active);
        if !self.unpark() {
            self.next_path()?;
        }
        Ok(false)
    }

    fn lanes(&self, wanted: Wanted) -> u32 {
        match wanted {
            Wanted::All => self.alive,
            Wanted::Members(mask) => mask & self.alive,
        }
    }

    /// Takes lanes off every path.
    fn remove(&mut self, mask: u32) {
        self.active &= !mask;
        for path in &mut self.stack {
            path.mask &= !mask;
        }
    }

    /// The path on top of the stack becomes the active one.
    fn next_path(&mut self) -> Result<(), Stuck> {
        self.active = 0;
        while let Some(path) = self.stack.pop() {
            // A path that begins at its own join has nothing to do before it.
            if path.mask != 0 && path.pc != path.join {
                (self.pc, self.active, self.join) = (path.pc, path.mask, path.join);
                return Ok(());
            }
        }
        if self.parked.is_empty() || self.unpark() {
            return Ok(());
        }
        let Some(&Parked { pc, wanted, .. }) = self.parked.first() else { return Ok(()) };
        Err(Stuck { pc, mask: self.parked_at(pc, wanted), wanted: self.lanes(wanted) })
    }

    fn parked_at(&self, pc: u32, wanted: Wanted) -> u32 {
        self.parked.iter().filter(|p| p.pc == pc && p.wanted == wanted).fold(0, |mask, p| mask | p.mask)
    }

    /// Activates parked lanes that have all they wanted.
    fn unpark(&mut self) -> bool {
        for at in 0..self.parked.len() {
            let Parked { pc, wanted, .. } = self.parked[at];
            let mask = self.parked_at(pc, wanted);
            if mask == self.lanes(wanted) {
                self.parked.retain(|p| p.pc != pc || p.wanted != wanted);
                (self.pc, self.active, self.join) = (pc, mask, NEVER);
                return true;
            }
        }
        false
    }
}
