//! Objects in a picture, and how right a set of answers is.

use serde::{Deserialize, Serialize};

/// A box in pixels of the picture it belongs to; `x1 <= x2`, `y1 <= y2`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Upper edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Lower edge.
    pub y2: f32,
}

impl BBox {
    /// The box of that centre, width and height.
    #[cfg(feature = "torch")]
    pub(crate) fn around(x: f32, y: f32, width: f32, height: f32) -> Self {
        let (w, h) = (width / 2.0, height / 2.0);
        Self {
            x1: x - w,
            y1: y - h,
            x2: x + w,
            y2: y + h,
        }
    }

    /// Area in square pixels, 0 for a box turned inside out.
    #[must_use]
    pub fn area(&self) -> f32 {
        (self.x2 - self.x1).max(0.0) * (self.y2 - self.y1).max(0.0)
    }

    /// Intersection over union, 0..=1; 0 when either box is empty.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let overlap = Self {
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
            x2: self.x2.min(other.x2),
            y2: self.y2.min(other.y2),
        }
        .area();
        let union = self.area() + other.area() - overlap;
        if union > 0.0 { overlap / union } else { 0.0 }
    }
}

/// One object: what and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Index into the class list of the stream.
    pub class: usize,
    /// Confidence, 0..=1; 1 for ground truth.
    pub score: f32,
    /// Where, in pixels of the picture.
    pub bbox: BBox,
}

/// Smallest overlap at which an answer counts as being about an object.
const MIN_IOU: f32 = 0.3;

/// Fraction of `truth` for which the best-overlapping answer (IoU ≥ 0.3) names the right class.
///
/// This is the accuracy of classification streams; a frame without objects gives `None`.
#[must_use]
pub fn matched_accuracy(truth: &[Object], answers: &[Object]) -> Option<f64> {
    if truth.is_empty() {
        return None;
    }
    let right = truth.iter().filter(|object| is_matched(object, answers));
    Some(right.count() as f64 / truth.len() as f64)
}

/// Whether the answer that overlaps an object best (IoU ≥ 0.3) names its class.
#[must_use]
pub fn is_matched(object: &Object, answers: &[Object]) -> bool {
    right_answer(object, answers).is_some()
}

/// The answer that overlaps `object` most, when that is right in the sense of [`is_matched`].
#[must_use]
pub fn right_answer<'a>(object: &Object, answers: &'a [Object]) -> Option<&'a Object> {
    let (iou, best) = answers
        .iter()
        .map(|answer| (answer.bbox.iou(&object.bbox), answer))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (iou >= MIN_IOU && best.class == object.class).then_some(best)
}

/// F1 of `answers` against `truth`: an answer is right when it overlaps an object of its class that
/// no more confident answer has taken, by IoU ≥ 0.3. `None` when both are empty.
#[must_use]
pub fn f1_at(truth: &[Object], answers: &[Object]) -> Option<f64> {
    if truth.is_empty() && answers.is_empty() {
        return None;
    }
    let mut order: Vec<&Object> = answers.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut taken = vec![false; truth.len()];
    let mut right = 0usize;
    for answer in order {
        let best = truth
            .iter()
            .enumerate()
            .filter(|(i, object)| !taken[*i] && object.class == answer.class)
            .map(|(i, object)| (i, object.bbox.iou(&answer.bbox)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((i, iou)) = best
            && iou >= MIN_IOU
        {
            taken[i] = true;
            right += 1;
        }
    }
    Some(2.0 * right as f64 / (truth.len() + answers.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: usize, x: f32) -> Object {
        Object {
            class,
            score: 1.0,
            bbox: BBox {
                x1: x,
                y1: 0.0,
                x2: x + 10.0,
                y2: 10.0,
            },
        }
    }

    #[test]
    fn iou_of_half_shifted_boxes_is_a_third() {
        let iou = object(0, 0.0).bbox.iou(&object(0, 5.0).bbox);
        assert!((iou - 1.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn accuracy_counts_objects_not_answers() {
        let truth = [object(0, 0.0), object(1, 100.0)];
        assert_eq!(matched_accuracy(&truth, &[object(0, 1.0)]), Some(0.5));
        assert_eq!(
            matched_accuracy(&truth, &[object(1, 1.0), object(1, 99.0)]),
            Some(0.5)
        );
        assert_eq!(matched_accuracy(&[], &[object(0, 0.0)]), None);
    }

    #[test]
    fn f1_punishes_missing_and_extra_answers() {
        let truth = [object(0, 0.0), object(1, 100.0)];
        assert_eq!(f1_at(&truth, &truth), Some(1.0));
        assert_eq!(f1_at(&truth, &truth[..1]), Some(2.0 / 3.0));
        assert_eq!(
            f1_at(&truth[..1], &[object(0, 0.0), object(0, 1.0)]),
            Some(2.0 / 3.0)
        );
        assert_eq!(f1_at(&[], &[]), None);
        assert_eq!(f1_at(&[], &truth), Some(0.0));
    }
}
