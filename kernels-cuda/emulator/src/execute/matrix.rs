//! Matrix fragments: `ldmatrix`, `stmatrix`, `mma.sync`.

use super::access::addresses;
use super::block::Block;
use super::warp::Warp;
use super::{Step, stop};
use crate::fault::{FaultKind, Space};
use crate::memory::shadow::Touch;
use crate::memory::storage::lanes;
use crate::numeric::product;
use crate::program::{Address, Lanes, MmaShape, Source};
use std::sync::atomic::{AtomicU16, AtomicU32};

/// Bytes of a row of an 8x8 matrix.
const ROW: u32 = 16;

impl Warp {
    /// The offsets in shared memory of the rows whose addresses the lanes of one matrix give.
    fn rows(&self, block: &mut Block<'_>, all: &Lanes, matrix: usize, touch: Touch) -> Step<[u32; 32]> {
        let mask = 0xff << (8 * matrix);
        let part = block.part(Some(Space::Shared), all, ROW, mask, self.index)?;
        let (offsets, missing) = (part.offsets, mask & !part.mask);
        if missing != 0 {
            let lane = missing.trailing_zeros() as usize & 31;
            return stop(lane, FaultKind::OutOfBounds { space: Space::Shared, address: all[lane], bytes: ROW });
        }
        if touch == Touch::Read {
            for lane in lanes(mask) {
                if part.storage.first_unwritten(offsets[lane] as usize, ROW as usize).is_some() {
                    return Block::unwritten(&part, all, 1 << lane, 0, ROW);
                }
            }
        } else {
            block.check_in_flight(&offsets, mask, ROW)?;
        }
        super::traffic::shared(&mut block.counters, &offsets, mask, ROW);
        block.touch(&offsets, mask, ROW, touch, self)?;
        Ok(offsets)
    }

    /// `ldmatrix`: lane `l` gets elements `2 (l mod 4)` and the next of row `l / 4`, or of that column.
    pub fn load_matrix(&mut self, block: &mut Block<'_>, d: &[u32], address: Address, transpose: bool) -> Step<()> {
        let all = addresses(self, address);
        for (matrix, &slot) in d.iter().enumerate() {
            let offsets = self.rows(block, &all, matrix, Touch::Read)?;
            let rows = &offsets[8 * matrix..8 * matrix + 8];
            let element = |row: usize, column: usize| block.shared.value::<AtomicU16>(rows[row] as usize + 2 * column);
            for (lane, to) in self.registers[slot as usize].iter_mut().enumerate() {
                let (row, column) = (lane / 4, 2 * (lane % 4));
                *to = match transpose {
                    false => block.shared.value::<AtomicU32>(rows[row] as usize + 2 * column),
                    true => element(column, row) | element(column + 1, row) << 16,
                };
            }
        }
        Ok(())
    }

    /// `stmatrix`: the reverse.
    pub fn store_matrix(&mut self, block: &mut Block<'_>, values: &[Source], address: Address, transpose: bool) -> Step<()> {
        let all = addresses(self, address);
        for (matrix, &source) in values.iter().enumerate() {
            let offsets = self.rows(block, &all, matrix, Touch::Write)?;
            let rows = &offsets[8 * matrix..8 * matrix + 8];
            for (lane, value) in self.source(source).iter().enumerate() {
                let (row, column) = (lane / 4, 2 * (lane % 4));
                for (n, half) in [value & 0xffff, value >> 16 & 0xffff].into_iter().enumerate() {
                    let (row, column) = if transpose { (column + n, row) } else { (row, column + n) };
                    block.shared.put::<AtomicU16>(rows[row] as usize + 2 * column, half);
                }
            }
        }
        Ok(())
    }

    /// `mma.sync`.
    pub fn multiply(&mut self, shape: MmaShape, d: &[u32], a: &[Source], b: &[Source], c: &[Source]) {
        let mut sums = [[0; 32]; 4];
        {
            let registers = |sources: &[Source]| -> [&Lanes; 4] {
                std::array::from_fn(|n| sources.get(n).map_or(&self.scratch, |&source| self.source(source)))
            };
            let (left, right, start) = (registers(a), registers(b), registers(c));
            product::multiply(shape, &left[..a.len()], &right[..b.len()], &start[..c.len()], &mut sums);
        }
        for (&slot, sums) in d.iter().zip(&sums) {
            self.registers[slot as usize] = *sums;
        }
    }
}
