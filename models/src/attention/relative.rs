//! Relative positions: a learned bias for every difference of two tokens' positions.

use std::collections::BTreeSet;

use tubelet_engine::{Error, Result, Tensor, ops::gather::gather};

use crate::params::{Init, Params};

/// Rows for a class token: from it to all others, from all others to it, to itself.
const CLASS: usize = 3;

/// Tokens at most.
const MAX_TOKENS: usize = 4096;

/// Which pairs of tokens have a bias in common.
///
/// The table has a row for each difference that occurs, the query's position minus the key's, in ascending order, and three more if there is a class
/// token in front. For patches on a grid these are BEiT's `(2H−1)(2W−1) + 3` rows in BEiT's order (Bao et al., 2022); of sparse tubes, whose
/// centres are anywhere, they are the same thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelativePositions {
    tokens: usize,
    rows: usize,
    /// `[tokens, tokens]`: query, key.
    index: Vec<i32>,
}

impl RelativePositions {
    /// Of tokens at these positions `[t, h, w]`, behind a class token if `class`.
    ///
    /// # Errors
    /// More than 4096 tokens: there is an entry for each two of them.
    pub fn new(positions: &[[i32; 3]], class: bool) -> Result<Self> {
        if positions.len() > MAX_TOKENS {
            let problem = format!("{} tokens; at most {MAX_TOKENS} are taken", positions.len());
            return Err(Error::invalid("relative positions", problem));
        }
        let difference = |q: &[i32; 3], k: &[i32; 3]| -> [i32; 3] { std::array::from_fn(|axis| q[axis] - k[axis]) };
        let pairs = || positions.iter().flat_map(|q| positions.iter().map(move |k| difference(q, k)));
        let differences: Vec<[i32; 3]> = pairs().collect::<BTreeSet<_>>().into_iter().collect();
        let rows = differences.len();
        let row = |pair| differences.binary_search(&pair).unwrap_or(rows) as i32;
        let (n, first) = (positions.len(), usize::from(class));
        let tokens = n + first;
        let mut index = vec![0; tokens * tokens];
        for (i, pair) in pairs().enumerate() {
            index[(i / n + first) * tokens + i % n + first] = row(pair);
        }
        if class {
            index[..tokens].fill(rows as i32);
            index.chunks_mut(tokens).for_each(|line| line[0] = rows as i32 + 1);
            index[0] = rows as i32 + 2;
        }
        Ok(RelativePositions { tokens, rows: rows + first * CLASS, index })
    }

    /// Of `[H, W]` patches behind a class token.
    ///
    /// # Errors
    /// As [`RelativePositions::new`].
    pub fn of_patches([h, w]: [usize; 2]) -> Result<Self> {
        let positions: Vec<[i32; 3]> = (0..h * w).map(|i| [0, (i / w) as i32, (i % w) as i32]).collect();
        RelativePositions::new(&positions, true)
    }

    /// The table `{name}.relative_position_bias_table [rows, heads]`, spread over all pairs: `[heads, tokens, tokens]`.
    ///
    /// # Errors
    /// Of the device.
    pub fn load(&self, params: &mut Params<'_>, name: &str, heads: usize) -> Result<Tensor> {
        let name = format!("{name}.relative_position_bias_table");
        let table = params.tensor(&name, &[self.rows, heads], Init::Normal(0.02))?;
        let index = Tensor::from_slice(params.device(), &[self.index.len()], &self.index)?;
        gather(&table, &index, 0)?.reshape(&[self.tokens, self.tokens, heads])?.permute(&[2, 0, 1])?.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BEiT's own arithmetic: `(Δh + H − 1)·(2W − 1) + Δw + W − 1`, and the last three rows for the class token.
    #[test]
    fn patches_have_beits_rows() {
        let [h, w] = [3usize, 4];
        let got = RelativePositions::of_patches([h, w]).unwrap();
        assert_eq!((got.tokens, got.rows), (13, 5 * 7 + 3));
        for (i, &row) in got.index.iter().enumerate() {
            let expected = match (i / 13, i % 13) {
                (0, 0) => 37,
                (0, _) => 35,
                (_, 0) => 36,
                (q, k) => {
                    let (q, k) = (q - 1, k - 1);
                    (q / w + h - 1 - k / w) * (2 * w - 1) + (q % w + w - 1 - k % w)
                }
            };
            assert_eq!(row as usize, expected, "query {}, key {}", i / 13, i % 13);
        }
    }

    #[test]
    fn rows_are_shared_by_equal_differences_alone() {
        let positions = [[0, 0, 0], [4, 2, 2], [8, 4, 4], [1, 0, 0]];
        let got = RelativePositions::new(&positions, false).unwrap();
        let row = |q: usize, k: usize| got.index[q * 4 + k];
        assert_eq!(row(1, 0), row(2, 1));
        assert_eq!((row(0, 0), row(1, 1)), (row(2, 2), row(3, 3)));
        assert_ne!(row(1, 0), row(0, 1));
        // Differences of four points: none, and both directions of five, one of them shared.
        assert_eq!(got.rows, 11);
        assert_eq!(RelativePositions::new(&[], false).unwrap().rows, 0);
        assert!(RelativePositions::new(&[[0; 3]; MAX_TOKENS + 1], false).is_err());
    }
}
