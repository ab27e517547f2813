//! Where the lanes of a warp meet again after they part: at the immediate post-dominator of the branch.
//!
//! An early return must not keep the lanes that stay from meeting, so the ways to the end of a kernel do not count, but for one: the edge
//! into the last `exit` that stands last in the text. Lanes that take another way out never come to the meeting point, and nobody waits for
//! them there. Should the guess be wrong, lanes meet later than they could, at the next barrier or shuffle: see `execute::flow`.

use crate::program::{Code, Op};

/// The lanes of this branch do not meet again.
pub const NEVER: u32 = u32::MAX;

/// Sets [`Code::join`] of every branch.
pub fn find_joins(code: &mut [Code]) {
    let joins = post_dominators(&predecessors(code), code.len());
    for (code, join) in code.iter_mut().zip(joins) {
        if matches!(code.op, Op::Branch { .. } | Op::BranchIndexed { .. }) {
            code.join = join;
        }
    }
}

/// Where execution may go on after an instruction.
fn successors(code: &[Code], at: usize) -> Vec<usize> {
    let Some(instruction) = code.get(at) else { return Vec::new() };
    let mut all: Vec<usize> = match &instruction.op {
        Op::Branch { to } => vec![*to as usize],
        Op::BranchIndexed { targets, .. } => targets.iter().map(|&t| t as usize).collect(),
        Op::Exit | Op::Trap => Vec::new(),
        _ => return vec![at + 1],
    };
    if instruction.guard.is_some() {
        all.push(at + 1);
    }
    all
}

fn ends(code: &Code) -> bool {
    matches!(code.op, Op::Exit | Op::Trap) && code.guard.is_none()
}

/// The edges of the graph, backwards. The node after the last instruction is the end.
fn predecessors(code: &[Code]) -> Vec<Vec<u32>> {
    let end = code.len();
    let mut all = vec![Vec::new(); end + 1];
    let mut way_out = None;
    for at in 0..end {
        for next in successors(code, at) {
            match code.get(next) {
                Some(target) if ends(target) => way_out = Some((next, at)),
                _ => all[next].push(at as u32),
            }
        }
    }
    match way_out {
        Some((exit, from)) => {
            all[exit].push(from as u32);
            all[end].push(exit as u32);
        }
        // The first instruction is the only one, or nothing ever ends.
        None => all[end].extend((0..end).filter(|&at| ends(&code[at])).map(|at| at as u32)),
    }
    all
}

/// Nodes in post-order of a walk from the end, against the edges.
fn post_order(predecessors: &[Vec<u32>]) -> Vec<u32> {
    let end = predecessors.len() - 1;
    let (mut order, mut seen) = (Vec::new(), vec![false; predecessors.len()]);
    let mut stack = vec![(end, 0)];
    seen[end] = true;
    while let Some((node, done)) = stack.pop() {
        match predecessors[node].get(done) {
            Some(&next) => {
                stack.push((node, done + 1));
                if !seen[next as usize] {
                    seen[next as usize] = true;
                    stack.push((next as usize, 0));
                }
            }
            None => order.push(node as u32),
        }
    }
    order
}

/// The immediate post-dominator of each instruction, [`NEVER`] where that is the end (after Cooper, Harvey and Kennedy).
fn post_dominators(predecessors: &[Vec<u32>], end: usize) -> Vec<u32> {
    let order = post_order(predecessors);
    let mut rank = vec![u32::MAX; end + 1];
    for (n, &node) in order.iter().enumerate() {
        rank[node as usize] = n as u32;
    }
    let mut successors = vec![Vec::new(); end + 1];
    for (to, all) in predecessors.iter().enumerate() {
        for &from in all {
            successors[from as usize].push(to as u32);
        }
    }
    let mut above = vec![NEVER; end + 1];
    above[end] = end as u32;
    let mut changed = true;
    while changed {
        changed = false;
        for &node in order.iter().rev().skip(1) {
            let known = successors[node as usize].iter().copied().filter(|&s| above[s as usize] != NEVER);
            let Some(new) = known.reduce(|a, b| common(a, b, &above, &rank)) else { continue };
            changed |= above[node as usize] != new;
            above[node as usize] = new;
        }
    }
    above.truncate(end);
    above.iter_mut().filter(|join| **join == end as u32).for_each(|join| *join = NEVER);
    above
}

/// The nearest node that post-dominates both.
fn common(mut a: u32, mut b: u32, above: &[u32], rank: &[u32]) -> u32 {
    while a != b {
        while rank[a as usize] < rank[b as usize] {
            a = above[a as usize];
        }
        while rank[b as usize] < rank[a as usize] {
            b = above[b as usize];
        }
    }
    a
}
