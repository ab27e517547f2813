//! Fewer register slots: compilers give every value a register of its own, thousands in a large kernel, and 256 bytes each fill the caches.
//!
//! A register that lives within one run of instructions without branches, from a write by all lanes on, shares its slot with others that live
//! elsewhere in such runs. Since it is written before it is read, nobody needs to check that either, unless it is a copy.

use crate::program::{BulkShape, CONSTANT, Code, Kernel, MatrixSource, Meeting, Op, PREDICATE, Vote, Watched};

/// What is known about a register.
#[derive(Clone, Copy)]
struct Life {
    /// The run, and whether there is only one.
    run: u32,
    local: bool,
    first: u32,
    last: u32,
    /// A copy writes it, and may hand on that nobody wrote the original: reads must be checked.
    copy: bool,
    /// A copy reads it, and asks whether it was written: that must be noted.
    copied: bool,
}

/// Renumbers the registers of a kernel.
pub fn share(kernel: &mut Kernel, carry: Option<u32>) {
    let mut lives = lives(&mut kernel.code, kernel.registers);
    // The carry is read where its value does not matter.
    if let Some(life) = carry.and_then(|c| lives.get_mut(c as usize)?.as_mut()) {
        life.local = false;
    }
    let matrices = matrix_registers(&kernel.code, kernel.registers);
    for (life, _) in lives.iter_mut().zip(&matrices).filter(|(_, watched)| **watched) {
        if let Some(life) = life {
            life.local = false;
        }
    }
    let (slots, count) = assign(&lives, kernel.code.len());
    for code in &mut kernel.code {
        let renamed = |slot: u32| slots[slot as usize];
        let keeps = |slot: u32, wanted: fn(&Life) -> bool| {
            slot & PREDICATE != 0 || lives[slot as usize].is_none_or(|life| !life.local || wanted(&life))
        };
        code.reads = code.reads.iter().copied().filter(|&slot| keeps(slot, |life| life.copy)).collect();
        code.writes = code.writes.iter().copied().filter(|&slot| keeps(slot, |life| life.copy || life.copied)).collect();
        for slot in code.reads.iter_mut().chain(code.writes.iter_mut()).filter(|s| **s & PREDICATE == 0) {
            *slot = renamed(*slot);
        }
        code.watched = watched(&mut code.op, &matrices, &slots);
        registers(&mut code.op, &mut |slot, _| *slot = renamed(*slot));
    }
    kernel.registers = count;
}

/// Registers that a `wgmma` takes or gives, and copies of those: whoever touches them must have waited.
fn matrix_registers(code: &[Code], count: u32) -> Vec<bool> {
    let mut found = vec![false; count as usize];
    let mut add = |slot: u32| found.get_mut(slot as usize).is_some_and(|found| !std::mem::replace(found, true));
    for code in code {
        if let Op::MatrixProduct(product) = &code.op {
            product.d.iter().for_each(|&d| _ = add(d));
            if let MatrixSource::Registers(a) = &product.a {
                a.iter().for_each(|&a| _ = add(a));
            }
        }
    }
    loop {
        let copies = code.iter().filter_map(|code| match code.op {
            Op::Move { d, a } if found.get(a as usize).is_some_and(|&a| a) && !found[d as usize] => Some(d),
            _ => None,
        });
        let copies: Vec<u32> = copies.collect();
        if copies.is_empty() {
            return found;
        }
        copies.into_iter().for_each(|d| found[d as usize] = true);
    }
}

/// Those that an instruction other than `wgmma` touches, by their slots.
fn watched(op: &mut Op, matrices: &[bool], slots: &[u32]) -> Option<Box<Watched>> {
    if matches!(op, Op::MatrixProduct(_)) {
        return None;
    }
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    registers(op, &mut |slot, written| {
        if matrices[*slot as usize] {
            if written { &mut writes } else { &mut reads }.push(slots[*slot as usize]);
        }
    });
    let any = !reads.is_empty() || !writes.is_empty();
    any.then(|| Box::new(Watched { reads: reads.into(), writes: writes.into() }))
}

/// The lives of all registers that are used.
fn lives(code: &mut [Code], registers_count: u32) -> Vec<Option<Life>> {
    let runs = runs(code);
    let mut lives: Vec<Option<Life>> = vec![None; registers_count as usize];
    for (at, code) in code.iter_mut().enumerate() {
        let (at, run) = (at as u32, runs[at]);
        let copies = match code.op {
            Op::Move { a, .. } => a & CONSTANT == 0,
            Op::Select { .. } | Op::Pack { .. } | Op::Unpack { .. } => true,
            _ => false,
        };
        let guarded = code.guard.is_some();
        registers(&mut code.op, &mut |slot, written| {
            let new = Life { run, local: written && !guarded, first: at, last: at, copy: false, copied: false };
            let life = lives[*slot as usize].get_or_insert(new);
            life.local &= life.run == run;
            life.last = at;
            life.copy |= copies && written;
            life.copied |= copies && !written;
        });
    }
    lives
}

/// The number of the run that each instruction belongs to: a run is entered at its beginning only.
fn runs(code: &[Code]) -> Vec<u32> {
    let mut begins = vec![false; code.len() + 1];
    let mut begin = |at: usize| begins.get_mut(at).into_iter().for_each(|b| *b = true);
    for (at, code) in code.iter().enumerate() {
        match &code.op {
            Op::Branch { to } => begin(*to as usize),
            Op::BranchIndexed { targets, .. } => targets.iter().for_each(|&t| begin(t as usize)),
            Op::Exit | Op::Trap => {}
            _ => continue,
        }
        begin(at + 1);
    }
    let number = |run: &mut u32, begins: &bool| {
        *run += u32::from(*begins);
        Some(*run)
    };
    begins.iter().take(code.len()).scan(0, number).collect()
}

/// Slots: first those of registers that keep theirs, then the shared ones. Returns how many there are, too.
fn assign(lives: &[Option<Life>], length: usize) -> (Vec<u32>, u32) {
    let mut slots = vec![0; lives.len()];
    let (mut beginning, mut ending) = (vec![Vec::new(); length], vec![Vec::new(); length]);
    let mut count = 0;
    for (register, life) in lives.iter().enumerate() {
        match life {
            Some(life) if life.local => {
                beginning[life.first as usize].push(register);
                ending[life.last as usize].push(register);
            }
            Some(_) => {
                slots[register] = count;
                count += 1;
            }
            None => {}
        }
    }
    let mut free: Vec<u32> = Vec::new();
    for at in 0..length {
        for &register in &beginning[at] {
            slots[register] = free.pop().unwrap_or_else(|| {
                count += 1;
                count - 1
            });
        }
        // Not before: an instruction never writes a slot that it reads under another name.
        free.extend(ending[at].iter().map(|&register| slots[register]));
    }
    (slots, count)
}

/// Calls `f` with every register slot of an instruction, sources first, and whether it is written.
fn registers(op: &mut Op, f: &mut impl FnMut(&mut u32, bool)) {
    let mut visit = |slot: &mut u32, written: bool| {
        if *slot & CONSTANT == 0 {
            f(slot, written);
        }
    };
    macro_rules! visit {
        ($($read:expr),*; $($write:expr),*) => {{
            $(for slot in $read { visit(slot, false); })*
            $(for slot in $write { visit(slot, true); })*
        }};
    }
    match op {
        Op::One { d, a, .. } | Op::Move { d, a } => visit!([a]; [d]),
        Op::Two { d, a, b, .. } | Op::Set { d, a, b, .. } | Op::Select { d, a, b, .. } => visit!([a, b]; [d]),
        Op::Three { d, a, b, c, .. } => visit!([a, b, c]; [d]),
        Op::Four { d, sources, .. } => visit!(sources; [d]),
        Op::Pack { d, parts, .. } => visit!(parts; [d]),
        Op::Unpack { parts, a, .. } => visit!([a]; parts.iter_mut().flatten()),
        Op::Carry { d, a, b, c, carry, .. } => {
            visit!([a, b, c]; [d]);
            visit!([&mut *carry]; []);
            visit!(; [carry]);
        }
        Op::Compare { a, b, .. } => visit!([a, b];),
        Op::Test { a, .. } => visit!([a];),
        Op::Load { address, d, .. } | Op::LoadMatrix { d, address, .. } => visit!([&mut address.base]; d),
        Op::Store { address, values, .. } | Op::StoreMatrix { values, address, .. } => visit!([&mut address.base], values;),
        Op::Atomic { address, d, a, b, .. } => visit!([&mut address.base, a], b.iter_mut(); d.iter_mut()),
        Op::CopyAsync { to, from, size, .. } => visit!([&mut to.base, &mut from.base], size.iter_mut();),
        Op::Mma { d, a, b, c, .. } => visit!(a, b, c; d),
        Op::MatrixProduct(product) => {
            match &mut product.a {
                MatrixSource::Registers(a) => visit!(a;),
                MatrixSource::Shared(a, _) => visit!([a];),
            }
            visit!([&mut product.b.0]; product.d.iter_mut());
        }
        Op::Bulk(bulk) => {
            visit!([&mut bulk.shared.base], bulk.barrier.iter_mut().map(|barrier| &mut barrier.base), bulk.multicast.iter_mut(););
            match &mut bulk.shape {
                BulkShape::Bytes { global, bytes } => visit!([&mut global.base, bytes];),
                BulkShape::Tile { map, at } => visit!([&mut map.base], at.iter_mut();),
            }
        }
        Op::MapShared { d, address, rank } => visit!([address, rank]; [d]),
        Op::Elect { d, members, .. } => visit!([members]; d.iter_mut()),
        Op::BranchIndexed { index, .. } => visit!([index];),
        Op::Barrier { meeting: Meeting::Count, id, count, d, .. } => visit!([id], count.iter_mut(); d.iter_mut()),
        Op::Barrier { id, count, .. } => visit!([id], count.iter_mut();),
        Op::Phase { address, d, value, .. } => visit!([&mut address.base], value.iter_mut(); d.iter_mut()),
        Op::SyncWarp { members } => visit!([members];),
        Op::Shuffle { d, a, b, c, members, .. } => visit!([a, b, c, members]; [d]),
        Op::Vote { mode: Vote::Ballot, d, members, .. } => visit!([members]; [d]),
        Op::Vote { members, .. } => visit!([members];),
        Op::Match { d, a, members, .. } | Op::Reduce { d, a, members, .. } => visit!([a, members]; [d]),
        Op::ActiveMask { d } | Op::Clock { d, .. } => visit!(; [d]),
        Op::MovePredicate { .. } | Op::PredicateLogic { .. } | Op::CommitGroup | Op::WaitGroup(_) | Op::WaitAll => {}
        Op::ClusterArrive | Op::ClusterWait => {}
        Op::CommitBulk | Op::WaitBulk { .. } | Op::ProxyFence | Op::PhaseFence => {}
        Op::MatrixFence | Op::CommitMatrix | Op::WaitMatrix(_) | Op::SetRegisters { .. } => {}
        Op::Branch { .. } | Op::Exit | Op::Trap | Op::Nothing => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::Module;

    fn slots(body: &str) -> u32 {
        let text =
            format!(".version 8.4\n.visible .entry k() {{ .reg .b32 %r<100>; .reg .pred %p; mov.u32 %r0, %tid.x; {body} ret; }}");
        Module::parse(&text).expect("it is PTX").kernels[0].registers
    }

    #[test]
    fn values_of_one_run_share_slots() {
        let chain: String = (1..99).map(|n| format!("add.u32 %r{}, %r{}, {n};", n, n - 1)).collect();
        assert_eq!(slots(&chain), 2);
        let tree: String = (1..99).map(|n| format!("add.u32 %r{n}, %r0, {n};")).collect();
        assert_eq!(slots(&tree), 2);
    }

    #[test]
    fn values_that_outlive_a_run_keep_theirs() {
        // %r1 is written in a loop and read after it, %r3 written by some lanes only, %r4 lives within the loop.
        let body = "mov.u32 %r1, 0; $l: add.u32 %r1, %r1, 1; add.u32 %r4, %r1, 1; setp.lt.u32 %p, %r4, 9; @%p mov.u32 %r3, 1; @%p bra $l; add.u32 %r2, %r1, %r0;";
        assert_eq!(slots(body), 4);
    }
}
