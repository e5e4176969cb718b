//! The MultiBox loss of SSD (Liu et al. 2016): an anchor answers for the object that it overlaps by an
//! IoU of 0.5, and every object's best anchor answers for it in any case. Those learn class and box. Of
//! the others, in each picture the three times as many that are most wrong learn that there is nothing;
//! a picture without objects has as many as one with a single answering anchor.

use tch::{Kind, Reduction, TchError, Tensor};

use super::super::network::Target;
use super::anchors::anchors;
use super::boxes::encode;
use super::network::Answer;
use crate::BBox;

/// Overlap from which an anchor answers for an object.
const MATCH_IOU: f32 = 0.5;

/// Anchors without an object for each with one.
const NEGATIVES: usize = 3;

/// Sum of the losses of `answer` over the number of anchors that answer for an object.
pub(super) fn loss(answer: &Answer, targets: &[Target]) -> Result<Tensor, TchError> {
    let (pictures, count, _) = answer.class.size3()?;
    let anchors = anchors(&answer.maps);
    let mut matched = Vec::with_capacity(pictures as usize * anchors.len());
    for picture in 0..pictures as usize {
        let own: Vec<&Target> = targets.iter().filter(|t| t.picture == picture).collect();
        matched.extend(matches(&anchors, &own));
    }
    let class = class_loss(&answer.class, &matched, count as usize)?;
    let positives = matched.iter().flatten().count();
    let sum = class.f_add(&box_loss(&answer.bbox, &anchors, &matched)?)?;
    sum.f_div_scalar(positives.max(1) as f64)
}

/// The target that each anchor answers for.
fn matches<'a>(anchors: &[[f32; 4]], targets: &[&'a Target]) -> Vec<Option<&'a Target>> {
    let around = |&[x, y, width, height]: &[f32; 4]| BBox::around(x, y, width, height);
    let boxes: Vec<BBox> = anchors.iter().map(around).collect();
    let mut matched: Vec<(f32, Option<&Target>)> = vec![(MATCH_IOU, None); anchors.len()];
    let mut best_anchors = Vec::with_capacity(targets.len());
    for &target in targets {
        let object = around(&target.bbox);
        let mut best = (f32::NEG_INFINITY, 0);
        for (i, bbox) in boxes.iter().enumerate() {
            let iou = bbox.iou(&object);
            if iou >= matched[i].0 {
                matched[i] = (iou, Some(target));
            }
            if iou > best.0 {
                best = (iou, i);
            }
        }
        best_anchors.push((best.1, target));
    }
    for (anchor, target) in best_anchors {
        matched[anchor].1 = Some(target);
    }
    matched.into_iter().map(|(_, target)| target).collect()
}

/// Summed cross-entropy of the anchors that answer and of the most wrong of the others, of `count`
/// anchors a picture.
fn class_loss(
    logits: &Tensor,
    matched: &[Option<&Target>],
    count: usize,
) -> Result<Tensor, TchError> {
    let label = |target: &Option<&Target>| target.map_or(0, |target| 1 + target.output as i64);
    let labels: Vec<i64> = matched.iter().map(label).collect();
    let labels = Tensor::f_from_slice(&labels)?.f_to_device(logits.device())?;
    let losses = logits.f_flatten(0, 1)?.f_cross_entropy_loss::<&Tensor>(
        &labels,
        None,
        Reduction::None,
        -100,
        0.0,
    )?;
    let values = Vec::<f32>::try_from(losses.f_detach()?)?;
    let pictures = matched.chunks(count).zip(values.chunks(count));
    let counted: Vec<f32> = pictures
        .flat_map(|(matched, values)| counted(matched, values))
        .collect();
    let counted = Tensor::f_from_slice(&counted)?.f_to_device(logits.device())?;
    losses.f_mul(&counted)?.f_sum(Kind::Float)
}

/// 1 for anchors of a picture whose loss counts, 0 for the others.
fn counted(matched: &[Option<&Target>], losses: &[f32]) -> Vec<f32> {
    let mut negatives: Vec<usize> = (0..matched.len())
        .filter(|&i| matched[i].is_none())
        .collect();
    let positives = matched.len() - negatives.len();
    negatives.sort_by(|&a, &b| losses[b].total_cmp(&losses[a]));
    negatives.truncate(NEGATIVES * positives.max(1));
    let mut counted: Vec<f32> = matched
        .iter()
        .map(|target| if target.is_some() { 1.0 } else { 0.0 })
        .collect();
    for negative in negatives {
        counted[negative] = 1.0;
    }
    counted
}

/// Summed smooth L1 loss of the boxes of the anchors that answer.
fn box_loss(
    codes: &Tensor,
    anchors: &[[f32; 4]],
    matched: &[Option<&Target>],
) -> Result<Tensor, TchError> {
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    for (i, target) in matched.iter().enumerate() {
        if let Some(target) = target {
            rows.push(i as i64);
            wanted.extend(encode(target.bbox, anchors[i % anchors.len()]));
        }
    }
    let device = codes.device();
    let rows = Tensor::f_from_slice(&rows)?.f_to_device(device)?;
    let wanted = Tensor::f_from_slice(&wanted)?
        .f_to_device(device)?
        .f_reshape([-1, 4])?;
    codes
        .f_flatten(0, 1)?
        .f_index_select(0, &rows)?
        .f_smooth_l1_loss(&wanted, Reduction::Sum, 1.0)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn target(bbox: [f32; 4]) -> Target {
        Target {
            picture: 0,
            output: 1,
            bbox,
        }
    }

    /// An answer about two classes in pictures with one map of one cell, three anchors, all 0.
    fn answer(pictures: i64) -> Answer {
        let zeros = |values| Tensor::zeros([pictures, 3, values], (Kind::Float, Device::Cpu));
        Answer {
            class: zeros(3),
            bbox: zeros(4),
            maps: vec![(1, 1)],
        }
    }

    fn value(answer: &Answer, targets: &[Target]) -> f64 {
        loss(answer, targets).unwrap().double_value(&[])
    }

    #[test]
    fn anchors_match_by_overlap_and_every_object_has_one() {
        let anchors = [
            [0.2, 0.2, 0.2, 0.2],
            [0.25, 0.2, 0.2, 0.2],
            [0.8, 0.8, 0.2, 0.2],
        ];
        let (near, far) = (
            target([0.21, 0.2, 0.2, 0.2]),
            target([0.75, 0.7, 0.1, 0.05]),
        );
        let found = matches(&anchors, &[&near, &far]);
        assert_eq!(found, [Some(&near), Some(&near), Some(&far)]);
        assert_eq!(matches(&anchors, &[&near])[2], None);
        assert_eq!(matches(&anchors, &[]), [None; 3]);
    }

    #[test]
    fn the_most_wrong_of_the_others_count() {
        let one = target([0.5; 4]);
        let mut matched = vec![None; 8];
        matched[2] = Some(&one);
        let losses = [0.1, 0.9, 5.0, 0.2, 0.8, 0.3, 0.4, 0.7];
        assert_eq!(
            counted(&matched, &losses),
            [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
        );
        let none = counted(&[None; 8], &losses);
        assert_eq!(none.iter().sum::<f32>(), 3.0);
    }

    #[test]
    fn loss_of_one_object_is_that_on_paper() {
        // The anchors are 0.1 × 0.1, 0.283 × 0.141 and 0.141 × 0.283, in the middle. The object is the
        // first, moved by 0.01 (code 1) and half again as wide (code 5 · ln 1.5 = 2.03): 0.5 + 1.53.
        let targets = [target([0.51, 0.5, 0.15, 0.1])];
        let boxes = 0.5 + (5.0 * 1.5f64.ln() - 0.5);
        // Of three classes each has a third; the object's anchor and both others count.
        let classes = 3.0 * 3f64.ln();
        let found = value(&answer(1), &targets);
        assert!((found - boxes - classes).abs() < 1e-3, "{found}");
        // An empty picture beside it adds its three most wrong, and no answering anchor.
        let found = value(&answer(2), &targets);
        assert!((found - boxes - 2.0 * classes).abs() < 1e-3, "{found}");
    }

    #[test]
    fn empty_pictures_have_a_loss_too() {
        let found = value(&answer(1), &[]);
        assert!((found - 3.0 * 3f64.ln()).abs() < 1e-4, "{found}");
    }
}
