//! Strided operands as kernels want them: dimensions innermost first, joined where they lie side by side.

use tubelet_engine::MAX_RANK;

/// `N` operands of one shape; see `Nest` in `common.cuh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nest<const N: usize> {
    rank: u32,
    size: [u32; MAX_RANK],
    unused: u32,
    stride: [[i64; MAX_RANK]; N],
}

// SAFETY: integers only.
unsafe impl<const N: usize> bytemuck::Zeroable for Nest<N> {}
// SAFETY: integers only; 4 + 32 + 4 bytes come before the strides, which are aligned to 8, so that there are no gaps.
unsafe impl<const N: usize> bytemuck::Pod for Nest<N> {}

impl<const N: usize> Nest<N> {
    /// Operands of shape `shape` (outermost first) with these strides in elements. Sizes must be below 2³², which [`crate::backend::count`] sees to.
    pub fn new(shape: &[usize], strides: [&[usize]; N]) -> Self {
        let mut nest = Nest { rank: 0, size: [1; MAX_RANK], unused: 0, stride: [[0; MAX_RANK]; N] };
        for d in (0..shape.len()).rev().filter(|&d| shape[d] != 1) {
            let step = strides.map(|s| s[d] as i64);
            let last = (nest.rank as usize).wrapping_sub(1);
            let joins = nest.rank > 0 && (0..N).all(|n| step[n] == nest.stride[n][last] * i64::from(nest.size[last]));
            if joins {
                nest.size[last] *= shape[d] as u32;
            } else {
                let at = nest.rank as usize;
                nest.size[at] = shape[d] as u32;
                (0..N).for_each(|n| nest.stride[n][at] = step[n]);
                nest.rank += 1;
            }
        }
        // A scalar is a vector of one.
        nest.rank = nest.rank.max(1);
        nest
    }

    /// The step of each operand, where one dimension is all there is.
    pub fn single(&self) -> Option<[i64; N]> {
        (self.rank == 1).then(|| self.stride.map(|stride| stride[0]))
    }

    /// Whether every step is one of a multiple of `lanes` elements.
    pub fn steps_by(&self, lanes: usize) -> bool {
        self.stride.iter().flatten().all(|s| s % lanes as i64 == 0)
    }

    /// The same operands in packs of `lanes` neighbours, and a bit for each operand that is broadcast along the innermost dimension; `None` where
    /// packs are not possible. `addresses` are those of element zero, in elements.
    pub fn packed(&self, lanes: usize, addresses: [u64; N]) -> Option<(Self, u32)> {
        let wide = lanes as i64;
        if !(self.size[0] as usize).is_multiple_of(lanes) {
            return None;
        }
        let mut nest = *self;
        let mut broadcast = 0;
        for (n, address) in addresses.into_iter().enumerate() {
            match self.stride[n][0] {
                0 => broadcast |= 1 << n,
                1 if address.is_multiple_of(lanes as u64) && self.stride[n][1..].iter().all(|s| s % wide == 0) => {
                    nest.stride[n][0] = wide
                }
                _ => return None,
            }
        }
        nest.size[0] /= lanes as u32;
        Some((nest, broadcast))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined() {
        let dense = Nest::new(&[2, 1, 3, 4], [&[12, 12, 4, 1]]);
        assert_eq!((dense.rank, dense.size[0], dense.stride[0][0]), (1, 24, 1));
        let permuted = Nest::new(&[2, 3, 4], [&[1, 8, 2]]);
        assert_eq!((permuted.rank, permuted.size[0], permuted.stride[0][0]), (2, 12, 2));
        let mixed = Nest::new(&[2, 3], [&[3, 1], &[0, 1]]);
        assert_eq!(mixed.rank, 2, "joined only where all operands can be");
        assert_eq!(Nest::new(&[], [&[]]).rank, 1);
    }

    #[test]
    fn packs_need_alignment() {
        let dense = Nest::new(&[8, 6], [&[8, 1]]);
        assert!(dense.packed(4, [0]).is_none(), "6 is no multiple of 4");
        let dense = Nest::new(&[6, 8], [&[16, 1]]);
        assert!(dense.packed(4, [2]).is_none());
        let (packed, broadcast) = dense.packed(4, [4]).unwrap();
        assert_eq!((packed.size[0], packed.stride[0][0], packed.stride[0][1], broadcast), (2, 4, 16, 0));
    }
}
