//! Gradient of batch normalisation: the sums over rows in blocks, then the result.

use super::{
    Cpu, Shared,
    columns::{ROWS, sum_blocks},
    convert::{load_at, store},
    layer_norm_backward::write_parameters,
    simd::{Kernel, Simd},
    strided::{Strided, load_f32, vectors},
    with_float,
};
use crate::{Element, Result, Tensor, ops::batch_norm_backward::BatchNormBackward};

pub fn run(op: &BatchNormBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("batch_norm_backward", outputs[0].dtype(), T => typed::<T>(op, inputs, outputs, cpu))
}

fn typed<T: Element>(op: &BatchNormBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), weight, Some(mean), Some(var), Some(gradient)] = *inputs else { return Ok(()) };
    let (x, gradient) = (Strided::<T>::new(x, cpu)?, Strided::<T>::new(gradient, cpu)?);
    let mean = mean.to_f32_vec()?;
    let inverse: Vec<f32> = var.to_f32_vec()?.into_iter().map(|var| 1.0 / (var + op.eps).sqrt()).collect();
    let weight = weight.map(Tensor::to_f32_vec).transpose()?;
    let len = x.len;
    let at = |x: &Strided<T>, row: usize| {
        // SAFETY: the row lies in the layout.
        (unsafe { x.base.get().add(x.offset(row)) }.cast_const(), x.step)
    };
    let sums = sum_blocks(cpu, x.rows, 2 * len, 0, |block, sums, _| {
        for row in block * ROWS..((block + 1) * ROWS).min(x.rows) {
            let (x, gradient) = (at(&x, row), at(&gradient, row));
            // SAFETY: the sums hold two rows.
            let [dweight, dbias] = unsafe { [sums, sums.add(len)] };
            cpu.level.run(Sums { x, gradient, mean: &mean, inverse: &inverse, dweight, dbias, len });
        }
    })?;
    // dx = scale·(gradient − shift − hat·slope), where the last two are of the batch's own statistics
    let n = x.rows as f32;
    let scale: Vec<f32> = (0..len).map(|c| weight.as_ref().map_or(1.0, |weight| weight[c]) * inverse[c]).collect();
    let slope: Vec<f32> = sums[..len].iter().map(|&sum| sum / n).collect();
    let shift: Vec<f32> = sums[len..].iter().map(|&sum| sum / n).collect();
    let dx = Shared(cpu.ptr::<T>(&outputs[0])?);
    cpu.pool.for_each(x.rows.div_ceil(ROWS), |block| {
        for row in block * ROWS..((block + 1) * ROWS).min(x.rows) {
            let (x, gradient) = (at(&x, row), at(&gradient, row));
            // SAFETY: each block writes its own rows.
            let dx = unsafe { dx.get().add(row * len) };
            let channels = [&mean, &inverse, &scale, &slope, &shift].map(Vec::as_slice);
            cpu.level.run(Row { x, gradient, channels, batch: op.batch, dx, len });
        }
    });
    write_parameters::<T>(&sums, len, &outputs[1..], cpu)
}

/// One row's part of `Σ gradient·x̂` and `Σ gradient`.
struct Sums<'a, T> {
    /// Where the row begins, and the distance of its elements.
    x: (*const T, usize),
    gradient: (*const T, usize),
    mean: &'a [f32],
    inverse: &'a [f32],
    dweight: *mut f32,
    dbias: *mut f32,
    len: usize,
}

impl<T: Element> Kernel for Sums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        vectors::<S>(
            self.len,
            #[inline(always)]
            // SAFETY: all rows are valid for `len`.
            |j, lanes| unsafe {
                let at = |row: *const f32| load_f32::<S>(row.add(j), lanes);
                let hat = S::mul(S::sub(load_at::<S, T>(self.x, j, lanes), at(self.mean.as_ptr())), at(self.inverse.as_ptr()));
                let gradient = load_at::<S, T>(self.gradient, j, lanes);
                store::<S, f32>(self.dweight.add(j), S::fma(gradient, hat, at(self.dweight)), lanes);
                store::<S, f32>(self.dbias.add(j), S::add(gradient, at(self.dbias)), lanes);
            },
        );
    }
}

struct Row<'a, T> {
    x: (*const T, usize),
    gradient: (*const T, usize),
    /// `mean, inverse, scale, slope, shift`
    channels: [&'a [f32]; 5],
    /// Whether the statistics depend on `x`.
    batch: bool,
    dx: *mut T,
    len: usize,
}

impl<T: Element> Kernel for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let [mean, inverse, scale, slope, shift] = self.channels.map(<[f32]>::as_ptr);
        vectors::<S>(
            self.len,
            #[inline(always)]
            // SAFETY: all rows are valid for `len`.
            |j, lanes| unsafe {
                let at = |row: *const f32| load_f32::<S>(row.add(j), lanes);
                let mut dx = load_at::<S, T>(self.gradient, j, lanes);
                if self.batch {
                    let hat = S::mul(S::sub(load_at::<S, T>(self.x, j, lanes), at(mean)), at(inverse));
                    dx = S::sub(S::sub(dx, at(shift)), S::mul(hat, at(slope)));
                }
                store::<S, T>(self.dx.add(j), S::mul(dx, at(scale)), lanes);
            },
        );
    }
}
