//! How good predictions are. Scores that are not finite numbers are errors: no comparison with NaN is
//! true, so that any count of them would be wrong.

use tubelet_engine::{Error, Result};

use crate::classify::check_finite;

/// Counts of right predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Samples whose label has the largest score.
    pub top1: usize,
    /// Samples whose label has one of the five largest.
    pub top5: usize,
    /// Samples.
    pub total: usize,
}

impl Accuracy {
    /// Counts one sample. Of equal scores the lower class counts as larger.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a label that has no score, and for scores that are not finite.
    pub fn add(&mut self, scores: &[f32], label: usize) -> Result<()> {
        check_finite(scores)?;
        let no_score = || Error::invalid("label", format!("{label}, but there are {} classes", scores.len()));
        let own = *scores.get(label).ok_or_else(no_score)?;
        let better = scores.iter().enumerate().filter(|&(class, &x)| x > own || (x == own && class < label)).count();
        self.top1 += usize::from(better == 0);
        self.top5 += usize::from(better < 5);
        self.total += 1;
        Ok(())
    }

    /// The part that is right, 0 of nothing.
    pub fn rate(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.top1 as f64 / self.total as f64 }
    }

    /// Likewise for the five best.
    pub fn rate5(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.top5 as f64 / self.total as f64 }
    }
}

/// Mean average precision as Charades computes it: for every class that has a positive sample the
/// mean, over its positives, of the precision at that rank; then the mean over those classes. `scores`
/// and `positives` hold a row of classes for each sample. The result is `None` without positives.
///
/// # Errors
/// [`Error::Invalid`] for scores that are not finite, and for rows that differ in length or number.
pub fn mean_average_precision(scores: &[Vec<f32>], positives: &[Vec<bool>]) -> Result<Option<f64>> {
    scores.iter().try_for_each(|row| check_finite(row))?;
    let classes = scores.first().map_or(0, Vec::len);
    let is_whole = scores.len() == positives.len()
        && scores.iter().all(|row| row.len() == classes)
        && positives.iter().all(|row| row.len() == classes);
    if !is_whole {
        return Err(Error::invalid("scores", "there must be a score and a truth for each class of each sample"));
    }
    let precision = |class: usize| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b][class].total_cmp(&scores[a][class]));
        let (mut found, mut sum) = (0, 0.0);
        for (rank, &i) in order.iter().enumerate() {
            if positives[i][class] {
                found += 1;
                sum += f64::from(found) / (rank + 1) as f64;
            }
        }
        (found > 0).then(|| sum / f64::from(found))
    };
    let all: Vec<f64> = (0..classes).filter_map(precision).collect();
    Ok((!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranks_decide() {
        let mut accuracy = Accuracy::default();
        accuracy.add(&[0.1, 0.7, 0.2], 1).unwrap();
        accuracy.add(&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 4).unwrap();
        accuracy.add(&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 5).unwrap();
        accuracy.add(&[1.0, 1.0], 1).unwrap();
        assert_eq!(accuracy, Accuracy { top1: 1, top5: 3, total: 4 });
        assert!((accuracy.rate5() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn average_precision_by_hand() {
        // Class 0: positives at ranks 1 and 3: (1 + 2/3)/2. Class 1 has no positive. Class 2: rank 2: 1/2.
        let scores = vec![vec![0.9, 0.1, 0.3], vec![0.8, 0.2, 0.9], vec![0.1, 0.3, 0.1]];
        let positives = vec![vec![true, false, true], vec![false; 3], vec![true, false, false]];
        let expected = ((1.0 + 2.0 / 3.0) / 2.0 + 0.5) / 2.0;
        assert!((mean_average_precision(&scores, &positives).unwrap().unwrap_or(0.0) - expected).abs() < 1e-12);
        assert_eq!(mean_average_precision(&scores, &vec![vec![false; 3]; 3]).unwrap(), None);
    }

    #[test]
    fn scores_that_are_not_finite_are_not_counted() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut accuracy = Accuracy::default();
            for label in 0..2 {
                let error = accuracy.add(&[0.0, bad], label).unwrap_err().to_string();
                assert!(error.contains("the score of class 1"), "{error}");
            }
            assert_eq!(accuracy, Accuracy::default());
            mean_average_precision(&[vec![bad, 0.0]], &[vec![false, true]]).unwrap_err();
        }
        assert!(Accuracy::default().add(&[0.0, 1.0], 2).unwrap_err().to_string().contains("label: 2"));
        mean_average_precision(&[vec![0.0, 1.0]], &[vec![true]]).unwrap_err();
    }
}
