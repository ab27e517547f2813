//! Results that leave shared memory by the copy engine, and one planted bug for everything that must stand around that.

mod common;

use common::{Device, halves};
use tubelet_ptx_emulator::{Emulator, Fault, FaultKind, Launch, Module, Options, Space, Swizzle, TensorMap};

/// 128 threads fill a piece of 64 x 64 elements, each the half of a row, permuted as the tensor map says; one of them has it stored. Three pieces
/// through two places. Lines that a test takes out or changes stand alone.
const PIECES: &str = "
    mov.u32 %t, %tid.x; setp.eq.u32 %first, %t, 0; mov.b64 %map, into; cvta.param.u64 %map, %map; mov.u32 %k, 0;
    shr.u32 %row, %t, 1; and.b32 %half, %t, 1; mov.u32 %x0, COLUMN; mov.u32 %y0, ROW;
    $next:
    @%first cp.async.bulk.wait_group.read 1;
    bar.sync 0;
    and.b32 %x, %k, 1; shl.b32 %x, %x, 13; mov.u32 %s, s; add.u32 %s, %s, %x;
    shl.b32 %e, %k, 12; shl.b32 %x, %row, 6; add.u32 %e, %e, %x; shl.b32 %x, %half, 5; add.u32 %e, %e, %x;
    mad.lo.u32 %w0, %e, 65537, 65536;
    shl.b32 %at, %row, 7; add.u32 %at, %at, %s; shl.b32 %c, %half, 2; and.b32 %x, %row, 7; xor.b32 %c, %c, %x;
    CHUNKS
    fence.proxy.async.shared::cta;
    bar.sync 1;
    @%first cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%map, {%x0, %y0, %k}], [%s];
    @%first cp.async.bulk.commit_group;
    add.u32 %k, %k, 1; setp.lt.u32 %p, %k, 3; @%p bra $next;
    @%first cp.async.bulk.wait_group.read 0;
    ret;";

/// Eight elements, whose numbers go on from the last ones.
const CHUNK: &str = "xor.b32 %x, %c, N; shl.b32 %x, %x, 4; add.u32 %x, %x, %at;
    add.u32 %w1, %w0, 131074; add.u32 %w2, %w1, 131074; add.u32 %w3, %w2, 131074;
    st.shared.v4.u32 [%x], {%w0, %w1, %w2, %w3}; add.u32 %w0, %w3, 131074;";

/// A stack of 3 matrices of 40 rows and 56 columns; in memory there is a row more of each, and 8 columns.
const SIZES: [usize; 3] = [3, 40, 56];
const LINE: usize = 64;
/// What is there before.
const BEFORE: u16 = 0xabcd;

/// What is there after the pieces have been stored from these coordinates on.
fn run_on(device: &Device, body: &str, [x0, y0]: [i32; 2]) -> Result<Vec<u8>, Fault> {
    let chunks: String = (0..4).map(|n| CHUNK.replace('N', &n.to_string())).collect();
    let body = body.replace("CHUNKS", &chunks).replace("COLUMN", &x0.to_string()).replace("ROW", &y0.to_string());
    let text = format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 s[];
        .visible .entry k(.param .align 64 .b8 into[128], .param .u64 plain)\n.maxntid 128, 1, 1\n{{
        .reg .b32 %t, %s, %k, %x, %e, %c, %row, %half, %at, %x0, %y0, %w<4>; .reg .b64 %map, %to; .reg .pred %p, %first;\n{body}\n}}"
    );
    let address = device.upload(&halves(&vec![BEFORE; SIZES[0] * (SIZES[1] + 1) * LINE]));
    let map = TensorMap {
        address,
        element: 2,
        sizes: SIZES.iter().rev().map(|&size| size as u64).collect(),
        strides: vec![2 * LINE as u64, (2 * LINE * (SIZES[1] + 1)) as u64],
        tile: vec![64, 64, 1],
        swizzle: Swizzle::B128,
    };
    let map: Vec<u8> = map.encode()?.iter().flat_map(|word| word.to_le_bytes()).collect();
    let launch = Launch { grid: [1, 1, 1], block: [128, 1, 1], dynamic_shared: 2 * 8192 };
    device.emulator.launch(&Module::parse(&text)?, "k", launch, &[&map, &address.to_le_bytes()])?;
    Ok(device.bytes(address, 2 * SIZES[0] * (SIZES[1] + 1) * LINE))
}

fn run(body: &str) -> Result<Vec<u8>, Fault> {
    run_on(&Device::new(1), body, [0, 0])
}

/// Element (y, x) of piece k is its number, and lands where it is inside the tensor.
fn expected([x0, y0]: [i32; 2], piece: impl Fn(usize) -> usize) -> Vec<u8> {
    let mut all = vec![BEFORE; SIZES[0] * (SIZES[1] + 1) * LINE];
    for (k, y, x) in (0..3).flat_map(|k| (0..64).flat_map(move |y| (0..64).map(move |x| (k, y, x)))) {
        let (row, column) = (y0 + y as i32, x0 + x as i32);
        if (0..SIZES[1] as i32).contains(&row) && (0..SIZES[2] as i32).contains(&column) {
            all[(k * (SIZES[1] + 1) + row as usize) * LINE + column as usize] = (piece(k) * 4096 + y * 64 + x) as u16;
        }
    }
    halves(&all)
}

/// The fault of the program with `old` replaced by `new`, which stands in it.
#[track_caller]
fn planted(old: &str, new: &str) -> Fault {
    assert!(PIECES.contains(old), "{old}");
    let fault = run(&PIECES.replacen(old, new, 1)).expect_err("a planted bug");
    assert!(fault.line > 0 && !fault.instruction.is_empty() && &*fault.kernel == "k", "{fault}");
    fault
}

const FENCE: &str = "fence.proxy.async.shared::cta;";
const BEFORE_FILLING: &str = "bar.sync 0;";
const FILLED: &str = "bar.sync 1;";
const FREE: &str = "@%first cp.async.bulk.wait_group.read 1;";
const LAST: &str = "@%first cp.async.bulk.wait_group.read 0;";

#[test]
fn pieces_land_where_they_are_inside_the_tensor() {
    for at in [[0, 0], [-8, 3], [24, -24], [48, 39], [56, 0], [0, 40]] {
        let found = run_on(&Device::new(1), PIECES, at).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(found == expected(at, |k| k), "{at:?}");
    }
    // Waiting for more is no bug.
    let complete = PIECES.replace(".wait_group.read", ".wait_group");
    assert!(run(&complete).is_ok_and(|found| found == expected([0, 0], |k| k)));
}

#[test]
fn staging_that_is_not_fenced() {
    let fault = planted(FENCE, "");
    assert!(matches!(fault.kind, FaultKind::ProxyFence { .. }), "{fault}");
    assert!(fault.instruction.contains("cp.async.bulk.tensor.3d.global"), "{fault}");
    // The fence of the thread that asks is no use to others; nor is one after the barrier.
    let fault = planted(FENCE, "@%first fence.proxy.async.shared::cta;");
    assert!(matches!(fault.kind, FaultKind::ProxyFence { other, .. } if other != [0, 0, 0]), "{fault}");
    let late = PIECES.replacen(FENCE, "", 1).replacen(FILLED, &format!("{FILLED} {FENCE}"), 1);
    let fault = run(&late).expect_err("others have not come to their fences");
    assert!(matches!(fault.kind, FaultKind::ProxyFence { other, .. } if other[0] >= 32), "{fault}");
    // A fence before the last store is none for it.
    let early = PIECES.replacen(FENCE, "", 1).replacen("CHUNKS", &format!("{FENCE} CHUNKS"), 1);
    assert!(matches!(run(&early).expect_err("too early").kind, FaultKind::ProxyFence { .. }));
}

#[test]
fn staging_that_is_not_filled() {
    let fault = planted(FILLED, "");
    let unfilled = matches!(fault.kind, FaultKind::Uninitialised { .. } | FaultKind::ProxyFence { .. } | FaultKind::Race { .. });
    assert!(unfilled && fault.instruction.contains("cp.async.bulk.tensor.3d.global"), "{fault}");
}

#[test]
fn staging_that_is_overwritten_before_it_was_read() {
    for late in ["", "@%first cp.async.bulk.wait_group.read 2;", "@!%first cp.async.bulk.wait_group.read 1;"] {
        let fault = planted(FREE, late);
        assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{late}: {fault}");
        assert!(fault.instruction.starts_with("st.shared"), "{late}: {fault}");
    }
    // One thread has waited, and the others do not know.
    let fault = planted(BEFORE_FILLING, "");
    assert!(matches!(fault.kind, FaultKind::Race { .. } | FaultKind::InFlight { .. }), "{fault}");
}

#[test]
fn copies_come_as_late_as_they_may() {
    // Where nobody looks for races, what is overwritten too early is seen in the results: the third piece in the place of the first.
    let blind = Device { emulator: Emulator::new(Options { races: false, ..Options::default() }) };
    let found = run_on(&blind, PIECES, [0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(found == expected([0, 0], |k| k));
    let late = PIECES.replacen(FREE, "", 1);
    let found = run_on(&blind, &late, [0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(found == expected([0, 0], |k| if k == 0 { 2 } else { k }));
    // What was read is not written yet.
    let look = |wait: &str| {
        format!("{wait} ld.param.u64 %to, [plain]; @%first ld.global.u16 %x, [%to]; @%first st.global.u16 [%to+126], %x;")
    };
    let corner = |wait: &str| {
        let found = run(&PIECES.replacen(LAST, &look(wait), 1)).unwrap_or_else(|fault| panic!("{fault}"));
        u16::from_le_bytes([found[126], found[127]])
    };
    assert_eq!(corner(LAST), BEFORE);
    assert_eq!(corner("@%first cp.async.bulk.wait_group 0;"), 0);
}

#[test]
fn staging_that_goes_before_it_was_read() {
    for wait in ["", "@%first cp.async.bulk.wait_group.read 1;", "@!%first cp.async.bulk.wait_group 0;"] {
        let fault = planted(LAST, wait);
        assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{wait}: {fault}");
    }
    // Of what no group has, there is no end.
    let fault = planted("@%first cp.async.bulk.commit_group;", "");
    assert!(matches!(fault.kind, FaultKind::InFlight { .. }), "{fault}");
}

#[test]
fn places_that_no_piece_can_have() {
    for (to, align) in [("[%s+64]", 1024), ("[%s+512]", 1024)] {
        let fault = planted("], [%s];", &format!("], {to};"));
        assert!(
            matches!(fault.kind, FaultKind::Misaligned { space: Space::Shared, bytes, .. } if bytes == align),
            "{to}: {fault}"
        );
    }
    let fault = planted("], [%s];", "], [%s+16384];");
    assert!(matches!(fault.kind, FaultKind::OutOfBounds { space: Space::Shared, .. }), "{fault}");
    let fault = planted(
        "tensor.3d.global.shared::cta.bulk_group [%map, {%x0, %y0, %k}]",
        "tensor.2d.global.shared::cta.bulk_group [%map, {%x0, %y0}]",
    );
    assert!(matches!(fault.kind, FaultKind::Descriptor(_)), "{fault}");
}
