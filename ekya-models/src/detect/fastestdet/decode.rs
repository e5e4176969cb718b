//! From what cells answered to scored boxes.

use tch::TchError;

use super::super::coco::ClassMap;
use super::super::decode::logistic;
use super::network::Answer;
use crate::{BBox, Object};

/// Answers below this score are dropped: where F1 against the teacher is highest for the published
/// weights on street and campus cameras, and training keeps it there.
const MIN_SCORE: f32 = 0.5;

/// Weight of objectness in a score, which is `objectness^w * class probability^(1-w)`; the value of
/// the network's authors.
const OBJECT_WEIGHT: f32 = 0.6;

/// Boxes of the stream's classes in an answer about one picture, in fractions of the input.
pub(super) fn boxes(answer: &Answer, classes: &ClassMap) -> Result<Vec<Object>, TchError> {
    let raw = Vec::<f32>::try_from(answer.raw()?.f_flatten(0, -1)?)?;
    let (_, _, _, cells) = answer.object.size4()?;
    Ok(decode(&raw, cells as usize, classes))
}

/// The objects in raw output of `cells` × `cells`.
fn decode(raw: &[f32], cells: usize, classes: &ClassMap) -> Vec<Object> {
    let area = cells * cells;
    let mut found = Vec::new();
    for cell in 0..area {
        let channel = |c: usize| raw[c * area + cell];
        // The class part of a score is at most 1.
        if channel(0).powf(OBJECT_WEIGHT) < MIN_SCORE {
            continue;
        }
        let (class, probability) = classes.best(|output| channel(5 + output));
        let score = channel(0).powf(OBJECT_WEIGHT) * probability.powf(1.0 - OBJECT_WEIGHT);
        if score < MIN_SCORE {
            continue;
        }
        let size = cells as f32;
        let x = ((cell % cells) as f32 + channel(1).tanh()) / size;
        let y = ((cell / cells) as f32 + channel(2).tanh()) / size;
        let (width, height) = (logistic(channel(3)), logistic(channel(4)));
        found.push(Object {
            class,
            score,
            bbox: BBox::around(x, y, width, height),
        });
    }
    found
}
