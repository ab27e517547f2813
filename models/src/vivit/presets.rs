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
        // Up to 48 in SFA's first stage (figure 3), from 32 in its second.
        for frames in [8, 16, 32, 48, 64, 80, 96, 128] {
            let Some(config) = factorised(size, temporal, frames) else { continue };
            let suffix = if frames == 32 { String::new() } else { format!("-{frames}") };
            let about = format!("factorised encoder, 16x2, {frames} frames, {temporal} temporal layers");
            push(format!("vivit-{size}-fe{suffix}"), &about, config.clone());
            let adapter = Some(Adapter { hidden: config.width, residual: true });
            let about = format!("with the adapter of SFA, {frames} frames");
            push(format!("sfa-vivit-{size}-{frames}"), &about, VivitConfig { adapter, ..config });
        }
    }
    if let Some(base) = factorised("b", 4, 32) {
        let average = VivitConfig { temporal: Temporal::Average, ..base.clone() };
        push("vivit-b-average".into(), "mean over time instead of a temporal encoder", average);
        let factorised =
            VivitConfig { temporal: Temporal::Factorised { space_first: false }, class_token: false, ..base.clone() };
        push("vivit-b-factorised".into(), "factorised self-attention (model 3)", factorised);
        let dot_product = VivitConfig { temporal: Temporal::DotProduct, class_token: false, ..base.clone() };
        push("vivit-b-dot-product".into(), "factorised dot-product attention (model 4)", dot_product);
        push("vivit-b-joint".into(), "joint attention (model 1), 16x2, 32 frames", joint(base.clone()));
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
        for crop in [224, 288, 320] {
            let suffix = if crop == 224 { String::new() } else { format!("-{crop}") };
            let about = format!("joint attention (model 1), 16x2, 32 frames of {crop} pixels");
            push(format!("vivit-l-joint{suffix}"), &about, joint(cropped(&l, crop)));
        }
        push("vivit-l-fe-4".into(), "factorised encoder with 4 temporal layers", l.clone());
        let ssv2 = VivitConfig { classes: 174, ..cropped(&l, 256) };
        push("vivit-l-fe-ssv2".into(), "Something-Something V2: 4 temporal layers, 256 pixels", ssv2);
        // 300 nouns and 97 verbs, predicted by one layer.
        push("vivit-l-fe-epic".into(), "Epic Kitchens: 4 temporal layers", VivitConfig { classes: 397, ..l });
    }
    if let Some(h) = factorised("h", 4, 32) {
        let h = VivitConfig { tubelet: [2, 14, 14], ..h };
        push("vivit-h14-fe".into(), "factorised encoder, 14x2, 32 frames, 4 temporal layers", h.clone());
        push("vivit-h14-joint".into(), "joint attention (model 1), 14x2, 32 frames", joint(h));
    }
    all
}

fn joint(config: VivitConfig) -> VivitConfig {
    VivitConfig { temporal: Temporal::Joint, ..config }
}

fn cropped(config: &VivitConfig, crop: usize) -> VivitConfig {
    let input = Input { size: [crop, crop], ..config.input.clone() };
    VivitConfig { input, ..config.clone() }
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
