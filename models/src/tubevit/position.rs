//! Fixed sine and cosine positions at the centres of the tubes (paper, section 3.3, equation 7).

use serde::{Deserialize, Serialize};
use tubelet_engine::{Result, Tensor};

use super::{Tube, TubeVitConfig};
use crate::{attention::RelativePositions, params::Params};

/// ω_j for `j` in `0..⌊d/6⌋`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frequencies {
    /// `10000^(−j/⌊d/6⌋)`: what the paper surely means.
    Geometric,
    /// `10000^(−j)`: what it prints; all but the first two vanish.
    AsPrinted,
}

/// The order of the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interleaving {
    /// `sin t, cos t, sin x, cos x, sin y, cos y` for each frequency: equation 7.
    ByFrequency,
    /// All of t, then of x, then of y; sines before cosines in each.
    ByAxis,
}

/// The coordinate of a tube of kernel `k` that starts at `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Centre {
    /// `s + ⌊k/2⌋`.
    Floor,
    /// `s + k/2`.
    Exact,
    /// `s + (k − 1)/2`.
    Middle,
    /// The tube's number along the axis, without stride, offset and kernel: what table 7a compares with.
    Index,
}

/// Positions of the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Position {
    /// Computed.
    Fixed {
        /// Frequencies.
        frequencies: Frequencies,
        /// Order of channels.
        interleaving: Interleaving,
        /// Coordinate of a tube.
        centre: Centre,
    },
    /// A table in the checkpoint: the third-party code, whose table this page's options do not describe.
    Stored,
    /// A table that training changes (table 7a).
    Learned,
    /// None at all (table 7a).
    None,
    /// A learned bias of attention for each difference of two tubes' centres, head by head and layer by layer (table 7a, which says no more than
    /// "relative"; this is what BEiT has for patches).
    Relative,
}

impl Position {
    /// The decision of the specification: geometric, by frequency, floored centres.
    pub const DEFAULT: Position =
        Position::Fixed { frequencies: Frequencies::Geometric, interleaving: Interleaving::ByFrequency, centre: Centre::Floor };

    /// The voxels at the tokens' centres, rounded down, as relative positions.
    pub(super) fn relative(self, config: &TubeVitConfig) -> Result<RelativePositions> {
        let centres: Vec<[i32; 3]> = config
            .tubes
            .iter()
            .flat_map(|tube| {
                let [nt, nh, nw] = tube.grid(config.video());
                let index = move |i: usize| [i / (nh * nw), i / nw % nh, i % nw];
                (0..nt * nh * nw).map(index).map(|index| std::array::from_fn(|axis| self.centre(tube, axis, index[axis]) as i32))
            })
            .collect();
        RelativePositions::new(&centres, config.class_token)
    }

    /// `[1, 1, tokens, C]`; a class token's row is 0, and so are the channels left over by 6, and everything where nothing is computed.
    pub(super) fn table(self, config: &TubeVitConfig, params: &Params<'_>, tubes: &[Tube], video: [usize; 3]) -> Result<Tensor> {
        let width = config.width;
        let mut rows = vec![0f32; if config.class_token { width } else { 0 }];
        for tube in tubes {
            let [nt, nh, nw] = tube.grid(video);
            for index in (0..nt * nh * nw).map(|i| [i / (nh * nw), i / nw % nh, i % nw]) {
                let [t, h, w]: [f64; 3] = std::array::from_fn(|axis| self.centre(tube, axis, index[axis]));
                rows.extend(self.row([t, w, h], width));
            }
        }
        Tensor::from_f32(params.device(), params.dtype(), &[1, 1, rows.len() / width.max(1), width], &rows)
    }

    /// The coordinate of token `index` along `axis`, in voxels. Of space-to-depth tokens the whole group counts.
    fn centre(self, tube: &Tube, axis: usize, index: usize) -> f64 {
        let size = tube.extent()[axis];
        let start = (index * tube.stride[axis] + tube.offset[axis]) as f64;
        match self {
            Position::Fixed { centre: Centre::Exact, .. } => start + size as f64 / 2.0,
            Position::Fixed { centre: Centre::Middle, .. } => start + (size as f64 - 1.0) / 2.0,
            Position::Fixed { centre: Centre::Index, .. } => index as f64,
            _ => start + (size / 2) as f64,
        }
    }

    /// The channels of coordinates `[t, x, y]`.
    fn row(self, coordinates: [f64; 3], width: usize) -> Vec<f32> {
        let groups = width / 6;
        let Position::Fixed { frequencies, interleaving, .. } = self else { return vec![0.0; width] };
        let mut row = vec![0f32; width];
        for j in 0..groups {
            let exponent = if frequencies == Frequencies::Geometric { j as f64 / groups as f64 } else { j as f64 };
            let omega = 10_000f64.powf(-exponent);
            for (axis, coordinate) in coordinates.iter().enumerate() {
                let (sin, cos) = (coordinate * omega).sin_cos();
                let (at_sin, at_cos) = match interleaving {
                    Interleaving::ByFrequency => (6 * j + 2 * axis, 6 * j + 2 * axis + 1),
                    Interleaving::ByAxis => (2 * axis * groups + j, (2 * axis + 1) * groups + j),
                };
                (row[at_sin], row[at_cos]) = (sin as f32, cos as f32);
            }
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equation_7_by_hand() {
        let row = Position::DEFAULT.row([4.0, 2.0, 1.0], 14);
        // Two frequencies, 1 and 1/100; two channels are left over.
        let expected = [4f64, 2.0, 1.0].map(|c| [c.sin(), c.cos()]).concat();
        let slow = [4f64, 2.0, 1.0].map(|c| [(c / 100.0).sin(), (c / 100.0).cos()]).concat();
        for (got, want) in row.iter().zip(expected.iter().chain(&slow).chain(&[0.0, 0.0])) {
            assert!((f64::from(*got) - want).abs() < 1e-7);
        }
        let tube = Tube { kernel: [8, 8, 8], stride: [16, 32, 32], offset: [0, 4, 8], space_to_depth: [2, 1, 1] };
        assert_eq!(Position::DEFAULT.centre(&tube, 0, 1), 16.0 + 8.0, "a group of two kernels of 8 at stride 8 spans 16");
        assert_eq!(Position::DEFAULT.centre(&tube, 2, 2), 64.0 + 8.0 + 4.0);
        let Position::Fixed { frequencies, interleaving, .. } = Position::DEFAULT else {
            unreachable!("the default is computed")
        };
        assert_eq!(Position::Fixed { frequencies, interleaving, centre: Centre::Index }.centre(&tube, 2, 2), 2.0);
    }
}
