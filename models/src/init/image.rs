//! The image model in a video model.

use tubelet_engine::{Error, Result};

use crate::{
    model::{Activation, Input},
    registry::Config,
    uniformerv2::Backbone,
    vidtr::Stem,
    vit::{Readout, VitConfig},
};

/// The image model whose layers `target` has.
///
/// # Errors
/// [`Error::Invalid`] for an image model, and where patches are not square, or no tube is one.
pub fn image_model(target: &Config) -> Result<VitConfig> {
    match target {
        Config::Vit(_) => Err(Error::invalid("initialisation", "an image model starts from no other")),
        Config::TubeVit(c) => {
            let patch = c.tubes.iter().find(|tube| tube.kernel[0] == 1 && tube.space_to_depth == [1; 3]);
            let patch = patch.ok_or_else(|| Error::invalid("initialisation", "no tube is an image patch"))?;
            plain(&c.input, patch.kernel, [c.layers, c.width, c.heads, c.hidden], like_vit(c.activation, c.eps), true)
        }
        Config::Vivit(c) => {
            let size = [c.spatial.layers, c.width, c.spatial.heads, c.spatial.hidden];
            plain(&c.input, c.tubelet, size, like_vit(c.activation, c.eps), c.qkv_bias)
        }
        Config::VidTr(c) if c.stem == Stem::TokensToToken => {
            Err(Error::invalid("initialisation", "no image model here has tokens to token"))
        }
        Config::VidTr(c) => plain(&c.input, c.patch, [c.layers, c.width, c.heads, c.hidden], like_vit(c.activation, c.eps), true),
        Config::UniformerV2(c) => {
            plain(&c.input, [1, c.patch, c.patch], [c.layers, c.width, c.heads, 4 * c.width], c.backbone, true)
        }
    }
}

fn like_vit(activation: Activation, eps: f32) -> Backbone {
    Backbone { activation, eps, ..Backbone::VIT }
}

/// A classifier of single frames; of its head nothing is used.
fn plain(
    input: &Input,
    [_, patch, across]: [usize; 3],
    [layers, width, heads, hidden]: [usize; 4],
    backbone: Backbone,
    qkv_bias: bool,
) -> Result<VitConfig> {
    if patch != across {
        return Err(Error::invalid("initialisation", format!("patches of {patch}×{across} pixels are no image model's")));
    }
    let Backbone { activation, eps, patch_bias, pre_norm, class_position, layer_scale, .. } = backbone;
    Ok(VitConfig {
        input: Input { frames: 1, ..input.clone() },
        patch,
        width,
        layers,
        heads,
        hidden,
        activation,
        eps,
        class_token: true,
        patch_bias,
        qkv_bias,
        pre_norm,
        class_position,
        layer_scale,
        absolute_positions: backbone.absolute_positions,
        relative_positions: backbone.relative_positions,
        readout: Readout::Token,
        head_bias: true,
        classes: 1000,
    })
}
