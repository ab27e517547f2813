//! Starting from an image model, as the released code does: its positions and class token at every time and place.

use tubelet_engine::{Result, Tensor, ops::concat::concat};

use super::names::Official;
use crate::{
    params::{Naming, Reader},
    vit::TIMM,
};

/// A vision transformer's tensors under the names that `image` knows.
struct Inflate<N> {
    name: &'static str,
    image: N,
}

impl<N: Naming> Naming for Inflate<N> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        if self.draws(name) {
            return Ok(None);
        }
        match (name, shape) {
            ("cls_space" | "cls_time", &[.., c]) => {
                let class = self.image.translate("cls_token", &[1, 1, 1, c], file)?;
                class.map(|class| class.broadcast_to(shape)).transpose()
            }
            // A grid with a row and a column of class tokens: the image's positions, class token first, at every time.
            ("pos_embed", &[1, time, places, c]) if time > 1 => {
                let image = self.image.translate(name, &[1, 1, places, c], file)?;
                image.map(|image| if image.rank() == 4 { image.broadcast_to(shape) } else { Ok(image) }).transpose()
            }
            ("pos_embed", &[1, 1, tokens, c]) => {
                let image = self.image.translate(name, &[1, tokens, c], file)?;
                image.map(|image| repeat_patches(&image, tokens)).transpose()
            }
            _ => self.image.translate(name, shape, file),
        }
    }

    /// The image model's own head.
    fn ignores(&self, file_name: &str) -> bool {
        file_name.starts_with("fc") || file_name.starts_with("head.") || self.image.ignores(file_name)
    }

    fn draws(&self, name: &str) -> bool {
        name.starts_with("head.") || name.contains(".attn_space.") || name.contains(".pool.")
    }
}

/// `[1, 1 + H·W, C]` as `[1, 1, tokens, C]`: the class token's row, then the patches' for each frame. Left as it is where that does not fit.
fn repeat_patches(image: &Tensor, tokens: usize) -> Result<Tensor> {
    let &[1, rows, c] = &**image.shape() else { return Ok(image.clone()) };
    let (patches, wanted) = (rows.saturating_sub(1), tokens.saturating_sub(1));
    if patches == 0 || !wanted.is_multiple_of(patches) {
        return Ok(image.clone());
    }
    let class = image.narrow(1, 0, 1)?;
    let frames = image.narrow(1, 1, patches)?.broadcast_to(&[wanted / patches, patches, c])?.contiguous()?;
    concat(&[&class, &frames.reshape(&[1, wanted, c])?], 1)?.reshape(&[1, 1, tokens, c])
}

/// The image models that a VidTr starts from: the released `vit_inflate.pth`, and timm's vision transformers.
pub fn image_namings() -> Vec<Box<dyn Naming>> {
    vec![Box::new(Inflate { name: "vit-inflate", image: Official }), Box::new(Inflate { name: "timm-image", image: TIMM })]
}
