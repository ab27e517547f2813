//! Sequences packed into the panels that register tiles read.

use super::Sequence;
use crate::{
    Element,
    cpu::{convert::load, simd::Simd},
};

/// Tokens as columns: `[tokens/NR][D][NR]`, zeros beyond the last token.
///
/// # Safety
/// `dst` holds `padded · width`.
#[inline(always)]
pub(in crate::cpu) unsafe fn pack_rows<S: Simd, T: Element>(x: &Sequence<T>, padded: usize, dst: *mut f32) {
    let panel = 2 * S::LANES;
    // SAFETY: rows and channels lie in the layout.
    unsafe {
        for first in (0..padded).step_by(panel) {
            let base = dst.add(first * x.width);
            for j in 0..panel {
                let present = first + j < x.len;
                let src = x.base.get().add(if present { (first + j) * x.stride } else { 0 });
                for d in 0..x.width {
                    let value = if present { (*src.add(d * x.step)).to_f32() } else { 0.0 };
                    base.add(d * panel + j).write(value);
                }
            }
        }
    }
}

/// Channels as columns: `[D/NR][tokens][NR]`, zeros beyond the last channel.
///
/// # Safety
/// `dst` holds `tokens · padded`.
#[inline(always)]
pub(in crate::cpu) unsafe fn pack_channels<S: Simd, T: Element>(x: &Sequence<T>, padded: usize, dst: *mut f32) {
    let panel = 2 * S::LANES;
    // SAFETY: rows and channels lie in the layout; `load` reads only channels below the width.
    unsafe {
        for (i, first) in (0..padded).step_by(panel).enumerate() {
            for row in 0..x.len {
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
