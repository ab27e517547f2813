//! The models of the paper and of the released configurations.

use super::{Mixing, Pool, Pooling, Position, Stem, VidTrConfig};
use crate::model::{Activation, Input};

/// `(name, about, configuration)`.
pub fn presets() -> Vec<(String, String, VidTrConfig)> {
    let [small, medium, large] = [8, 16, 32].map(base);
    let compact = |config: &VidTrConfig, layers: [usize; 3], keep: [usize; 3]| VidTrConfig {
        mixing: Mixing::SeparablePatches,
        position: Position::FirstLayer,
        pools: layers.into_iter().zip(keep).map(|(layer, keep)| Pool { layer, keep }).collect(),
        ..config.clone()
    };
    let c_small = compact(&small, [1, 3, 5], [6, 4, 2]);
    let halves = vec![Pool { layer: 1, keep: 4 }, Pool { layer: 3, keep: 2 }];
    let paper = VidTrConfig { activation: Activation::GeluErf, mixing: Mixing::SeparableApart, eps: 1e-6, ..small.clone() };
    let all = [
        ("vidtr-s", "8 frames, as released", small.clone()),
        ("vidtr-m", "16 frames, as released", medium.clone()),
        ("vidtr-l", "32 frames, as released", large),
        ("c-vidtr-s", "compact, 8 frames to 6, 4, 2 in layers 1, 3, 5, as released", c_small.clone()),
        ("c-vidtr-s-paper", "compact, in layers 1, 2, 4, as in table 1", compact(&small, [1, 2, 4], [6, 4, 2])),
        ("c-vidtr-m", "compact, 16 frames to 8, 4, 2 in layers 1, 2, 4", compact(&medium, [1, 2, 4], [8, 4, 2])),
        ("vidtr-s-paper", "projections for time and space apart and GELU, as equations 5 to 8", paper),
        ("vidtr-s-joint", "the vanilla transformer of section 3.1", VidTrConfig { mixing: Mixing::Joint, ..small.clone() }),
        ("vidtr-s-space", "space alone, table 5b", VidTrConfig { mixing: Mixing::Space, ..small.clone() }),
        (
            "vidtr-s-axial",
            "time, height, width, table 5b; the last layer is joint, so that the class token reads the patches",
            VidTrConfig { mixing: Mixing::Axial, joint_after: Some(10), ..small.clone() },
        ),
        (
            "c-vidtr-s-average",
            "average pooling, table 5d",
            VidTrConfig { pools: halves.clone(), pooling: Pooling::Average, ..c_small.clone() },
        ),
        (
            "c-vidtr-s-convolution",
            "convolution pooling, table 5d",
            VidTrConfig { pools: halves, pooling: Pooling::Convolution, ..c_small },
        ),
        ("vidtr-s-patch-2x16", "patches of 2 frames, table 5a", VidTrConfig { patch: [2, 16, 16], ..small.clone() }),
        ("vidtr-s-patch-4x16", "patches of 4 frames, table 5a", VidTrConfig { patch: [4, 16, 16], ..small.clone() }),
        ("vidtr-s-patch-1x32", "patches of 32 pixels, table 5a", VidTrConfig { patch: [1, 32, 32], ..small.clone() }),
        (
            "vidtr-s-vit-l",
            "the size of ViT-L, table 5c",
            VidTrConfig { width: 1024, layers: 24, heads: 16, hidden: 4096, ..small.clone() },
        ),
        ("vidtr-s-t2t-14", "T2T-ViT-14, table 5c", t2t(&small, 14, 384, 6)),
        ("vidtr-s-t2t-19", "T2T-ViT-19, table 5c", t2t(&small, 19, 448, 7)),
        ("vidtr-s-t2t-24", "T2T-ViT-24, table 5c", t2t(&small, 24, 512, 8)),
        ("vidtr-tiny", "for tests: 32 pixels, 4 frames, 2 layers", tiny(&small)),
    ];
    all.into_iter().map(|(name, about, config)| (name.to_owned(), about.to_owned(), config)).collect()
}

fn base(frames: usize) -> VidTrConfig {
    VidTrConfig {
        input: Input::new(frames, [224, 224], Input::IMAGENET),
        stem: Stem::Patches,
        patch: [1, 16, 16],
        width: 768,
        layers: 12,
        heads: 12,
        hidden: 3072,
        activation: Activation::Relu,
        eps: 1e-5,
        mixing: Mixing::Separable,
        joint_after: None,
        position: if frames == 16 { Position::EveryLayer } else { Position::FirstLayer },
        pools: Vec::new(),
        pooling: Pooling::TopkStd,
        classes: 400,
    }
}

/// On a T2T-ViT, whose MLPs are three times as wide as its tokens (Yuan et al., 2021, table 1). VidTr's paper does not say on which.
fn t2t(base: &VidTrConfig, layers: usize, width: usize, heads: usize) -> VidTrConfig {
    let stem = Stem::TokensToToken;
    VidTrConfig { stem, layers, width, heads, hidden: 3 * width, activation: Activation::GeluErf, ..base.clone() }
}

fn tiny(base: &VidTrConfig) -> VidTrConfig {
    VidTrConfig {
        input: Input::new(4, [32, 32], Input::IMAGENET),
        width: 48,
        layers: 2,
        heads: 3,
        hidden: 96,
        classes: 10,
        ..base.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where patches attend apart, only a joint layer lets the class token read them; without one the logits ignore the video.
    #[test]
    fn every_class_token_reads_the_patches() {
        for (name, _, config) in presets() {
            assert!(!config.merges() || config.mixing_of(config.layers - 1) == Mixing::Joint, "{name}");
        }
    }
}
