//! From scored boxes to objects: clipping, and suppression of boxes about the same object.

use crate::{BBox, Image, Object};

/// Two boxes of a class that overlap by more than this IoU are taken to be one object; the value
/// that both networks' authors use.
const NMS_IOU: f32 = 0.45;

/// Most boxes that enter suppression, the best first: its cost is quadratic, and a network whose
/// training went wrong fires everywhere.
const MAX_CANDIDATES: usize = 512;

/// What is left of `candidates` (in pixels of `image`) after clipping them to the picture and
/// keeping of each group of overlapping ones the most confident. Best first.
pub(super) fn suppress(mut candidates: Vec<Object>, image: &Image) -> Vec<Object> {
    let (width, height) = (image.width() as f32, image.height() as f32);
    for object in &mut candidates {
        object.bbox = clip(object.bbox, width, height);
    }
    candidates.retain(|object| object.score.is_finite() && object.bbox.area() > 0.0);
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(MAX_CANDIDATES);
    let mut kept: Vec<Object> = Vec::new();
    for object in candidates {
        let same =
            |other: &Object| other.class == object.class && other.bbox.iou(&object.bbox) > NMS_IOU;
        if !kept.iter().any(same) {
            kept.push(object);
        }
    }
    kept
}

/// A probability from its logit.
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn clip(bbox: BBox, width: f32, height: f32) -> BBox {
    BBox {
        x1: bbox.x1.clamp(0.0, width),
        y1: bbox.y1.clamp(0.0, height),
        x2: bbox.x2.clamp(0.0, width),
        y2: bbox.y2.clamp(0.0, height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: usize, score: f32, x1: f32) -> Object {
        Object {
            class,
            score,
            bbox: BBox {
                x1,
                y1: 0.0,
                x2: x1 + 10.0,
                y2: 10.0,
            },
        }
    }

    #[test]
    fn the_most_confident_of_overlapping_boxes_stays() {
        let image = Image::new(100, 20, vec![0; 6000]).unwrap();
        let boxes = vec![
            object(0, 0.5, 1.0),
            object(0, 0.9, 0.0),
            object(1, 0.4, 0.0),
            object(0, 0.3, 50.0),
        ];
        let kept: Vec<_> = suppress(boxes, &image)
            .iter()
            .map(|o| (o.class, o.score))
            .collect();
        assert_eq!(kept, [(0, 0.9), (1, 0.4), (0, 0.3)]);
    }

    #[test]
    fn boxes_are_clipped_and_impossible_ones_dropped() {
        let image = Image::new(100, 20, vec![0; 6000]).unwrap();
        let boxes = vec![
            object(0, 0.5, 95.0),
            object(0, 0.6, 200.0),
            object(0, f32::NAN, 0.0),
        ];
        let kept = suppress(boxes, &image);
        assert_eq!(kept.len(), 1);
        assert_eq!(
            kept[0].bbox,
            BBox {
                x1: 95.0,
                y1: 0.0,
                x2: 100.0,
                y2: 10.0
            }
        );
        let broken = BBox {
            x1: f32::NAN,
            y1: 0.0,
            x2: 1.0,
            y2: 1.0,
        };
        assert!(
            suppress(
                vec![Object {
                    class: 0,
                    score: 0.5,
                    bbox: broken
                }],
                &image
            )
            .is_empty()
        );
    }
}
