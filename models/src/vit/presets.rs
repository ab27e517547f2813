//! The sizes of the papers.

use super::{Readout, VitConfig};
use crate::model::{Activation, Input};

/// `(layers, width, hidden, heads)` of a size: Ti, B, L, H, g.
pub fn size(name: &str) -> Option<[usize; 4]> {
    match name {
        "ti" => Some([12, 192, 768, 3]),
        "b" => Some([12, 768, 3072, 12]),
        "l" => Some([24, 1024, 4096, 16]),
        "h" => Some([32, 1280, 5120, 16]),
        "g" => Some([40, 1408, 6144, 16]),
        _ => None,
    }
}

/// `(name, about, configuration)`.
pub fn presets() -> Vec<(String, String, VitConfig)> {
    let mut all = Vec::new();
    for (name, patch) in [("ti", 16), ("b", 16), ("l", 16), ("l", 14), ("h", 14), ("g", 14)] {
        let Some([layers, width, hidden, heads]) = size(name) else { continue };
        let config = VitConfig {
            input: Input::new(1, [224, 224], Input::SYMMETRIC),
            patch,
            width,
            layers,
            heads,
            hidden,
            activation: Activation::GeluErf,
            eps: 1e-6,
            class_token: true,
            patch_bias: true,
            qkv_bias: true,
            pre_norm: false,
            class_position: true,
            layer_scale: false,
            absolute_positions: true,
            relative_positions: false,
            readout: Readout::Token,
            head_bias: true,
            classes: 1000,
        };
        all.push((format!("vit-{name}{patch}"), format!("image ViT, patches of {patch}, ImageNet head"), config.clone()));
        if let (16, "b" | "l") | (14, "h") = (patch, name) {
            let deit3 = VitConfig {
                input: Input::new(1, [224, 224], Input::IMAGENET),
                class_position: false,
                layer_scale: true,
                ..config.clone()
            };
            all.push((format!("deit3-{name}{patch}"), format!("DeiT III, patches of {patch}"), deit3));
        }
        if let (16, "b" | "l") = (patch, name) {
            let beit = VitConfig {
                input: Input::new(1, [224, 224], Input::SYMMETRIC),
                layer_scale: true,
                absolute_positions: false,
                relative_positions: true,
                readout: Readout::AverageThenNorm,
                ..config.clone()
            };
            all.push((format!("beit-{name}{patch}"), format!("BEiT, patches of {patch}"), beit));
        }
        // The towers that CLIP was released with, and the widths of their embeddings.
        if let Some((_, _, embedding)) = [("b", 16, 512), ("l", 14, 768)].into_iter().find(|(n, p, _)| (*n, *p) == (name, patch))
        {
            let clip = VitConfig {
                input: Input::new(1, [224, 224], Input::CLIP),
                activation: Activation::GeluQuick,
                eps: 1e-5,
                patch_bias: false,
                pre_norm: true,
                head_bias: false,
                classes: embedding,
                ..config
            };
            let timm = VitConfig { head_bias: true, ..clip.clone() };
            all.push((format!("clip-{name}{patch}"), "CLIP's visual tower".into(), clip.clone()));
            all.push((format!("clip-{name}{patch}-timm"), "the same in timm's form, whose head has a bias".into(), timm));
            if patch == 14 {
                let large = VitConfig { input: Input::new(1, [336, 336], Input::CLIP), ..clip };
                all.push((format!("clip-{name}{patch}-336"), "CLIP's visual tower at 336 pixels".into(), large));
            }
        }
    }
    all
}
