//! Batch normalisation per channel: one multiply-add with the running statistics; in training the statistics first.

use super::{
    Cpu, Shared,
    columns::{ROWS, sum_blocks},
    convert::{load, load_at, store},
    simd::{Kernel, Simd},
    strided::{Strided, TASK, load_f32, vectors},
    with_float,
};
use crate::{Element, Result, Tensor, ops::batch_norm::BatchNorm};

pub fn run(op: &BatchNorm, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("batch_norm", outputs[0].dtype(), T => typed::<T>(op.eps, inputs, outputs, cpu))
}

fn typed<T: Element>(eps: f32, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(x) = inputs[0] else { return Ok(()) };
    let parameter = |i: usize| inputs.get(i).copied().flatten().map(Tensor::to_f64_vec).transpose();
    let rows = Strided::<T>::new(x, cpu)?;
    let (mean, variance) = match (parameter(3)?, parameter(4)?, outputs) {
        (Some(mean), Some(variance), _) => (mean, variance),
        (.., [_, mean_out, variance_out]) => {
            let (mean, variance) = statistics(&rows, cpu)?;
            write(mean_out, &mean, cpu)?;
            write(variance_out, &variance, cpu)?;
            (mean, variance)
        }
        _ => return Ok(()),
    };
    let (weight, bias) = (parameter(1)?, parameter(2)?);
    // y = (x − mean)·scale + bias: subtracting first keeps the digits of a large mean.
    let scale = |c: usize| weight.as_ref().map_or(1.0, |w| w[c]) / (variance[c] + f64::from(eps)).sqrt();
    let scale: Vec<f32> = (0..rows.len).map(|c| scale(c) as f32).collect();
    let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
    let bias: Vec<f32> = (0..rows.len).map(|c| bias.as_ref().map_or(0.0, |b| b[c]) as f32).collect();
    let y = Shared(cpu.ptr::<T>(&outputs[0])?);
    let together = (TASK / rows.len.max(1)).max(1);
    cpu.pool.for_each(rows.rows.div_ceil(together), |task| {
        for row in task * together..((task + 1) * together).min(rows.rows) {
            // SAFETY: the row lies in the layout, and each task writes its own rows.
            let (x, y) = unsafe { (rows.base.get().add(rows.offset(row)), y.get().add(row * rows.len)) };
            cpu.level.run(Affine { x, step: rows.step, mean: &mean, scale: &scale, bias: &bias, y });
        }
    });
    Ok(())
}

/// Mean and biased variance of each channel: of the differences from what a first pass takes for the mean, so that nothing cancels.
fn statistics<T: Element>(rows: &Strided<T>, cpu: &Cpu) -> Result<(Vec<f64>, Vec<f64>)> {
    let (len, n) = (rows.len, rows.rows as f64);
    let pass = |centre: &[f32]| {
        sum_blocks(cpu, rows.rows, 2 * len, 0, |block, sums, _| {
            for row in block * ROWS..((block + 1) * ROWS).min(rows.rows) {
                // SAFETY: the row lies in the layout.
                let x = unsafe { rows.base.get().add(rows.offset(row)) }.cast_const();
                cpu.level.run(Moments { x: (x, rows.step), centre, sums });
            }
        })
    };
    let centre: Vec<f32> = pass(&vec![0.0; len])?[..len].iter().map(|&sum| (f64::from(sum) / n) as f32).collect();
    let sums = pass(&centre)?;
    // E(x) = centre + E(d), Var(x) = E(d²) − E(d)²
    let off = |c: usize| f64::from(sums[c]) / n;
    let mean = (0..len).map(|c| f64::from(centre[c]) + off(c)).collect();
    let variance = |c: usize| f64::from(sums[len + c]) / n - off(c).powi(2);
    // Roundings may take it below 0, where it is 0; NaN stays NaN.
    let variance = (0..len).map(variance).map(|x| if x < 0.0 { 0.0 } else { x }).collect();
    Ok((mean, variance))
}

/// One row's part of `Σ d` and, behind it, `Σ d²`, where `d = x − centre`.
struct Moments<'a, T> {
    /// Where the row begins, and the distance of its elements.
    x: (*const T, usize),
    centre: &'a [f32],
    sums: *mut f32,
}

impl<T: Element> Kernel for Moments<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let len = self.centre.len();
        vectors::<S>(
            len,
            #[inline(always)]
            // SAFETY: the row is valid for one value per channel, the sums for two.
            |j, lanes| unsafe {
                let at = |row: *const f32| load_f32::<S>(row.add(j), lanes);
                let (first, second) = (self.sums, self.sums.add(len));
                let d = S::sub(load_at::<S, T>(self.x, j, lanes), at(self.centre.as_ptr()));
                store::<S, f32>(first.add(j), S::add(d, at(first)), lanes);
                store::<S, f32>(second.add(j), S::fma(d, d, at(second)), lanes);
            },
        );
    }
}

fn write(out: &Tensor, values: &[f64], cpu: &Cpu) -> Result<()> {
    let base = cpu.ptr::<f32>(out)?;
    for (c, &x) in values.iter().enumerate() {
        // SAFETY: an output of one value per channel.
        unsafe { base.add(c).write(x as f32) };
    }
    Ok(())
}

struct Affine<'a, T> {
    x: *const T,
    step: usize,
    mean: &'a [f32],
    scale: &'a [f32],
    bias: &'a [f32],
    y: *mut T,
}

impl<T: Element> Kernel for Affine<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: `x` and `y` are valid for one value per channel.
        vectors::<S>(
            self.scale.len(),
            #[inline(always)]
            |c, lanes| unsafe {
                let [mean, scale, bias] = [self.mean, self.scale, self.bias].map(|p| load_f32::<S>(p.as_ptr().add(c), lanes));
                let d = S::sub(load::<S, T>(self.x.add(c * self.step), self.step, lanes), mean);
                store::<S, T>(self.y.add(c), S::fma(d, scale, bias), lanes);
            },
        );
    }
}
