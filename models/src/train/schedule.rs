//! Learning rates over the course of training.

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Result};

/// The learning rate as a part of the recipe's, by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// From 0 to 1 in a straight line over `warm_up` steps, then along half a cosine to `end` (SGDR; Loshchilov and Hutter, 2017).
    Cosine {
        /// Steps.
        warm_up: u64,
        /// The part that is left at the last step.
        #[serde(default)]
        end: f64,
    },
    /// Times `factor` at each of `steps`.
    Steps {
        /// Increasing steps.
        steps: Vec<u64>,
        /// Below 1.
        factor: f64,
    },
}

impl Schedule {
    /// The part at `step` (from 0) of `total`.
    pub fn part(&self, step: u64, total: u64) -> f64 {
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine { warm_up, .. } if step < *warm_up => (step + 1) as f64 / *warm_up as f64,
            Schedule::Cosine { warm_up, end } => {
                let done = (step - warm_up) as f64 / (total.saturating_sub(*warm_up)).max(1) as f64;
                end + (1.0 - end) * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }
            Schedule::Steps { steps, factor } => factor.powi(steps.iter().filter(|&&at| step >= at).count() as i32),
        }
    }

    /// An error where the numbers make no sense.
    pub fn validate(&self) -> Result<()> {
        let fits = match self {
            Schedule::Constant => true,
            Schedule::Cosine { end, .. } => (0.0..=1.0).contains(end),
            Schedule::Steps { steps, factor } => steps.windows(2).all(|w| w[0] < w[1]) && *factor > 0.0 && *factor <= 1.0,
        };
        if fits { Ok(()) } else { Err(Error::invalid("schedule", format!("{self:?}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points() {
        let cosine = Schedule::Cosine { warm_up: 10, end: 0.2 };
        let at = |step| cosine.part(step, 110);
        assert!((at(0) - 0.1).abs() < 1e-12 && (at(9) - 1.0).abs() < 1e-12 && (at(10) - 1.0).abs() < 1e-12);
        assert!((at(60) - 0.6).abs() < 1e-12, "half way: the mean of 1 and 0.2");
        assert!((at(110) - 0.2).abs() < 1e-12 && (at(500) - 0.2).abs() < 1e-12);
        let steps = Schedule::Steps { steps: vec![5, 8], factor: 0.1 };
        assert_eq!([4, 5, 7, 8].map(|step| (steps.part(step, 9) * 1e3).round()), [1000.0, 100.0, 100.0, 10.0]);
        assert!(Schedule::Steps { steps: vec![8, 5], factor: 0.1 }.validate().is_err());
    }
}
