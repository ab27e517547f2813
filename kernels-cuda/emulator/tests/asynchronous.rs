//! One planted bug of each class of what is asynchronous, each caught with its place; and beside it the correct program, which passes.

mod common;

use common::{Device, halves};
use tubelet_ptx_emulator::{Fault, FaultKind, Launch, Module, Space, Swizzle, TensorMap};

/// Warps 0 to 3 multiply, warp 4 copies: two tiles of 64 x 64 bf16 through one place, A and B the same; then the copy engine writes the
/// second tile to another tensor. Lines that a test takes out or changes have a name.
const PIPELINE: &str = "
    mov.u32 %t, %tid.x; mov.u32 %s, s; mov.u32 %full, bars; add.u32 %empty, %full, 8; mov.u32 %k, 0;
    mov.b64 %map, from; cvta.param.u64 %map, %map; mov.b64 %out, into; cvta.param.u64 %out, %out;
    setp.eq.u32 %first, %t, 0; setp.eq.u32 %copies, %t, 128;
    @%first mbarrier.init.shared::cta.b64 [%full], 1; @%first mbarrier.init.shared::cta.b64 [%empty], 4;
    @%first fence.mbarrier_init.release.cluster;
    bar.sync 0;
    setp.ge.u32 %p, %t, 128; @%p bra $copy;
    $multiply:
    $wait: mbarrier.try_wait.parity.shared::cta.b64 %p, [%full], %k; @!%p bra $wait;
    shr.u32 %d, %s, 4; cvt.u64.u32 %da, %d; or.b64 %da, %da, 4611686293305294848;
    wgmma.fence.sync.aligned; setp.ne.u32 %p, %k, 0;
    wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %da, %da, %p, 1, 1, 0, 0;
    wgmma.commit_group.sync.aligned;
    wgmma.wait_group.sync.aligned 0;
    and.b32 %d, %t, 31; setp.eq.u32 %p, %d, 0; @%p mbarrier.arrive.shared::cta.b64 _, [%empty];
    add.u32 %k, %k, 1; setp.lt.u32 %p, %k, 2; @%p bra $multiply;
    add.f32 %f0, %f0, %f1; st.shared.f32 [sums], %f0;
    ret;
    $copy:
    @!%copies bra $done;
    $again:
    mbarrier.arrive.expect_tx.shared::cta.b64 _, [%full], 8192;
    cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%map, {0, %k}], [%full];
    $free: mbarrier.try_wait.parity.shared::cta.b64 %p, [%empty], %k; @!%p bra $free;
    add.u32 %k, %k, 1; setp.lt.u32 %p, %k, 2; @%p bra $again;
    $full: mbarrier.try_wait.parity.shared::cta.b64 %p, [%full], 1; @!%p bra $full;
    cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%out, {0, 0}], [%s];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group.read 0;
    $done: ret;";

fn text(body: &str) -> String {
    format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 s[];
        .visible .entry k(.param .align 64 .b8 from[128], .param .align 64 .b8 into[128])\n.maxntid 160, 1, 1\n{{
        .reg .b32 %t, %s, %d, %k, %full, %empty; .reg .b64 %map, %out, %da; .reg .f32 %f<8>; .reg .pred %p, %first, %copies;
        .shared .align 8 .b8 bars[16]; .shared .align 4 .b8 sums[512];\n{body}\n}}"
    )
    .replace("[sums], %f0", "[%d], %f0")
    .replace("add.f32 %f0, %f0, %f1;", "add.f32 %f0, %f0, %f1; mov.u32 %d, sums; shl.b32 %k, %t, 2; add.u32 %d, %d, %k;")
}

fn run_with(body: &str, swizzle: Swizzle) -> Result<Vec<u8>, Fault> {
    let device = Device::new(1);
    let values: Vec<u16> = (0..65 * 64).map(|n| common::bf16((n % 7) as f32)).collect();
    let (from, into) = (device.upload(&halves(&values)), device.empty(64 * 64 * 2));
    let map = |address, rows, swizzle| {
        let map = TensorMap { address, element: 2, sizes: vec![64, rows], strides: vec![128], tile: vec![64, 64], swizzle };
        map.encode().map(|words| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>())
    };
    let (from, to) = (map(from, 65, Swizzle::B128)?, map(into, 64, swizzle)?);
    let launch = Launch { grid: [1, 1, 1], block: [160, 1, 1], dynamic_shared: 8192 + 1024 };
    device.emulator.launch(&Module::parse(&text(body))?, "k", launch, &[&from, &to])?;
    let expected = halves(&values[64..]);
    let found = device.bytes(into, 8192);
    assert!(found == expected || swizzle != Swizzle::B128, "the second tile comes back as it was");
    Ok(found)
}

fn run(body: &str) -> Result<Vec<u8>, Fault> {
    run_with(body, Swizzle::B128)
}

/// The fault of the pipeline with `old` replaced by `new`, which stands in it.
#[track_caller]
fn planted(old: &str, new: &str) -> Fault {
    assert!(PIPELINE.contains(old), "{old}");
    let fault = run(&PIPELINE.replacen(old, new, 1)).expect_err("a planted bug");
    assert!(fault.line > 0 && !fault.instruction.is_empty() && &*fault.kernel == "k", "{fault}");
    fault
}

#[test]
fn the_pipeline_without_a_bug_passes() {
    run(PIPELINE).unwrap_or_else(|fault| panic!("{fault}"));
    // The elected lane of a warp is the first.
    let elected = PIPELINE.replace("@!%copies bra $done;", "elect.sync %d|%copies, -1; @!%copies bra $done;");
    run(&elected).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn a_barrier_that_the_copy_engine_may_not_know() {
    let fault = planted("@%first fence.mbarrier_init.release.cluster;", "");
    assert!(matches!(fault.kind, FaultKind::ProxyFence { other: [0, 0, 0], .. }), "{fault}");
    let shared_by_proxy = PIPELINE.replace("fence.mbarrier_init.release.cluster", "fence.proxy.async.shared::cta");
    run(&shared_by_proxy).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn a_stage_that_is_read_before_its_bytes_are_there() {
    // Nobody waits, and the tile is not there.
    let wait = "$wait: mbarrier.try_wait.parity.shared::cta.b64 %p, [%full], %k; @!%p bra $wait;";
    let fault = planted(wait, "");
    assert!(matches!(fault.kind, FaultKind::Uninitialised { .. }), "{fault}");
    // The copy surely is on its way, as a barrier says, but nobody waited for its bytes.
    let barrier = PIPELINE.replacen(wait, "bar.sync 2, 160;", 1).replacen("$free:", "bar.sync 2, 160;\n    $free:", 1);
    let fault = run(&barrier).expect_err("a barrier is no wait");
    assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{fault}");
    assert!(fault.instruction.starts_with("wgmma.mma_async"), "{fault}");
    // An ordinary read is no different.
    let fault = run(&barrier.replacen("shr.u32 %d, %s, 4;", "ld.shared.u32 %d, [%s]; shr.u32 %d, %s, 4;", 1));
    let fault = fault.expect_err("a barrier is no wait");
    assert!(matches!(fault.kind, FaultKind::InFlight { .. }) && fault.instruction.starts_with("ld.shared"), "{fault}");
}

#[test]
fn the_wrong_phase() {
    // The phase before the first has parity 1, and is over: the wait does nothing.
    let fault = planted("[%full], %k; @!%p bra $wait;", "[%full], 1; @!%p bra $wait;");
    assert!(matches!(fault.kind, FaultKind::Uninitialised { space: Space::Shared, .. } | FaultKind::InFlight { .. }), "{fault}");
    // A phase that never ends: the second is waited for, while the first waits for its reader.
    let fault = planted("[%empty], %k; @!%p bra $free;", "[%empty], 1; @!%p bra $free; bra $free;");
    assert!(matches!(fault.kind, FaultKind::PhaseNeverEnds { .. }), "{fault}");
    assert!(fault.instruction.starts_with("mbarrier.try_wait"), "{fault}");
}

#[test]
fn bytes_that_are_not_those_expected() {
    for (expected, missing) in [("8208", 16), ("8176", -16)] {
        let fault = planted("[%full], 8192", &format!("[%full], {expected}"));
        assert!(matches!(fault.kind, FaultKind::PhaseNeverEnds { missing: 0, bytes, .. } if bytes == missing), "{fault}");
    }
    let unexpected = PIPELINE.replacen(
        "cp.async.bulk.wait_group.read 0;",
        "cp.async.bulk.wait_group.read 0; mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%full], 64;",
        1,
    );
    let fault = run(&unexpected).expect_err("64 bytes never come");
    assert!(matches!(fault.kind, FaultKind::Transactions { bytes: 64, .. }), "{fault}");
    assert!(fault.instruction.starts_with("mbarrier.expect_tx"), "{fault}");
}

#[test]
fn a_place_that_is_filled_again_while_it_is_read() {
    // Released before the product is done.
    let early = "and.b32 %d, %t, 31; setp.eq.u32 %p, %d, 0; @%p mbarrier.arrive.shared::cta.b64 _, [%empty]; wgmma.wait_group.sync.aligned 0;";
    let late = "wgmma.wait_group.sync.aligned 0;\n    and.b32 %d, %t, 31; setp.eq.u32 %p, %d, 0; @%p mbarrier.arrive.shared::cta.b64 _, [%empty];";
    let fault = planted(late, early);
    assert!(matches!(fault.kind, FaultKind::InFlight { .. } | FaultKind::Race { .. }), "{fault}");
    // Not waited for at all.
    let fault = planted("$free: mbarrier.try_wait.parity.shared::cta.b64 %p, [%empty], %k; @!%p bra $free;", "");
    assert!(matches!(fault.kind, FaultKind::InFlight { .. } | FaultKind::Race { .. }), "{fault}");
}

#[test]
fn registers_of_a_product_that_is_under_way() {
    let fault = planted("wgmma.wait_group.sync.aligned 0;", "add.f32 %f4, %f0, %f1; wgmma.wait_group.sync.aligned 0;");
    assert_eq!((fault.kind, &*fault.instruction), (FaultKind::RegisterInFlight, "add.f32 %f4, %f0, %f1;"));
    let fault = planted("wgmma.wait_group.sync.aligned 0;", "mov.f32 %f0, 0f00000000; wgmma.wait_group.sync.aligned 0;");
    assert_eq!(fault.kind, FaultKind::RegisterInFlight);
    // A copy that is read after the wait is what compilers make of a loop.
    let copied = PIPELINE
        .replace("wgmma.wait_group.sync.aligned 0;", "mov.f32 %f5, %f0; wgmma.wait_group.sync.aligned 0; mov.f32 %f0, %f5;")
        .replacen("wgmma.fence.sync.aligned;", "wgmma.fence.sync.aligned; mov.f32 %f6, 0f00000000;", 1);
    run(&copied).unwrap_or_else(|fault| panic!("{fault}"));
    let fault =
        planted("wgmma.wait_group.sync.aligned 0;", "mov.f32 %f5, %f0; add.f32 %f4, %f5, %f5; wgmma.wait_group.sync.aligned 0;");
    assert_eq!(fault.kind, FaultKind::RegisterInFlight);
    // One group may be left: the one that was asked for last.
    let fault = planted(
        "wgmma.wait_group.sync.aligned 0;",
        "wgmma.wait_group.sync.aligned 1; add.f32 %f4, %f0, %f1; wgmma.wait_group.sync.aligned 0;",
    );
    assert_eq!(fault.kind, FaultKind::RegisterInFlight);
    // Without a commit there is no group to wait for.
    let fault = planted("wgmma.commit_group.sync.aligned;", "");
    assert!(matches!(fault.kind, FaultKind::RegisterInFlight | FaultKind::InFlight { .. }), "{fault}");
}

#[test]
fn registers_that_are_not_fenced() {
    let fault = planted("wgmma.fence.sync.aligned;", "");
    assert_eq!(fault.kind, FaultKind::MatrixFence);
    assert!(fault.instruction.starts_with("wgmma.mma_async"), "{fault}");
    let fault = planted("wgmma.fence.sync.aligned;", "wgmma.fence.sync.aligned; mov.f32 %f0, 0f00000000;");
    assert_eq!(fault.kind, FaultKind::MatrixFence);
    // Sums of another shape.
    let other = "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7}, %da, %da, 0, 1, 1, 0, 0;\n    wgmma.commit_group.sync.aligned;";
    let fault = planted("wgmma.commit_group.sync.aligned;", other);
    assert_eq!(fault.kind, FaultKind::MatrixFence);
}

#[test]
fn the_wrong_swizzle() {
    // Mode 2, 64 bytes, for a tile of 128.
    let fault = planted("4611686293305294848", "9223372311732682752");
    assert!(matches!(fault.kind, FaultKind::Swizzle { written: Swizzle::B128, read: Swizzle::B64, .. }), "{fault}");
    let fault = run_with(PIPELINE, Swizzle::None).expect_err("written with another swizzle");
    assert!(matches!(fault.kind, FaultKind::Swizzle { written: Swizzle::B128, read: Swizzle::None, .. }), "{fault}");
    assert!(fault.instruction.starts_with("cp.async.bulk.tensor.2d.global"), "{fault}");
}

#[test]
fn descriptors_and_maps_that_the_hardware_does_not_take() {
    // The second row of a pattern; bits that mean nothing.
    for change in ["add.u64 %da, %da, 8;", "or.b64 %da, %da, 16384;"] {
        let fault = planted("wgmma.fence.sync.aligned;", &format!("{change} wgmma.fence.sync.aligned;"));
        assert!(matches!(fault.kind, FaultKind::Descriptor(_)), "{fault}");
    }
    let fault = planted("[%map, {0, %k}]", "[%map+64, {0, %k}]");
    assert!(matches!(fault.kind, FaultKind::Descriptor(_) | FaultKind::OutOfBounds { space: Space::Param, .. }), "{fault}");
    let fault = planted("[%map, {0, %k}]", "[%map+8, {0, %k}]");
    assert!(matches!(fault.kind, FaultKind::Misaligned { space: Space::Param, bytes: 64, .. }), "{fault}");
    let fault = planted("complete_tx::bytes [%s]", "complete_tx::bytes [%s+64]");
    assert!(matches!(fault.kind, FaultKind::Misaligned { space: Space::Shared, bytes: 1024, .. }), "{fault}");
    let fault = planted("complete_tx::bytes [%s]", "complete_tx::bytes [%s+2048]");
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { space: Space::Shared, .. }), "{fault}");
}

#[test]
fn ordinary_writes_that_are_not_fenced() {
    // A thread changes a word of the tile, which wgmma reads after a barrier of the block.
    let write = |fence: &str| {
        let change = format!("st.shared.u32 [%s], 0; {fence} bar.sync 3, 128; shr.u32 %d, %s, 4;");
        let change = change.replace("st.shared", "setp.eq.u32 %p, %t, 5; @%p st.shared");
        run(&PIPELINE.replacen("shr.u32 %d, %s, 4;", &change, 1))
    };
    let fault = write("").expect_err("no fence");
    assert!(matches!(fault.kind, FaultKind::ProxyFence { other: [5, 0, 0], .. }), "{fault}");
    // Another thread's fence is no use.
    let fault = write("@!%p fence.proxy.async;").expect_err("not its own");
    assert!(matches!(fault.kind, FaultKind::ProxyFence { other: [5, 0, 0], .. }), "{fault}");
    // With it, the last tile comes out changed, which `run` sees as a difference, not as a fault.
    assert!(std::panic::catch_unwind(|| write("fence.proxy.async.shared::cta;")).is_err());
}

#[test]
fn a_source_that_changes_or_goes_before_it_was_copied() {
    let fault = planted("cp.async.bulk.wait_group.read 0;", "");
    assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{fault}");
    let fault = planted("cp.async.bulk.wait_group.read 0;", "st.shared.u32 [%s], 0; cp.async.bulk.wait_group.read 0;");
    assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{fault}");
    assert!(fault.instruction.starts_with("st.shared"), "{fault}");
    // Without a group there is nothing to wait for.
    let fault = planted("cp.async.bulk.commit_group;", "");
    assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{fault}");
}

#[test]
fn warps_that_do_not_multiply_together() {
    let fault =
        planted("shr.u32 %d, %s, 4;", "and.b32 %d, %t, 96; setp.eq.u32 %p, %d, 32; shr.u32 %d, %s, 4; @%p add.u32 %d, %d, 2;");
    assert!(matches!(fault.kind, FaultKind::Warpgroup(_)), "{fault}");
    let fault = planted("setp.ge.u32 %p, %t, 128; @%p bra $copy;", "setp.ge.u32 %p, %t, 96; @%p bra $copy;");
    assert!(matches!(fault.kind, FaultKind::Warpgroup(_) | FaultKind::PhaseNeverEnds { .. }), "{fault}");
}

fn registers(body: &str) -> Result<(), Fault> {
    let text = format!(
        ".version 8.4\n.target sm_90a\n.visible .entry k()\n.maxntid 384, 1, 1\n{{ .reg .b32 %t; .reg .pred %p; mov.u32 %t, %tid.x; {body} }}"
    );
    let launch = Launch { grid: [1, 1, 1], block: [384, 1, 1], dynamic_shared: 0 };
    Device::new(1).emulator.launch(&Module::parse(&text)?, "k", launch, &[]).map(|_| ())
}

#[test]
fn registers_that_warps_give_and_take() {
    let roles = |dec: &str, inc: &str| {
        registers(&format!(
            "setp.lt.u32 %p, %t, 256; @%p bra $more; setmaxnreg.dec.sync.aligned.u32 {dec}; ret; $more: setmaxnreg.inc.sync.aligned.u32 {inc}; ret;"
        ))
    };
    // 168 registers of 384 threads: 40 and twice 232 are as many.
    roles("40", "232").unwrap_or_else(|fault| panic!("{fault}"));
    for (dec, inc) in [("40", "240"), ("36", "232"), ("16", "232"), ("176", "232"), ("40", "160"), ("40", "264")] {
        let fault = roles(dec, inc).expect_err("illegal, or more than there are");
        assert!(matches!(fault.kind, FaultKind::Registers { .. }), "{fault}");
    }
}
