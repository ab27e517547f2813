//! Official names and configurations.

use serde_json::Value;
use tubelet_engine::Result;

use super::{Backbone, Fusion, LocalKind, UniformerV2Config};
use crate::{
    model::Input,
    official::Fields,
    params::{Naming, Rename},
};

/// OpenGVLab's release.
const OFFICIAL: Rename = Rename {
    name: "uniformerv2",
    prefixes: &["backbone.", ""],
    rules: &[
        ("patch_embed.proj", "conv1"),
        ("cls_token", "class_embedding"),
        ("pos_embed", "positional_embedding"),
        ("norm_pre", "ln_pre"),
        ("global_token", "transformer.temporal_cls_token"),
        ("balance", "transformer.balance"),
        ("head.norm", "transformer.proj.0"),
        ("head.fc", "transformer.proj.2"),
        ("local1.", "lmhra1.pos_embed."),
        ("local2.", "lmhra2.pos_embed."),
        ("pos_embed.norm.mean", "pos_embed.0.running_mean"),
        ("pos_embed.norm.var", "pos_embed.0.running_var"),
        ("pos_embed.norm.", "pos_embed.0."),
        ("pos_embed.reduce.", "pos_embed.1."),
        ("pos_embed.dw.", "pos_embed.2."),
        ("pos_embed.expand.", "pos_embed.3."),
        ("blocks.", "transformer.resblocks."),
        (".norm1", ".ln_1"),
        (".norm2", ".ln_2"),
        (".norm_query", ".ln_1"),
        (".norm_tokens", ".ln_3"),
        ("attn.qkv.weight", "attn.in_proj_weight"),
        ("attn.qkv.bias", "attn.in_proj_bias"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
    ],
    qkv: &[],
    ignored: &[],
};

/// The official naming; `mmaction` moves the head's norm into the transformer and its linear layer into a head of its own.
struct Official {
    mmaction: bool,
}

impl Naming for Official {
    fn name(&self) -> &'static str {
        if self.mmaction { "uniformerv2-mmaction" } else { OFFICIAL.name }
    }

    fn translate(
        &self,
        name: &str,
        shape: &[usize],
        file: &mut crate::params::Reader<'_>,
    ) -> Result<Option<tubelet_engine::Tensor>> {
        // Global blocks are spread over two lists, so their number moves.
        let name = match name.strip_prefix("global.").and_then(|rest| rest.split_once('.')) {
            Some((j, rest)) => match rest.strip_prefix("dpe.dw.") {
                Some(part) => return self.convolution(&format!("transformer.dpe.{j}.{part}"), shape, file),
                None => format!("transformer.dec.{j}.{rest}"),
            },
            None => name.to_owned(),
        };
        let name = match (self.mmaction, name.as_str()) {
            (true, "head.fc.weight") => return direct("cls_head.fc_cls.weight", shape, file),
            (true, "head.fc.bias") => return direct("cls_head.fc_cls.bias", shape, file),
            (true, _) => name.replace("head.norm", "transformer.norm"),
            _ => name,
        };
        OFFICIAL.translate(&name, shape, file)
    }
}

impl Official {
    fn convolution(
        &self,
        name: &str,
        shape: &[usize],
        file: &mut crate::params::Reader<'_>,
    ) -> Result<Option<tubelet_engine::Tensor>> {
        for prefix in OFFICIAL.prefixes {
            if let Some(tensor) = file.get(&format!("{prefix}{name}"))? {
                // The depthwise rule goes by the end of the name.
                return crate::params::channels_last("dw.weight", shape, &tensor).map(Some);
            }
        }
        Ok(None)
    }
}

fn direct(name: &str, shape: &[usize], file: &mut crate::params::Reader<'_>) -> Result<Option<tubelet_engine::Tensor>> {
    file.get(name)?.map(|tensor| crate::params::channels_last(name, shape, &tensor)).transpose()
}

/// The namings of released checkpoints.
pub fn namings() -> Vec<Box<dyn Naming>> {
    vec![Box::new(Official { mmaction: false }), Box::new(Official { mmaction: true })]
}

/// The configuration that the official class's arguments mean; `None` for another system. The shape of the input says nothing new here.
pub fn from_official(system: &str, config: &Value, _: &[usize]) -> Result<Option<UniformerV2Config>> {
    if system != "UniFormerV2" {
        return Ok(None);
    }
    let f = Fields::new(system, config);
    let size = f.usize("input_resolution")?;
    let no_local = f.bool_or("no_lmhra", false);
    let local = match (no_local, f.bool_or("double_lmhra", true)) {
        (true, _) => 0,
        (false, false) => 1,
        (false, true) => 2,
    };
    // The official code asks of each layer whether it is in the list.
    let mut global_layers = f.usizes("return_list")?;
    global_layers.sort_unstable();
    Ok(Some(UniformerV2Config {
        input: Input::new(f.usize("t_size")?, [size, size], Input::UNIFORMER),
        patch: f.usize("patch_size")?,
        width: f.usize("width")?,
        layers: f.usize("layers")?,
        heads: f.usize("heads")?,
        backbone: Backbone::CLIP,
        temporal_downsample: f.bool_or("temporal_downsample", true),
        temporal_kernel: f.usize_or("kernel_size", 3),
        local,
        local_reduction: f.f64_or("dw_reduction", 1.5),
        local_layers: None,
        local_kind: LocalKind::Mhra,
        local_dpe: false,
        global_layers,
        global_heads: f.usize("n_head")?,
        global_mlp: f.f64_or("mlp_factor", 4.0),
        dpe: true,
        queries: 1,
        fusion: Fusion::Sequential,
        frozen: f.bool_or("frozen", false),
        classes: f.usize("num_classes")?,
        also: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn official(change: (&str, Value)) -> UniformerV2Config {
        let mut config = json!({
            "input_resolution": 32, "patch_size": 16, "width": 44, "layers": 2, "heads": 2, "t_size": 8, "temporal_downsample": true,
            "return_list": [1, 0], "n_head": 2, "num_classes": 3,
        });
        config[change.0] = change.1;
        from_official("UniFormerV2", &config, &[]).unwrap().unwrap()
    }

    /// Shapes of the tensors that a configuration asks for, by the numbers that Python computes from it.
    #[test]
    fn widths_are_rounded_as_in_python() {
        // 44 // 1.1 is 39.0 in Python, because the double nearest to 1.1 is larger; 44 / 1.1 rounds to 40.
        assert_eq!(official(("dw_reduction", 1.1.into())).local_width(), 39);
        assert_eq!(official(("dw_reduction", 1.5.into())).local_width(), 29);
        assert_eq!(official(("kernel_size", 5.into())).temporal_kernel, 5);
        assert_eq!(official(("n_layers", 2.into())).global_layers, [0, 1]);
    }
}
