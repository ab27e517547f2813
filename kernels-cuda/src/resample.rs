//! What launchers of resampling kernels share; see `resample.cuh`.

use tubelet_engine::{DType, Result, Tensor, ops::taps::Taps};

use crate::{backend::CudaBackend, divisor::Divisor, driver::Module};

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
    taps: Tensor,
    starts: Tensor,
    /// The first output of H and of W among the starts.
    first: [u32; 2],
}

impl Tables {
    fn new(cuda: &CudaBackend, op: &'static str, x: &Tensor, axes: &[Taps; 3]) -> Result<Self> {
        let (mut taps, mut starts) = (Vec::new(), vec![0]);
        for of_output in axes.iter().flatten() {
            for &(input, weight) in of_output {
                taps.extend([cuda.count(op, input)? as i32, weight.to_bits().cast_signed()]);
            }
            starts.push(cuda.count(op, taps.len() / 2)? as i32);
        }
        let [t, h] = [axes[0].len(), axes[1].len()];
        let first = [cuda.count(op, t)?, cuda.count(op, t + h)?];
        let upload = |values: &[i32]| Tensor::from_slice(x.device(), &[values.len()], values);
        Ok(Tables { taps: upload(&taps)?, starts: upload(&starts)?, first })
    }
}

/// Resamples `x`, `[B, T, H, W, C]`, into `y` by the tables of T, H and W, with the kernels of operation `op`.
pub(crate) fn resample(
    cuda: &CudaBackend,
    op: &'static str,
    module: &'static Module,
    x: &Tensor,
    y: &Tensor,
    axes: &[Taps; 3],
) -> Result<()> {
    let name = if x.dtype() == DType::U8 { "u8" } else { cuda.float(op, x.dtype())? };
    let tables = Tables::new(cuda, op, x, axes)?;
    let divisor = |d: usize| Divisor::new(cuda, op, y.shape()[d]);
    let count = cuda.count(op, y.elements())?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        y: cuda.address(y)?,
        taps: cuda.address(&tables.taps)?,
        starts: cuda.address(&tables.starts)?,
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

/// The table of an axis of one element that stays.
pub(crate) fn still() -> Taps {
    vec![vec![(0, 1.0)]]
}
