//! The models of the papers.

use super::{Adapter, Encoder, Temporal, VivitConfig};
use crate::{
    model::{Activation, Input},
    vit,
};

/// `(name, about, configuration)`.
pub fn presets() -> Vec<(String, String, VivitConfig)> {
    let mut all = Vec::new();
    let mut push = |name: String, about: &str, config: VivitConfig| all.push((name, about.to_owned(), config));
    // L_t: 4 for B; as deep as the spatial encoder for L on Kinetics; the papers leave H and g open.
    for (size, temporal) in [("b", 4), ("l", 24), ("h", 4), ("g", 4)] {
        let Some(base) = factorised(size, temporal, 32) else { continue };
        push(
            format!("vivit-{size}-fe"),
            &format!("factorised encoder, 16x2, 32 frames, {temporal} temporal layers"),
            base.clone(),
        );
        let joint = VivitConfig { temporal: Temporal::Joint, ..base.clone() };
        push(format!("vivit-{size}-joint"), "joint attention (model 1), 16x2, 32 frames", joint);
        for frames in [8, 32, 48, 64, 128] {
            let Some(config) = factorised(size, temporal, frames) else { continue };
            let adapter = Some(Adapter { hidden: config.width, residual: true });
            push(
                format!("sfa-vivit-{size}-{frames}"),
                &format!("with the adapter of SFA, {frames} frames"),
                VivitConfig { adapter, ..config },
            );
        }
    }
    if let Some(base) = factorised("b", 4, 32) {
        let average = VivitConfig { temporal: Temporal::Average, ..base.clone() };
        push("vivit-b-average".into(), "mean over time instead of a temporal encoder", average);
        let factorised =
            VivitConfig { temporal: Temporal::Factorised { space_first: false }, class_token: false, ..base.clone() };
        push("vivit-b-factorised".into(), "factorised self-attention (model 3)", factorised);
        let input = Input::new(32, [224, 224], Input::UNIFORMER);
        let tadaconv = VivitConfig { input, activation: Activation::GeluErf, ..base.clone() };
        push(
            "vivit-b-fe-tadaconv".into(),
            "factorised encoder as TAdaConv trained it: exact GELU, other normalisation",
            tadaconv,
        );
        push("vivit-tiny".into(), "for tests: 32 pixels, 4 frames, 2 layers", tiny(&base));
    }
    if let Some(l) = factorised("l", 4, 32) {
        push("vivit-l-fe-4".into(), "factorised encoder with 4 temporal layers (Epic Kitchens, Something-Something)", l.clone());
    }
    if let Some(l) = factorised("l", 24, 128) {
        push("vivit-l-fe-128".into(), "factorised encoder, 128 frames", l);
    }
    all
}

/// The factorised encoder of a size.
pub fn factorised(size: &str, temporal: usize, frames: usize) -> Option<VivitConfig> {
    let [layers, width, hidden, heads] = vit::size(size)?;
    Some(VivitConfig {
        input: Input::new(frames, [224, 224], Input::SYMMETRIC),
        tubelet: [2, 16, 16],
        width,
        spatial: Encoder { layers, heads, hidden },
        temporal: Temporal::Encoder { layers: temporal, heads, hidden },
        class_token: true,
        activation: Activation::GeluTanh,
        qkv_bias: true,
        eps: 1e-6,
        adapter: None,
        representation: None,
        classes: 400,
    })
}

fn tiny(base: &VivitConfig) -> VivitConfig {
    VivitConfig {
        input: Input::new(4, [32, 32], Input::SYMMETRIC),
        width: 48,
        spatial: Encoder { layers: 2, heads: 3, hidden: 96 },
        temporal: Temporal::Encoder { layers: 1, heads: 3, hidden: 96 },
        classes: 10,
        ..base.clone()
    }
}
