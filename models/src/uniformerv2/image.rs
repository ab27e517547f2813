//! Starting from CLIP's image model (paper, section 4.1; the official code).

use tubelet_engine::{Result, Tensor, ops::concat::concat};

use crate::{
    params::{Naming, Reader},
    vit::CLIP,
};

/// CLIP's visual tower, in a file of its own or of the whole of CLIP. Local and global blocks start as nothing: their last projections are
/// zero, so that the first prediction rests on the mean of the frames' class tokens alone.
struct FromClip;

impl FromClip {
    /// The last projection of a branch that is added to something.
    fn is_zero(name: &str) -> bool {
        let ends = |parts: &[&str]| {
            parts.iter().any(|part| name.ends_with(&format!("{part}.weight")) || name.ends_with(&format!("{part}.bias")))
        };
        (name.contains(".local") && ends(&["expand"])) || (name.starts_with("global.") && ends(&["attn.proj", "mlp.fc2"]))
    }
}

impl Naming for FromClip {
    fn name(&self) -> &'static str {
        "clip-image"
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        if FromClip::is_zero(name) {
            return file.zeros(shape).map(Some);
        }
        match *shape {
            [o, frames, h, w, c] if name == "patch_embed.proj.weight" => {
                let image = CLIP.translate(name, &[o, 1, h, w, c], file)?;
                image.map(|image| central_frame(&image, frames, file)).transpose()
            }
            _ => CLIP.translate(name, shape, file),
        }
    }

    /// The text model and what follows the visual one's last block.
    fn ignores(&self, _: &str) -> bool {
        true
    }

    fn draws(&self, name: &str) -> bool {
        let added = [".local", "global", "balance", "fusion", "head."];
        added.iter().any(|part| name.contains(part)) && !FromClip::is_zero(name)
    }
}

/// A kernel of `frames` frames that is `image [O, 1, kh, kw, C]` in the middle and 0 elsewhere.
fn central_frame(image: &Tensor, frames: usize, file: &Reader<'_>) -> Result<Tensor> {
    let s = image.shape();
    let zeros = |frames: usize| file.zeros(&[s[0], frames, s[2], s[3], s[4]]);
    let before = frames / 2;
    concat(&[&zeros(before)?, image, &zeros(frames.saturating_sub(before + 1))?], 1)
}

/// The image models that a UniFormerV2 starts from.
pub fn image_namings() -> Vec<Box<dyn Naming>> {
    vec![Box::new(FromClip)]
}
