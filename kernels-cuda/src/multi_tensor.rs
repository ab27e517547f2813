//! What launchers of kernels over many tensors share; see `multi_tensor.cuh`.

use bytemuck::Zeroable;
use tubelet_engine::{DType, Result, Tensor};

use crate::backend::CudaBackend;

/// As in `multi_tensor.cuh`.
const BLOCK_ELEMENTS: usize = 4096;

/// One group of tensors of one shape, dense: what the kernel knows of it, and what has to stay until the launch.
pub(crate) struct Group<const N: usize> {
    _dense: [Option<Tensor>; N],
    pub count: usize,
    /// The addresses of the operands, 0 where there is none.
    pub addresses: [u64; N],
    /// Whether all of them are aligned to 16 bytes.
    pub wide: bool,
}

impl<const N: usize> Group<N> {
    /// Of f32 `operands`.
    pub fn new(cuda: &CudaBackend, op: &'static str, operands: [Option<&Tensor>; N]) -> Result<Self> {
        let (mut dense, mut addresses, mut count) = ([const { None }; N], [0; N], 0);
        for (i, x) in operands.into_iter().enumerate() {
            let Some(x) = x else { continue };
            if x.dtype() != DType::F32 {
                return Err(cuda.unsupported(op, format!("{}; the optimisers step in f32", x.dtype())));
            }
            let x = x.detach().contiguous()?;
            (addresses[i], count) = (cuda.address(&x)?, x.elements());
            dense[i] = Some(x);
        }
        let wide = addresses.iter().all(|address| address % 16 == 0);
        Ok(Group { _dense: dense, count, addresses, wide })
    }

    /// Blocks that its elements want.
    pub fn blocks(&self) -> usize {
        self.count.div_ceil(BLOCK_ELEMENTS)
    }
}

/// Calls `launch(groups' parameters, how many of them, blocks)` for `groups`, up to `N` at a time. `describe(group, first block)` gives a group's
/// parameters; groups without elements have none.
pub(crate) fn launches<const N: usize, const K: usize, P: Zeroable + Copy>(
    groups: &[Group<K>],
    describe: impl Fn(&Group<K>, usize) -> Result<P>,
    mut launch: impl FnMut([P; N], u32, usize) -> Result<()>,
) -> Result<()> {
    let full: Vec<&Group<K>> = groups.iter().filter(|group| group.count != 0).collect();
    for chunk in full.chunks(N) {
        let (mut table, mut blocks) = ([P::zeroed(); N], 0);
        for (entry, group) in table.iter_mut().zip(chunk) {
            *entry = describe(group, blocks)?;
            blocks += group.blocks();
        }
        launch(table, chunk.len() as u32, blocks)?;
    }
    Ok(())
}
