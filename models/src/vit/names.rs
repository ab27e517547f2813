//! Names of timm, CLIP and torchvision, and their configurations.

use serde_json::Value;
use tubelet_engine::{Result, Tensor, ops::concat::concat};

use super::{Readout, VitConfig};
use crate::{
    model::{Activation, Input},
    official::Fields,
    params::{Naming, Reader, Rename, WithNorm},
    vidtr,
};

/// timm's names, which are ours.
pub const TIMM: Rename = Rename { name: "timm", prefixes: &["", "model."], rules: &[], qkv: &[], ignored: &[] };

/// DeiT III's own names; timm has it under its names.
pub const DEIT3: Rename = Rename {
    name: "deit3",
    prefixes: &["", "model."],
    rules: &[("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2")],
    qkv: &[],
    ignored: &[],
};

/// BEiT's own names and timm's of it: queries and values have a bias apart, keys have none.
pub struct Beit;

impl Beit {
    const RENAME: Rename =
        Rename { name: "beit", ignored: &["relative_position_index", "mask_token", "lm_head", "k_bias"], ..DEIT3 };
}

impl Naming for Beit {
    fn name(&self) -> &'static str {
        Beit::RENAME.name
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        let mut find = |name: &str, shape: &[usize]| Beit::RENAME.translate(name, shape, file);
        if let (Some(layer), &[rows]) = (name.strip_suffix("qkv.bias"), shape) {
            let parts = [find(&format!("{layer}q_bias"), &[rows / 3])?, find(&format!("{layer}v_bias"), &[rows / 3])?];
            let [Some(q), Some(v)] = parts else { return find(name, shape) };
            return concat(&[&q, &Tensor::zeros(q.device(), q.dtype(), &[rows / 3])?, &v], 0).map(Some);
        }
        let found = find(name, shape)?;
        // Before fine-tuning all layers have one table in common.
        match (found, name.rsplit_once('.')) {
            (None, Some((_, "relative_position_bias_table"))) => find("rel_pos_bias.relative_position_bias_table", shape),
            (found, _) => Ok(found),
        }
    }

    fn ignores(&self, file_name: &str) -> bool {
        Beit::RENAME.ignores(file_name)
    }
}

/// OpenAI's names of CLIP's visual tower.
pub const CLIP: Rename = Rename {
    name: "clip",
    prefixes: &["visual.", ""],
    rules: &[
        ("patch_embed.proj", "conv1"),
        ("cls_token", "class_embedding"),
        ("pos_embed", "positional_embedding"),
        ("norm_pre", "ln_pre"),
        ("blocks.", "transformer.resblocks."),
        (".norm1", ".ln_1"),
        (".norm2", ".ln_2"),
        ("attn.qkv.weight", "attn.in_proj_weight"),
        ("attn.qkv.bias", "attn.in_proj_bias"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ],
    qkv: &[],
    ignored: &[],
};

/// torchvision's names; older files say `linear_1` for `0` and `linear_2` for `3`.
pub const TORCHVISION: Rename = Rename {
    name: "torchvision",
    prefixes: &[""],
    rules: &[
        ("patch_embed.proj", "conv_proj"),
        ("cls_token", "class_token"),
        ("pos_embed", "encoder.pos_embedding"),
        ("blocks.", "encoder.layers.encoder_layer_"),
        (".norm1", ".ln_1"),
        (".norm2", ".ln_2"),
        ("attn.qkv.weight", "self_attention.in_proj_weight"),
        ("attn.qkv.bias", "self_attention.in_proj_bias"),
        ("attn.proj", "self_attention.out_proj"),
        ("mlp.fc1", "mlp.0"),
        ("mlp.fc2", "mlp.3"),
        ("head.", "heads.head."),
    ],
    qkv: &[],
    ignored: &[],
};

/// The namings of released checkpoints.
pub fn namings() -> Vec<Box<dyn Naming>> {
    vec![
        Box::new(TIMM),
        Box::new(DEIT3),
        Box::new(Beit),
        Box::new(WithNorm { rename: CLIP, norm: "ln_post", projection: Some("proj") }),
        Box::new(WithNorm { rename: TORCHVISION, norm: "encoder.ln", projection: None }),
        // The image model that VidTr's release starts from.
        Box::new(vidtr::naming("vit-inflate")),
    ]
}

/// The configuration that timm's or CLIP's arguments mean; `None` for another system.
pub fn from_official(system: &str, config: &Value, input: &[usize]) -> Result<Option<VitConfig>> {
    let f = Fields::new(system, config);
    match system {
        "ViT image backbone" => timm(&f).map(Some),
        "CLIP visual transformer" => clip(&f, input).map(Some),
        _ => Ok(None),
    }
}

fn timm(f: &Fields<'_>) -> Result<VitConfig> {
    let (width, average) = (f.usize("embed_dim")?, f.text("global_pool") == Some("avg"));
    let readout = match (average, f.bool_or("fc_norm", average)) {
        (false, _) => Readout::Token,
        (true, false) => Readout::Average,
        (true, true) => Readout::AverageThenNorm,
    };
    Ok(VitConfig {
        input: Input::new(1, f.pair("img_size")?, Input::IMAGENET),
        patch: f.usize("patch_size")?,
        width,
        layers: f.usize("depth")?,
        heads: f.usize("num_heads")?,
        hidden: (width as f64 * f.f64_or("mlp_ratio", 4.0)) as usize,
        activation: Activation::GeluErf,
        eps: 1e-6,
        class_token: f.bool_or("class_token", true),
        patch_bias: true,
        qkv_bias: f.bool_or("qkv_bias", true),
        pre_norm: f.bool_or("pre_norm", false),
        class_position: !f.bool_or("no_embed_class", false),
        layer_scale: f.get("init_values").is_some(),
        absolute_positions: f.bool_or("use_abs_pos_emb", true),
        relative_positions: f.bool_or("use_rel_pos_bias", false) || f.bool_or("use_shared_rel_pos_bias", false),
        readout,
        head_bias: true,
        classes: f.usize("num_classes")?,
    })
}

fn clip(f: &Fields<'_>, _: &[usize]) -> Result<VitConfig> {
    let width = f.usize("width")?;
    Ok(VitConfig {
        input: Input::new(1, f.pair("input_resolution")?, Input::CLIP),
        patch: f.usize("patch_size")?,
        width,
        layers: f.usize("layers")?,
        heads: f.usize("heads")?,
        hidden: 4 * width,
        activation: Activation::GeluQuick,
        eps: 1e-5,
        class_token: true,
        patch_bias: false,
        qkv_bias: true,
        pre_norm: true,
        class_position: true,
        layer_scale: false,
        absolute_positions: true,
        relative_positions: false,
        readout: Readout::Token,
        head_bias: false,
        classes: f.usize("output_dim")?,
    })
}
