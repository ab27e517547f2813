//! Philox4x32-10: counter-based random numbers, the same on every backend.
//!
//! J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Draw `i` of stream `s` under seed `k` is a pure
//! function of `(k, s, i)`, so any thread of any device can compute any part of the sequence.

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// One block of four words: ten rounds over `counter` under `key`.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(M0) * u64::from(counter[0]);
        let p1 = u64::from(M1) * u64::from(counter[2]);
        counter = [(p1 >> 32) as u32 ^ counter[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ counter[3] ^ key[1], p0 as u32];
        key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
    }
    counter
}

/// A sequence of draws: one stream under one seed, from one position on.
#[derive(Clone, Debug)]
pub struct Philox {
    seed: u64,
    stream: u64,
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Philox {
    /// Stream 0 under `seed`.
    pub fn new(seed: u64) -> Self {
        Philox::stream(seed, 0)
    }

    /// Stream `stream` under `seed`: streams do not overlap.
    pub fn stream(seed: u64, stream: u64) -> Self {
        Philox { seed, stream, block: 0, words: [0; 4], used: 4 }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let (b, s) = (self.block, self.stream);
            self.words = philox4x32(
                [b as u32, (b >> 32) as u32, s as u32, (s >> 32) as u32],
                [self.seed as u32, (self.seed >> 32) as u32],
            );
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform on `[0, 1)` with 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f32 {
        // 1 - u is never zero, so the logarithm is finite.
        let radius = (-2.0 * (1.0 - f64::from(self.uniform())).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(self.uniform());
        (radius * angle.cos()) as f32
    }

    /// Uniform on `0..n`; 0 when `n` is 0. The bias is below `n`/2³².
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.next_u32()) * n as u64) >> 32) as usize
    }

    /// Uniform on `low..=high`.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with Random123 (kat_vectors, philox4x32 10).
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn moments() {
        let mut rng = Philox::stream(7, 3);
        let n = 100_000;
        let (mut sum, mut squares, mut uniform) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x = f64::from(rng.normal());
            sum += x;
            squares += x * x;
            uniform += f64::from(rng.uniform());
        }
        // Five standard deviations of each mean.
        let sd = 5.0 / f64::from(n).sqrt();
        assert!((sum / f64::from(n)).abs() < sd);
        assert!((squares / f64::from(n) - 1.0).abs() < sd * 2f64.sqrt());
        assert!((uniform / f64::from(n) - 0.5).abs() < sd * (1.0 / 12f64).sqrt());
    }
}
