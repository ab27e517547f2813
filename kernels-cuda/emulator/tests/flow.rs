//! Lanes that part and meet, warps that wait, blocks in any order.

mod common;

use common::{Device, kernel, words};
use tubelet_ptx_emulator::{Counters, Fault, Launch, Module};

const REGISTERS: &str = ".reg .b32 %r<16>; .reg .b64 %rd<6>; .reg .pred %p<6>;
    ld.param.u64 %rd0, [p0]; mov.u32 %r0, %tid.x; mov.u32 %r14, %ntid.x; mov.u32 %r15, %ctaid.x; mad.lo.u32 %r1, %r15, %r14, %r0;
    mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %rd0, %rd1; mov.u32 %r2, 0;";

/// `k` with the global thread in `%r1`; stores `%r2` of each thread.
fn run(body: &str, grid: u32, block: u32, threads: usize) -> Result<(Vec<u32>, Counters), Fault> {
    let module = Module::parse(&kernel(1, &format!("{REGISTERS}\n{body}\n$store: st.global.u32 [%rd2], %r2; $quit: ret;")))?;
    let device = Device::new(threads);
    let count = (grid * block) as usize;
    let buffer = device.upload(&words(&vec![u32::MAX; count]));
    let launch = Launch { grid: [grid, 1, 1], block: [block, 1, 1], dynamic_shared: 0 };
    let counters = device.emulator.launch(&module, "k", launch, &[&buffer.to_le_bytes()])?;
    Ok((device.words(buffer, count), counters))
}

#[track_caller]
fn gives(body: &str, block: u32, expected: impl Fn(u32) -> u32) -> Counters {
    let (found, counters) = run(body, 1, block, 1).unwrap_or_else(|fault| panic!("{fault}"));
    let expected: Vec<u32> = (0..block).map(expected).collect();
    assert_eq!(found, expected, "{body}");
    counters
}

#[test]
fn both_sides_of_a_branch() {
    let body = "and.b32 %r3, %r0, 1; setp.eq.u32 %p1, %r3, 0; @%p1 bra $even; add.u32 %r2, %r0, 100; bra $join;
        $even: mul.lo.u32 %r2, %r0, 3; $join: add.u32 %r2, %r2, 1;";
    let counters = gives(body, 32, |t| if t % 2 == 0 { 3 * t + 1 } else { t + 101 });
    assert_eq!(counters.divergent_branches, 1);
    // 8 to begin with, 3 up to the branch, 2 and 1 on the sides; what comes after the join is executed once, by all lanes.
    assert_eq!(counters.instructions(), 8 + 3 + 2 + 1 + 3);
}

#[test]
fn branches_within_branches() {
    let body = "and.b32 %r3, %r0, 1; and.b32 %r4, %r0, 2; setp.eq.u32 %p1, %r3, 0; setp.eq.u32 %p2, %r4, 0;
        @%p1 bra $a; @%p2 bra $b; mov.u32 %r2, 3; bra $c; $b: mov.u32 %r2, 1; $c: add.u32 %r2, %r2, 10; bra $d;
        $a: @%p2 bra $e; mov.u32 %r2, 2; bra $d; $e: mov.u32 %r2, 0; $d: add.u32 %r2, %r2, 100; shfl.sync.idx.b32 %r5, %r2, 0, 31, -1;";
    gives(body, 32, |t| 100 + t % 4 + if t % 2 == 1 { 10 } else { 0 });
}

#[test]
fn loops_that_lanes_leave_one_by_one() {
    let body = "$loop: setp.ge.u32 %p1, %r2, %r0; @%p1 bra $out; add.u32 %r2, %r2, 1; bra $loop; $out: mul.lo.u32 %r2, %r2, 2;";
    let counters = gives(body, 32, |t| 2 * t);
    // 31 rounds, whoever is still inside: lanes take part together.
    assert!(counters.instructions() < 160, "{counters}");
    let rotated = "setp.eq.u32 %p1, %r0, 0; @%p1 bra $out; $loop: add.u32 %r2, %r2, 1; setp.lt.u32 %p2, %r2, %r0; @%p2 bra $loop;
        $out: add.u32 %r2, %r2, 7; bar.sync 0;";
    gives(rotated, 64, |t| t + 7);
}

#[test]
fn early_returns_do_not_keep_the_others_apart() {
    // Lanes 0 to 7 leave from within a branch; the others meet again after it, before a shuffle names them.
    let body = "setp.ge.u32 %p1, %r0, 16; @%p1 bra $high; setp.lt.u32 %p2, %r0, 8; @%p2 bra $quit; mov.u32 %r2, 1; bra $join;
        $high: mov.u32 %r2, 2; $join: add.u32 %r2, %r2, 10; add.u32 %r2, %r2, 10; shfl.sync.down.b32 %r2, %r2, 1, 31, 0xffffff00;";
    let counters = gives(body, 32, |t| match t {
        0..8 => u32::MAX,
        8..15 => 21,
        _ => 22,
    });
    assert_eq!(counters.divergent_branches, 2);
    // 8 to begin with, 2 up to the branch, 4 and 1 on its sides, then 4 and the end, once; those that left early come to it alone.
    assert_eq!(counters.instructions(), 8 + 2 + 4 + 1 + 4 + 1 + 1);
}

#[test]
fn a_guarded_instruction_leaves_the_other_lanes_alone() {
    gives("setp.lt.u32 %p1, %r0, 5; @%p1 mov.u32 %r2, 9; @!%p1 mov.u32 %r2, 4;", 32, |t| if t < 5 { 9 } else { 4 });
    gives("setp.lt.u32 %p1, %r0, 5; @%p1 bra $store; mov.u32 %r2, 1;", 33, |t| u32::from(t >= 5));
}

#[test]
fn a_table_of_branches() {
    let body = "and.b32 %r3, %r0, 3; $list: .branchtargets $a, $b, $c, $b; brx.idx %r3, $list;
        $a: mov.u32 %r2, 10; bra $end; $b: mov.u32 %r2, 20; bra $end; $c: mov.u32 %r2, 30; $end: add.u32 %r2, %r2, 1;";
    gives(body, 32, |t| [11, 21, 31, 21][(t % 4) as usize]);
}

#[test]
fn shuffles() {
    gives("shfl.sync.bfly.b32 %r2, %r0, 5, 31, -1;", 32, |t| t ^ 5);
    gives("shfl.sync.idx.b32 %r2, %r0, 7, 31, -1;", 64, |t| t / 32 * 32 + 7);
    gives("shfl.sync.up.b32 %r2, %r0, 3, 0, -1;", 32, |t| if t < 3 { t } else { t - 3 });
    gives("shfl.sync.down.b32 %r2|%p1, %r0, 4, 31, -1; @!%p1 mov.u32 %r2, 99;", 32, |t| if t < 28 { t + 4 } else { 99 });
    // Segments of eight: c = (32 - 8) << 8 | 7.
    gives("shfl.sync.down.b32 %r2, %r0, 4, 0x1807, -1;", 32, |t| if t % 8 < 4 { t + 4 } else { t });
    gives("shfl.sync.idx.b32 %r2, %r0, 1, 0x181f, -1;", 32, |t| t / 8 * 8 + 1);
    // Only some lanes, while the others are elsewhere.
    let halves = "setp.lt.u32 %p1, %r0, 16; @%p1 bra $low; shfl.sync.bfly.b32 %r2, %r0, 1, 31, 0xffff0000; bra $store;
        $low: shfl.sync.bfly.b32 %r2, %r0, 2, 31, 0xffff;";
    gives(halves, 32, |t| if t < 16 { t ^ 2 } else { t ^ 1 });
}

#[test]
fn votes_matches_and_reductions() {
    let odd = "and.b32 %r3, %r0, 1; setp.eq.u32 %p1, %r3, 1;";
    gives(&format!("{odd} vote.sync.ballot.b32 %r2, %p1, -1;"), 32, |_| 0xaaaa_aaaa);
    gives(&format!("{odd} vote.sync.any.pred %p2, %p1, -1; selp.u32 %r2, 1, 0, %p2;"), 32, |_| 1);
    gives(&format!("{odd} vote.sync.all.pred %p2, !%p1, -1; selp.u32 %r2, 1, 0, %p2;"), 32, |_| 0);
    gives("setp.gt.u32 %p1, %r0, 99; vote.sync.uni.pred %p2, %p1, -1; selp.u32 %r2, 1, 0, %p2;", 32, |_| 1);
    gives("shr.u32 %r3, %r0, 4; match.any.sync.b32 %r2, %r3, -1;", 32, |t| if t < 16 { 0xffff } else { 0xffff_0000 });
    gives("mov.u32 %r3, 5; match.all.sync.b32 %r2|%p1, %r3, -1;", 32, |_| u32::MAX);
    gives("redux.sync.add.s32 %r2, %r0, -1;", 32, |_| 496);
    gives("redux.sync.max.u32 %r2, %r0, -1;", 48, |t| if t < 32 { 31 } else { 47 });
    gives("activemask.b32 %r2;", 40, |t| if t < 32 { u32::MAX } else { 0xff });
}

#[test]
fn special_registers() {
    gives("mov.u32 %r2, %laneid;", 40, |t| t % 32);
    gives("mov.u32 %r3, %nctaid.x; mov.u32 %r4, %ntid.y; mad.lo.u32 %r2, %r3, 10, %r4;", 32, |_| 11);
    gives("mov.u32 %r2, %lanemask_lt;", 32, |t| (1u32 << t) - 1);
    gives("mov.u32 %r2, %warpid;", 96, |t| t / 32);
    let text = kernel(
        1,
        ".reg .b32 %r<9>; .reg .b64 %a<3>; ld.param.u64 %a0, [p0]; mov.u32 %r0, %tid.x; mov.u32 %r1, %tid.y; mov.u32 %r2, %tid.z;
        mov.u32 %r3, %ctaid.y; mad.lo.u32 %r4, %r3, 2, %r2; mad.lo.u32 %r4, %r4, 3, %r1; mad.lo.u32 %r4, %r4, 4, %r0;
        mul.wide.u32 %a1, %r4, 4; add.s64 %a0, %a0, %a1; st.global.u32 [%a0], %r4; ret;",
    );
    let module = Module::parse(&text).expect("it is PTX");
    let device = Device::new(1);
    let buffer = device.empty(4 * 4 * 3 * 2 * 5);
    let launch = Launch { grid: [1, 5, 1], block: [4, 3, 2], dynamic_shared: 0 };
    device.emulator.launch(&module, "k", launch, &[&buffer.to_le_bytes()]).expect("no fault");
    assert_eq!(device.words(buffer, 120), (0..120).collect::<Vec<u32>>());
}

#[test]
fn reductions_over_a_block() {
    let body =
        ".shared .align 4 .b8 s[1024]; mov.u32 %r3, s; shl.b32 %r4, %r0, 2; add.u32 %r5, %r3, %r4; st.shared.u32 [%r5], %r0;
        mov.u32 %r6, 128;
        $loop: bar.sync 0; setp.ge.u32 %p1, %r0, %r6; @%p1 bra $skip; shl.b32 %r7, %r6, 2; add.u32 %r8, %r5, %r7;
        ld.shared.u32 %r9, [%r8]; ld.shared.u32 %r10, [%r5]; add.u32 %r9, %r9, %r10; st.shared.u32 [%r5], %r9;
        $skip: shr.u32 %r6, %r6, 1; setp.ne.u32 %p2, %r6, 0; @%p2 bra $loop; bar.sync 0; ld.shared.u32 %r2, [s];";
    let counters = gives(body, 256, |_| 256 * 255 / 2);
    assert_eq!(counters.barriers, 9);
    gives("setp.lt.u32 %p1, %r0, 40; barrier.sync 0; bar.red.popc.u32 %r2, 1, %p1;", 96, |_| 40);
    gives("setp.lt.u32 %p1, %r0, 40; bar.red.or.pred %p2, 0, %p1; selp.u32 %r2, 1, 0, %p2;", 96, |_| 1);
    gives("setp.lt.u32 %p1, %r0, 40; bar.red.and.pred %p2, 0, %p1; selp.u32 %r2, 1, 0, %p2;", 96, |_| 0);
}

#[test]
fn warps_that_wait_for_each_other_in_loops() {
    // Warp 0 waits for a flag that warp 1 sets: an mbarrier of one arrival, by parity.
    let body =
        ".shared .align 8 .b8 m[8]; .shared .align 4 .b8 s[4]; setp.eq.u32 %p1, %r0, 0; @%p1 mbarrier.init.shared.b64 [m], 32;
        bar.sync 0; setp.ge.u32 %p2, %r0, 32; @%p2 bra $writer;
        $wait: mbarrier.try_wait.parity.shared.b64 %p3, [m], 0; @!%p3 bra $wait; ld.shared.u32 %r2, [s]; bra $store;
        $writer: setp.eq.u32 %p4, %r0, 32; @%p4 st.shared.u32 [s], 77; mbarrier.arrive.shared.b64 %rd4, [m];";
    gives(body, 64, |t| if t < 32 { 77 } else { 0 });
    // By the token of one's own arrival, twice.
    let round = "mbarrier.arrive.shared.b64 %rd4, [m]; $w: mbarrier.test_wait.shared.b64 %p3, [m], %rd4; @!%p3 bra $w;";
    let body = format!(
        ".shared .align 8 .b8 m[8]; .shared .align 4 .b8 s[512]; mov.u32 %r3, s; shl.b32 %r4, %r0, 2; add.u32 %r5, %r3, %r4; xor.b32 %r6, %r4, 128;
        add.u32 %r6, %r3, %r6; setp.eq.u32 %p1, %r0, 0; @%p1 mbarrier.init.shared.b64 [m], 64; bar.sync 0;
        st.shared.u32 [%r5], %r0; {} ld.shared.u32 %r7, [%r6]; {} st.shared.u32 [%r5], %r7; {} ld.shared.u32 %r2, [%r6];",
        round.replace("$w", "$w1"),
        round.replace("$w", "$w2"),
        round.replace("$w", "$w3")
    );
    gives(&body, 64, |t| t);
    // Without the second wait, a thread overwrites what another one may still read.
    let hasty = body.replacen(&round.replace("$w", "$w2"), "", 1);
    assert!(run(&hasty, 1, 64, 1).is_err());
}

#[test]
fn atomics() {
    let (found, _) = run("atom.global.add.u32 %r2, [%rd0], 1;", 1, 1, 1).expect("no fault");
    assert_eq!(found, [u32::MAX]);
    let shared = |op: &str, initial: &str| {
        format!(
            ".shared .align 8 .b8 s[8]; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [s], {initial}; bar.sync 0;
            {op} bar.sync 0; ld.shared.u32 %r2, [s];"
        )
    };
    gives(&shared("atom.shared.add.u32 %r3, [s], %r0;", "5"), 64, |_| 5 + 63 * 32);
    gives(&shared("red.shared.max.s32 [s], %r0;", "-5"), 64, |_| 63);
    gives(&shared("red.shared.min.s32 [s], %r0;", "-5"), 64, |_| -5i32 as u32);
    gives(&shared("red.shared.or.b32 [s], %r0;", "0"), 64, |_| 63);
    gives(&shared("atom.shared.exch.b32 %r3, [s], %r0;", "0"), 32, |_| 31);
    gives(&shared("atom.shared.cas.b32 %r3, [s], 3, 9; atom.shared.cas.b32 %r3, [s], 9, %r0;", "3"), 32, |_| 0);
    gives(&shared("atom.shared.inc.u32 %r3, [s], 9;", "0"), 64, |_| 4);
    gives(
        &shared("cvt.rn.f32.u32 %f0, %r0; red.shared.add.f32 [s], %f0;", "0")
            .replace(".shared .align 8", ".reg .f32 %f0; .shared .align 8"),
        64,
        |_| 2016f32.to_bits(),
    );
}

#[test]
fn generic_addresses_and_module_variables() {
    let text = ".version 8.4\n.global .align 4 .u32 counter = 40;\n.const .align 4 .b32 table[4] = {10, 20, 30, 40};\n.extern .shared .align 16 .b8 dynamic[];
        .visible .entry k(.param .u64 p0) { .reg .b64 %a<6>; .reg .b32 %r<8>;
        ld.param.u64 %a0, [p0]; mov.u64 %a1, counter; ld.u32 %r0, [%a1]; add.u32 %r0, %r0, 2; st.global.u32 [counter], %r0;
        ld.const.u32 %r1, [table+8]; mov.u64 %a2, table; cvta.const.u64 %a3, %a2; ld.u32 %r2, [%a3+12];
        mov.u64 %a4, dynamic; cvta.shared.u64 %a5, %a4; st.u32 [%a5+60], %r0; ld.shared.u32 %r3, [dynamic+60];
        add.u32 %r4, %r1, %r2; add.u32 %r4, %r4, %r3; st.global.u32 [%a0], %r4; ret; }";
    let (module, device) = (Module::parse(text).expect("it is PTX"), Device::new(1));
    let buffer = device.empty(4);
    let launch = Launch { grid: [1, 1, 1], block: [1, 1, 1], dynamic_shared: 64 };
    for counter in [42, 44] {
        device.emulator.launch(&module, "k", launch, &[&buffer.to_le_bytes()]).expect("no fault");
        assert_eq!(device.words(buffer, 1), [70 + counter]);
    }
    let small = Launch { dynamic_shared: 60, ..launch };
    assert!(device.emulator.launch(&module, "k", small, &[&buffer.to_le_bytes()]).is_err());
}

#[test]
fn narrow_and_wide_accesses() {
    let body = ".reg .b16 %h<4>; .reg .b64 %x; .local .align 16 .b8 l[32]; st.local.u32 [l], 0x8081fe7f; ld.local.s8 %r3, [l+1];
        ld.local.u8 %r4, [l+1]; ld.local.s16 %r5, [l+2]; add.u32 %r2, %r3, %r4; add.u32 %r2, %r2, %r5;";
    gives(body, 40, |_| (-2i32 + 254 + i32::from(0x8081u16 as i16)) as u32);
    let body = ".local .align 16 .b8 l[32]; st.local.v4.u32 [l], {%r0, 1, 2, 3}; ld.local.v2.u32 {%r3, %r4}, [l+8]; ld.local.u32 %r5, [l];
        mad.lo.u32 %r2, %r3, %r4, %r5;";
    gives(body, 40, |t| 6 + t);
}

#[test]
fn hints_to_caches_change_nothing() {
    let body = "createpolicy.fractional.L2::evict_last.b64 %rd3, 1.0; ld.global.nc.L1::no_allocate.L2::128B.u32 %r3, [%rd2];
        ld.global.L2::cache_hint.u32 %r4, [%rd2], %rd3; prefetch.global.L2 [%rd2]; st.global.cs.u32 [%rd2], %r0;
        ld.relaxed.gpu.global.u32 %r5, [%rd2]; sub.u32 %r2, %r3, %r4; add.u32 %r2, %r2, %r5;";
    gives(body, 32, |t| t);
}

#[test]
fn results_and_counters_are_the_same_for_any_number_of_host_threads() {
    // Float atomics on one word: their order matters, so blocks take turns.
    let body = ".reg .f32 %f<3>; cvt.rn.f32.u32 %f0, %r1; rcp.rn.f32 %f0, %f0; setp.eq.u32 %p1, %r0, 0; @!%p1 bra $skip;
        red.global.add.f32 [%rd2], 0f3F800000; $skip: shl.b32 %r3, %r1, 3; xor.b32 %r2, %r3, 85;";
    let sum = "red.global.add.f32 [%rd0], %f0;";
    let text = kernel(1, &format!("{REGISTERS} {} ret;", body.replace("red.global.add.f32 [%rd2], 0f3F800000;", sum)));
    let module = Module::parse(&text).expect("it is PTX");
    let mut all = Vec::new();
    for threads in [1, 2, 5] {
        let device = Device::new(threads);
        let buffer = device.upload(&[0; 4]);
        let launch = Launch { grid: [300, 1, 1], block: [32, 1, 1], dynamic_shared: 0 };
        let counters = device.emulator.launch(&module, "k", launch, &[&buffer.to_le_bytes()]);
        all.push((device.words(buffer, 1), counters.map_err(|f| f.to_string())));
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    let plain = "mul.lo.u32 %r2, %r1, %r1; bar.sync 0;";
    let results: Vec<_> = [1, 2, 7].map(|threads| run(plain, 100, 96, threads).expect("no fault")).into();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}
