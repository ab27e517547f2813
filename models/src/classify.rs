//! From the views of a video to class probabilities.

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Device, Error, Result, Tensor};

pub use crate::labels::{parse as parse_labels, write as write_labels};
use crate::{Pass, model::Model, video::Frames};

/// How the views of a video become one prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Softmax of the mean of the logits: ViViT.
    Logits,
    /// Mean of the softmaxes: UniFormerV2, VidTr.
    Probabilities,
}

/// A class and its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Index of the class.
    pub class: usize,
    /// In `0..=1`.
    pub probability: f32,
}

/// The logits of one view: `[classes]`.
///
/// # Errors
/// A logit that is not a number means broken weights, and is an [`Error::Invalid`].
pub fn logits(model: &dyn Model, device: &Device, view: &Frames) -> Result<Vec<f32>> {
    let video = Tensor::from_bytes(device, DType::U8, &[1, view.len(), view.height, view.width, 3], &view.data)?;
    let logits = model.forward(&video, &mut Pass::inference())?.to_f32_vec()?;
    match logits.iter().position(|x| !x.is_finite()) {
        None => Ok(logits),
        Some(class) => {
            let message = format!(
                "the logit of class {class} is {}: the weights are broken, or overflow in this element type",
                logits[class]
            );
            Err(Error::invalid("weights", message))
        }
    }
}

/// Class probabilities from the logits of every view.
///
/// # Errors
/// [`Error::Invalid`] for a logit that is not finite, and for views with different numbers of classes.
pub fn average(views: &[Vec<f32>], how: Average) -> Result<Vec<f32>> {
    let Some(classes) = views.first().map(Vec::len) else { return Ok(Vec::new()) };
    for (view, row) in views.iter().enumerate() {
        if row.len() != classes {
            return Err(Error::invalid("views", format!("view {} has {} classes, view 1 has {classes}", view + 1, row.len())));
        }
        check_finite(row).map_err(|error| Error::invalid(format!("view {}", view + 1), error.to_string()))?;
    }
    let mean = |rows: &[Vec<f64>]| -> Vec<f64> {
        (0..classes).map(|class| rows.iter().map(|row| row[class]).sum::<f64>() / rows.len() as f64).collect()
    };
    let rows: Vec<Vec<f64>> = views.iter().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
    let probabilities = match how {
        Average::Logits => softmax(&mean(&rows)),
        Average::Probabilities => mean(&rows.iter().map(|row| softmax(row)).collect::<Vec<_>>()),
    };
    Ok(probabilities.into_iter().map(|p| p as f32).collect())
}

/// Checks that all scores of a sample are finite.
///
/// # Errors
/// [`Error::Invalid`] with the first class whose score is not.
pub fn check_finite(scores: &[f32]) -> Result<()> {
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(class) => Err(Error::invalid("scores", format!("the score of class {class} is {}", scores[class]))),
    }
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// The `k` most probable classes, best first; of equals the lower index.
///
/// # Errors
/// [`Error::Invalid`] for a probability that is not finite.
pub fn top_k(probabilities: &[f32], k: usize) -> Result<Vec<Prediction>> {
    check_finite(probabilities)?;
    let mut all: Vec<Prediction> =
        probabilities.iter().enumerate().map(|(class, &probability)| Prediction { class, probability }).collect();
    all.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    all.truncate(k);
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for how in [Average::Logits, Average::Probabilities] {
                let error = average(&[vec![0.0, 1.0], vec![0.0, bad]], how).unwrap_err().to_string();
                assert!(error.contains("view 2") && error.contains("class 1"), "{error}");
            }
            top_k(&[0.5, bad], 1).unwrap_err();
        }
        average(&[vec![0.0, 1.0], vec![0.0]], Average::Logits).unwrap_err();
    }

    #[test]
    fn both_averages() {
        let views = vec![vec![0.0, 2f32.ln()], vec![0.0, 8f32.ln()]];
        let by_logits = average(&views, Average::Logits).unwrap();
        assert!((by_logits[1] - 0.8).abs() < 1e-6, "mean logit ln 4, so 4/5");
        let by_probabilities = average(&views, Average::Probabilities).unwrap();
        assert!((by_probabilities[1] - (2.0 / 3.0 + 8.0 / 9.0) / 2.0).abs() < 1e-6);
        assert_eq!(top_k(&[0.2, 0.5, 0.2, 0.1], 3).unwrap().iter().map(|p| p.class).collect::<Vec<_>>(), [1, 0, 2]);
    }
}
