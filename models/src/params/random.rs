use tubelet_engine::{DType, Device, Philox, Result, Shape, Tensor};

use crate::host::room;

/// How a parameter is initialised where no checkpoint gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Class tokens, biases, gates, zero-initialised projections.
    Zeros,
    /// Normalisation scales.
    Ones,
    /// Normal with this standard deviation: position embeddings (0.02).
    Normal(f32),
    /// Uniform on ±√(6 / (fan in + fan out)), the fans being the last and the first dimension with the others multiplied in: Glorot and Bengio.
    Xavier,
}

impl Init {
    /// Draws parameter `name` under `seed`.
    pub(super) fn draw(self, device: &Device, dtype: DType, shape: &[usize], seed: u64, name: &str) -> Result<Tensor> {
        let mut rng = Philox::stream(seed, fnv1a(name));
        let n = Shape::new(shape)?.elements();
        let mut values: Vec<f32> = room(n)?;
        match self {
            Init::Zeros => return Tensor::zeros(device, dtype, shape),
            Init::Ones => return Tensor::full(device, dtype, shape, 1.0),
            Init::Normal(std) => values.extend((0..n).map(|_| std * rng.normal())),
            Init::Xavier => {
                let fan_out = shape.first().copied().unwrap_or(1).max(1);
                let bound = (6.0 / (fan_out + n / fan_out) as f32).sqrt();
                values.extend((0..n).map(|_| bound * (2.0 * rng.uniform() - 1.0)));
            }
        }
        Tensor::from_f32(device, dtype, shape, &values)
    }
}

/// A stream number from a name (FNV-1a, 64 bits).
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}
