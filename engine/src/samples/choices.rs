//! Where the choices of a sample come from: random numbers, or the bytes of a fuzzer's input.

use crate::Philox;

/// A source of choices.
///
/// From bytes, each choice of a shape, an option or an arrangement takes the next byte from the front, and each number of
/// an operand that is picked from a list takes one from the back, so that a changed byte changes one choice and a longer
/// input moves none. Philox gives what is left when the bytes are used up, and always gives what is continuous: the
/// tolerances are derived for numbers that are spread as its numbers are.
#[derive(Debug)]
pub struct Choices<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Random(&'a mut Philox),
    Bytes { rest: &'a [u8], then: Philox },
}

impl<'a> From<&'a mut Philox> for Choices<'a> {
    fn from(rng: &'a mut Philox) -> Self {
        Choices(Source::Random(rng))
    }
}

impl<'a> From<&'a [u8]> for Choices<'a> {
    fn from(rest: &'a [u8]) -> Self {
        Choices(Source::Bytes { rest, then: Philox::new(0) })
    }
}

impl Choices<'_> {
    fn philox(&mut self) -> &mut Philox {
        match &mut self.0 {
            Source::Random(rng) => rng,
            Source::Bytes { then, .. } => then,
        }
    }

    /// A choice among `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if let Source::Bytes { rest, .. } = &mut self.0
            && let Some((first, others)) = rest.split_first()
        {
            *rest = others;
            return usize::from(*first) % n.max(1);
        }
        self.philox().below(n)
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
        self.philox().below(n)
    }

    /// 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.philox().next_u32()
    }

    /// Uniform on `[0, 1)`.
    pub fn uniform(&mut self) -> f32 {
        self.philox().uniform()
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f32 {
        self.philox().normal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_choices_and_philox_gives_the_rest() {
        let mut choices = Choices::from(&[5u8, 200, 7, 9][..]);
        assert_eq!((choices.below(4), choices.number(4), choices.range(10, 12)), (1, 1, 10 + 200 % 3));
        assert_eq!((choices.below(0), choices.normal()), (0, Philox::new(0).normal()));
        let mut rng = Philox::new(0);
        rng.normal();
        assert_eq!((choices.below(1000), choices.number(1000)), (rng.below(1000), rng.below(1000)));
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
