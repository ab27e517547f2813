//! Starting from an image model: CLIP (paper, section 4.1; the official code), or one of the others of table 5.

use tubelet_engine::{Result, Tensor, ops::concat::concat};

use crate::{
    params::{Naming, Reader, Rename},
    vit::{CLIP, DEIT3, TIMM},
};

/// An image model under the names that `image` knows, in a file of its own or, with CLIP, of the whole of CLIP. Local and global blocks start as
/// nothing: their last projections are zero, so that the first prediction rests on the mean of the frames' class tokens alone.
struct FromImage {
    name: &'static str,
    image: Rename,
}

impl FromImage {
    /// The last projection of a branch that is added to something.
    fn is_zero(name: &str) -> bool {
        let ends = |parts: &[&str]| {
            parts.iter().any(|part| name.ends_with(&format!("{part}.weight")) || name.ends_with(&format!("{part}.bias")))
        };
        (name.contains(".local") && ends(&["expand", "dpe.dw"]))
            || (name.starts_with("global.") && ends(&["attn.proj", "mlp.fc2"]))
    }
}

impl Naming for FromImage {
    fn name(&self) -> &'static str {
        self.name
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        if FromImage::is_zero(name) {
            return file.zeros(shape).map(Some);
        }
        match *shape {
            [o, frames, h, w, c] if name == "patch_embed.proj.weight" => {
                let image = self.image.translate(name, &[o, 1, h, w, c], file)?;
                image.map(|image| central_frame(&image, frames, file)).transpose()
            }
            _ => self.image.translate(name, shape, file),
        }
    }

    /// The text model and what follows the visual one's last block.
    fn ignores(&self, _: &str) -> bool {
        true
    }

    fn draws(&self, name: &str) -> bool {
        let added = [".local", "global", "balance", "fusion", "head."];
        added.iter().any(|part| name.contains(part)) && !FromImage::is_zero(name)
    }
}

/// A kernel of `frames` frames that is `image [O, 1, kh, kw, C]` in the middle and 0 elsewhere.
fn central_frame(image: &Tensor, frames: usize, file: &Reader<'_>) -> Result<Tensor> {
    let s = image.shape();
    let zeros = |frames: usize| file.zeros(&[s[0], frames, s[2], s[3], s[4]]);
    let before = frames / 2;
    concat(&[&zeros(before)?, image, &zeros(frames.saturating_sub(before + 1))?], 1)
}

/// The image models that a UniFormerV2 starts from. ViT, DINO and MAE are released under timm's names.
pub fn image_namings() -> Vec<Box<dyn Naming>> {
    [("clip-image", CLIP), ("timm-image", TIMM), ("deit3-image", DEIT3)]
        .map(|(name, image)| -> Box<dyn Naming> { Box::new(FromImage { name, image }) })
        .into()
}
