//! Tiles of palette 1 and what the instructions do to them.

use std::arch::asm;

use crate::decode::Instruction;

const TILES: usize = 8;
const ROWS: usize = 16;
/// Bytes of a row.
const ROW: usize = 64;

/// The tiles of a thread.
#[derive(Clone)]
pub(crate) struct Tiles {
    configured: bool,
    start_row: u8,
    /// Rows and bytes of a row, both 0 in a tile that is not there.
    shapes: [(u8, u16); TILES],
    data: [[[u8; ROW]; ROWS]; TILES],
}

impl Tiles {
    pub(crate) const NONE: Tiles =
        Tiles { configured: false, start_row: 0, shapes: [(0, 0); TILES], data: [[[0; ROW]; ROWS]; TILES] };

    /// Executes an instruction, or says why a processor would refuse it.
    ///
    /// # Safety
    /// The memory that the instruction names must be valid for what it does to it.
    pub(crate) unsafe fn execute(&mut self, instruction: Instruction) -> Result<(), &'static str> {
        match instruction {
            // SAFETY: the caller's word; 64 bytes have no alignment.
            Instruction::LoadConfig { address } => self.configure(unsafe { &*(address as *const [u8; 64]) }),
            Instruction::StoreConfig { address } => {
                // SAFETY: the caller's word.
                unsafe { (address as *mut [u8; 64]).write(self.config()) };
                Ok(())
            }
            Instruction::Release => {
                *self = Tiles::NONE;
                Ok(())
            }
            Instruction::Zero { tile } => {
                self.shape(tile)?;
                self.data[tile] = [[0; ROW]; ROWS];
                self.start_row = 0;
                Ok(())
            }
            Instruction::Load { tile, address, stride } => {
                let (rows, bytes) = self.memory_shape(tile)?;
                let from = usize::from(self.start_row);
                self.data[tile][rows..].fill([0; ROW]);
                for row in from..rows {
                    let mut line = [0; ROW];
                    let at = address.wrapping_add(stride.wrapping_mul(row as u64)) as *const u8;
                    // SAFETY: the caller's word.
                    unsafe { line.as_mut_ptr().copy_from_nonoverlapping(at, bytes) };
                    self.data[tile][row] = line;
                }
                self.start_row = 0;
                Ok(())
            }
            Instruction::Store { tile, address, stride } => {
                let (rows, bytes) = self.memory_shape(tile)?;
                for row in usize::from(self.start_row)..rows {
                    let at = address.wrapping_add(stride.wrapping_mul(row as u64)) as *mut u8;
                    // SAFETY: the caller's word.
                    unsafe { at.copy_from_nonoverlapping(self.data[tile][row].as_ptr(), bytes) };
                }
                self.start_row = 0;
                Ok(())
            }
            Instruction::Multiply { to, a, b } => self.multiply(to, a, b),
        }
    }

    /// `ldtilecfg`: palette, first row, 14 bytes reserved, bytes of a row for 16 tiles, rows for 16 tiles, of which palette 1 has eight.
    fn configure(&mut self, config: &[u8; 64]) -> Result<(), &'static str> {
        *self = match config[0] {
            0 => Tiles::NONE,
            1 => {
                let unused = [&config[2..16], &config[32..48], &config[56..]];
                if unused.into_iter().flatten().any(|&byte| byte != 0) {
                    return Err("ldtilecfg: reserved bytes, or tiles beyond the eighth, are not 0");
                }
                let mut tiles = Tiles { configured: true, start_row: config[1], ..Tiles::NONE };
                for (tile, shape) in tiles.shapes.iter_mut().enumerate() {
                    let (rows, bytes) = (config[48 + tile], u16::from_le_bytes([config[16 + 2 * tile], config[17 + 2 * tile]]));
                    if usize::from(rows) > ROWS || usize::from(bytes) > ROW {
                        return Err("ldtilecfg: a tile has at most 16 rows of 64 bytes");
                    }
                    if (rows == 0) != (bytes == 0) {
                        return Err("ldtilecfg: a tile has rows without bytes, or bytes without rows");
                    }
                    *shape = (rows, bytes);
                }
                tiles
            }
            _ => return Err("ldtilecfg: there are palettes 0 and 1"),
        };
        Ok(())
    }

    fn config(&self) -> [u8; 64] {
        let mut config = [0; 64];
        if self.configured {
            (config[0], config[1]) = (1, self.start_row);
            for (tile, (rows, bytes)) in self.shapes.into_iter().enumerate() {
                config[16 + 2 * tile..][..2].copy_from_slice(&bytes.to_le_bytes());
                config[48 + tile] = rows;
            }
        }
        config
    }

    /// Rows and bytes of a row of a tile that exists.
    fn shape(&self, tile: usize) -> Result<(usize, usize), &'static str> {
        match self.shapes.get(tile) {
            _ if !self.configured => Err("no tiles are configured"),
            Some(&(rows, bytes)) if rows > 0 => Ok((rows.into(), bytes.into())),
            _ => Err("the tile is not configured"),
        }
    }

    /// The same for loads and stores.
    fn memory_shape(&self, tile: usize) -> Result<(usize, usize), &'static str> {
        let (rows, bytes) = self.shape(tile)?;
        if bytes % 4 != 0 {
            return Err("bytes of a row are no multiple of 4");
        }
        if usize::from(self.start_row) >= rows {
            return Err("the first row lies beyond the tile");
        }
        Ok((rows, bytes))
    }

    /// `tdpbf16ps`: `to[m, n] += Σₖ a[m, k] · b[k, n]` over pairs of bf16.
    fn multiply(&mut self, to: usize, a: usize, b: usize) -> Result<(), &'static str> {
        if to == a || to == b || a == b {
            return Err("tdpbf16ps: the tiles must be three");
        }
        let ([m, n], [a_rows, k], [b_rows, b_n]) = (self.matrix(to)?, self.matrix(a)?, self.matrix(b)?);
        if m != a_rows || n != b_n || k != b_rows {
            return Err("tdpbf16ps: the shapes of the tiles do not fit together");
        }
        let (a, b) = (self.data[a], self.data[b]);
        let mut sums = [[0; ROW]; ROWS];
        for row in 0..m {
            // SAFETY: tiles are whole, whatever their shapes; the emulator is installed where there are AVX2 and FMA.
            unsafe { dot(&mut self.data[to][row], &a[row], &b, k) };
            sums[row][..4 * n].copy_from_slice(&self.data[to][row][..4 * n]);
        }
        self.data[to] = sums;
        self.start_row = 0;
        Ok(())
    }

    /// Rows and words of a row.
    fn matrix(&self, tile: usize) -> Result<[usize; 2], &'static str> {
        let (rows, bytes) = self.shape(tile)?;
        if bytes % 4 != 0 {
            return Err("bytes of a row are no multiple of 4");
        }
        Ok([rows, bytes / 4])
    }
}

/// One row of a product: `sums[n] += Σₖ a[k] · b[k][n]` over `k` pairs, by vectors of eight, with subnormal numbers as 0 (the bits DAZ and FTZ of the
/// control register) and roundings to nearest.
///
/// # Safety
/// The processor must have AVX2 and FMA; `k` is at most 16.
#[target_feature(enable = "avx2,fma")]
unsafe fn dot(sums: &mut [u8; ROW], a: &[u8; ROW], b: &[[u8; ROW]; ROWS], k: usize) {
    /// All exceptions masked, DAZ, FTZ.
    const CONTROL: u32 = 0x1F80 | 1 << 6 | 1 << 15;
    let mut before = 0u32;
    for half in 0..2 {
        // SAFETY: 16 words of `a`, `k` rows of `b`, and 32 bytes of `sums` from `half`; the control register is put back.
        unsafe {
            asm!(
                "stmxcsr [{before}]",
                "ldmxcsr [{control}]",
                "vpcmpeqd {odd}, {odd}, {odd}",
                "vpslld {odd}, {odd}, 16",
                "vxorps {evens}, {evens}, {evens}",
                "vxorps {odds}, {odds}, {odds}",
                "2:",
                "vpbroadcastd {x}, dword ptr [{a}]",
                "vmovdqu {y}, ymmword ptr [{b}]",
                // A bf16 is the upper half of an f32.
                "vpslld {xe}, {x}, 16",
                "vpslld {ye}, {y}, 16",
                "vfmadd231ps {evens}, {xe}, {ye}",
                "vpand {x}, {x}, {odd}",
                "vpand {y}, {y}, {odd}",
                "vfmadd231ps {odds}, {x}, {y}",
                "add {a}, 4",
                "add {b}, 64",
                "dec {k}",
                "jnz 2b",
                "vaddps {evens}, {evens}, {odds}",
                "vmovups {x}, ymmword ptr [{sums}]",
                "vaddps {x}, {x}, {evens}",
                "vmovups ymmword ptr [{sums}], {x}",
                "ldmxcsr [{before}]",
                control = in(reg) &CONTROL,
                before = in(reg) &mut before,
                a = inout(reg) a.as_ptr() => _,
                b = inout(reg) b.as_ptr().cast::<u8>().add(32 * half) => _,
                k = inout(reg) k => _,
                sums = in(reg) sums.as_mut_ptr().add(32 * half),
                evens = out(ymm_reg) _,
                odds = out(ymm_reg) _,
                odd = out(ymm_reg) _,
                x = out(ymm_reg) _,
                y = out(ymm_reg) _,
                xe = out(ymm_reg) _,
                ye = out(ymm_reg) _,
                options(nostack),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration of palette 1 from rows and bytes of a row.
    fn config(shapes: &[(u8, u8)]) -> [u8; 64] {
        let mut config = [0; 64];
        config[0] = 1;
        for (tile, &(rows, bytes)) in shapes.iter().enumerate() {
            (config[48 + tile], config[16 + 2 * tile]) = (rows, bytes);
        }
        config
    }

    fn tiles(shapes: &[(u8, u8)]) -> Tiles {
        let mut tiles = Tiles::NONE;
        tiles.configure(&config(shapes)).unwrap();
        tiles
    }

    fn run(tiles: &mut Tiles, instruction: Instruction) -> Result<(), &'static str> {
        // SAFETY: the tests below name memory of their own.
        unsafe { tiles.execute(instruction) }
    }

    const MULTIPLY: Instruction = Instruction::Multiply { to: 0, a: 1, b: 2 };

    /// Rows of f32, or of pairs of bf16 given as f32 bits cut in half.
    fn load(tiles: &mut Tiles, tile: usize, words: &[u32], columns: usize) {
        let (address, stride) = (words.as_ptr() as u64, 4 * columns as u64);
        run(tiles, Instruction::Load { tile, address, stride }).unwrap();
    }

    fn pair(low: f32, high: f32) -> u32 {
        low.to_bits() >> 16 | high.to_bits() & 0xFFFF_0000
    }

    fn stored(tiles: &mut Tiles, rows: usize, columns: usize) -> Vec<f32> {
        let mut words = vec![0f32; rows * columns];
        let (address, stride) = (words.as_mut_ptr() as u64, 4 * columns as u64);
        run(tiles, Instruction::Store { tile: 0, address, stride }).unwrap();
        words
    }

    /// Odd shapes; small integers are exact in any order.
    #[test]
    fn a_product_is_one() {
        let (m, n, k) = (5, 11, 7);
        let mut tiles = tiles(&[(m as u8, 4 * n as u8), (m as u8, 4 * k as u8), (k as u8, 4 * n as u8)]);
        let number = |i: usize| ((i.wrapping_mul(0x9E37_79B9) >> 7) % 9) as f32 - 4.0;
        let (a, b) = (|r: usize, i: usize| number(100 * r + i), |i: usize, c: usize| number(1000 + 50 * c + i));
        let c: Vec<u32> = (0..m * n).map(|i| number(i).to_bits()).collect();
        load(&mut tiles, 0, &c, n);
        let words: Vec<u32> = (0..m * k).map(|i| pair(a(i / k, 2 * (i % k)), a(i / k, 2 * (i % k) + 1))).collect();
        load(&mut tiles, 1, &words, k);
        let words: Vec<u32> = (0..k * n).map(|i| pair(b(2 * (i / n), i % n), b(2 * (i / n) + 1, i % n))).collect();
        load(&mut tiles, 2, &words, n);
        run(&mut tiles, MULTIPLY).unwrap();
        let expected = |i: usize| number(i) + (0..2 * k).map(|kk| a(i / n, kk) * b(kk, i % n)).sum::<f32>();
        assert_eq!(stored(&mut tiles, m, n), (0..m * n).map(expected).collect::<Vec<_>>());
    }

    /// Evens and odds are summed apart, in their order, with one rounding each, and only then together; subnormal numbers count as 0.
    #[test]
    fn sums_are_grouped_and_flushed_as_the_manual_says() {
        let mut tiles = tiles(&[(1, 4), (1, 12), (3, 4)]);
        let mut product = |c: f32, a: [f32; 6], b: [f32; 6]| {
            load(&mut tiles, 0, &[c.to_bits()], 1);
            let words = |x: [f32; 6]| [pair(x[0], x[1]), pair(x[2], x[3]), pair(x[4], x[5])];
            load(&mut tiles, 1, &words(a), 3);
            load(&mut tiles, 2, &words(b), 1);
            run(&mut tiles, MULTIPLY).unwrap();
            stored(&mut tiles, 1, 1)[0]
        };
        let one = [1.0; 6];
        let large = (1u32 << 30) as f32;
        // Evens: 2³⁰ + 1 − 2³⁰ = 0 after rounding. Odds: 3. In one chain it would be another number.
        assert_eq!(product(0.5, [large, 1.0, 1.0, 1.0, -large, 1.0], one), 3.5);
        // 2⁻¹³⁰ as an operand, as a product, and as the element.
        let small = f32::from_bits(1 << 19);
        assert_eq!(small, 2f32.powi(-130));
        assert_eq!(product(0.0, [small, 0.0, 0.0, 0.0, 0.0, 0.0], [large; 6]), 0.0);
        assert_eq!(product(0.0, [2f32.powi(-65), 0.0, 0.0, 0.0, 0.0, 0.0], [2f32.powi(-65); 6]), 0.0);
        assert_eq!(product(small, [0.0; 6], one), 0.0);
        assert_eq!(product(0.0, [2f32.powi(-63), 0.0, 0.0, 0.0, 0.0, 0.0], [2f32.powi(-63); 6]), 2f32.powi(-126));
        assert!(product(0.0, [f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0], one).is_nan());
    }

    #[test]
    fn a_load_clears_what_lies_beyond_the_shape() {
        let mut tiles = tiles(&[(2, 8)]);
        tiles.data[0] = [[7; ROW]; ROWS];
        load(&mut tiles, 0, &[1, 2, 3, 4], 2);
        let words = tiles.data[0].as_flattened().iter().filter(|&&byte| byte != 0).count();
        assert_eq!(words, 4);
    }

    /// What a processor refuses is refused.
    #[test]
    fn planted_faults_are_found() {
        let square = [(16, 64), (16, 64), (16, 64)];
        let refuse = |tiles: &mut Tiles, instruction: Instruction, part: &str| {
            let reason = run(tiles, instruction).expect_err(part);
            assert!(reason.contains(part), "{reason}, expected {part}");
        };
        assert!(run(&mut tiles(&square), MULTIPLY).is_ok());
        refuse(&mut Tiles::NONE.clone(), MULTIPLY, "no tiles are configured");
        refuse(&mut tiles(&square[..2]), MULTIPLY, "the tile is not configured");
        refuse(&mut tiles(&square), Instruction::Zero { tile: 3 }, "the tile is not configured");
        let mut released = tiles(&square);
        run(&mut released, Instruction::Release).unwrap();
        refuse(&mut released, Instruction::Zero { tile: 0 }, "no tiles are configured");
        refuse(&mut tiles(&square), Instruction::Multiply { to: 0, a: 1, b: 1 }, "must be three");
        // Rows of the result, columns of the result, and depths.
        for shapes in [[(15, 64), (16, 64), (16, 64)], [(16, 60), (16, 64), (16, 64)], [(16, 64), (16, 64), (15, 64)]] {
            refuse(&mut tiles(&shapes), MULTIPLY, "do not fit");
        }
        refuse(&mut tiles(&[(16, 64), (16, 62), (16, 64)]), MULTIPLY, "multiple of 4");
        let mut late = config(&square);
        late[1] = 16;
        let mut tiles = Tiles::NONE;
        tiles.configure(&late).unwrap();
        refuse(&mut tiles, Instruction::Load { tile: 0, address: 0, stride: 0 }, "beyond the tile");
        for (at, value) in [(0, 2), (5, 1), (32, 1), (63, 1), (48, 17), (49, 0), (17, 1), (18, 0)] {
            let mut wrong = config(&square);
            wrong[at] = value;
            assert!(Tiles::NONE.clone().configure(&wrong).is_err(), "byte {at} = {value}");
        }
    }

    #[test]
    fn a_configuration_can_be_read_back() {
        let expected = config(&[(3, 12), (16, 64)]);
        let mut tiles = Tiles::NONE;
        let mut got = [1; 64];
        run(&mut tiles, Instruction::LoadConfig { address: expected.as_ptr() as u64 }).unwrap();
        run(&mut tiles, Instruction::StoreConfig { address: got.as_mut_ptr() as u64 }).unwrap();
        assert_eq!(got, expected);
        run(&mut tiles, Instruction::Release).unwrap();
        run(&mut tiles, Instruction::StoreConfig { address: got.as_mut_ptr() as u64 }).unwrap();
        assert_eq!(got, [0; 64]);
    }
}
