//! Division by a number that the launcher knows; see `divisor.cuh`.

use tubelet_engine::Result;

use crate::backend::CudaBackend;

parameters!(
    /// `⌊n / divisor⌋ = (n · multiplier) >> shift` for every `n` below 2³¹.
    Divisor { divisor: u32, multiplier: u32, shift: u32 }
);

impl Divisor {
    /// By `divisor`, of which 0 counts as 1: there is nothing to divide then.
    pub fn new(cuda: &CudaBackend, op: &'static str, divisor: usize) -> Result<Self> {
        Ok(Self::of(cuda.count(op, divisor)?.max(1)))
    }

    /// With `shift = 31 + ⌈log₂ divisor⌉` the multiplier is below 2³² and exceeds `2^shift / divisor` by less than `2^(shift − 31) / divisor`.
    fn of(divisor: u32) -> Self {
        let shift = 31 + divisor.next_power_of_two().trailing_zeros();
        let multiplier = (1u64 << shift).div_ceil(u64::from(divisor)) as u32;
        Divisor { divisor, multiplier, shift }
    }
}

#[cfg(test)]
mod tests {
    use super::Divisor;

    #[test]
    fn quotients_are_exact() {
        let largest = i32::MAX as u32;
        for divisor in (1..2000).chain([65_535, 65_536, 65_537, (1 << 30) - 1, 1 << 30, (1 << 30) + 1, largest - 1, largest]) {
            let d = Divisor::of(divisor);
            let around = |n: u32| n.saturating_sub(2)..=n.saturating_add(2).min(largest);
            let multiples = (0..200).map(|i| (largest / 200 * i) / divisor * divisor);
            for n in multiples.chain([divisor, largest]).flat_map(around) {
                let quotient = (u64::from(n) * u64::from(d.multiplier)) >> d.shift;
                assert_eq!(quotient, u64::from(n / divisor), "{n} / {divisor}");
            }
        }
    }
}
