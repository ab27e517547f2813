//! What a model costs, from the meter: nothing is allocated and nothing computed.

#[cfg(feature = "cli")]
pub mod claims;
#[cfg(feature = "cli")]
pub mod tables;
#[cfg(feature = "train")]
mod training;

use serde::Serialize;
#[cfg(feature = "train")]
pub use training::{ADAMW, SGD, Training, measure_training, rehearsal};
use tubelet_engine::{Cost, DType, Device, Error, Result, Tensor, meter::Meter};

use crate::{Pass, params::Params, registry::Config};

/// What one forward pass of a model costs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Clips in the batch.
    pub batch: usize,
    /// `[T, H, W]` of a clip.
    pub clip: [usize; 3],
    /// Transformer layers.
    pub layers: usize,
    /// Tokens of a clip that enter the first layer, class tokens included.
    pub tokens: usize,
    /// Trainable numbers.
    pub parameters: u64,
    /// Bytes of all weights and buffers.
    pub weight_bytes: u64,
    /// FLOPs of products and convolutions; a multiply-add is 2.
    pub flops: u64,
    /// Other floating-point operations.
    pub minor_flops: u64,
    /// Bytes that the kernels read and write.
    pub bytes: u64,
    /// Kernel launches.
    pub launches: u64,
    /// Most bytes alive at once beside the weights, the clip included.
    pub activation_bytes: u64,
    /// By operation: name, launches, FLOPs, other FLOPs, bytes.
    pub operations: Vec<(&'static str, u64, u64, u64, u64)>,
}

impl Report {
    /// Multiply-adds, as the papers count FLOPs.
    pub fn macs(&self) -> u64 {
        self.flops / 2
    }
}

/// Runs `config` on the meter over `batch` clips of u8 video, every token through every layer, as the papers count.
pub fn measure(config: &Config, batch: usize, dtype: DType) -> Result<Report> {
    let device = Device::meter();
    let meter = device.downcast::<Meter>().ok_or_else(|| Error::invalid("device", "not a meter"))?;
    let mut params = Params::empty(&device, dtype);
    let model = config.build(&mut params)?;
    let parameters = params.parameters();
    let weight_bytes = device.memory().live as u64;
    let input = model.input().clone();
    let clip = [input.frames, input.size[0], input.size[1]];
    let shape = [batch, clip[0], clip[1], clip[2], 3];

    let video = Tensor::empty(&device, DType::U8, &shape)?;
    device.backend().reset_peak();
    meter.reset();
    model.forward(&video, &mut Pass::inference().whole())?;
    let activation_bytes = device.memory().peak as u64 - weight_bytes;
    let count = meter.count();

    let Cost { flops, minor_flops, bytes } = count.total;
    let operations = count.by_operation.iter().map(|(name, (n, c))| (*name, *n, c.flops, c.minor_flops, c.bytes)).collect();
    let outline = config.outline();
    Ok(Report {
        batch,
        clip,
        layers: outline.layers,
        tokens: outline.tokens,
        parameters,
        weight_bytes,
        flops,
        minor_flops,
        bytes,
        launches: count.launches,
        activation_bytes,
        operations,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Each of these widths fits into a tensor; what the model computes with it cannot be counted in 64 bits.
    #[test]
    fn a_model_whose_costs_do_not_fit_into_64_bits_is_refused() {
        let Config::Vivit(tiny) = Config::named("vivit-tiny").unwrap() else { panic!("another system") };
        let with_hidden = |hidden: usize, batch: usize| {
            let mut config = tiny.clone();
            config.spatial.hidden = hidden;
            measure(&Config::Vivit(config), batch, DType::F32)
        };
        assert!(with_hidden(1_000_000, 1).is_ok());
        let sum = with_hidden(9_000_000_000_000_000, 1).unwrap_err().to_string();
        assert_eq!(sum, "the sum of the FLOPs of all operations does not fit into 64 bits");
        let one = with_hidden(9_000_000_000_000_000, 8).unwrap_err().to_string();
        assert!(one.starts_with("the number of FLOPs of") && one.ends_with("does not fit into 64 bits"), "{one}");
        assert!(matches!(with_hidden(usize::MAX / 4, 1), Err(Error::Overflow { .. })));
        assert!(measure(&Config::Vivit(tiny), usize::MAX / 8, DType::F32).is_err(), "so many clips");
    }
}
