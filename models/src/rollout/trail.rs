//! What a pass leaves behind for the roll-out: which tokens were made of which, step by step.
//!
//! Scores of attention are never stored. Queries and keys are there anyway; a pass that is followed keeps them, and the probabilities of one layer at
//! a time are computed from them afterwards, with ordinary operations and in parts of bounded size.

use tubelet_engine::{
    DType, Error, Result, Tensor,
    ops::{
        binary::add,
        gemm::{Gemm, gemm, linear},
        softmax::softmax,
    },
};

/// Probabilities that are computed at a time: 64 MiB of f32.
const PART: usize = 1 << 24;

/// The part of a video that a token is made of, in voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The first voxel along t, h, w.
    pub start: [usize; 3],
    /// Voxels along t, h, w.
    pub size: [usize; 3],
}

impl Cell {
    /// The cells of a convolution over `video`, row by row: `kernel`s at `stride`s, the first one at `offset`, which padding makes negative. What
    /// lies outside the video is cut off.
    pub fn grid(video: [usize; 3], grid: [usize; 3], kernel: [usize; 3], stride: [usize; 3], offset: [isize; 3]) -> Vec<Cell> {
        let [t, h, w] = grid;
        let cell = |index: [usize; 3]| {
            let mut cell = Cell { start: [0; 3], size: [0; 3] };
            for axis in 0..3 {
                let start = (index[axis] * stride[axis]) as isize + offset[axis];
                let end = start + kernel[axis] as isize;
                let inside = |x: isize| usize::try_from(x).unwrap_or(0).min(video[axis]);
                cell.start[axis] = inside(start);
                cell.size[axis] = inside(end) - inside(start);
            }
            cell
        };
        (0..t * h * w).map(|i| cell([i / (h * w), i / w.max(1) % h.max(1), i % w.max(1)])).collect()
    }
}

/// One attention along one axis of a grid of tokens.
pub struct Hop {
    /// `[B, X, Y, heads, D]`; a batch of frames of one video, never of videos.
    q: Tensor,
    /// As `q`, but for its size along `axis`.
    k: Tensor,
    axis: usize,
    scale: f32,
    bias: Option<Tensor>,
    kept: Option<Tensor>,
    again: bool,
    mixed: bool,
}

impl Hop {
    /// `softmax(scale · q·kᵀ)` along `axis`, as in [`attention`](tubelet_engine::ops::attention::attention).
    pub fn new(scale: f32, axis: usize, q: &Tensor, k: &Tensor) -> Self {
        Hop { q: q.clone(), k: k.clone(), axis, scale, bias: None, kept: None, again: false, mixed: false }
    }

    /// With `bias [heads, queries, keys]` added to the scores.
    pub fn biased(self, bias: Option<&Tensor>) -> Self {
        Hop { bias: bias.cloned(), ..self }
    }

    /// Of the rows only those in `kept [1, keep, N, heads]` go on, which may differ between heads and places; `again` if there is a second softmax.
    pub fn keeping(self, kept: &Tensor, again: bool) -> Self {
        Hop { kept: Some(kept.clone()), again, ..self }
    }

    /// A projection mixes the heads behind this hop, before the next one.
    pub fn mixed(self) -> Self {
        Hop { mixed: true, ..self }
    }

    fn heads(&self) -> usize {
        self.q.shape()[3]
    }

    /// `[B, X, Y, heads, N]` as `[lines, heads, tokens of a line, N]`.
    fn lines(&self, x: &Tensor) -> Result<Tensor> {
        let s = *x.shape();
        let order = if self.axis == 1 { [0, 2, 3, 1, 4] } else { [0, 1, 3, 2, 4] };
        x.cast(DType::F32)?.permute(&order)?.contiguous()?.reshape(&[s[0] * s[3 - self.axis], s[3], s[self.axis], s[4]])
    }

    /// `rows · A` for the probabilities A of every head: from a number for each query and head to one for each key and head, tokens first.
    fn back(&self, rows: &[f32]) -> Result<Vec<f32>> {
        let s = self.q.shape();
        if rows.len() * s[4] != self.q.elements() {
            return Err(Error::shape("rollout", format!("{} numbers for queries {s}: is it one video?", rows.len())));
        }
        let (q, k) = (self.lines(&self.q)?, self.lines(&self.k)?);
        let rows = Tensor::from_f32(q.device(), DType::F32, &[s[0], s[1], s[2], s[3], 1], rows)?;
        let rows = self.lines(&rows)?.transpose()?;
        let [lines, heads, queries, keys] = [q.shape()[0], q.shape()[1], q.shape()[2], k.shape()[2]];
        let step = (PART / (lines * heads * keys).max(1)).max(1);
        let mut sum = Tensor::zeros(q.device(), DType::F32, &[lines, heads, 1, keys])?;
        for start in (0..queries).step_by(step) {
            let n = step.min(queries - start);
            let all = |bias: &Tensor| bias.cast(DType::F32)?.narrow(1, start, n)?.broadcast_to(&[lines, heads, n, keys]);
            let bias = self.bias.as_ref().map(all).transpose()?;
            let scores = gemm(Gemm { alpha: self.scale, function: None }, &q.narrow(2, start, n)?, &k, None, bias.as_ref())?;
            let mut probabilities = softmax(&scores)?;
            if self.again {
                probabilities = softmax(&probabilities)?;
            }
            sum = add(&sum, &linear(&rows.narrow(3, start, n)?, &probabilities.transpose()?, None)?)?;
        }
        let order = if self.axis == 1 { [0, 3, 1, 2] } else { [0, 1, 3, 2] };
        sum.reshape(&[s[0], s[3 - self.axis], heads, keys])?.permute(&order)?.to_f32_vec()
    }

    /// Numbers for the kept rows, where all rows are.
    fn unpick(&self, rows: Vec<f32>) -> Result<Vec<f32>> {
        let Some(kept) = &self.kept else { return Ok(rows) };
        let s = self.q.shape();
        let (places, kept) = (s[2] * s[3], kept.contiguous()?.to_vec::<i32>()?);
        let mut all = vec![0.0; s[1] * places];
        for (i, (x, &frame)) in rows.iter().zip(&kept).enumerate() {
            let at = usize::try_from(frame).unwrap_or(usize::MAX).saturating_mul(places) + i % places;
            *all.get_mut(at).ok_or_else(|| Error::shape("rollout", format!("kept frame {frame} of {}", s[1])))? += x;
        }
        Ok(all)
    }
}

/// How tokens become tokens.
pub enum Step {
    /// The tokens of the video: where a trail begins.
    Cells(Vec<Cell>),
    /// Class tokens come in: `extra` in front of each of `groups` groups of `size` tokens.
    Classes {
        /// Groups.
        groups: usize,
        /// New tokens of each.
        extra: usize,
        /// Old tokens of each.
        size: usize,
    },
    /// Attention beside a residual connection: hop after hop, each head for itself unless [mixed](Hop::mixed). The first `aside` tokens stay apart.
    Attention {
        /// In order.
        hops: Vec<Hop>,
        /// Tokens that pass it by.
        aside: usize,
    },
    /// Attention beside a residual connection by groups of equally many heads, each with a hop of its own.
    Beside(Vec<Hop>),
    /// Neighbouring time steps become one; the first `aside` tokens stay apart.
    Shorten {
        /// Tokens that pass it by.
        aside: usize,
        /// Old time steps for a new one.
        by: usize,
        /// Tokens of a time step.
        places: usize,
    },
    /// Of each of `groups` groups one token is read, the sum of its tokens with the weights `row`.
    Read {
        /// Groups.
        groups: usize,
        /// A weight for each token of a group.
        row: Vec<f32>,
    },
    /// Queries look at all tokens, which stay as they are; the first `extra` keys are none of them (UniFormerV2's global block).
    Query {
        /// One query, or several, over all tokens.
        hop: Box<Hop>,
        /// Keys that are no tokens.
        extra: usize,
        /// How many of the queries count, the last; their mean does.
        own: usize,
    },
}

impl Step {
    /// The class token, the first of each of `groups` groups of `size`, is read.
    pub fn read_first(groups: usize, size: usize) -> Step {
        Step::Read { groups, row: (0..size).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect() }
    }

    /// The mean is read of each of `groups` groups, of `size` tokens after the first `skip`.
    pub fn read_mean(groups: usize, skip: usize, size: usize) -> Step {
        Step::Read { groups, row: (0..skip + size).map(|i| if i < skip { 0.0 } else { 1.0 / size as f32 }).collect() }
    }

    /// From the shares of the tokens after the step to those of the tokens before it, and what was the new class tokens'.
    pub(super) fn back(&self, after: Vec<f32>) -> Result<(Vec<f32>, f32)> {
        if let Step::Classes { groups, extra, size } = self {
            fits(&after, groups * (extra + size))?;
            let (classes, rest): (Vec<_>, Vec<_>) = after.chunks(extra + size).map(|group| group.split_at(*extra)).unzip();
            return Ok((rest.concat(), classes.concat().iter().sum()));
        }
        let before = match self {
            Step::Cells(_) | Step::Query { .. } | Step::Classes { .. } => Ok(after),
            Step::Attention { hops, aside } => attention(hops, *aside, &after),
            Step::Beside(hops) => beside(hops, &after),
            Step::Shorten { aside, by, places } => {
                let (apart, rest) = split(&after, *aside)?;
                let long = rest.chunks(*places).flat_map(|step| std::iter::repeat_n(step, *by).flatten());
                Ok(apart.iter().copied().chain(long.map(|x| x / *by as f32)).collect())
            }
            Step::Read { groups, row } => {
                fits(&after, *groups)?;
                Ok(after.iter().flat_map(|x| row.iter().map(move |y| x * y)).collect())
            }
        };
        Ok((before?, 0.0))
    }
}

fn fits(shares: &[f32], tokens: usize) -> Result<()> {
    let message = || format!("{} shares for {tokens} tokens", shares.len());
    if shares.len() == tokens { Ok(()) } else { Err(Error::shape("rollout", message())) }
}

fn split(shares: &[f32], aside: usize) -> Result<(&[f32], &[f32])> {
    shares.split_at_checked(aside).ok_or_else(|| Error::shape("rollout", format!("{} shares, {aside} aside", shares.len())))
}

/// `r·½(A + I)`, the matrix A being the mean over heads of each head's hops in turn.
fn attention(hops: &[Hop], aside: usize, after: &[f32]) -> Result<Vec<f32>> {
    let heads = hops.first().map_or(1, Hop::heads).max(1);
    let (apart, tokens) = split(after, aside)?;
    let even = |tokens: &[f32]| tokens.iter().flat_map(|x| std::iter::repeat_n(x / heads as f32, heads)).collect::<Vec<_>>();
    let sum = |rows: &[f32]| rows.chunks(heads).map(|token| token.iter().sum::<f32>()).collect::<Vec<_>>();
    let (mut mixed, mut kept) = (even(tokens), even(tokens));
    for hop in hops.iter().rev() {
        if hop.mixed {
            mixed = even(&sum(&mixed));
        }
        mixed = hop.back(&hop.unpick(mixed)?)?;
        kept = hop.unpick(kept)?;
    }
    let halves = sum(&mixed).into_iter().zip(sum(&kept)).map(|(a, i)| 0.5 * (a + i));
    Ok(apart.iter().copied().chain(halves).collect())
}

/// `r·½(A + I)`, the matrix A being the mean over all heads of the groups.
fn beside(hops: &[Hop], after: &[f32]) -> Result<Vec<f32>> {
    let mut mean = vec![0.0; after.len()];
    for hop in hops {
        let shares = attention(std::slice::from_ref(hop), 0, after)?;
        mean.iter_mut().zip(shares).for_each(|(mean, share)| *mean += share / hops.len() as f32);
    }
    Ok(mean)
}

/// The share of each token in what the queries of a [`Step::Query`] get, and that of the other keys; `None` for other steps.
pub(super) fn looked_at(step: &Step) -> Option<Result<(Vec<f32>, f32)>> {
    if let Step::Query { hop, extra, own } = step { Some(query(hop, *extra, *own)) } else { None }
}

fn query(hop: &Hop, extra: usize, own: usize) -> Result<(Vec<f32>, f32)> {
    let (heads, queries) = (hop.heads().max(1), hop.q.shape()[1] * hop.q.shape()[2]);
    let share = 1.0 / (heads * own) as f32;
    let last = (0..queries * heads).map(|i| if i / heads + own >= queries { share } else { 0.0 });
    let rows = hop.back(&last.collect::<Vec<_>>())?;
    let shares: Vec<f32> = rows.chunks(heads).map(|key| key.iter().sum()).collect();
    let (others, tokens) = split(&shares, extra)?;
    Ok((tokens.to_vec(), others.iter().sum()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::LazyLock;

    use tubelet_engine::{Device, Philox};

    use super::*;

    /// One device for all operands.
    fn device() -> &'static Device {
        static DEVICE: LazyLock<Device> = LazyLock::new(Device::reference);
        &DEVICE
    }

    fn random(rng: &mut Philox, shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
        Tensor::from_f32(device(), DType::F32, shape, &values).unwrap()
    }

    type Matrix = Vec<Vec<f64>>;

    /// The probabilities of one head over all tokens of the grid as a square matrix, by the definition.
    fn dense(hop: &Hop, head: usize) -> Matrix {
        let s = *hop.q.shape();
        let (q, k) = (hop.q.to_f64_vec().unwrap(), hop.k.to_f64_vec().unwrap());
        let [x, y, heads, d] = [s[1], s[2], s[3], s[4]];
        let at = |x: &[f64], token: usize| x[(token * heads + head) * d..][..d].to_vec();
        let bias = hop.bias.as_ref().map(|bias| bias.to_f64_vec().unwrap());
        let place = |i: usize| if hop.axis == 1 { i / y } else { i % y };
        let added = |i: usize, j: usize| {
            let n = s[hop.axis];
            bias.as_ref().map_or(0.0, |bias| bias[(head * n + place(i)) * n + place(j)])
        };
        let same_line = |i: usize, j: usize| if hop.axis == 1 { i % y == j % y } else { i / y == j / y };
        let softmax = |row: Vec<Option<f64>>| {
            let powers: Vec<f64> = row.iter().map(|x| x.map_or(0.0, f64::exp)).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|p| p / sum).collect::<Vec<f64>>()
        };
        let row = |i: usize| {
            let score = |j: usize| {
                let products = at(&q, i).into_iter().zip(at(&k, j)).map(|(a, b)| a * b);
                same_line(i, j).then(|| f64::from(hop.scale) * products.sum::<f64>() + added(i, j))
            };
            let row = softmax((0..x * y).map(score).collect());
            let again = row.iter().enumerate().map(|(j, &p)| same_line(i, j).then_some(p)).collect();
            if hop.again { softmax(again) } else { row }
        };
        (0..x * y).map(row).collect()
    }

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        a.iter().map(|row| (0..b[0].len()).map(|j| row.iter().zip(b).map(|(x, b)| x * b[j]).sum()).collect()).collect()
    }

    fn mean(all: &[Matrix]) -> Matrix {
        let entry = |i: usize, j: usize| all.iter().map(|m| m[i][j]).sum::<f64>() / all.len() as f64;
        (0..all[0].len()).map(|i| (0..all[0][0].len()).map(|j| entry(i, j)).collect()).collect()
    }

    /// Every row that goes back through the step must be that of the matrix, and sum to 1.
    fn check(step: &Step, expected: &Matrix, aside: usize) {
        for (i, expected) in expected.iter().enumerate() {
            let mut one = vec![0.0; aside + expected_rows(step)];
            one[aside + i] = 1.0;
            let (row, _) = step.back(one).unwrap();
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "row {i} sums to 1");
            for (got, want) in row[aside..].iter().zip(expected) {
                assert!((f64::from(*got) - want).abs() < 1e-6, "row {i}: {got} for {want}");
            }
        }
    }

    fn expected_rows(step: &Step) -> usize {
        let (Step::Attention { hops, .. } | Step::Beside(hops)) = step else { return 0 };
        let s = hops[hops.len() - 1].q.shape();
        s[1] * s[2]
    }

    fn half(a: &Matrix) -> Matrix {
        let identity = |i: usize, j: usize| if i == j { 0.5 } else { 0.0 };
        a.iter().enumerate().map(|(i, row)| row.iter().enumerate().map(|(j, x)| 0.5 * x + identity(i, j)).collect()).collect()
    }

    #[test]
    fn layers_are_the_matrices_of_the_definition() {
        let mut rng = Philox::stream(3, 0);
        let mut hop = |axis| {
            let [q, k] = [0, 1].map(|_| random(&mut rng, &[1, 3, 4, 2, 5]));
            Hop::new(0.6, axis, &q, &k)
        };
        let bias = [3, 4].map(|n| random(&mut Philox::stream(5, n), &[2, n as usize, n as usize]));
        for (axis, bias) in [(1, None), (2, None), (1, Some(&bias[0])), (2, Some(&bias[1]))] {
            let hop = hop(axis).biased(bias);
            let expected = half(&mean(&[dense(&hop, 0), dense(&hop, 1)]));
            check(&Step::Attention { hops: vec![hop], aside: 1 }, &expected, 1);
        }
        // Time, then space: what space reads was mixed over time, by each head for itself, or by all after a projection.
        let (time, space) = (hop(1), hop(2));
        let each = [0, 1].map(|head| product(&dense(&space, head), &dense(&time, head)));
        let [times, spaces] = [&time, &space].map(|hop| mean(&[dense(hop, 0), dense(hop, 1)]));
        let together = half(&product(&spaces, &times));
        check(&Step::Attention { hops: vec![time, space], aside: 0 }, &half(&mean(&each)), 0);
        let (time, space) = (hop(1), hop(2));
        let [times, spaces] = [&time, &space].map(|hop| mean(&[dense(hop, 0), dense(hop, 1)]));
        let other = half(&product(&spaces, &times));
        check(&Step::Attention { hops: vec![time.mixed(), space], aside: 0 }, &other, 0);
        assert_ne!(together, half(&mean(&each)));
        // Some heads over time, the others over space: what is read is the mean over all of them.
        let (time, space) = (hop(1), hop(2));
        let all = mean(&[dense(&time, 0), dense(&time, 1), dense(&space, 0), dense(&space, 1)]);
        check(&Step::Beside(vec![time, space]), &half(&all), 0);
    }

    #[test]
    fn kept_frames_take_their_residual_along() {
        let mut rng = Philox::stream(4, 0);
        let [q, k] = [0, 1].map(|_| random(&mut rng, &[1, 3, 2, 2, 5]));
        let [kept_q, kept_k] = [0, 1].map(|_| random(&mut rng, &[1, 2, 2, 2, 5]));
        // `[slot, place, head]`
        let frames = [0, 1, 0, 0, 2, 2, 1, 2];
        let kept = Tensor::from_slice::<i32>(device(), &[1, 2, 2, 2], &frames).unwrap();
        let time = Hop::new(0.5, 1, &q, &k).keeping(&kept, true);
        let space = Hop::new(0.5, 2, &kept_q, &kept_k);
        let each = [0, 1].map(|head| {
            let pick: Matrix = (0..4)
                .map(|token| {
                    let frame = usize::try_from(frames[token * 2 + head]).unwrap();
                    (0..6).map(|j| if j == frame * 2 + token % 2 { 1.0 } else { 0.0 }).collect()
                })
                .collect();
            let mixed = product(&dense(&space, head), &product(&pick, &dense(&time, head)));
            mean(&[mixed, pick])
        });
        check(&Step::Attention { hops: vec![time, space], aside: 1 }, &mean(&each), 1);
    }

    #[test]
    fn cells_of_padded_and_offset_grids() {
        let cells = Cell::grid([4, 6, 6], [2, 1, 1], [3, 2, 2], [2, 2, 2], [-1, 3, 0]);
        let expected = [Cell { start: [0, 3, 0], size: [2, 2, 2] }, Cell { start: [1, 3, 0], size: [3, 2, 2] }];
        assert_eq!(cells, expected);
    }
}
