//! What launchers of resampling kernels share; see `resample.cuh`.

use std::sync::{Arc, Mutex, PoisonError};

use tubelet_engine::{
    DType, Result, Tensor,
    ops::{
        resize::{Filter, Resize},
        taps::Taps,
    },
};

use crate::{backend::CudaBackend, divisor::Divisor, driver::Module, memory::CudaBuffer};

parameters!(Parameters {
    x: u64,
    y: u64,
    taps: u64,
    starts: u64,
    stride: [i64; 5],
    size: [Divisor; 4],
    first: [u32; 2],
    count: u32,
    unused: u32,
});

/// The tables of three axes as kernels read them: pairs of an input and the bits of its weight, and where those of each output start.
struct Tables {
    taps: CudaBuffer,
    starts: CudaBuffer,
    /// The first output of H and of W among the starts.
    first: [u32; 2],
}

impl Tables {
    fn new(cuda: &CudaBackend, op: &'static str, axes: &[Taps; 3]) -> Result<Self> {
        let (mut taps, mut starts) = (Vec::new(), vec![0u32]);
        for of_output in axes.iter().flatten() {
            for &(input, weight) in of_output {
                taps.extend([cuda.count(op, input)?, weight.to_bits()]);
            }
            starts.push(cuda.count(op, taps.len() / 2)?);
        }
        let [t, h] = [axes[0].len(), axes[1].len()];
        let first = [cuda.count(op, t)?, cuda.count(op, t + h)?];
        let upload = |values: &[u32]| cuda.constant(bytemuck::cast_slice(values));
        Ok(Tables { taps: upload(&taps)?, starts: upload(&starts)?, first })
    }
}

/// What tables depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    op: &'static str,
    /// T, H and W of what is read and of what is written.
    sizes: [[usize; 3]; 2],
    /// Whatever else the operation lets choose.
    choices: [bool; 3],
}

/// The tables that were used last: videos of one size are resampled the same way again and again.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Vec<(Key, Arc<Tables>)>>);

/// How many of them: more than any one program has kinds of resampling; a table takes some KiB.
const KEPT: usize = 32;

impl Cache {
    /// The tables of `key`, made by `make` where they are not there.
    fn find(&self, key: Key, make: impl FnOnce() -> Result<Tables>) -> Result<Arc<Tables>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = match kept.iter().position(|(k, _)| *k == key) {
            Some(i) => kept.remove(i).1,
            None => Arc::new(make()?),
        };
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((key, Arc::clone(&tables)));
        Ok(tables)
    }
}

/// Resamples `x`, `[B, T, H, W, C]`, into `y` with the kernels of operation `op` by the tables of T, H and W, which depend on the sizes and on `choices`
/// alone.
pub(crate) fn resample(
    cuda: &CudaBackend,
    op: &'static str,
    module: &'static Module,
    x: &Tensor,
    y: &Tensor,
    choices: [bool; 3],
    axes: impl FnOnce() -> [Taps; 3],
) -> Result<()> {
    let name = if x.dtype() == DType::U8 { "u8" } else { cuda.float(op, x.dtype())? };
    let sizes = [x, y].map(|x| [1, 2, 3].map(|d| x.shape()[d]));
    let tables = cuda.tables.find(Key { op, sizes, choices }, || Tables::new(cuda, op, &axes()))?;
    // The cache may forget them before a plan does.
    cuda.recording(|recording| recording.kept.push(Box::new(Arc::clone(&tables))));
    let divisor = |d: usize| Divisor::new(cuda, op, y.shape()[d]);
    let count = cuda.count(op, y.elements())?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        y: cuda.address(y)?,
        taps: tables.taps.address,
        starts: tables.starts.address,
        stride: std::array::from_fn(|d| x.layout().strides()[d] as i64),
        size: [divisor(1)?, divisor(2)?, divisor(3)?, divisor(4)?],
        first: tables.first,
        count,
        unused: 0,
    };
    cuda.launch_each(module, &format!("{op}_{name}"), count, &parameters)
}

/// `[N, H, W, C]` as `[N, 1, H, W, C]`.
pub(crate) fn as_video(x: &Tensor) -> Result<Tensor> {
    x.detach().split(0, &[x.shape()[0], 1])
}

/// What the tables of a resizing depend on beside the sizes.
pub(crate) fn choices(op: &Resize) -> [bool; 3] {
    [op.align_corners, op.antialias, op.filter == Filter::Bicubic]
}

/// The table of an axis of one element that stays.
pub(crate) fn still() -> Taps {
    vec![vec![(0, 1.0)]]
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use tubelet_engine::ops::{
        interpolate::{Interpolate, interpolate},
        resize::resize,
    };

    use super::*;
    use crate::{Options, Plan, emulated};

    #[test]
    fn tables_are_uploaded_once_and_not_without_end() -> Result<()> {
        let device = emulated::open(Default::default(), Options::default());
        let x = Tensor::from_slice(&device, &[1, 2, 2, 1], &[1f32, 2.0, 3.0, 4.0])?;
        let op = Resize { height: 3, width: 3, filter: Filter::Bilinear, antialias: false, align_corners: false };
        let centre = |op| Ok(resize(op, &x)?.to_vec::<f32>()?[1]);
        let mut live = device.memory().live;
        let mut grown = || std::mem::replace(&mut live, device.memory().live) < device.memory().live;
        // Each choice has tables of its own, though the sizes are the same.
        let cubic = Resize { filter: Filter::Bicubic, ..op };
        let choices = [op, Resize { align_corners: true, ..op }, cubic, Resize { antialias: true, ..cubic }];
        let expected = choices.map(centre).into_iter().collect::<Result<Vec<f32>>>()?;
        assert!(grown());
        assert_eq!(choices.map(centre).into_iter().collect::<Result<Vec<f32>>>()?, expected);
        assert!(!grown(), "the tables are there already");
        let cpu = x.to_device(&tubelet_engine::Device::reference())?;
        for (op, ours) in choices.into_iter().zip(expected) {
            assert!((resize(op, &cpu)?.to_vec::<f32>()?[1] - ours).abs() < 1e-5, "{op:?}");
        }

        let mut plan = Plan::capture(&device, [&x], |[x]| resize(op, x))?;
        assert_eq!(plan.launches(), 1, "the tables are no part of the pass");
        let first = plan.replay()?.to_vec::<f32>()?;
        let video = x.reshape(&[1, 1, 2, 2, 1])?;
        for size in 1..3 * KEPT {
            interpolate(Interpolate { size: [1, 1, size], align_corners: false }, &video)?;
        }
        let full = device.memory().live;
        for size in 1..3 * KEPT {
            interpolate(Interpolate { size: [1, 1, size], align_corners: false }, &video)?;
        }
        assert_eq!(device.memory().live, full, "tables are forgotten");
        assert_eq!(plan.replay()?.to_vec::<f32>()?, first, "the plan's are not");
        Ok(())
    }
}
