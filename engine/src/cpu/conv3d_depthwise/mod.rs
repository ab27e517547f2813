//! Depthwise 3D convolution, channels last, a vector of channels at a time.
//!
//! The sums of a block of output rows and columns stay in registers while all taps go by: each vector of the video is loaded once for all
//! taps that meet it in the block, and each weight once for a row of the block. A task has a slice of the channels, so that its weights stay
//! in L1 and, because the block goes through all times before it moves, the rows of the video around it in L2. Of bf16, kernels three wide go in
//! [`pairs`] where the machine multiplies those; of f32, kernels 3×3×3 as [`volume`] says.

#[cfg(target_arch = "x86_64")]
mod pairs;
mod volume;

use super::{
    Cpu, Shared,
    convert::{load, store},
    simd::{Kernel, Simd},
    with_float,
};
use crate::{DType, Element, Result, Tensor, ops::conv3d_depthwise::Conv3dDepthwise};

/// Weights of a slice of the channels: 16 KiB, half of a small L1.
const WEIGHTS: usize = 4096;
/// Channels of a slice are a multiple of it.
const CHANNELS: usize = 64;
/// The most columns of a block.
const COLUMNS: usize = 8;
/// The most columns of the video under a block.
const WINDOW: usize = COLUMNS + 2;
/// Vectors of a pixel that go through time together: whole cache lines in all types, as planes may lie a multiple of a cache's size apart.
const TOGETHER: usize = 4;

pub fn run(op: &Conv3dDepthwise, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("conv3d_depthwise", outputs[0].dtype(), T => typed::<T>(op, inputs, &outputs[0], cpu))
}

pub(super) fn typed<T: Element>(op: &Conv3dDepthwise, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let [Some(x), Some(weight), ..] = *inputs else { return Ok(()) };
    let operand = |i: usize| inputs.get(i).copied().flatten();
    let given = weight.cast(T::DTYPE)?.contiguous()?;
    let weight = given.cast(DType::F32)?;
    let bias = operand(2).map(|bias| bias.cast(DType::F32)?.contiguous()).transpose()?;
    let residual = operand(3);
    let dims = |x: &Tensor| -> [usize; 5] { std::array::from_fn(|d| x.shape()[d]) };
    let strides = |x: &Tensor| -> [usize; 5] { std::array::from_fn(|d| x.layout().strides()[d]) };
    let (out_size, threads) = (dims(out), cpu.pool.threads());
    let [b, _, h, w, c] = out_size;
    // Rows of a task share most of what they read, but there must be tasks for all threads; in the end columns are shared out as well.
    let cuts = [(8, w), (4, w), (2, w), (2, block_columns(w))];
    let enough = |&(rows, columns): &(usize, usize)| b * h.div_ceil(rows) * w.div_ceil(columns) >= 4 * threads;
    let (rows, columns) = cuts.into_iter().find(enough).unwrap_or(cuts[3]);
    let kernel: [usize; 3] = std::array::from_fn(|d| weight.shape()[d]);
    let adjacent = |x: &Tensor| x.layout().strides()[4] == 1 || c == 1;
    let vectors = adjacent(x) && residual.is_none_or(adjacent);
    let blocked = vectors && matches!((kernel[2], op.padding[2]), (1, 0) | (3, 0 | 1));
    // A vector of halves is half a cache line, which would be brought twice.
    let in_volume = T::DTYPE == DType::F32 && blocked && kernel == [3, 3, 3] && op.padding[0] <= 2;
    let packed = in_volume.then(|| volume::pack(&weight)).transpose()?;
    let plan = Plan {
        padding: op.padding,
        blocked,
        temporal: vectors && kernel == [3, 1, 1] && op.padding[1..] == [0, 0],
        x: Shared(cpu.ptr::<T>(x)?),
        size: dims(x),
        strides: strides(x),
        kernel,
        given: Shared(cpu.ptr::<T>(&given)?),
        weight: Shared(cpu.ptr::<f32>(&weight)?),
        packed: packed.as_ref().map(|packed| cpu.ptr::<f32>(packed).map(Shared)).transpose()?,
        bias: bias.as_ref().map(|bias| cpu.ptr::<f32>(bias).map(Shared)).transpose()?,
        residual: residual.map(|r| Ok((Shared(cpu.ptr::<T>(r)?), strides(r)))).transpose()?,
        out: Shared(cpu.ptr::<T>(out)?),
        out_size,
    };
    let (bands, parts) = (h.div_ceil(rows), w.div_ceil(columns));
    #[cfg(target_arch = "x86_64")]
    let in_pairs = pairs::serve(&plan, cpu);
    let slice = (WEIGHTS / kernel.iter().product::<usize>() / CHANNELS).max(1) * CHANNELS;
    cpu.pool.for_each(b * bands * parts, |task| {
        let (part, band, batch) = (task % parts, task / parts % bands, task / (parts * bands));
        let (rows, columns) = ((band * rows, ((band + 1) * rows).min(h)), (part * columns, ((part + 1) * columns).min(w)));
        for low in (0..c).step_by(slice) {
            let high = (low + slice).min(c);
            #[cfg(target_arch = "x86_64")]
            let low = in_pairs.map_or(low, |plan| {
                let whole = low + (high - low) / pairs::CHANNELS * pairs::CHANNELS;
                // SAFETY: the level has the instructions; a task writes its own rows, columns and channels.
                unsafe { pairs::Task { plan, batch, rows, columns, channels: (low, whole) }.run() };
                whole
            });
            if low < high {
                cpu.level.run(Task { plan: &plan, batch, rows, columns, channels: (low, high) });
            }
        }
    });
    Ok(())
}

/// Columns of a block where there are registers for two rows of it.
fn block_columns(width: usize) -> usize {
    if width.is_multiple_of(7) { 7 } else { 8 }
}

struct Plan<T> {
    padding: [usize; 3],
    /// Whether [`Task::block`] has the kernel and finds vectors of channels as they are.
    blocked: bool,
    /// Whether [`Task::pixel`] has the kernel, and finds such vectors.
    temporal: bool,
    x: Shared<T>,
    size: [usize; 5],
    strides: [usize; 5],
    kernel: [usize; 3],
    /// `[kt, kh, kw, C]`, and in f32.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "pairs are of x86-64"))]
    given: Shared<T>,
    weight: Shared<f32>,
    /// As [`volume`] has it, where that serves.
    packed: Option<Shared<f32>>,
    bias: Option<Shared<f32>>,
    residual: Option<(Shared<T>, [usize; 5])>,
    out: Shared<T>,
    out_size: [usize; 5],
}

/// Output rows, columns and channels of a batch element, at all times.
struct Task<'a, T> {
    plan: &'a Plan<T>,
    batch: usize,
    rows: (usize, usize),
    columns: (usize, usize),
    channels: (usize, usize),
}

impl<T: Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.plan;
        let [_, times, _, width, _] = p.out_size;
        let (low, high) = self.channels;
        let packed = p.packed.filter(|_| T::DTYPE == DType::F32);
        let whole = match packed {
            Some(_) => low + (high - low) / volume::GROUP * volume::GROUP,
            None if p.blocked => low + (high - low) / S::LANES * S::LANES,
            None => low,
        };
        if p.temporal {
            for (h, w) in (self.rows.0..self.rows.1).flat_map(|h| (self.columns.0..self.columns.1).map(move |w| (h, w))) {
                // SAFETY: as below.
                unsafe { self.pixel::<S>([h, w], (low, whole)) };
            }
        }
        if let Some(packed) = packed {
            for h in self.rows.0..self.rows.1 {
                // SAFETY: as below.
                unsafe { self.row::<S>(packed, h, (low, whole)) };
            }
        }
        // Sums for two rows of eight columns, the video above them and a weight: 27 of 32 registers; of 16, a row of four.
        let (rows, columns) = if S::MR < 10 { (1, 4) } else { (2, block_columns(width)) };
        let mut h = self.rows.0;
        while h < self.rows.1 {
            let count = rows.min(self.rows.1 - h);
            let mut w = self.columns.0;
            while w < self.columns.1 {
                let left = self.columns.1 - w;
                // A row that is left over has fewer columns: blocks are code, and this one is rare.
                let columns = if count < rows { 4 } else { columns };
                let across = if left >= columns { columns } else { [4, 1][usize::from(left < 4)] };
                for t in 0..times {
                    // SAFETY: all indices lie in their layouts; a task writes its own rows and channels.
                    unsafe {
                        if whole > low && !p.temporal && packed.is_none() {
                            self.blocks::<S>([t, h, w], [count, across], (low, whole));
                        }
                        for c in (whole..high).step_by(S::LANES) {
                            for h in h..h + count {
                                self.columns::<S>([t, h], c, S::LANES.min(high - c), w, across);
                            }
                        }
                    }
                }
                w += across;
            }
            h += count;
        }
    }
}

impl<T: Element> Task<'_, T> {
    /// [`Task::block`] for sizes known only now.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn blocks<S: Simd>(&self, at: [usize; 3], size: [usize; 2], channels: (usize, usize)) {
        macro_rules! cases {
            ($(($rows:literal, $columns:literal))*) => {
                // SAFETY: passed on from the caller.
                unsafe {
                    match (size, self.plan.kernel[2]) {
                        $(
                            ([$rows, $columns], 3) if S::MR >= 10 || $rows * $columns <= 4 => {
                                self.block::<S, $rows, $columns, 3>(at, channels);
                            }
                            ([$rows, $columns], _) if S::MR >= 10 || $rows * $columns <= 4 => {
                                self.block::<S, $rows, $columns, 1>(at, channels);
                            }
                        )*
                        _ => debug_assert!(false, "no block of {size:?}"),
                    }
                }
            };
        }
        cases!((1, 1)(1, 4)(2, 1)(2, 4)(2, 7)(2, 8));
    }

    /// A pixel at all times, whole vectors of channels, for kernels `[3, 1, 1]`.
    ///
    /// # Safety
    /// They lie in the output, and the plan is `temporal`.
    #[inline(always)]
    unsafe fn pixel<S: Simd>(&self, at: [usize; 2], channels: (usize, usize)) {
        let (mut c, together) = (channels.0, TOGETHER * S::LANES);
        // SAFETY: the caller's word.
        unsafe {
            while c + together <= channels.1 {
                self.through_time::<S, TOGETHER>(at, c);
                c += together;
            }
            while c < channels.1 {
                self.through_time::<S, 1>(at, c);
                c += S::LANES;
            }
        }
    }

    /// The time of the video that tap `i` of output time `t` is on, if it is not padding.
    #[inline(always)]
    fn time(&self, t: usize, i: usize) -> Option<usize> {
        (t + i).checked_sub(self.plan.padding[0]).filter(|&t| t < self.plan.size[1])
    }

    /// `N` vectors of a pixel: each of the video is loaded once, and stays in registers for the sums of all times that it is a part of.
    ///
    /// # Safety
    /// As [`Self::pixel`].
    #[inline(always)]
    unsafe fn through_time<S: Simd, const N: usize>(&self, [h, w]: [usize; 2], c: usize) {
        let p = self.plan;
        let [_, nt, nh, nw, nc] = p.out_size;
        // SAFETY: the caller's word.
        unsafe {
            let column = p.x.get().add(self.batch * p.strides[0] + h * p.strides[2] + w * p.strides[3] + c);
            // Of the times that the three taps are on; padding is left out of the sums.
            let [mut x1, mut x2] = [[S::splat(0.0); N]; 2];
            if let Some(t) = self.time(0, 0) {
                x1 = vectors::<S, T, N>(column.add(t * p.strides[1]));
            }
            if let Some(t) = self.time(0, 1) {
                x2 = vectors::<S, T, N>(column.add(t * p.strides[1]));
            }
            for t in 0..nt {
                let x0 = x1;
                x1 = x2;
                if let Some(t) = self.time(t, 2) {
                    x2 = vectors::<S, T, N>(column.add(t * p.strides[1]));
                }
                let mut sums = [S::splat(0.0); N];
                if let Some(bias) = p.bias {
                    sums = vectors::<S, f32, N>(bias.get().add(c));
                }
                for (i, x) in [x0, x1, x2].into_iter().enumerate() {
                    if self.time(t, i).is_some() {
                        let weights = vectors::<S, f32, N>(p.weight.get().add(i * nc + c));
                        for n in 0..N {
                            sums[n] = S::fma(x[n], weights[n], sums[n]);
                        }
                    }
                }
                if let Some((residual, s)) = p.residual {
                    let at = self.batch * s[0] + t * s[1] + h * s[2] + w * s[3] + c;
                    let residual = vectors::<S, T, N>(residual.get().add(at));
                    for n in 0..N {
                        sums[n] = S::add(sums[n], residual[n]);
                    }
                }
                let to = p.out.get().add((((self.batch * nt + t) * nh + h) * nw + w) * nc + c);
                for (n, sum) in sums.into_iter().enumerate() {
                    store::<S, T>(to.add(n * S::LANES), sum, S::LANES);
                }
            }
        }
    }

    /// Output rows `h..h + R`, columns `w..w + N`, whole vectors of channels, for kernels `K` wide.
    ///
    /// # Safety
    /// They lie in the output, the plan is `blocked`, `N + K − 1 ≤ WINDOW`, and at most one column of the video lies outside it on either side.
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize, const N: usize, const K: usize>(
        &self,
        [t, h, w]: [usize; 3],
        channels: (usize, usize),
    ) {
        let p = self.plan;
        let [kt, kh, _] = p.kernel;
        let [_, nt, nh, nw, nc] = p.out_size;
        // Whether the first and the last column of the video under the block are padding.
        let (before, after) = (w < p.padding[2], w + N + K - 2 >= p.size[3] + p.padding[2]);
        let (first, last) = (h.saturating_sub(p.padding[1]), (h + R - 1 + kh).saturating_sub(p.padding[1]).min(p.size[2]));
        let column = p.strides[3];
        // Where the block's first column would be, be it padding.
        let corner = p.x.get().wrapping_add(self.batch * p.strides[0] + w * column).wrapping_sub(p.padding[2] * column);
        // SAFETY: rows and columns of the video outside it are skipped; the rest is the caller's word.
        unsafe {
            let out = p.out.get().add((((self.batch * nt + t) * nh + h) * nw + w) * nc);
            for c in (channels.0..channels.1).step_by(S::LANES) {
                let mut sums = [[p.bias.map_or(
                    S::splat(0.0),
                    #[inline(always)]
                    |bias| S::load(bias.get().add(c)),
                ); N]; R];
                for i in 0..kt {
                    let ti = (t + i).wrapping_sub(p.padding[0]);
                    if ti >= p.size[1] {
                        continue;
                    }
                    for hj in first..last {
                        let row = corner.wrapping_add(ti * p.strides[1] + hj * p.strides[2] + c);
                        let mut x = [S::splat(0.0); WINDOW];
                        for (n, x) in x.iter_mut().enumerate().take(N + K - 1) {
                            if !(n == 0 && before || n == N + K - 2 && after) {
                                *x = load::<S, T>(row.wrapping_add(n * column), 1, S::LANES);
                            }
                        }
                        for (o, sums) in sums.iter_mut().enumerate() {
                            let j = (hj + p.padding[1]).wrapping_sub(h + o);
                            if j >= kh {
                                continue;
                            }
                            let weights = p.weight.get().add((i * kh + j) * K * nc + c);
                            for k in 0..K {
                                let weight = S::load(weights.add(k * nc));
                                for (n, sum) in sums.iter_mut().enumerate() {
                                    // Padding is left out, not multiplied: 0 times an infinite weight is no number.
                                    if !(n + k == 0 && before || n + k == N + K - 2 && after) {
                                        *sum = S::fma(x[n + k], weight, *sum);
                                    }
                                }
                            }
                        }
                    }
                }
                for (o, sums) in sums.into_iter().enumerate() {
                    for (n, sum) in sums.into_iter().enumerate() {
                        let mut y = sum;
                        if let Some((residual, s)) = p.residual {
                            let at = self.batch * s[0] + t * s[1] + (h + o) * s[2] + (w + n) * s[3] + c;
                            y = S::add(y, load::<S, T>(residual.get().add(at), 1, S::LANES));
                        }
                        store::<S, T>(out.add((o * nw + n) * nc + c), y, S::LANES);
                    }
                }
            }
        }
    }

    /// Columns `w..w + count` of channels `c..c + lanes` at a time and height; any operands.
    ///
    /// # Safety
    /// They lie in the output.
    #[inline(always)]
    unsafe fn columns<S: Simd>(&self, [t, h]: [usize; 2], c: usize, lanes: usize, w: usize, count: usize) {
        let p = self.plan;
        let (b, [kt, kh, kw]) = (self.batch, p.kernel);
        // SAFETY: taps outside the input are skipped; the rest is the caller's word.
        unsafe {
            let vector = |at: Shared<f32>, i: usize| load::<S, f32>(at.get().add(i), 1, lanes);
            let mut sums = [p.bias.map_or(S::splat(0.0), |bias| vector(bias, c)); COLUMNS];
            for i in 0..kt {
                let Some(ti) = (t + i).checked_sub(p.padding[0]).filter(|&t| t < p.size[1]) else { continue };
                for j in 0..kh {
                    let Some(hj) = (h + j).checked_sub(p.padding[1]).filter(|&h| h < p.size[2]) else { continue };
                    let row = p.x.get().add(b * p.strides[0] + ti * p.strides[1] + hj * p.strides[2] + c * p.strides[4]);
                    for k in 0..kw {
                        let weight = vector(p.weight, ((i * kh + j) * kw + k) * p.size[4] + c);
                        for (column, sum) in sums.iter_mut().enumerate().take(count) {
                            let at = w + column + k;
                            if at >= p.padding[2] && at - p.padding[2] < p.size[3] {
                                let x = load::<S, T>(row.add((at - p.padding[2]) * p.strides[3]), p.strides[4], lanes);
                                *sum = S::fma(x, weight, *sum);
                            }
                        }
                    }
                }
            }
            let [_, nt, nh, nw, channels] = p.out_size;
            for (column, &sum) in sums.iter().enumerate().take(count) {
                let mut y = sum;
                if let Some((residual, s)) = p.residual {
                    let at = b * s[0] + t * s[1] + h * s[2] + (w + column) * s[3] + c * s[4];
                    y = S::add(y, load::<S, T>(residual.get().add(at), s[4], lanes));
                }
                let at = (((b * nt + t) * nh + h) * nw + w + column) * channels + c;
                store::<S, T>(p.out.get().add(at), y, lanes);
            }
        }
    }
}

/// `N` vectors side by side.
///
/// # Safety
/// They are valid for reads.
#[inline(always)]
unsafe fn vectors<S: Simd, T: Element, const N: usize>(from: *const T) -> [S::V; N] {
    // SAFETY: the caller's word.
    unsafe {
        let mut x = [S::splat(0.0); N];
        for (n, x) in x.iter_mut().enumerate() {
            *x = load::<S, T>(from.add(n * S::LANES), 1, S::LANES);
        }
        x
    }
}
