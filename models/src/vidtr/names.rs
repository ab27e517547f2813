//! Official names and configurations.

use serde_json::Value;
use tubelet_engine::{Error, Result};

use super::{Mixing, Pool, Pooling, Position, Stem, VidTrConfig};
use crate::{
    model::{Activation, Input},
    official::Fields,
    params::{Naming, Rename, WithNorm},
};

const OFFICIAL: Rename = Rename {
    name: "vidtr",
    prefixes: &["", "module."],
    rules: &[
        ("patch_embed.proj", "conv_stem"),
        ("cls_space", "cls_s"),
        ("cls_time", "cls_t"),
        ("cls_token", "cls"),
        ("pos_embed", "pos_embedding"),
        ("blocks.", "encoder.layers."),
        ("attn.qkv.weight", "self_attn.in_proj_weight"),
        ("attn.qkv.bias", "self_attn.in_proj_bias"),
        ("attn.proj", "self_attn.out_proj"),
        ("mlp.fc1", "linear1"),
        ("mlp.fc2", "linear2"),
        ("head.", "fc."),
    ],
    qkv: &[],
    ignored: &[],
};

/// The released code's names, for a naming called `name`.
pub fn naming(name: &'static str) -> WithNorm {
    WithNorm { rename: Rename { name, ..OFFICIAL }, norm: "encoder.norm", projection: None }
}

/// The namings of released checkpoints.
pub fn namings() -> Vec<Box<dyn Naming>> {
    vec![Box::new(naming(OFFICIAL.name))]
}

/// The configuration that the official classes' arguments mean for an input `[N, 3, T, H, W]`; `None` for another system.
pub fn from_official(system: &str, config: &Value, input: &[usize]) -> Result<Option<VidTrConfig>> {
    if !system.starts_with("VidTr") {
        return Ok(None);
    }
    let f = Fields::new(system, config);
    let &[_, _, frames, height, width] = input else {
        return Err(Error::invalid(system, format!("input {input:?}, expected [N, 3, T, H, W]")));
    };
    if !f.bool_or("normalize_before", true) {
        return Err(Error::invalid(system, "the released code has no layers that normalise afterwards"));
    }
    // In patches, which may span several frames.
    let time = f.usize("temporal_size")?;
    let pools = match f.get("layer_pool") {
        None => Vec::new(),
        Some(_) => {
            let mut left = time;
            let drops = f.usizes("layer_pool")?.into_iter().zip(f.usizes("number_of_keys")?);
            let pool = |(layer, drop)| {
                left = left.saturating_sub(drop);
                Pool { layer, keep: left }
            };
            drops.map(pool).collect()
        }
    };
    let merge = f.bool_or("merge_later", false);
    let activation = match f.text("activation") {
        None | Some("relu") => Activation::Relu,
        Some("gelu") => Activation::GeluErf,
        Some(other) => return Err(Error::invalid(system, format!("activation {other:?} is neither \"relu\" nor \"gelu\""))),
    };
    Ok(Some(VidTrConfig {
        input: Input::new(frames, [height, width], Input::IMAGENET),
        stem: Stem::Patches,
        patch: f.array("patch_size")?,
        width: f.usize("d_model")?,
        layers: f.usize("num_encoder_layers")?,
        heads: f.usize("nhead")?,
        hidden: f.usize("dim_feedforward")?,
        activation,
        eps: 1e-5,
        mixing: if merge || !pools.is_empty() { Mixing::SeparablePatches } else { Mixing::Separable },
        joint_after: if merge { Some(f.usize("merge_index")?) } else { None },
        // The released dual-token class switches by the number of frames; the compact one does not.
        position: if time == 16 && pools.is_empty() { Position::EveryLayer } else { Position::FirstLayer },
        pools,
        pooling: Pooling::TopkStd,
        classes: f.usize("activity_num")?,
    }))
}
