//! Batch normalisation per channel: one multiply-add with the running statistics; in training the statistics first, each channel by one
//! thread in the order of the rows.

use super::{
    Cpu, Shared,
    convert::{load, store},
    simd::{Kernel, Simd},
    strided::{Strided, TASK, load_f32, vectors},
    with_float,
};
use crate::{Element, Result, Tensor, ops::batch_norm::BatchNorm};

/// Channels whose statistics one task takes: a cache line of f32 four times.
const CHANNELS: usize = 64;

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
            let (mean, variance) = statistics(&rows, cpu);
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

/// Mean and biased variance of each channel, in two passes of f64.
fn statistics<T: Element>(rows: &Strided<T>, cpu: &Cpu) -> (Vec<f64>, Vec<f64>) {
    let (mut mean, mut variance) = (vec![0.0; rows.len], vec![0.0; rows.len]);
    let (means, variances) = (Shared(mean.as_mut_ptr()), Shared(variance.as_mut_ptr()));
    cpu.pool.for_each(rows.len.div_ceil(CHANNELS), |task| {
        let low = task * CHANNELS;
        let count = CHANNELS.min(rows.len - low);
        let pass = |centre: &[f64; CHANNELS], power: i32| {
            let mut sums = [0f64; CHANNELS];
            for row in 0..rows.rows {
                let start = rows.offset(row) + low * rows.step;
                for c in 0..count {
                    // SAFETY: channels lie in the layout.
                    let x = unsafe { (*rows.base.get().add(start + c * rows.step)).to_f64() };
                    sums[c] += (x - centre[c]).powi(power);
                }
            }
            sums.map(|sum| sum / rows.rows as f64)
        };
        let mean = pass(&[0.0; CHANNELS], 1);
        let variance = pass(&mean, 2);
        for c in 0..count {
            // SAFETY: each task writes its own channels.
            unsafe {
                means.get().add(low + c).write(mean[c]);
                variances.get().add(low + c).write(variance[c]);
            }
        }
    });
    (mean, variance)
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
