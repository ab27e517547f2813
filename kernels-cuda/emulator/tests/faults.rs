//! One planted bug of each class, each caught with its place; and beside it the correct program, which passes.

mod common;

use common::{Device, kernel, words};
use tubelet_ptx_emulator::{Counters, Emulator, Fault, FaultKind, Launch, Module, Options, Space};

const REGISTERS: &str = ".reg .b32 %r<10>; .reg .b64 %rd<10>; .reg .f32 %f<4>; .reg .pred %p<6>; .reg .b16 %h<4>;
    ld.param.u64 %rd0, [p0]; mov.u32 %r0, %tid.x; mul.wide.u32 %rd1, %r0, 4; add.s64 %rd2, %rd0, %rd1;";

/// `k` on one block; `%rd0` is a buffer of 64 written words, `%rd2` this thread's word, `%r0` the thread.
fn run_on(device: &Device, body: &str, block: [u32; 3]) -> Result<Counters, Fault> {
    let module = Module::parse(&kernel(1, &format!("{REGISTERS}\n{body}\nret;")))?;
    let buffer = device.upload(&words(&(0..64).collect::<Vec<_>>()));
    device.emulator.launch(&module, "k", Launch { grid: [1, 1, 1], block, dynamic_shared: 0 }, &[&buffer.to_le_bytes()])
}

fn run(body: &str, threads: u32) -> Result<Counters, Fault> {
    run_on(&Device::new(1), body, [threads, 1, 1])
}

#[track_caller]
fn faults(body: &str, threads: u32) -> Fault {
    run(body, threads).expect_err("a planted bug")
}

#[track_caller]
fn passes(body: &str, threads: u32) {
    if let Err(fault) = run(body, threads) {
        panic!("{fault}");
    }
}

#[test]
fn a_read_beside_an_allocation() {
    passes("ld.global.u32 %r1, [%rd2];", 64);
    let fault = faults("ld.global.u32 %r1, [%rd2];", 65);
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { space: Space::Global, bytes: 4, .. }), "{fault}");
    assert_eq!((&*fault.kernel, fault.thread, fault.block), ("k", [64, 0, 0], [0, 0, 0]));
    assert_eq!(&*fault.instruction, "ld.global.u32 %r1, [%rd2];");
    assert_eq!(fault.line, 8);
    let text = fault.to_string();
    for part in ["k: ", "out of bounds of global memory", "PTX line 8", "thread [64, 0, 0]"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn an_access_that_only_begins_inside() {
    passes("ld.global.v2.u32 {%r1, %r2}, [%rd0+248];", 1);
    let fault = faults("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd0+248];", 1);
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { bytes: 16, .. } | FaultKind::Misaligned { .. }), "{fault}");
    let fault = faults("st.global.u32 [%rd0+-4], %r0;", 1);
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { .. }), "{fault}");
    let fault = faults("mov.u64 %rd3, 0; ld.global.u32 %r1, [%rd3+16];", 1);
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { address: 16, .. }), "{fault}");
}

#[test]
fn shared_local_and_parameters_have_bounds_too() {
    let shared = ".shared .align 4 .b8 s[16]; mov.u32 %r1, s; st.shared.u32 [%r1+OFFSET], %r0;";
    passes(&shared.replace("OFFSET", "12"), 1);
    let fault = faults(&shared.replace("OFFSET", "16"), 1);
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { space: Space::Shared, address: 16, .. }), "{fault}");
    let local = ".local .align 8 .b8 l[16]; mov.u64 %rd3, l; cvta.local.u64 %rd4, %rd3; st.u32 [%rd4+OFFSET], %r0; ld.local.u32 %r2, [l+OFFSET];";
    passes(&local.replace("OFFSET", "12"), 33);
    let fault = faults(&local.replace("OFFSET", "16"), 33);
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { space: Space::Local, .. }), "{fault}");
    let fault = faults("ld.param.u32 %r1, [p0+8];", 1);
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { space: Space::Param, .. }), "{fault}");
}

#[test]
fn misaligned_accesses() {
    let fault = faults("ld.global.u32 %r1, [%rd0+2];", 1);
    assert!(matches!(fault.kind, FaultKind::Misaligned { space: Space::Global, bytes: 4, .. }), "{fault}");
    // A vector is aligned as a whole.
    let fault = faults("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd0+8];", 1);
    assert!(matches!(fault.kind, FaultKind::Misaligned { bytes: 16, .. }), "{fault}");
    let fault = faults(".shared .align 16 .b8 s[64]; st.shared.u64 [s+4], %rd0;", 1);
    assert!(matches!(fault.kind, FaultKind::Misaligned { space: Space::Shared, address: 4, bytes: 8 }), "{fault}");
}

#[test]
fn memory_that_nobody_wrote() {
    let device = Device::new(1);
    let module = Module::parse(&kernel(1, &format!("{REGISTERS} ld.global.u32 %r1, [%rd2]; ret;"))).expect("it is PTX");
    let buffer = device.empty(64);
    device.emulator.write(buffer, &[1; 63]).expect("it is that large");
    let launch = Launch { grid: [1, 1, 1], block: [16, 1, 1], dynamic_shared: 0 };
    let fault = device.emulator.launch(&module, "k", launch, &[&buffer.to_le_bytes()]).expect_err("a byte is missing");
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Global, .. }), "{fault}");
    assert_eq!(fault.thread, [15, 0, 0]);
    let fault = faults(".shared .align 4 .b8 s[64]; st.shared.u16 [s], 1; ld.shared.u32 %r1, [s];", 1);
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Shared, address: 0 }), "{fault}");
    let fault = faults(".local .align 4 .b8 l[64]; ld.local.u32 %r1, [l+8];", 1);
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Local, address: 8 }), "{fault}");
}

#[test]
fn what_one_block_wrote_to_shared_memory_is_not_there_for_the_next() {
    let body = ".shared .align 4 .b8 s[4]; mov.u32 %r1, %ctaid.x; setp.eq.u32 %p0, %r1, 0; @%p0 st.shared.u32 [s], 1; ld.shared.u32 %r2, [s];";
    let module = Module::parse(&kernel(1, &format!("{REGISTERS}{body} ret;"))).expect("it is PTX");
    let device = Device::new(1);
    let launch = Launch { grid: [2, 1, 1], block: [1, 1, 1], dynamic_shared: 0 };
    let fault = device.emulator.launch(&module, "k", launch, &[&0u64.to_le_bytes()]).expect_err("the second block reads");
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Shared, .. }), "{fault}");
    assert_eq!(fault.block, [1, 0, 0]);
}

#[test]
fn registers_that_nobody_wrote() {
    let fault = faults("add.u32 %r2, %r1, 1;", 1);
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Register, .. }), "{fault}");
    let fault = faults("setp.eq.u32 %p1, %r0, 3; @%p1 mov.u32 %r1, 1; add.u32 %r2, %r1, 1;", 8);
    assert_eq!(fault.thread, [0, 0, 0]);
    passes("setp.lt.u32 %p1, %r0, 30; @%p1 mov.u32 %r1, 1; @%p1 add.u32 %r2, %r1, 1;", 8);
    let fault = faults("@%p1 add.u32 %r2, %r0, 1;", 1);
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Register, .. }), "{fault}");
    // Compilers copy and select what they never use.
    passes("mov.u32 %r2, %r1; setp.eq.u32 %p1, %r0, %r0; selp.b32 %r3, %r0, %r2, %p1; add.u32 %r4, %r3, 1;", 1);
    let fault = faults("mov.u32 %r2, %r1; setp.ne.u32 %p1, %r0, %r0; selp.b32 %r3, %r0, %r2, %p1; add.u32 %r4, %r3, 1;", 1);
    assert_eq!(&*fault.instruction, "add.u32 %r4, %r3, 1;");
}

#[test]
fn freed_memory() {
    let device = Device::new(1);
    let module = Module::parse(&kernel(1, &format!("{REGISTERS} st.global.u32 [%rd2], 1; ret;"))).expect("it is PTX");
    let (first, second) = (device.empty(256), device.empty(256));
    device.emulator.free(first).expect("it is allocated");
    let launch = Launch { grid: [1, 1, 1], block: [4, 1, 1], dynamic_shared: 0 };
    let fault = device.emulator.launch(&module, "k", launch, &[&first.to_le_bytes()]).expect_err("it is freed");
    assert_eq!(fault.kind, FaultKind::UseAfterFree { address: first });
    device.emulator.launch(&module, "k", launch, &[&second.to_le_bytes()]).expect("the other one is not");
    assert_eq!(device.emulator.free(first).expect_err("twice").kind, FaultKind::UseAfterFree { address: first });
    assert_eq!(device.emulator.write(first, &[0]).expect_err("freed").kind, FaultKind::UseAfterFree { address: first });
    assert!(device.empty(256) != first, "addresses are not used again");
}

/// Every thread writes its word and reads the one of the next warp, with something between.
fn exchange(between: &str) -> String {
    format!(
        ".shared .align 4 .b8 s[256]; mov.u32 %r1, s; shl.b32 %r2, %r0, 2; add.u32 %r3, %r1, %r2; st.shared.u32 [%r3], %r0;
        {between}
        xor.b32 %r4, %r2, 128; add.u32 %r5, %r1, %r4; ld.shared.u32 %r6, [%r5];"
    )
}

#[test]
fn a_missing_barrier_between_write_and_read() {
    passes(&exchange("bar.sync 0;"), 64);
    // Warp 1 runs after warp 0 has read: still a race, not an uninitialised read, where the memory was written before.
    let body = format!("{} bar.sync 0; st.shared.u32 [%r3], 1; ld.shared.u32 %r6, [%r5];", exchange("bar.sync 0;"));
    let fault = faults(&body, 64);
    assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
    let FaultKind::Race { other, .. } = fault.kind else { return };
    assert_ne!(other[0] / 32, fault.thread[0] / 32);
    // Lanes of one warp run in lockstep.
    let within =
        ".shared .align 4 .b8 s[128]; mov.u32 %r1, s; shl.b32 %r2, %r0, 2; add.u32 %r3, %r1, %r2; st.shared.u32 [%r3], %r0;
        xor.b32 %r4, %r2, 64; add.u32 %r5, %r1, %r4; ld.shared.u32 %r6, [%r5];";
    passes(within, 32);
}

#[test]
fn a_missing_barrier_between_read_and_overwrite() {
    // Warp 0 has read by the time that warp 1 writes.
    let body = |between: &str| {
        let first = exchange("bar.sync 0;");
        format!("setp.ge.u32 %p1, %r0, 32; {first} {between} @%p1 st.shared.u32 [%r3], 7;")
    };
    passes(&body("bar.sync 0;"), 64);
    let fault = faults(&body(""), 64);
    assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
    assert_eq!(&*fault.instruction, "@%p1 st.shared.u32 [%r3], 7;");
}

#[test]
fn races_can_be_left_alone() {
    let emulator = Emulator::new(Options { threads: 1, races: false, ..Options::default() });
    let body = format!("{} st.shared.u32 [%r3], 7;", exchange("bar.sync 0;"));
    if let Err(fault) = run_on(&Device { emulator }, &body, [64, 1, 1]) {
        panic!("{fault}");
    }
}

#[test]
fn named_barriers_order_only_who_takes_part() {
    // Warps 0 and 1 meet at barrier 1; warps 2 and 3 at barrier 2. Each reads its partner's word, then that of a stranger.
    let meet = "shr.u32 %r7, %r0, 6; add.u32 %r7, %r7, 1; bar.sync %r7, 64;";
    let partner = "xor.b32 %r4, %r2, 128; add.u32 %r5, %r1, %r4; ld.shared.u32 %r6, [%r5];";
    let stranger = "xor.b32 %r4, %r2, 256; add.u32 %r5, %r1, %r4; ld.shared.u32 %r6, [%r5];";
    let fill = ".shared .align 4 .b8 s[512]; mov.u32 %r1, s; shl.b32 %r2, %r0, 2; add.u32 %r3, %r1, %r2;
        st.shared.u32 [%r3], %r0; bar.sync 0; st.shared.u32 [%r3], %r0;";
    passes(&format!("{fill} {meet} {partner}"), 128);
    let fault = faults(&format!("{fill} {meet} {stranger}"), 128);
    assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
}

#[test]
fn arrivals_tell_what_was_done_before_them() {
    // Warp 0 writes and arrives; warp 1 waits and reads. With the write after the arrival, it races.
    let body = |first: &str, second: &str| {
        format!(
            ".shared .align 4 .b8 s[4]; setp.ge.u32 %p1, %r0, 32; st.shared.u32 [s+0], 1; bar.sync 0; @%p1 bra $reader;
             {first} bar.arrive 1, 64; {second} bra $end;
             $reader: bar.sync 1, 64; ld.shared.u32 %r1, [s];
             $end: ret;"
        )
        .replace("st.shared.u32 [s+0], 1;", "@!%p1 st.shared.u32 [s+0], 1;")
    };
    passes(&body("st.shared.u32 [s], 2;", ""), 64);
    let fault = faults(&body("", "st.shared.u32 [s], 2;"), 64);
    assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
}

#[test]
fn lanes_of_one_instruction_that_disagree() {
    let store = |value: &str| format!(".shared .align 4 .b8 s[4]; st.shared.u32 [s], {value};");
    passes(&store("5"), 32);
    let fault = faults(&store("%r0"), 32);
    assert!(matches!(fault.kind, FaultKind::WriteConflict { address: 0, other: [31, 0, 0] }), "{fault}");
}

#[test]
fn atomics_race_with_plain_accesses_only() {
    let atomic = ".shared .align 4 .b8 s[4]; setp.eq.u32 %p0, %r0, 0; @%p0 st.shared.u32 [s], 0; bar.sync 0; atom.shared.add.u32 %r1, [s], 1;";
    passes(&format!("{atomic} bar.sync 0; ld.shared.u32 %r2, [s];"), 64);
    let fault = faults(&format!("{atomic} ld.shared.u32 %r2, [s];"), 64);
    assert!(matches!(fault.kind, FaultKind::Race { .. }), "{fault}");
}

#[test]
fn a_barrier_that_not_all_reach() {
    let fault = faults("setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync 0;", 64);
    assert_eq!(fault.kind, FaultKind::DivergentBarrier { waiting: 32, expected: 64 });
    // An early return is one of them, also within a warp.
    let fault = faults("setp.ge.u32 %p1, %r0, 60; @%p1 ret; bar.sync 0;", 64);
    assert_eq!(fault.kind, FaultKind::DivergentBarrier { waiting: 60, expected: 64 });
    // The two sides of a branch are two barriers.
    let fault = faults("setp.lt.u32 %p1, %r0, 16; @%p1 bra $a; bar.sync 0; bra $b; $a: bar.sync 0; $b: ret;", 32);
    assert!(matches!(fault.kind, FaultKind::DivergentBarrier { waiting: 16, expected: 32 }), "{fault}");
    // Different barriers.
    let fault = faults("shr.u32 %r1, %r0, 5; bar.sync %r1;", 64);
    assert!(matches!(fault.kind, FaultKind::DivergentBarrier { waiting: 32, expected: 64 }), "{fault}");
}

#[test]
fn lanes_that_a_shuffle_waits_for_in_vain() {
    let fault =
        faults("setp.lt.u32 %p1, %r0, 16; @!%p1 bra $a; shfl.sync.idx.b32 %r1, %r0, 0, 31, -1; $a: bar.warp.sync -1;", 32);
    assert!(matches!(fault.kind, FaultKind::DivergentBarrier { waiting: 16, expected: 32 }), "{fault}");
    let fault = faults("shfl.sync.idx.b32 %r1, %r0, 0, 31, 15;", 32);
    assert!(matches!(fault.kind, FaultKind::MemberMask { members: 15 }), "{fault}");
    // Lane 20 exists, but takes no part.
    let fault = faults("setp.ge.u32 %p1, %r0, 16; @%p1 bra $a; shfl.sync.idx.b32 %r1, %r0, 20, 31, 0xffff; $a: ret;", 32);
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Register, .. }), "{fault}");
}

/// Copies each thread's word to shared memory and reads it.
fn copied(between: &str) -> String {
    format!(
        ".shared .align 16 .b8 s[256]; mov.u32 %r1, s; shl.b32 %r2, %r0, 2; add.u32 %r3, %r1, %r2;
        cp.async.ca.shared.global [%r3], [%rd2], 4; {between} ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd2], %r4;"
    )
}

#[test]
fn copies_that_nobody_waited_for() {
    passes(&copied("cp.async.commit_group; cp.async.wait_group 0;"), 64);
    passes(&copied("cp.async.wait_all;"), 64);
    for between in
        ["", "cp.async.commit_group;", "cp.async.commit_group; cp.async.wait_group 1;", "cp.async.wait_group 0;", "bar.sync 0;"]
    {
        let fault = faults(&copied(between), 64);
        assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{between}: {fault}");
    }
    // Writing there is as bad.
    let fault = faults(&copied("st.shared.u32 [%r3], 0;"), 64);
    assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{fault}");
}

#[test]
fn copies_of_others_need_a_barrier_after_the_wait() {
    let other = |between: &str| {
        format!(
            ".shared .align 16 .b8 s[256]; mov.u32 %r1, s; shl.b32 %r2, %r0, 2; add.u32 %r3, %r1, %r2;
            cp.async.ca.shared.global [%r3], [%rd2], 4; cp.async.wait_all; {between}
            xor.b32 %r4, %r2, 128; add.u32 %r5, %r1, %r4; ld.shared.u32 %r6, [%r5];"
        )
    };
    passes(&other("bar.sync 0;"), 64);
    assert!(run(&other(""), 64).is_err());
    // A barrier before the wait is none for the copy.
    let early = other("").replace("cp.async.wait_all;", "bar.sync 0; cp.async.wait_all;");
    let fault = faults(&early, 64);
    assert!(matches!(fault.kind, FaultKind::InFlight { .. } | FaultKind::Race { .. }), "{fault}");
}

#[test]
fn unknown_instructions_are_refused_by_name() {
    for text in [
        "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f0, %f1, %f2, %f3}, %rd0, %rd1, 0, %r0, 1, 1, 1, 0, 0;",
        "add.strange.u32 %r1, %r0, 1;",
        "min.relu.s32 %r1, %r0, 1;",
        "add.rn.oob.f32 %f1, %f0, %f0;",
        "add.u32 %r1, %r0;",
        "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 %f0, %f1, %f2, %f3;",
        "st.async.shared.u32 [%rd0], %r0;",
        "redux.sync.min.f32 %f0, %f1, -1;",
        "call (%r1), f, (%r0);",
        "tex.1d.v4.f32.s32 {%f0}, [%r0];",
    ] {
        let fault = faults(text, 1);
        assert_eq!(fault.kind, FaultKind::UnknownInstruction, "{fault}");
        let name = text.split([' ', ';']).next().unwrap_or_default();
        assert!(fault.to_string().contains(name), "{fault}");
        assert_eq!((fault.line, &*fault.kernel), (8, "k"));
    }
}

#[test]
fn text_that_is_no_ptx() {
    for text in [
        "",
        "hello",
        ".version 8.4\n.visible .entry k() {",
        ".version 8.4\n.entry k() { bra nowhere; }",
        ".version 8.4\n.entry k() { mov.u32 %r0, 1; }",
    ] {
        let fault = Module::parse(text).expect_err("it is refused");
        assert!(matches!(fault.kind, FaultKind::Malformed(_)), "{text}: {fault}");
    }
}

#[test]
fn launches_that_do_not_fit() {
    let device = Device::new(1);
    let text = ".version 8.4\n.visible .entry k(.param .u64 a, .param .u32 b) .maxntid 64, 1, 1 { .shared .b8 s[1024]; .reg .b32 %r; mov.u32 %r, s; ret; }";
    let module = Module::parse(text).expect("it is PTX");
    let good = Launch { grid: [1, 1, 1], block: [64, 1, 1], dynamic_shared: 0 };
    let launch = |name: &str, launch, parameters: &[&[u8]]| device.emulator.launch(&module, name, launch, parameters);
    launch("k", good, &[&[0; 8], &[0; 4]]).expect("this one fits");
    let refused = |launch: Launch, parameters: &[&[u8]]| {
        let fault = device.emulator.launch(&module, "k", launch, parameters).expect_err("it does not fit");
        assert!(matches!(fault.kind, FaultKind::BadArguments(_)), "{fault}");
    };
    assert_eq!(launch("l", good, &[]).expect_err("there is none").kind, FaultKind::UnknownKernel);
    refused(good, &[&[0; 8]]);
    refused(good, &[&[0; 4], &[0; 4]]);
    refused(good, &[&[0; 8], &[0; 4], &[0; 4]]);
    let good_parameters: [&[u8]; 2] = [&[0; 8], &[0; 4]];
    refused(Launch { block: [65, 1, 1], ..good }, &good_parameters);
    refused(Launch { block: [0, 1, 1], ..good }, &good_parameters);
    refused(Launch { grid: [1, 70_000, 1], ..good }, &good_parameters);
    refused(Launch { dynamic_shared: 227 << 10, ..good }, &good_parameters);
}

#[test]
fn loops_without_end() {
    let emulator = Emulator::new(Options { threads: 1, instruction_limit: Some(100_000), ..Options::default() });
    let fault = run_on(&Device { emulator }, "$a: add.u32 %r1, %r0, 1; bra $a;", [64, 1, 1]).expect_err("it never ends");
    assert_eq!(fault.kind, FaultKind::TooLong);
}

#[test]
fn traps() {
    let fault = faults("setp.eq.u32 %p1, %r0, 5; @%p1 trap;", 32);
    assert_eq!((fault.kind, fault.thread), (FaultKind::Trap, [5, 0, 0]));
}

#[test]
fn the_source_line_is_named_where_it_is_known() {
    let text =
        ".version 8.4\n.visible .entry k() {\n.reg .b32 %r<3>;\n.loc 1 17 9\nadd.u32 %r1, %r0, 1;\nret;\n}\n.file 1 \"add.cu\"\n";
    let module = Module::parse(text).expect("it is PTX");
    let launch = Launch { grid: [1, 1, 1], block: [1, 1, 1], dynamic_shared: 0 };
    let fault = Device::new(1).emulator.launch(&module, "k", launch, &[]).expect_err("%r0 was not written");
    let source = fault.source.as_ref().expect("there is a .loc");
    assert_eq!((fault.line, &*source.file, source.line), (5, "add.cu", 17));
    assert!(fault.to_string().contains("add.cu:17"), "{fault}");
}

#[test]
fn the_first_fault_is_the_same_for_any_number_of_threads() {
    let body = "mov.u32 %r1, %ctaid.x; setp.lt.u32 %p1, %r1, 37; @%p1 ret; ld.global.u32 %r2, [%rd0+1024];";
    let module = Module::parse(&kernel(1, &format!("{REGISTERS}{body} ret;"))).expect("it is PTX");
    for threads in 1..5 {
        let device = Device::new(threads);
        let buffer = device.empty(64);
        let launch = Launch { grid: [200, 1, 1], block: [32, 1, 1], dynamic_shared: 0 };
        let fault = device.emulator.launch(&module, "k", launch, &[&buffer.to_le_bytes()]).expect_err("block 37 strays");
        assert_eq!((fault.block, fault.thread), ([37, 0, 0], [0, 0, 0]));
    }
}

#[test]
fn the_host_reads_what_was_written() {
    let strict = Device { emulator: Emulator::new(Options { strict_host_reads: true, ..Options::default() }) };
    let address = strict.empty(16);
    strict.emulator.write(address + 4, &[1, 2, 3]).expect("it is inside");
    let mut bytes = [0; 3];
    strict.emulator.read(address + 4, &mut bytes).expect("that was written");
    assert_eq!(bytes, [1, 2, 3]);
    let fault = strict.emulator.read(address + 5, &mut bytes).expect_err("one byte was not");
    assert_eq!(fault.kind, FaultKind::Uninitialised { space: Space::Global, address: address + 7 });
    let lenient = Device::new(1);
    let address = lenient.empty(16);
    assert_eq!(lenient.bytes(address, 16), [0; 16]);
    assert!(lenient.emulator.read(address + 8, &mut [0; 16]).is_err());
    assert!(address.is_multiple_of(256));
    assert_eq!(lenient.emulator.allocate(1 << 40).expect_err("too much").kind, FaultKind::OutOfMemory { bytes: 1 << 40 });
}
