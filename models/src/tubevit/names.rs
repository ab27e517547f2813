//! Names of the third-party implementation (there is no official one), and its configuration.

use serde_json::Value;
use tubelet_engine::{Error, Result};

use super::{Kernels, Position, Tube, TubeVitConfig};
use crate::{
    model::{Activation, Dataset, Input},
    official::Fields,
    params::{Naming, Rename, WithNorm},
};

const THIRD_PARTY: Rename = Rename {
    name: "tubevit-thirdparty",
    prefixes: &["", "model."],
    rules: &[
        ("tubes.weight", "sparse_tubes_tokenizer.conv_proj_weight"),
        ("tubes.bias", "sparse_tubes_tokenizer.conv_proj_bias"),
        ("cls_token", "class_token"),
        ("pos_embed", "pos_embedding"),
        ("blocks.", "encoder.layers.encoder_layer_"),
        (".norm1", ".ln_1"),
        (".norm2", ".ln_2"),
        ("attn.qkv.weight", "self_attention.in_proj_weight"),
        ("attn.qkv.bias", "self_attention.in_proj_bias"),
        ("attn.proj", "self_attention.out_proj"),
        ("mlp.fc1", "mlp.0"),
        ("mlp.fc2", "mlp.3"),
        ("pooling.", "attention_pooling.W."),
        ("pre_logits.", "heads.pre_logits."),
        ("head.", "heads.head."),
    ],
    qkv: &[],
    ignored: &[],
};

/// The namings of known checkpoints.
pub fn namings() -> Vec<Box<dyn Naming>> {
    vec![Box::new(WithNorm { rename: THIRD_PARTY, norm: "encoder.ln", projection: None })]
}

/// The configuration that the third-party class's arguments mean; `None` for another system.
pub fn from_official(system: &str, config: &Value, _: &[usize]) -> Result<Option<TubeVitConfig>> {
    if !system.starts_with("TubeViT") {
        return Ok(None);
    }
    let f = Fields::new(system, config);
    let triples = |name: &str| -> Result<Vec<[usize; 3]>> {
        let parsed = f.get(name).map(|value| serde_json::from_value(value.clone()));
        parsed
            .and_then(std::result::Result::ok)
            .ok_or_else(|| Error::invalid(system, format!("{name:?} is not a list of triples")))
    };
    let [_, frames, height, width] = f.array("video_shape")?;
    let kernels = triples("kernel_sizes")?;
    let size = *kernels.first().ok_or_else(|| Error::invalid(system, "no tubes"))?;
    let rest = triples("strides")?.into_iter().zip(triples("offsets")?);
    let tube = |(kernel, (stride, offset))| Tube { kernel, stride, offset, space_to_depth: [1; 3] };
    Ok(Some(TubeVitConfig {
        input: Input::new(frames, [height, width], Input::SYMMETRIC),
        tubes: kernels.into_iter().zip(rest).map(tube).collect(),
        kernels: Kernels::Interpolated { size },
        position: Position::Stored,
        width: f.usize("hidden_dim")?,
        layers: f.usize("num_layers")?,
        heads: f.usize("num_heads")?,
        hidden: f.usize("mlp_dim")?,
        activation: Activation::GeluErf,
        eps: f.f32_or("layer_norm_eps", 1e-6),
        class_token: true,
        representation: f.usize("representation_size").ok(),
        late: None,
        added_attention: Vec::new(),
        datasets: vec![Dataset { name: "main".into(), classes: f.usize("num_classes")? }],
    }))
}
