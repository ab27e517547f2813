//! Where the choices of a sample come from: random numbers, or the bytes of a fuzzer's input.

use std::sync::OnceLock;

use crate::Philox;

/// A source of choices.
///
/// From bytes, each choice of a shape, an option or an arrangement takes the next byte from the front, and each number of
/// an operand that is picked from a list takes one from the back, so that a changed byte changes one choice and a longer
/// input moves none. A fixed sequence gives what is left when the bytes are used up, and always gives what is continuous:
/// the tolerances are derived for numbers that are spread as random ones are.
#[derive(Debug)]
pub struct Choices<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Random(&'a mut Philox),
    Bytes { rest: &'a [u8], then: Sequence },
}

/// A fixed sequence of numbers that costs less than the operations that it feeds. A fuzzer needs each input to give the
/// same numbers, and nothing else of them.
#[derive(Debug)]
struct Sequence(u64);

/// The binary logarithm of how many normal numbers there are to pick from.
const NORMALS: u32 = 12;

impl Sequence {
    /// Knuth's MMIX generator, of which the upper bits are the good ones.
    fn next_u32(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.next_u32()) * n as u64) >> 32) as usize
    }

    fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// One of a table of numbers of Philox.
    fn normal(&mut self) -> f32 {
        static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
        let table = TABLE.get_or_init(|| {
            let mut rng = Philox::new(0);
            (0..1 << NORMALS).map(|_| rng.normal()).collect()
        });
        table[(self.next_u32() >> (u32::BITS - NORMALS)) as usize]
    }
}

impl<'a> From<&'a mut Philox> for Choices<'a> {
    fn from(rng: &'a mut Philox) -> Self {
        Choices(Source::Random(rng))
    }
}

impl<'a> From<&'a [u8]> for Choices<'a> {
    fn from(rest: &'a [u8]) -> Self {
        Choices(Source::Bytes { rest, then: Sequence(0) })
    }
}

impl Choices<'_> {
    /// A choice among `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if let Source::Bytes { rest, .. } = &mut self.0
            && let Some((first, others)) = rest.split_first()
        {
            *rest = others;
            return usize::from(*first) % n.max(1);
        }
        match &mut self.0 {
            Source::Random(rng) => rng.below(n),
            Source::Bytes { then, .. } => then.below(n),
        }
    }

    /// A choice among `low..=high`.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number of an operand among `0..n`.
    pub fn number(&mut self, n: usize) -> usize {
        if let Source::Bytes { rest, .. } = &mut self.0
            && let Some((last, others)) = rest.split_last()
        {
            *rest = others;
            return usize::from(*last) % n.max(1);
        }
        match &mut self.0 {
            Source::Random(rng) => rng.below(n),
            Source::Bytes { then, .. } => then.below(n),
        }
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        match &mut self.0 {
            Source::Random(rng) => rng.next_u32(),
            Source::Bytes { then, .. } => then.next_u32(),
        }
    }

    /// Uniform on `[0, 1)`.
    pub fn uniform(&mut self) -> f32 {
        match &mut self.0 {
            Source::Random(rng) => rng.uniform(),
            Source::Bytes { then, .. } => then.uniform(),
        }
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f32 {
        match &mut self.0 {
            Source::Random(rng) => rng.normal(),
            Source::Bytes { then, .. } => then.normal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_choices_and_a_fixed_sequence_gives_the_rest() {
        let mut choices = Choices::from(&[5u8, 200, 7, 9][..]);
        assert_eq!((choices.below(4), choices.number(4), choices.range(10, 12)), (1, 1, 10 + 200 % 3));
        let mut rest = Sequence(0);
        assert_eq!(choices.below(0), 0);
        assert_eq!((choices.normal(), choices.uniform()), (rest.normal(), rest.uniform()));
        assert_eq!((choices.below(1000), choices.number(1000)), (rest.below(1000), rest.below(1000)));
    }

    #[test]
    fn the_sequence_is_spread_as_random_numbers_are() {
        let (mut sequence, n) = (Sequence(0), 100_000);
        let normals: Vec<f64> = (0..n).map(|_| f64::from(sequence.normal())).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        // Five standard errors of a table of 4096 numbers.
        assert!(mean.abs() < 0.08 && (variance - 1.0).abs() < 0.12, "{mean} {variance}");
        let mut counts = [0; 7];
        (0..70_000).for_each(|_| counts[sequence.below(7)] += 1);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert!((0..1000).all(|_| (0.0..1.0).contains(&sequence.uniform())));
    }

    #[test]
    fn random_choices_are_those_of_the_generator() {
        let (mut rng, mut same) = (Philox::new(7), Philox::new(7));
        let mut choices = Choices::from(&mut rng);
        for n in [1, 3, 1000] {
            assert_eq!((choices.below(n), choices.number(n)), (same.below(n), same.below(n)));
            assert_eq!((choices.next_u32(), choices.uniform()), (same.next_u32(), same.uniform()));
        }
    }
}
