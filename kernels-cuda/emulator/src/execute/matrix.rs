//! Matrix fragments: `ldmatrix`, `stmatrix`, `mma.sync`.
//!
//! A sum of `mma.sync` is a chain of fused multiply-adds in f32 in the order of k. The ISA leaves order and rounding open; hardware keeps a
//! few bits less within one instruction, so results agree within the usual bound for f32 sums, not bit for bit.

use super::access::addresses;
use super::block::Block;
use super::warp::Warp;
use super::{Step, stop};
use crate::fault::{FaultKind, Space};
use crate::memory::shadow::Touch;
use crate::memory::storage::lanes;
use crate::numeric::format::{F16, from_bf16, from_f16, from_tf32};
use crate::numeric::product::{Left, Right, accumulate};
use crate::program::{Address, Lanes, MmaInput, MmaShape, Source};
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

    /// `mma.sync` m16n8k4, k8, k16: fragments to matrices, the product, and back.
    pub fn multiply(&mut self, shape: MmaShape, d: &[u32], a: &[Source], b: &[Source], c: &[Source]) {
        let mut left = [[0.0; 16]; 16];
        let mut right = [[0.0; 8]; 16];
        let mut sums = [[0.0; 8]; 16];
        self.unpack_left(shape, a, &mut left);
        self.unpack_right(shape, b, &mut right);
        self.unpack_sums(shape, c, &mut sums);
        accumulate(&left, &right, &mut sums, shape.k);
        for (n, &slot) in d.iter().enumerate() {
            for lane in 0..32 {
                let (row, column) = (lane / 4, 2 * (lane % 4));
                self.registers[slot as usize][lane] = match shape.half_sums {
                    false => sums[row + 8 * (n / 2)][column + n % 2].to_bits().into(),
                    true => half(sums[row + 8 * n][column]) | half(sums[row + 8 * n][column + 1]) << 16,
                };
            }
        }
    }

    /// A: register `n` of a lane holds columns `2 (l mod 4)` of row `l / 4`, 8 rows further for odd `n`, 8 columns for each two.
    fn unpack_left(&self, shape: MmaShape, a: &[Source], left: &mut Left) {
        for (n, &source) in a.iter().enumerate() {
            for (lane, &bits) in self.source(source).iter().enumerate() {
                let row = lane / 4 + 8 * (n % 2);
                match shape.input {
                    MmaInput::Tf32 => left[row][lane % 4 + 4 * (n / 2)] = from_tf32(bits),
                    _ => {
                        let column = 2 * (lane % 4) + 8 * (n / 2);
                        (left[row][column], left[row][column + 1]) = pair(shape.input, bits);
                    }
                }
            }
        }
    }

    /// B: register `n` of a lane holds rows `2 (l mod 4)` of column `l / 4`, 8 rows further for each register.
    fn unpack_right(&self, shape: MmaShape, b: &[Source], right: &mut Right) {
        for (n, &source) in b.iter().enumerate() {
            for (lane, &bits) in self.source(source).iter().enumerate() {
                let column = lane / 4;
                match shape.input {
                    MmaInput::Tf32 => right[lane % 4 + 4 * n][column] = from_tf32(bits),
                    _ => {
                        let row = 2 * (lane % 4) + 8 * n;
                        (right[row][column], right[row + 1][column]) = pair(shape.input, bits);
                    }
                }
            }
        }
    }

    /// C: register `n` of a lane holds column `2 (l mod 4) + n mod 2` of row `l / 4`, 8 rows further for each two.
    fn unpack_sums(&self, shape: MmaShape, c: &[Source], sums: &mut Right) {
        for (n, &source) in c.iter().enumerate() {
            for (lane, &bits) in self.source(source).iter().enumerate() {
                let (row, column) = (lane / 4, 2 * (lane % 4));
                match shape.half_sums {
                    false => sums[row + 8 * (n / 2)][column + n % 2] = f32::from_bits(bits as u32),
                    true => (sums[row + 8 * n][column], sums[row + 8 * n][column + 1]) = pair(MmaInput::F16, bits),
                }
            }
        }
    }
}

/// Two elements of a register, the lower first.
fn pair(input: MmaInput, bits: u64) -> (f32, f32) {
    match input {
        MmaInput::F16 => (from_f16(bits & 0xffff), from_f16(bits >> 16 & 0xffff)),
        _ => (from_bf16(bits & 0xffff), from_bf16(bits >> 16 & 0xffff)),
    }
}

fn half(value: f32) -> u64 {
    u64::from(F16.nearest(f64::from(value)))
}
