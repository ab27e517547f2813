//! Names of scenic, Hugging Face and TAdaConv, and their configurations.

use serde_json::Value;
use tubelet_engine::{Error, Result, Tensor, ops::concat::concat};

use super::{Encoder, Temporal, VivitConfig};
use crate::{
    model::{Activation, Input},
    official::Fields,
    params::{Naming, Reader, Rename},
};

/// transformers 4, as on the hub.
const HUB: Rename = Rename {
    name: "huggingface",
    prefixes: &["vivit.", ""],
    rules: &[
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("spatial.cls_token", "embeddings.cls_token"),
        ("spatial.pos_embed", "embeddings.position_embeddings"),
        ("spatial.norm", "layernorm"),
        ("spatial.blocks.", "encoder.layer."),
        (".norm1", ".layernorm_before"),
        (".norm2", ".layernorm_after"),
        ("attn.proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
        ("head.", "classifier."),
    ],
    qkv: &["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    ignored: &[],
};

/// transformers 5.
const HUB5: Rename = Rename {
    name: "huggingface-5",
    prefixes: &["vivit.", ""],
    rules: &[
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("spatial.cls_token", "embeddings.cls_token"),
        ("spatial.pos_embed", "embeddings.position_embeddings"),
        ("spatial.norm", "layernorm"),
        ("spatial.blocks.", "layers."),
        (".norm1", ".layernorm_before"),
        (".norm2", ".layernorm_after"),
        ("attn.proj", "attention.o_proj"),
        ("head.", "classifier."),
    ],
    qkv: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    ignored: &[],
};

/// TAdaConv's PyTorch port of the factorised encoder.
const TADACONV: Rename = Rename {
    name: "tadaconv",
    prefixes: &["backbone.", ""],
    rules: &[
        ("patch_embed.proj", "stem.conv1"),
        ("spatial.cls_token", "cls_token"),
        ("temporal.cls_token", "cls_token_out"),
        ("spatial.pos_embed", "pos_embd"),
        ("temporal.pos_embed", "temp_embd"),
        ("spatial.norm", "norm"),
        ("temporal.norm", "norm_out"),
        ("spatial.blocks.", "layers."),
        ("temporal.blocks.", "layers_temporal."),
        (".norm1", ".norm"),
        (".norm2", ".norm_ffn"),
        ("attn.qkv", "attn.to_qkv"),
        ("mlp.fc1", "ffn.net.0"),
        ("mlp.fc2", "ffn.net.3"),
        ("head.", "head.linear."),
    ],
    qkv: &[],
    ignored: &[],
};

/// scenic's Flax tree, paths joined by `/`: kernels are `[inputs, outputs]`, attention has heads apart.
struct Scenic;

impl Scenic {
    /// The path of our `name`, but for the last part.
    fn path(name: &str) -> String {
        const RULES: [(&str, &str); 21] = [
            ("patch_embed.proj", "embedding"),
            ("spatial.cls_token", "cls_SpatialTransformer"),
            ("temporal.cls_token", "cls_TemporalTransformer"),
            ("pos_embed", "posembed_input/pos_embedding"),
            (".blocks.", "/encoderblock_"),
            ("spatial.norm", "spatial/encoder_norm"),
            ("temporal.norm", "temporal/encoder_norm"),
            (".norm_time", "/LayerNorm_time"),
            (".norm_space", "/LayerNorm_space"),
            (".time.", ".attn_time."),
            (".space.", ".attn_space."),
            (".norm1", "/LayerNorm_0"),
            (".norm2", "/LayerNorm_1"),
            (".attn_time", "/MultiHeadDotProductAttention_time"),
            (".attn_space", "/MultiHeadDotProductAttention_space"),
            (".attn", "/MultiHeadDotProductAttention_0"),
            (".mlp.fc1", "/MlpBlock_0/Dense_0"),
            (".mlp.fc2", "/MlpBlock_0/Dense_1"),
            ("head", "output_projection"),
            (".proj", "/out"),
            (".", "/"),
        ];
        let path = RULES.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
        path.replace("spatial/", "SpatialTransformer/").replace("temporal/", "TemporalTransformer/")
    }

    /// The file's tensor at `path`; the models with one transformer call it and some of its parts otherwise.
    fn find(path: &str, file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        let single = path.replace("SpatialTransformer/", "Transformer/").replace("cls_SpatialTransformer", "cls");
        let factorised = single.replace("LayerNorm_1", "LayerNorm_mlp").replace("MlpBlock_0", "MlpBlock");
        for candidate in [path, &single, &factorised] {
            for prefix in ["", "optimizer/target/", "params/"] {
                if let Some(tensor) = file.get(&format!("{prefix}{candidate}"))? {
                    return Ok(Some(tensor));
                }
            }
        }
        Ok(None)
    }
}

impl Naming for Scenic {
    fn name(&self) -> &'static str {
        "scenic"
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        let path = Scenic::path(name);
        let Some((path, part)) = path.rsplit_once('/') else {
            return Scenic::find(&path, file)?.map(|x| x.contiguous()?.reshape(shape)).transpose();
        };
        if path.contains("Norm") || path.contains("norm") {
            return Scenic::find(&format!("{path}/{}", if part == "weight" { "scale" } else { part }), file);
        }
        let part = if part == "weight" { "kernel" } else { part };
        if let Some(path) = path.strip_suffix("/qkv") {
            let mut each = Vec::new();
            for which in ["query", "key", "value"] {
                let Some(x) = Scenic::find(&format!("{path}/{which}/{part}"), file)? else { return Ok(None) };
                each.push(matrix(part, &x, shape)?);
            }
            return concat(&each.iter().collect::<Vec<_>>(), 0).map(Some);
        }
        let Some(x) = Scenic::find(&format!("{path}/{part}"), file)? else { return Ok(None) };
        if x.rank() == 5 && part == "kernel" {
            // [t, h, w, in, out]
            return x.permute(&[4, 0, 1, 2, 3]).map(Some);
        }
        matrix(part, &x, shape).map(Some)
    }
}

/// A kernel `[inputs.., outputs..]` as `[outputs, inputs]`; anything else in the shape wanted, or left for the error message.
fn matrix(part: &str, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let x = x.contiguous()?;
    if part != "kernel" {
        let flat: usize = x.elements();
        return if shape.len() == 1 {
            x.reshape(&[flat])
        } else if flat == shape.iter().product::<usize>() {
            x.reshape(shape)
        } else {
            Ok(x)
        };
    }
    let (&[_, inputs], total) = (shape, x.elements()) else { return Ok(x) };
    if inputs == 0 || total % inputs != 0 {
        return Ok(x);
    }
    x.reshape(&[inputs, total / inputs])?.transpose()
}

/// The namings of released checkpoints.
pub fn namings() -> Vec<Box<dyn Naming>> {
    vec![Box::new(Scenic), Box::new(HUB), Box::new(HUB5), Box::new(TADACONV)]
}

/// The configuration that scenic's or Hugging Face's fields mean for an input; `None` for another system.
pub fn from_official(system: &str, config: &Value, input: &[usize]) -> Result<Option<VivitConfig>> {
    let f = Fields::new(system, config);
    match system {
        "ViViT (joint space-time)" => huggingface(&f).map(Some),
        _ if system.starts_with("ViViT") => scenic(system, &f, input).map(Some),
        _ => Ok(None),
    }
}

fn huggingface(f: &Fields<'_>) -> Result<VivitConfig> {
    let activation = match f.text("hidden_act") {
        None | Some("gelu_fast" | "gelu_new" | "gelu_pytorch_tanh") => Activation::GeluTanh,
        Some("gelu") => Activation::GeluErf,
        Some("quick_gelu") => Activation::GeluQuick,
        Some("relu") => Activation::Relu,
        Some(other) => return Err(Error::invalid("hidden_act", format!("{other:?} is not known"))),
    };
    Ok(VivitConfig {
        input: Input::new(f.usize("num_frames")?, f.pair("image_size")?, Input::SYMMETRIC),
        tubelet: f.array("tubelet_size")?,
        width: f.usize("hidden_size")?,
        spatial: Encoder {
            layers: f.usize("num_hidden_layers")?,
            heads: f.usize("num_attention_heads")?,
            hidden: f.usize("intermediate_size")?,
        },
        temporal: Temporal::Joint,
        class_token: true,
        activation,
        qkv_bias: f.bool_or("qkv_bias", true),
        eps: f.f32_or("layer_norm_eps", 1e-6),
        adapter: None,
        representation: None,
        classes: f.usize_or("num_labels", f.get("id2label").and_then(Value::as_object).map_or(2, serde_json::Map::len)),
    })
}

fn scenic(system: &str, f: &Fields<'_>, input: &[usize]) -> Result<VivitConfig> {
    let &[_, frames, height, width, _] = input else {
        return Err(Error::invalid(system, format!("input {input:?}, expected [N, T, H, W, 3]")));
    };
    let [ph, pw, pt] = f.array("patch_size_hwt")?;
    let encoder = |prefix: &str| -> Result<Encoder> {
        Ok(Encoder {
            layers: f.usize(&format!("{prefix}num_layers"))?,
            heads: f.usize(&format!("{prefix}num_heads"))?,
            hidden: f.usize(&format!("{prefix}mlp_dim"))?,
        })
    };
    let kind = f.inner("attention_config").text("type").unwrap_or("spacetime");
    let (spatial, temporal) = match kind {
        "factorized_encoder" => {
            let Encoder { layers, heads, hidden } = encoder("temporal_")?;
            (encoder("spatial_")?, Temporal::Encoder { layers, heads, hidden })
        }
        "factorized_self_attention_block" => {
            // scenic's own default is space first.
            let space_first = match f.inner("attention_config").text("attention_order") {
                Some("time_space") => false,
                None | Some("space_time") => true,
                Some(other) => return Err(Error::invalid(system, format!("attention_order {other:?} is not known"))),
            };
            (encoder("")?, Temporal::Factorised { space_first })
        }
        "factorized_dot_product_attention" => (encoder("")?, Temporal::DotProduct),
        "spacetime" => (encoder("")?, Temporal::Joint),
        other => return Err(Error::invalid(system, format!("attention type {other:?} is not known"))),
    };
    let class_token = match f.text("classifier") {
        Some("token") => true,
        Some("gap") => false,
        other => return Err(Error::invalid(system, format!("classifier {other:?}, expected \"token\" or \"gap\""))),
    };
    Ok(VivitConfig {
        input: Input::new(frames, [height, width], Input::SYMMETRIC),
        tubelet: [pt, ph, pw],
        width: f.usize("hidden_size")?,
        spatial,
        temporal,
        class_token,
        activation: Activation::GeluTanh,
        qkv_bias: true,
        eps: 1e-6,
        adapter: None,
        representation: f.usize("representation_size").ok(),
        classes: f.usize("num_classes")?,
    })
}
