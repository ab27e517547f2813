//! How good predictions are.

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
    pub fn add(&mut self, scores: &[f32], label: usize) {
        let Some(&own) = scores.get(label) else { return };
        let better = scores.iter().enumerate().filter(|&(class, &x)| x > own || (x == own && class < label)).count();
        self.top1 += usize::from(better == 0);
        self.top5 += usize::from(better < 5);
        self.total += 1;
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

/// Mean average precision as Charades computes it: for every class that has a positive sample the mean, over its positives, of the precision at
/// that rank; then the mean over those classes. `scores` and `positives` hold a row of classes for each sample; `None` without positives.
pub fn mean_average_precision(scores: &[Vec<f32>], positives: &[Vec<bool>]) -> Option<f64> {
    let classes = scores.first()?.len();
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
    if all.is_empty() { None } else { Some(all.iter().sum::<f64>() / all.len() as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_decide() {
        let mut accuracy = Accuracy::default();
        accuracy.add(&[0.1, 0.7, 0.2], 1);
        accuracy.add(&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 4);
        accuracy.add(&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 5);
        accuracy.add(&[1.0, 1.0], 1);
        assert_eq!(accuracy, Accuracy { top1: 1, top5: 3, total: 4 });
        assert!((accuracy.rate5() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn average_precision_by_hand() {
        // Class 0: positives at ranks 1 and 3: (1 + 2/3)/2. Class 1 has no positive. Class 2: rank 2: 1/2.
        let scores = vec![vec![0.9, 0.1, 0.3], vec![0.8, 0.2, 0.9], vec![0.1, 0.3, 0.1]];
        let positives = vec![vec![true, false, true], vec![false; 3], vec![true, false, false]];
        let expected = ((1.0 + 2.0 / 3.0) / 2.0 + 0.5) / 2.0;
        assert!((mean_average_precision(&scores, &positives).unwrap_or(0.0) - expected).abs() < 1e-12);
        assert_eq!(mean_average_precision(&scores, &vec![vec![false; 3]; 3]), None);
    }
}
