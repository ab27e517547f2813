//! How good a model in training is.

use tubelet_engine::{DType, Error, Result, Tensor};

use super::Trainer;
use crate::{
    Pass,
    classify::{Average, average},
    train::{
        data::Dataset,
        metrics::{Accuracy, mean_average_precision},
    },
    video::Views,
};

/// How good a model is on a data set.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Mean loss, without label smoothing.
    pub loss: f64,
    /// Right predictions.
    pub accuracy: Accuracy,
    /// For multi-label sets.
    pub mean_average_precision: Option<f64>,
    /// `confusion[label][prediction]`, counts.
    pub confusion: Vec<Vec<usize>>,
    /// The best class of every clip that could be read, in their order.
    pub predictions: Vec<usize>,
    /// Clips that could not be read.
    pub skipped: usize,
}

impl Trainer {
    /// How good the (averaged) parameters are on at most `most` clips of a data set, the recipe's `set`-th, each looked at in `views`. `progress` is
    /// told of each clip.
    ///
    /// # Errors
    /// What operations say, and a data set of which nothing can be read.
    pub fn evaluate(
        &self,
        set: usize,
        data: &dyn Dataset,
        views: Views,
        most: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Evaluation> {
        let goal = *self.goals.get(set).ok_or_else(|| Error::invalid("evaluation", format!("there is no data set {set}")))?;
        let model = self.averaged().model(&self.config, &self.device, self.dtype)?;
        let classes = model.heads().get(goal.head).copied().unwrap_or(0);
        // Several labels have no softmax to average.
        let how = if goal.multi_label { Average::Logits } else { self.config.protocol().average };
        let mut found = Evaluation { confusion: vec![vec![0; classes]; classes], ..Evaluation::default() };
        let (mut scores, mut positives, mut loss) = (Vec::new(), Vec::new(), 0.0);
        for index in 0..data.size().unwrap_or(most).min(most) {
            progress(1);
            let Ok(views) = data.views(index, views) else {
                found.skipped += 1;
                continue;
            };
            let mut rows = Vec::with_capacity(views.len());
            for frames in views.iter().map(|view| &view.frames) {
                let shape = [1, frames.len(), frames.height, frames.width, 3];
                let video = Tensor::from_bytes(&self.device, DType::U8, &shape, &frames.data)?;
                let logits = model.forward_for(goal.head, &video, &mut Pass::inference())?;
                rows.push(logits.cast(DType::F32)?.to_vec::<f32>()?);
            }
            let Some(labels) = views.first().map(|view| &view.labels) else { continue };
            let row: Vec<bool> = (0..classes).map(|class| labels.contains(&class)).collect();
            let target: Vec<f32> = row.iter().map(|&x| f32::from(u8::from(x))).collect();
            let combined = combine(rows, how);
            let logits = Tensor::from_slice(&self.device, &[1, classes], &combined)?;
            let target = Tensor::from_slice(&self.device, &[1, classes], &target)?;
            loss += f64::from(super::loss(goal, &logits, &target, 0.0)?.to_vec::<f32>()?[0]);
            let best = (0..classes).fold(0, |best, class| if combined[class] > combined[best] { class } else { best });
            found.predictions.push(best);
            if let Some(&label) = labels.first() {
                found.accuracy.add(&combined, label);
                if let Some(count) = found.confusion.get_mut(label).and_then(|row| row.get_mut(best)) {
                    *count += 1;
                }
            }
            scores.push(combined);
            positives.push(row);
        }
        if scores.is_empty() {
            return Err(Error::format("validation", format!("none of {} clips could be read", found.skipped)));
        }
        found.loss = loss / scores.len() as f64;
        if goal.multi_label {
            found.mean_average_precision = mean_average_precision(&scores, &positives);
        }
        Ok(found)
    }
}

/// Logits of the prediction that views make together: their mean, or the logarithms of the mean probabilities, which are logits of these.
fn combine(mut rows: Vec<Vec<f32>>, how: Average) -> Vec<f32> {
    match (rows.len(), how) {
        (0 | 1, _) => rows.pop().unwrap_or_default(),
        (n, Average::Logits) => {
            let mean = |class: usize| rows.iter().map(|row| f64::from(row[class])).sum::<f64>() / n as f64;
            (0..rows[0].len()).map(|class| mean(class) as f32).collect()
        }
        // A class may be so improbable that its probability is 0; its logarithm stays finite.
        (_, Average::Probabilities) => average(&rows, how).into_iter().map(|p| p.max(f32::MIN_POSITIVE).ln()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_make_one_prediction() {
        let rows = || vec![vec![0.0, 2.0, 1.0], vec![4.0, 0.0, 1.0]];
        assert_eq!(combine(rows(), Average::Logits), [2.0, 1.0, 1.0]);
        let logits = combine(rows(), Average::Probabilities);
        let own = average(&rows(), Average::Probabilities);
        // The softmax of the logits is what was averaged.
        let again = average(&[logits], Average::Logits);
        assert!(own.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-6), "{own:?} {again:?}");
        assert!((own.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(combine(vec![vec![3.0, -1.0]], Average::Probabilities), [3.0, -1.0], "one view is itself");
    }
}
