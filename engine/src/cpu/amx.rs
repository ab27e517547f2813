//! Tiles of Intel's AMX: products of pairs of bf16 at 16 x 16 sums an instruction, 16 pairs deep (`tdpbf16ps`).
//!
//! A [tile of rows](super::product::Tile) here is up to 32 rows by a panel of 32 columns: four tiles of sums, fed by two tiles of rows and two of columns.
//! Rows and panels lie as [pairs](super::pairs) have them for vectors, rounded up to whole tiles in depth; rows that are too few for a tile are left
//! to the tile's configuration. Stable Rust has no functions for these instructions, so they are text for the assembler.
//!
//! Sums are f32, with those of even and odd elements apart within 32 elements, and numbers below 2⁻¹²⁶ count as 0, as with `vdpbf16ps`.

use std::{arch::asm, sync::OnceLock};

use super::{
    product::{LDA, Tile},
    transpose::{self, SIDE},
};

/// Pairs that an instruction multiplies: the depth of a product is rounded up to them.
pub(super) const DEPTH: usize = 16;
/// Rows of a tile.
const HALF: usize = 16;
/// Rows that are multiplied together.
pub(super) const ROWS: usize = 2 * HALF;

/// Whether this machine has tiles of bf16, and the system lets this process use them. Also whether its vectors round to pairs of bf16, as
/// [attention](super::attention) does between its products: all processors with AMX have AVX512-BF16, but a virtual machine may hide it, and then has
/// [no tiles](super::Level::Amx) for us.
pub(super) fn available() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| is_x86_feature_detected!("avx512bf16") && in_processor() && permitted())
}

fn in_processor() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    /// AMX-BF16 and AMX-TILE in edx of leaf 7.
    const FEATURES: u32 = 1 << 22 | 1 << 24;
    /// Configuration and data of tiles among what the system saves.
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    unsafe fn saved() -> u64 {
        // SAFETY: the caller has asked for the instruction.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: x86-64 has `cpuid`, and `xgetbv` where the system says that it saves registers by it.
    unsafe {
        is_x86_feature_detected!("xsave")
            && __cpuid(0).eax >= 7
            && __cpuid_count(7, 0).edx & FEATURES == FEATURES
            && saved() & STATE == STATE
    }
}

/// Linux gives the 8 KiB of tiles to processes that ask; threads that start later inherit the leave.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: usize = 158;
    const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
    const TILE_DATA: usize = 18;
    let result: isize;
    // SAFETY: this system call changes nothing but the leave that it asks for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The tiles of this thread, from their first use to the end of a task. What is released need not be saved when threads change, nor keeps a core from
/// sleeping.
#[derive(Default)]
pub(super) struct Tiles {
    /// Rows that the tiles are configured for, 0 before the first.
    rows: usize,
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row.
    bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// Tiles 0 to 3 are sums (upper rows left and right, lower rows left and right), 4 and 5 rows, 6 and 7 columns.
    ///
    /// # Safety
    /// The machine must have AMX.
    unsafe fn configure(&mut self, rows: usize) {
        if self.rows == rows {
            return;
        }
        let (upper, lower) = (rows.min(HALF) as u8, rows.saturating_sub(HALF) as u8);
        let rows_of = [upper, upper, lower, lower, upper, lower, DEPTH as u8, DEPTH as u8];
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        for (tile, rows) in rows_of.into_iter().enumerate().filter(|&(_, rows)| rows > 0) {
            (config.rows[tile], config.bytes[tile]) = (rows, 64);
        }
        // SAFETY: the caller's word; no tile is in use across calls.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        self.rows = rows;
    }

    /// As [`super::pairs::tile_rows`], with up to [`ROWS`] rows and a depth in multiples of [`DEPTH`].
    ///
    /// # Safety
    /// As there; the machine must have AMX.
    pub unsafe fn tile_rows(&mut self, tile: Tile) {
        debug_assert!(tile.rows <= ROWS && tile.kc > 0 && tile.kc.is_multiple_of(DEPTH), "{} rows, {} pairs", tile.rows, tile.kc);
        // SAFETY: passed on from the caller.
        unsafe {
            match tile.rows {
                0 => {}
                rows => {
                    self.configure(rows);
                    if rows > HALF { both(tile) } else { upper(tile) }
                }
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        if self.rows != 0 {
            // SAFETY: the machine has AMX, or nothing would have been configured.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

/// Rows that lie as columns, as `columns` says in [`super::unit::Unit`], side by side in `to`, with zeros up to a whole depth.
///
/// # Safety
/// As there; the machine must have AVX-512 (F, BW).
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn turn(from: *const f32, (rows, steps): (usize, usize), to: *mut f32) {
    for k in (0..steps).step_by(SIDE) {
        for r in (0..rows).step_by(SIDE) {
            let size = (SIDE.min(steps - k), SIDE.min(rows - r));
            // SAFETY: the caller's word; rows of LDA have room for whole blocks.
            unsafe { transpose::words((from.add(k * LDA + r), LDA), size, (to.add(r * LDA + k), LDA, SIDE)) };
        }
    }
}

/// Bytes between the rows of gathered pairs, and between the steps of a panel of 32 columns.
const A_STRIDE: usize = 4 * LDA;
const B_STRIDE: usize = 128;

/// More than 16 rows: each tile that is loaded is multiplied twice.
///
/// # Safety
/// As [`Tiles::tile_rows`]; the tiles are configured.
unsafe fn both(Tile { kc, a, b, c, ldc, add, .. }: Tile) {
    // SAFETY: the rows, the panel and the sums are as `Tile` says; all eight tiles are configured, with as many rows as there are.
    unsafe {
        asm!(
            "test {add:l}, {add:l}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{c} + {ldc}]",
            "tileloadd tmm1, [{c} + {ldc} + 64]",
            "tileloadd tmm2, [{lower_c} + {ldc}]",
            "tileloadd tmm3, [{lower_c} + {ldc} + 64]",
            "3:",
            "tileloadd tmm4, [{a} + {a_stride}]",
            "tileloadd tmm6, [{b} + {b_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {b_stride} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{lower_a} + {a_stride}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 64",
            "add {lower_a}, 64",
            "add {b}, {b_step}",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {ldc}], tmm0",
            "tilestored [{c} + {ldc} + 64], tmm1",
            "tilestored [{lower_c} + {ldc}], tmm2",
            "tilestored [{lower_c} + {ldc} + 64], tmm3",
            add = in(reg) usize::from(add),
            a = inout(reg) a => _,
            lower_a = inout(reg) a.add(HALF * LDA) => _,
            b = inout(reg) b => _,
            steps = inout(reg) kc / DEPTH => _,
            c = in(reg) c,
            lower_c = in(reg) c.add(HALF * ldc),
            ldc = in(reg) 4 * ldc,
            a_stride = in(reg) A_STRIDE,
            b_stride = in(reg) B_STRIDE,
            b_step = const DEPTH * B_STRIDE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Up to 16 rows.
///
/// # Safety
/// As [`both`].
unsafe fn upper(Tile { kc, a, b, c, ldc, add, .. }: Tile) {
    // SAFETY: as in `both`, without the tiles of lower rows.
    unsafe {
        asm!(
            "test {add:l}, {add:l}",
            "jnz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{c} + {ldc}]",
            "tileloadd tmm1, [{c} + {ldc} + 64]",
            "3:",
            "tileloadd tmm4, [{a} + {a_stride}]",
            "tileloadd tmm6, [{b} + {b_stride}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {b_stride} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {a}, 64",
            "add {b}, {b_step}",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {ldc}], tmm0",
            "tilestored [{c} + {ldc} + 64], tmm1",
            add = in(reg) usize::from(add),
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) kc / DEPTH => _,
            c = in(reg) c,
            ldc = in(reg) 4 * ldc,
            a_stride = in(reg) A_STRIDE,
            b_stride = in(reg) B_STRIDE,
            b_step = const DEPTH * B_STRIDE,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
