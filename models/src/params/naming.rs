use tubelet_engine::{Result, Tensor, ops::concat::concat};

use super::{Naming, Reader};

/// A naming that differs from ours by parts of names: PyTorch's state dicts.
pub struct Rename {
    /// As users name it.
    pub name: &'static str,
    /// What may stand before every name; tried in order.
    pub prefixes: &'static [&'static str],
    /// Parts of our names and what the file has in their place, applied in order.
    pub rules: &'static [(&'static str, &'static str)],
    /// What the file has in place of `attn.qkv` where queries, keys and values are apart; empty where they are together.
    pub qkv: &'static [&'static str],
    /// Tensors that no model needs.
    pub ignored: &'static [&'static str],
}

impl Rename {
    fn find(&self, ours: &str, file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        let theirs = self.rules.iter().fold(ours.to_owned(), |name, (from, to)| name.replace(from, to));
        for prefix in self.prefixes {
            if let Some(tensor) = file.get(&format!("{prefix}{theirs}"))? {
                return Ok(Some(tensor));
            }
        }
        Ok(None)
    }
}

impl Naming for Rename {
    fn name(&self) -> &'static str {
        self.name
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        let found = if name.contains("attn.qkv") && !self.qkv.is_empty() {
            let parts = self.qkv.iter().map(|part| self.find(&name.replace("attn.qkv", part), file));
            let parts = parts.collect::<Result<Option<Vec<_>>>>()?;
            parts.map(|parts| concat(&parts.iter().collect::<Vec<_>>(), 0)).transpose()?
        } else {
            self.find(name, file)?
        };
        found.map(|tensor| channels_last(name, shape, &tensor)).transpose()
    }

    fn ignores(&self, file_name: &str) -> bool {
        file_name.ends_with("num_batches_tracked") || self.ignored.iter().any(|part| file_name.contains(part))
    }
}

/// A naming whose last norm has a name of its own, and whose head may be a bare matrix `[C, classes]`.
pub struct WithNorm {
    /// All other names.
    pub rename: Rename,
    /// The last norm's.
    pub norm: &'static str,
    /// The matrix's.
    pub projection: Option<&'static str>,
}

impl Naming for WithNorm {
    fn name(&self) -> &'static str {
        self.rename.name
    }

    fn translate(&self, name: &str, shape: &[usize], file: &mut Reader<'_>) -> Result<Option<Tensor>> {
        if let (Some(projection), "head.weight") = (self.projection, name) {
            for prefix in self.rename.prefixes {
                if let Some(tensor) = file.get(&format!("{prefix}{projection}"))? {
                    return tensor.transpose().map(Some);
                }
            }
            return Ok(None);
        }
        match name.strip_prefix("norm.") {
            Some(part) => self.rename.translate(&format!("{}.{part}", self.norm), shape, file),
            None => self.rename.translate(name, shape, file),
        }
    }

    fn ignores(&self, file_name: &str) -> bool {
        self.rename.ignores(file_name)
    }
}

/// PyTorch's `[O, C, kt, kh, kw]` (or `[O, C, kh, kw]`) convolution weights with channels last, depthwise ones as `[kt, kh, kw, C]`, pointwise
/// ones as matrices; other tensors with the same rows under another shape. What still does not fit is left as it is, for the error message.
pub fn channels_last(name: &str, shape: &[usize], tensor: &Tensor) -> Result<Tensor> {
    let s = tensor.shape();
    if name.ends_with("dw.weight") && s.rank() == 5 {
        return tensor.contiguous()?.reshape(&[s[0], s[2], s[3], s[4]])?.permute(&[1, 2, 3, 0]);
    }
    if shape.len() == 5 && s.rank() == 5 {
        return tensor.permute(&[0, 2, 3, 4, 1]);
    }
    if shape.len() == 5 && s.rank() == 4 {
        return tensor.contiguous()?.reshape(&[s[0], s[1], 1, s[2], s[3]])?.permute(&[0, 2, 3, 4, 1]);
    }
    // Class tokens and position tables come with more or fewer leading dimensions, and grids flattened; vectors stay vectors.
    let same_rows = s.elements() == shape.iter().product::<usize>() && s.last() == shape.last();
    if same_rows || (shape.len() == 2 && s.len() == 5 && s[2..] == [1; 3] && s[..2] == *shape) {
        return tensor.contiguous()?.reshape(shape);
    }
    Ok(tensor.clone())
}
