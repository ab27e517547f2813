//! Clusters: a tile that goes to two blocks at once, arrivals at each other's barriers, and a planted bug of each class, caught with its place.

mod common;

use common::{Device, halves, words};
use tubelet_ptx_emulator::{Fault, FaultKind, Launch, Module, Swizzle, TensorMap};

/// Two rounds: each of two blocks sends half a row of 128 numbers to both; all add up what is there, and say so to both.
const PIPELINE: &str = "
    mov.u32 %t, %tid.x; mov.u32 %s, s; mov.u32 %full, bars; add.u32 %empty, %full, 8; mov.u32 %k, 0; mov.u32 %sum, 0;
    mov.u32 %me, %ctaid.x; and.b32 %me, %me, 1; mov.b64 %map, from; cvta.param.u64 %map, %map;
    setp.eq.u32 %first, %t, 0; and.b32 %i, %t, 31; setp.eq.u32 %lane0, %i, 0;
    @%first mbarrier.init.shared::cta.b64 [%full], 1; @%first mbarrier.init.shared::cta.b64 [%empty], 8;
    @%first fence.mbarrier_init.release.cluster;
    barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
    $round:
    @!%first bra $read;
    setp.eq.u32 %p, %k, 0; @%p bra $send;
    $free: mbarrier.try_wait.parity.shared::cta.b64 %p, [%empty], 0; @!%p bra $free;
    $send:
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%full], 256;
    shl.b32 %i, %me, 7; add.u32 %to, %s, %i; shl.b32 %i, %me, 6;
    cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%to], [%map, {%i, %k}], [%full], 3;
    $read:
    $wait: mbarrier.try_wait.parity.shared::cta.b64 %p, [%full], %k; @!%p bra $wait;
    and.b32 %i, %t, 63; shl.b32 %i, %i, 2; add.u32 %i, %i, %s; ld.shared.u32 %v, [%i]; add.u32 %sum, %sum, %v;
    mapa.shared::cluster.u32 %there, %empty, 0; @%lane0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%there];
    mapa.shared::cluster.u32 %there, %empty, 1; @%lane0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%there];
    add.u32 %k, %k, 1; setp.lt.u32 %p, %k, 2; @%p bra $round;
    barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;
    ld.param.u64 %out, [into]; mad.lo.u32 %i, %ctaid.x, 128, %t; mul.wide.u32 %map, %i, 4; add.s64 %out, %out, %map;
    st.global.u32 [%out], %sum;
    ret;";

fn run_on(body: &str, blocks: u32) -> Result<(), Fault> {
    let text = format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 s[];
        .visible .entry k(.param .align 64 .b8 from[128], .param .u64 into)\n.maxntid 128, 1, 1\n.explicitcluster\n.reqnctapercluster 2, 1, 1\n{{
        .reg .b32 %t, %s, %i, %k, %v, %me, %to, %there, %sum, %full, %empty; .reg .b64 %map, %out; .reg .pred %p, %first, %lane0;
        .shared .align 8 .b8 bars[16];\n{body}\n}}"
    );
    let device = Device::new(2);
    let values: Vec<u16> = (0..256).collect();
    let (from, into) = (device.upload(&halves(&values)), device.empty(128 * 4 * blocks as usize));
    let map = TensorMap {
        address: from,
        element: 2,
        sizes: vec![128, 2],
        strides: vec![256],
        tile: vec![64, 1],
        swizzle: Swizzle::None,
    };
    let map: Vec<u8> = map.encode()?.iter().flat_map(|word| word.to_le_bytes()).collect();
    let launch = Launch { grid: [blocks, 1, 1], block: [128, 1, 1], dynamic_shared: 256 };
    device.emulator.launch(&Module::parse(&text)?, "k", launch, &[&map, &into.to_le_bytes()])?;
    let sums: Vec<u32> = (0..64).map(|n| (4 * n + 128) | (4 * n + 130) << 16).collect();
    let expected: Vec<u32> = (0..2 * blocks).flat_map(|_| sums.clone()).collect();
    assert!(device.bytes(into, expected.len() * 4) == words(&expected), "all blocks have all sums");
    Ok(())
}

/// The fault of the pipeline with `old` replaced by `new`, everywhere.
#[track_caller]
fn planted(old: &str, new: &str) -> Fault {
    assert!(PIPELINE.contains(old), "{old}");
    run_on(&PIPELINE.replace(old, new), 4).expect_err("a planted bug")
}

#[test]
fn a_tile_goes_to_both_blocks() {
    run_on(PIPELINE, 6).unwrap_or_else(|fault| panic!("{fault}"));
    // Half a cluster is none.
    let fault = run_on(PIPELINE, 3).expect_err("three blocks in clusters of two");
    assert!(matches!(fault.kind, FaultKind::BadArguments(_)), "{fault}");
}

#[test]
fn a_barrier_that_the_other_block_has_not_made() {
    let begin = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;\n    $round:";
    let fault = planted(begin, "bar.sync 0;\n    $round:");
    assert!(matches!(fault.kind, FaultKind::Uninitialised { .. } | FaultKind::Race { .. }), "{fault}");
}

#[test]
fn a_block_that_has_ended() {
    let end = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;\n    ld.param";
    let fault = planted(end, "ld.param");
    assert!(matches!(fault.kind, FaultKind::Cluster(_)), "{fault}");
    assert!(fault.instruction.contains("mbarrier.arrive"), "{fault}");
    // That the other was in time is luck: nobody has waited for it.
    let nap = "mov.u32 %i, 0; $nap: add.u32 %i, %i, 1; setp.lt.u32 %p, %i, 50000; @%p bra $nap;\n    ld.param";
    let fault = planted(end, nap);
    assert!(matches!(fault.kind, FaultKind::Cluster(_)), "{fault}");
    assert!(fault.instruction.contains("ret"), "{fault}");
}

#[test]
fn a_tile_that_the_other_block_still_reads() {
    // The sender waits for its own readers alone.
    let own = PIPELINE.replace("[%empty], 8", "[%empty], 4").replace("mapa.shared::cluster.u32 %there, %empty, 0;", "");
    let own = own.replacen("@%lane0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%there];", "", 1);
    let own = own.replace("mapa.shared::cluster.u32 %there, %empty, 1;", "mapa.shared::cluster.u32 %there, %empty, %me;");
    let fault = run_on(&own, 4).expect_err("a planted bug");
    assert!(matches!(fault.kind, FaultKind::Race { .. } | FaultKind::InFlight { .. }), "{fault}");
    assert!(fault.instruction.contains("multicast::cluster"), "{fault}");
}

#[test]
fn arrivals_and_bytes_that_never_come() {
    let fault = planted("%empty, 1; @%lane0 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%there];", "%empty, 1;");
    assert!(matches!(fault.kind, FaultKind::PhaseNeverEnds { .. }), "{fault}");
    let fault = planted("[%full], 3;", "[%full], 1;");
    assert!(matches!(fault.kind, FaultKind::PhaseNeverEnds { .. } | FaultKind::Transactions { .. }), "{fault}");
    let fault =
        planted("barrier.cluster.wait.acquire.aligned;\n    $round:", "barrier.cluster.arrive.release.aligned;\n    $round:");
    assert!(matches!(fault.kind, FaultKind::Cluster(_)), "{fault}");
}

#[test]
fn blocks_that_are_not_there() {
    for (old, new) in [("[%full], 3;", "[%full], 7;"), ("%empty, 1; @%lane0", "%empty, 2; @%lane0")] {
        let fault = planted(old, new);
        assert!(matches!(fault.kind, FaultKind::Cluster(_)), "{fault}");
    }
    let fault = planted("[%there];", "[%empty];");
    assert!(matches!(fault.kind, FaultKind::Cluster(_)), "{fault}");
}
