//! Between boxes and what predictions say: the centre's distance from the anchor's in anchors, times
//! 10, and the logarithm of the sides over the anchor's, times 5 (the variances of SSD, Liu et al. 2016).

use tch::{Kind, TchError};

use super::super::coco::ClassMap;
use super::anchors::anchors;
use super::network::Answer;
use crate::{BBox, Object};

/// Answers below this score are dropped.
const MIN_SCORE: f32 = 0.4;

const CENTRE_VARIANCE: f32 = 0.1;
const SIDE_VARIANCE: f32 = 0.2;

/// Largest logarithm of a box's side over its anchor's: keeps sides finite.
const LOG_MAX: f32 = 4.0;

/// Boxes of the stream's classes in an answer about one picture, in fractions of the input. The score
/// is the probability of the class.
pub(super) fn boxes(answer: &Answer, classes: &ClassMap) -> Result<Vec<Object>, TchError> {
    let probabilities = answer.class.f_softmax(-1, Kind::Float)?;
    let probabilities = Vec::<f32>::try_from(probabilities.f_flatten(0, -1)?)?;
    let codes = Vec::<f32>::try_from(answer.bbox.f_flatten(0, -1)?)?;
    let predictions = probabilities
        .chunks_exact(1 + classes.width())
        .zip(codes.chunks_exact(4))
        .zip(anchors(&answer.maps));
    let object = |((probabilities, code), anchor): ((&[f32], &[f32]), [f32; 4])| {
        let (class, score) = classes.best(|output| probabilities[1 + output]);
        (score >= MIN_SCORE).then(|| Object {
            class,
            score,
            bbox: decode(code, anchor),
        })
    };
    Ok(predictions.filter_map(object).collect())
}

fn decode(code: &[f32], [x, y, width, height]: [f32; 4]) -> BBox {
    let side = |code: f32| (code * SIDE_VARIANCE).min(LOG_MAX).exp();
    BBox::around(
        x + code[0] * CENTRE_VARIANCE * width,
        y + code[1] * CENTRE_VARIANCE * height,
        width * side(code[2]),
        height * side(code[3]),
    )
}

/// What the prediction of an anchor should say about a box (centre x, centre y, width, height, both in
/// fractions of the input).
pub(super) fn encode(bbox: [f32; 4], anchor: [f32; 4]) -> [f32; 4] {
    [
        (bbox[0] - anchor[0]) / anchor[2] / CENTRE_VARIANCE,
        (bbox[1] - anchor[1]) / anchor[3] / CENTRE_VARIANCE,
        (bbox[2] / anchor[2]).ln() / SIDE_VARIANCE,
        (bbox[3] / anchor[3]).ln() / SIDE_VARIANCE,
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            bbox in [0.0f32..1.0, 0.0..1.0, 0.01..1.0, 0.01..1.0],
            anchor in [0.0f32..1.0, 0.0..1.0, 0.05..1.0, 0.05..1.0],
        ) {
            let [x, y, width, height] = bbox;
            let decoded = decode(&encode(bbox, anchor), anchor);
            let iou = decoded.iou(&BBox::around(x, y, width, height));
            prop_assert!(iou > 0.99, "{decoded:?}");
        }
    }

    #[test]
    fn codes_are_those_on_paper() {
        let code = encode([0.5, 0.6, 0.2, 0.1], [0.4, 0.6, 0.2, 0.2]);
        let expected = [5.0, 0.0, 0.0, 5.0 * 0.5f32.ln()];
        for (found, expected) in code.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{code:?}");
        }
    }
}
