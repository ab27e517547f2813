//! How good a model in training is.

use std::time::{Duration, Instant};

use tubelet_autograd::detect_anomalies;
use tubelet_engine::{DType, Error, Result, Tensor};

use super::{Goal, Trainer};
use crate::{
    Pass,
    classify::{Average, average, check_finite},
    model::Model,
    train::{
        data::{Dataset, Viewing},
        metrics::{Accuracy, mean_average_precision},
        report::Record,
    },
    video::{Frames, Views},
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
    /// How long the evaluation took.
    pub elapsed: Duration,
    /// How much of that clips were read for.
    pub reading: Duration,
}

impl Evaluation {
    /// The share of the time that clips were read for.
    pub fn decoding(&self) -> f64 {
        self.reading.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// What is told during an evaluation.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The next clip is about to be read.
    Clip,
    /// Something that the user should know of a clip.
    Record(&'a Record),
}

/// A model in evaluation, with what it needs to tell where a number comes from.
struct Evaluator<'a> {
    trainer: &'a Trainer,
    goal: Goal,
    model: Box<dyn Model>,
    classes: usize,
    how: Average,
}

impl Trainer {
    /// How good the (averaged) parameters are on at most `most` clips of a data set, the recipe's `set`-th, each looked at in `views`. `observe` is
    /// told of each clip, and of clips that cannot be read or are unusual; its error ends the evaluation.
    ///
    /// # Errors
    /// What operations say; a data set of which nothing can be read; a label that is none of the model's; and
    /// logits that are not finite, with the clip, the view and the operation that they first came from.
    pub fn evaluate(
        &self,
        set: usize,
        data: &dyn Dataset,
        views: Views,
        most: u64,
        observe: &mut dyn FnMut(Seen<'_>) -> Result<()>,
    ) -> Result<Evaluation> {
        let began = Instant::now();
        let evaluator = Evaluator::new(self, set)?;
        let classes = evaluator.classes;
        let mut found = Evaluation { confusion: vec![vec![0; classes]; classes], ..Evaluation::default() };
        let (mut scores, mut positives, mut loss) = (Vec::new(), Vec::new(), 0.0);
        for index in 0..data.size().unwrap_or(most).min(most) {
            observe(Seen::Clip)?;
            let reading = Instant::now();
            let read = data.views(index, views);
            found.reading += reading.elapsed();
            let Viewing { clips, labels, notes } = match read {
                Ok(viewing) => viewing,
                Err(error) => {
                    observe(Seen::Record(&Record::skipped(data, index, &error)))?;
                    found.skipped += 1;
                    continue;
                }
            };
            notes.into_iter().try_for_each(|note| observe(Seen::Record(&Record::note(data, index, note))))?;
            let named = |error: Error| Error::invalid(data.describe(index), error.to_string());
            let combined = evaluator.predict(&clips).map_err(named)?;
            let row = evaluator.truth(&labels).map_err(named)?;
            loss += evaluator.loss(&combined, &row)?;
            count(&mut found, &combined, &labels).map_err(named)?;
            scores.push(combined);
            positives.push(row);
        }
        if scores.is_empty() {
            let message = match found.skipped {
                0 => "there are no clips to evaluate on".to_owned(),
                skipped => format!("none of {skipped} clips could be read"),
            };
            return Err(Error::format("validation", message));
        }
        found.loss = loss / scores.len() as f64;
        if evaluator.goal.multi_label {
            found.mean_average_precision = mean_average_precision(&scores, &positives)?;
        }
        found.elapsed = began.elapsed();
        Ok(found)
    }
}

impl<'a> Evaluator<'a> {
    fn new(trainer: &'a Trainer, set: usize) -> Result<Self> {
        let missing = || Error::invalid("evaluation", format!("there is no data set {set}"));
        let goal = *trainer.goals.get(set).ok_or_else(missing)?;
        let model = trainer.averaged().model(&trainer.config, &trainer.device, trainer.dtype)?;
        let classes = model.heads().get(goal.head).copied().unwrap_or(0);
        // Several labels have no softmax to average.
        let how = if goal.multi_label { Average::Logits } else { trainer.config.protocol().average };
        Ok(Evaluator { trainer, goal, model, classes, how })
    }

    /// The logits of a clip from those of its views, each of which is checked.
    fn predict(&self, views: &[Frames]) -> Result<Vec<f32>> {
        let mut rows = Vec::with_capacity(views.len());
        for (i, frames) in views.iter().enumerate() {
            let row = self.logits(&*self.model, frames)?;
            check_finite(&row).map_err(|error| {
                let view = format!("view {} of {}", i + 1, views.len());
                Error::invalid(view, format!("{error}; {}", self.first_anomaly(frames)))
            })?;
            rows.push(row);
        }
        let combined = combine(rows, self.how)?;
        if combined.is_empty() {
            return Err(Error::invalid("views", "there are none"));
        }
        Ok(combined)
    }

    fn logits(&self, model: &dyn Model, frames: &Frames) -> Result<Vec<f32>> {
        let shape = [1, frames.len(), frames.height, frames.width, 3];
        let video = Tensor::from_bytes(&self.trainer.device, DType::U8, &shape, &frames.data)?;
        let logits = model.forward_for(self.goal.head, &video, &mut Pass::inference())?;
        logits.cast(DType::F32)?.to_vec::<f32>()
    }

    /// Computes a view again, and says which operation was the first with a result that is not finite.
    fn first_anomaly(&self, frames: &Frames) -> String {
        let Trainer { config, device, dtype, .. } = self.trainer;
        // Only operations on variables are looked through.
        let recorded = self.trainer.averaged().training_model(config, device, *dtype);
        let again = recorded.and_then(|(model, _)| detect_anomalies(|| self.logits(&*model, frames)));
        let from = match again {
            Err(error) => format!("the first operation with a result that is not finite: {error}"),
            Ok(_) => "computed again, every operation has finite results".to_owned(),
        };
        format!("{from}; the weights are broken, or overflow in {}", dtype.name())
    }

    /// For each class whether the clip has it.
    fn truth(&self, labels: &[usize]) -> Result<Vec<bool>> {
        if let Some(label) = labels.iter().find(|&&label| label >= self.classes) {
            return Err(Error::invalid("label", format!("{label}, but the model has {} classes", self.classes)));
        }
        if labels.len() != 1 && !self.goal.multi_label {
            return Err(Error::invalid("labels", format!("{}, where `multi_label` is not set", labels.len())));
        }
        Ok((0..self.classes).map(|class| labels.contains(&class)).collect())
    }

    fn loss(&self, logits: &[f32], truth: &[bool]) -> Result<f64> {
        let target: Vec<f32> = truth.iter().map(|&x| f32::from(u8::from(x))).collect();
        let row = |values: &[f32]| Tensor::from_slice(&self.trainer.device, &[1, self.classes], values);
        let loss = super::loss(self.goal, &row(logits)?, &row(&target)?, 0.0)?.to_vec::<f32>()?;
        loss.first().map(|&loss| f64::from(loss)).ok_or_else(|| Error::invalid("loss", "it has no value"))
    }
}

/// Counts the prediction for a clip.
fn count(found: &mut Evaluation, logits: &[f32], labels: &[usize]) -> Result<()> {
    let best = (0..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
    found.predictions.push(best);
    let Some(&label) = labels.first() else { return Ok(()) };
    found.accuracy.add(logits, label)?;
    if let Some(count) = found.confusion.get_mut(label).and_then(|row| row.get_mut(best)) {
        *count += 1;
    }
    Ok(())
}

/// Logits of the prediction that views make together: their mean, or the logarithms of the mean probabilities, which are logits of these.
fn combine(mut rows: Vec<Vec<f32>>, how: Average) -> Result<Vec<f32>> {
    Ok(match (rows.len(), how) {
        (0 | 1, _) => rows.pop().unwrap_or_default(),
        (n, Average::Logits) => {
            let mean = |class: usize| rows.iter().map(|row| f64::from(row[class])).sum::<f64>() / n as f64;
            (0..rows[0].len()).map(|class| mean(class) as f32).collect()
        }
        // A class may be so improbable that its probability is 0; its logarithm stays finite.
        (_, Average::Probabilities) => average(&rows, how)?.into_iter().map(|p| p.max(f32::MIN_POSITIVE).ln()).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn views_make_one_prediction() {
        let rows = || vec![vec![0.0, 2.0, 1.0], vec![4.0, 0.0, 1.0]];
        assert_eq!(combine(rows(), Average::Logits).unwrap(), [2.0, 1.0, 1.0]);
        let logits = combine(rows(), Average::Probabilities).unwrap();
        let own = average(&rows(), Average::Probabilities).unwrap();
        // The softmax of the logits is what was averaged.
        let again = average(&[logits], Average::Logits).unwrap();
        assert!(own.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-6), "{own:?} {again:?}");
        assert!((own.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(combine(vec![vec![3.0, -1.0]], Average::Probabilities).unwrap(), [3.0, -1.0], "one view is itself");
    }
}
