//! Sequences packed into the panels that register tiles read.

use super::Sequence;
use crate::{
    Element,
    cpu::{convert::load, simd::Simd},
};

/// Tokens `low..high` as columns: `[tokens/NR][D][NR]`, zeros beyond the last token up to a panel. A block of as many tokens and channels as a
/// vector has lanes is read along the channels and transposed. `dst` is for token 0, and `low` at the beginning of a panel.
///
/// # Safety
/// The tokens exist, and `dst` holds their panels.
#[inline(always)]
pub(in crate::cpu) unsafe fn pack_rows<S: Simd, T: Element>(x: &Sequence<T>, (low, high): (usize, usize), dst: *mut f32) {
    let panel = 2 * S::LANES;
    // SAFETY: rows and channels lie in the layout; `load` reads only channels below the width.
    unsafe {
        for first in (low..high.next_multiple_of(panel)).step_by(S::LANES) {
            let base = dst.add(first / panel * panel * x.width + first % panel);
            let present = high.saturating_sub(first).min(S::LANES);
            for d in (0..x.width).step_by(S::LANES) {
                let lanes = S::LANES.min(x.width - d);
                let src = x.base.get().add(if present > 0 { first * x.stride + d * x.step } else { 0 });
                let mut rows = [S::splat(0.0); 16];
                if present == S::LANES {
                    for (r, row) in rows.iter_mut().enumerate().take(S::LANES) {
                        *row = load::<S, T>(src.add(r * x.stride), x.step, lanes);
                    }
                } else {
                    for (r, row) in rows.iter_mut().enumerate().take(present) {
                        *row = load::<S, T>(src.add(r * x.stride), x.step, lanes);
                    }
                }
                let columns = S::transpose(rows);
                if lanes == S::LANES {
                    for (c, column) in columns.into_iter().enumerate().take(S::LANES) {
                        S::store(base.add((d + c) * panel), column);
                    }
                } else {
                    for (c, column) in columns.into_iter().enumerate().take(lanes) {
                        S::store(base.add((d + c) * panel), column);
                    }
                }
            }
        }
    }
}

/// Tokens `low..high` with channels as columns: `[D/NR][tokens][NR]`, zeros beyond the last channel up to `padded`.
///
/// # Safety
/// The tokens exist, and `dst` holds the panels of all tokens of the sequence.
#[inline(always)]
pub(in crate::cpu) unsafe fn pack_channels<S: Simd, T: Element>(
    x: &Sequence<T>,
    (low, high): (usize, usize),
    padded: usize,
    dst: *mut f32,
) {
    let panel = 2 * S::LANES;
    // SAFETY: rows and channels lie in the layout; `load` reads only channels below the width.
    unsafe {
        for (i, first) in (0..padded).step_by(panel).enumerate() {
            for row in low..high {
                let src = x.base.get().add(row * x.stride);
                let dst = dst.add((i * x.len + row) * panel);
                for half in 0..2 {
                    let c = first + half * S::LANES;
                    let lanes = S::LANES.min(x.width.saturating_sub(c));
                    let value = if lanes == 0 { S::splat(0.0) } else { load::<S, T>(src.add(c * x.step), x.step, lanes) };
                    S::store(dst.add(half * S::LANES), value);
                }
            }
        }
    }
}
