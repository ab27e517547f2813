//! What launches cost, for access patterns whose cost is known.

mod common;

use common::{Device, kernel, words};
use tubelet_ptx_emulator::{Counters, Launch, Module};

const REGISTERS: &str = ".reg .b32 %r<10>; .reg .b64 %rd<6>; .shared .align 16 .b8 s[4096];
    ld.param.u64 %rd0, [p0]; mov.u32 %r0, %tid.x; mov.u32 %r2, s;";

/// One warp on a buffer of 4 KiB.
fn warp(body: &str) -> Counters {
    blocks(body, 1)
}

fn blocks(body: &str, grid: u32) -> Counters {
    let module = Module::parse(&kernel(1, &format!("{REGISTERS}\n{body}\nret;"))).unwrap_or_else(|fault| panic!("{fault}"));
    let device = Device::new(2);
    let buffer = device.upload(&words(&[0; 1024]));
    let launch = Launch { grid: [grid, 1, 1], block: [32, 1, 1], dynamic_shared: 0 };
    device.emulator.launch(&module, "k", launch, &[&buffer.to_le_bytes()]).unwrap_or_else(|fault| panic!("{fault}"))
}

/// A load of a word by each lane, `stride` bytes apart.
fn global(stride: u32, load: &str) -> Counters {
    warp(&format!("mul.wide.u32 %rd1, %r0, {stride}; add.s64 %rd2, %rd0, %rd1; {load}"))
}

#[test]
fn sectors_of_global_memory() {
    let word = "ld.global.u32 %r1, [%rd2];";
    for (stride, sectors) in [(0, 1), (4, 4), (8, 8), (32, 32), (64, 32)] {
        let counters = global(stride, word);
        assert_eq!(
            (counters.global_requests, counters.global_transactions, counters.global_bytes),
            (1, sectors, 128),
            "{stride}"
        );
    }
    assert_eq!(global(16, "ld.global.v4.u32 {%r1, %r3, %r4, %r5}, [%rd2];").global_transactions, 16);
    // Four bytes off, one sector more.
    assert_eq!(global(4, "st.global.u32 [%rd2+4], %r0;").global_transactions, 5);
    // Backwards is as good as forwards.
    assert_eq!(
        warp("sub.u32 %r1, 31, %r0; mul.wide.u32 %rd1, %r1, 4; add.s64 %rd2, %rd0, %rd1; ld.global.u32 %r1, [%rd2];")
            .global_transactions,
        4
    );
}

/// Each lane stores and loads a word, `stride` bytes apart: conflicts of the two.
fn shared(stride: u32) -> u64 {
    let body = format!("mad.lo.u32 %r3, %r0, {stride}, %r2; st.shared.u32 [%r3], %r0; ld.shared.u32 %r4, [%r3];");
    let counters = warp(&body);
    assert_eq!(counters.shared_requests, 2);
    counters.shared_bank_conflicts
}

#[test]
fn conflicts_of_banks() {
    for (stride, ways) in [(4, 1), (8, 2), (16, 4), (36, 1), (64, 16), (128, 32)] {
        assert_eq!(shared(stride), 2 * (ways - 1), "{stride}");
    }
    // All lanes read one word: no conflict.
    assert_eq!(warp("st.shared.u32 [s], 1; ld.shared.u32 %r4, [s];").shared_bank_conflicts, 0);
    // 16 bytes a lane go in four passes of eight lanes, none of them in conflict; with a stride of 32, each has two.
    let wide =
        |stride: u32| warp(&format!("mad.lo.u32 %r3, %r0, {stride}, %r2; st.shared.v4.u32 [%r3], {{%r0, %r0, %r0, %r0}};"));
    assert_eq!(wide(16).shared_bank_conflicts, 0);
    assert_eq!(wide(32).shared_bank_conflicts, 4);
    // Rows of an ldmatrix 16 bytes apart do not collide, rows 128 bytes apart all do.
    let rows = |stride: u32| {
        let fill = "mov.u32 %r5, 0; $fill: mad.lo.u32 %r3, %r0, 4, %r2; add.u32 %r3, %r3, %r5; st.shared.u32 [%r3], 0;
            add.u32 %r5, %r5, 128; .reg .pred %p; setp.lt.u32 %p, %r5, 4096; @%p bra $fill;";
        warp(&format!(
            "{fill} mad.lo.u32 %r3, %r0, {stride}, %r2; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r6, %r7, %r8, %r9}}, [%r3];"
        ))
    };
    assert_eq!(rows(16).shared_bank_conflicts, 0);
    assert_eq!(rows(128).shared_bank_conflicts, 4 * 7);
}

#[test]
fn classes_and_sums() {
    let body = ".reg .f32 %f<3>; .reg .pred %p; cvt.rn.f32.u32 %f0, %r0; add.f32 %f1, %f0, %f0; fma.rn.f32 %f1, %f1, %f0, %f0;
        add.u32 %r1, %r0, 1; setp.lt.u32 %p, %r0, 8; @%p st.shared.u32 [s], 0; shfl.sync.idx.b32 %r4, %r0, 0, 31, -1; bar.sync 0;";
    let counters = warp(body);
    assert_eq!((counters.conversion, counters.float, counters.integer, counters.moves), (1, 2, 2, 2));
    assert_eq!((counters.memory, counters.synchronisation, counters.control, counters.tensor), (2, 2, 1, 0));
    assert_eq!(counters.instructions(), 12);
    assert_eq!(counters.lane_instructions, 11 * 32 + 8);
    assert_eq!((counters.blocks, counters.barriers), (1, 1));
    let many = blocks(body, 50);
    assert_eq!(many, (0..49).fold(counters, |sum, _| sum + counters));
    let text = counters.to_string();
    assert!(text.contains("12 instructions") && text.contains("1 barriers"), "{text}");
}
