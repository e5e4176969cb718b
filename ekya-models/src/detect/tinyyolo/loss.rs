//! The published loss: of all anchors, the one most like an object's shape answers for it in the cell
//! that its centre lies in, and learns its box, its class, and that there is an object. Predictions
//! that overlap an object well without being asked are left alone; all others learn that there is
//! nothing.
//!
//! All are cross-entropies but for the logarithms of the sides, which are squared errors; boxes of small
//! objects count up to twice as much as those of large ones. Sums over a picture, mean over pictures.

use std::collections::BTreeMap;

use tch::{Kind, Reduction, TchError, Tensor};

use super::super::network::Target;
use super::boxes::{BOX_COLUMNS, GRIDS, Grid, OBJECT, Place, rows};
use super::network::Answer;
use crate::BBox;

/// Predictions that overlap an object by more than this IoU need not say that there is nothing.
const IGNORED_IOU: f32 = 0.7;

/// Predictions of a grid that answer for a target: rows of [`rows`].
type Positives<'a> = BTreeMap<usize, &'a Target>;

/// Mean loss of `answer` over the pictures of a batch.
pub(super) fn loss(answer: &Answer, targets: &[Target]) -> Result<Tensor, TchError> {
    let [coarse, fine] = &answer.0;
    let (pictures, _, _, cells) = coarse.size4()?;
    let assigned = assign(targets, cells as usize * GRIDS[0].stride);
    let losses = [
        grid_loss(coarse, &GRIDS[0], &assigned[0], targets)?,
        grid_loss(fine, &GRIDS[1], &assigned[1], targets)?,
    ];
    losses[0]
        .f_add(&losses[1])?
        .f_div_scalar(pictures.max(1) as f64)
}

/// Who answers for each target in an input of `side` pixels. A prediction that two targets ask for
/// answers for the later.
fn assign(targets: &[Target], side: usize) -> [Positives<'_>; 2] {
    let mut assigned = [Positives::new(), Positives::new()];
    for target in targets {
        let [x, y, width, height] = target.bbox;
        let (grid, anchor) = most_alike(width * side as f32, height * side as f32);
        let cells = side / GRIDS[grid].stride;
        let cell = |centre: f32| ((centre * cells as f32) as usize).min(cells - 1);
        let place = Place {
            picture: target.picture,
            anchor,
            row: cell(y),
            column: cell(x),
        };
        assigned[grid].insert(place.index(cells), target);
    }
    assigned
}

/// Grid and anchor that overlap most with a box of that width and height, centre on centre.
fn most_alike(width: f32, height: f32) -> (usize, usize) {
    let shape = BBox::around(0.0, 0.0, width, height);
    let mut best = (f32::NEG_INFINITY, (0, 0));
    for (g, grid) in GRIDS.iter().enumerate() {
        for (a, &(width, height)) in grid.anchors.iter().enumerate() {
            let iou = BBox::around(0.0, 0.0, width, height).iou(&shape);
            if iou > best.0 {
                best = (iou, (g, a));
            }
        }
    }
    best.1
}

/// Summed loss of one grid.
fn grid_loss(
    said: &Tensor,
    grid: &Grid,
    positives: &Positives<'_>,
    targets: &[Target],
) -> Result<Tensor, TchError> {
    let cells = said.size4()?.3 as usize;
    let rows = rows(said)?;
    let count = rows.size2()?.0 as usize;
    let mut wanted = vec![0.0; count];
    let mut weights = vec![1.0; count];
    for index in overlapping(&rows, grid, cells, targets)? {
        weights[index] = 0.0;
    }
    for &index in positives.keys() {
        (wanted[index], weights[index]) = (1.0, 1.0);
    }
    let device = said.device();
    let wanted = Tensor::f_from_slice(&wanted)?.f_to_device(device)?;
    let weights = Tensor::f_from_slice(&weights)?.f_to_device(device)?;
    let objectness = rows
        .f_select(1, OBJECT as i64)?
        .f_binary_cross_entropy_with_logits(&wanted, Some(&weights), None, Reduction::Sum)?;
    if positives.is_empty() {
        return Ok(objectness);
    }
    objectness.f_add(&positive_loss(&rows, grid, cells, positives)?)
}

/// Rows whose boxes overlap an object of their picture enough to be left alone.
fn overlapping(
    rows: &Tensor,
    grid: &Grid,
    cells: usize,
    targets: &[Target],
) -> Result<Vec<usize>, TchError> {
    let mut truth: BTreeMap<usize, Vec<BBox>> = BTreeMap::new();
    for target in targets {
        let [x, y, width, height] = target.bbox;
        let boxes = truth.entry(target.picture).or_default();
        boxes.push(BBox::around(x, y, width, height));
    }
    let sides = rows.f_detach()?.f_narrow(1, 0, 4)?.f_reshape([-1])?;
    let sides = Vec::<f32>::try_from(sides)?;
    let overlaps = |(index, columns): (usize, &[f32])| {
        let place = Place::at(index, cells);
        let boxes = truth.get(&place.picture)?;
        let said = grid.bbox(columns, place, cells);
        let best = boxes.iter().map(|bbox| bbox.iou(&said)).fold(0.0, f32::max);
        (best > IGNORED_IOU).then_some(index)
    };
    Ok(sides
        .chunks_exact(4)
        .enumerate()
        .filter_map(overlaps)
        .collect())
}

/// Summed loss of the boxes and classes of the predictions that answer for a target.
fn positive_loss(
    rows: &Tensor,
    grid: &Grid,
    cells: usize,
    positives: &Positives<'_>,
) -> Result<Tensor, TchError> {
    let device = rows.device();
    let classes = rows.size2()?.1 as usize - BOX_COLUMNS;
    let index: Vec<i64> = positives.keys().map(|&index| index as i64).collect();
    let (mut centres, mut sides, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    let mut wanted = vec![0.0f32; positives.len() * classes];
    for (i, (&index, target)) in positives.iter().enumerate() {
        let place = Place::at(index, cells);
        let side = (cells * grid.stride) as f32;
        let (anchor_width, anchor_height) = grid.anchors[place.anchor];
        let [x, y, width, height] = target.bbox;
        centres.extend([
            x * cells as f32 - place.column as f32,
            y * cells as f32 - place.row as f32,
        ]);
        sides.extend([
            (width * side / anchor_width).ln(),
            (height * side / anchor_height).ln(),
        ]);
        weights.push(2.0 - width * height);
        wanted[i * classes + target.output] = 1.0;
    }
    let count = positives.len() as i64;
    let placed = |values: &[f32]| {
        Tensor::f_from_slice(values)?
            .f_to_device(device)?
            .f_reshape([count, -1])
    };
    let chosen = rows.f_index_select(0, &Tensor::f_from_slice(&index)?.f_to_device(device)?)?;
    let weights = placed(&weights)?;
    let centres = chosen
        .f_narrow(1, 0, 2)?
        .f_binary_cross_entropy_with_logits(
            &placed(&centres)?,
            Some(&weights),
            None,
            Reduction::Sum,
        )?;
    let sides = chosen
        .f_narrow(1, 2, 2)?
        .f_sub(&placed(&sides)?)?
        .f_square()?
        .f_mul(&weights)?
        .f_sum(Kind::Float)?
        .f_mul_scalar(0.5)?;
    let classes = chosen
        .f_narrow(1, BOX_COLUMNS as i64, classes as i64)?
        .f_binary_cross_entropy_with_logits::<&Tensor>(
            &placed(&wanted)?,
            None,
            None,
            Reduction::Sum,
        )?;
    centres.f_add(&sides)?.f_add(&classes)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// An answer for pictures of 64 × 64 pixels and two classes in which everything is `value`.
    fn answer(pictures: i64, value: f64) -> Answer {
        let grid = |cells: i64| {
            Tensor::full(
                [pictures, 21, cells, cells],
                value,
                (Kind::Float, Device::Cpu),
            )
        };
        Answer([grid(2), grid(4)])
    }

    fn target(bbox: [f32; 4]) -> Target {
        Target {
            picture: 0,
            output: 1,
            bbox,
        }
    }

    fn value(answer: &Answer, targets: &[Target]) -> f64 {
        loss(answer, targets).unwrap().double_value(&[])
    }

    #[test]
    fn the_anchor_most_like_an_object_answers_in_its_cell() {
        // 24 × 28 pixels of 64: the second anchor of the fine grid, cell (2, 1) of 4 × 4.
        let targets = [target([0.6, 0.4, 24.0 / 64.0, 28.0 / 64.0])];
        let [coarse, fine] = assign(&targets, 64);
        assert!(coarse.is_empty());
        let indices: Vec<usize> = fine.keys().copied().collect();
        assert_eq!(indices, [16 + 4 + 2]);
        let edge = [target([1.0, 1.0, 1.0, 1.0])];
        let [coarse, _] = assign(&edge, 64);
        assert_eq!(coarse.keys().copied().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn loss_of_one_object_is_that_on_paper() {
        // Everything 0: every probability a half, boxes as large as their anchors.
        let half = 2f64.ln();
        let (width, height) = (20.0, 30.0);
        let targets = [target([0.6, 0.4, width / 64.0, height / 64.0])];
        // Nothing overlaps the object by more than 0.7 but, perhaps, the one that answers for it.
        let objectness = f64::from(3 * (4 + 16)) * half;
        let weight = 2.0 - f64::from(width * height) / 4096.0;
        let centre = 2.0 * half * weight;
        let log = |side: f32, anchor: f32| f64::from((side / anchor).ln());
        let sides = 0.5 * weight * (log(width, 23.0).powi(2) + log(height, 27.0).powi(2));
        let classes = 2.0 * half;
        let expected = objectness + centre + sides + classes;
        let found = value(&answer(1, 0.0), &targets);
        assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
        // The mean over pictures: the second has nothing but objectness.
        let found = value(&answer(2, 0.0), &targets);
        let expected = (expected + objectness) / 2.0;
        assert!((found - expected).abs() < 1e-3, "{found}, not {expected}");
    }

    #[test]
    fn a_good_box_that_was_not_asked_is_left_alone() {
        // The object has the shape of the fine grid's second anchor and its centre in the middle of
        // a cell; the third anchor of that cell is made to fit, too.
        let targets = [target([0.375, 0.375, 23.0 / 64.0, 27.0 / 64.0])];
        let answer = answer(1, 0.0);
        let before = value(&answer, &targets);
        let column = |c: i64| answer.0[1].get(0).get(2 * 7 + c).get(1).get(1);
        let _ = column(2).fill_((23f64 / 37.0).ln());
        let _ = column(3).fill_((27f64 / 58.0).ln());
        let after = value(&answer, &targets);
        assert!(
            (before - after - 2f64.ln()).abs() < 1e-4,
            "{before} {after}"
        );
    }

    #[test]
    fn descending_the_loss_finds_the_object() {
        let mut answer = answer(1, 0.1);
        for part in &mut answer.0 {
            let _same = part.set_requires_grad(true);
        }
        let targets = [target([0.4, 0.7, 0.4, 0.5])];
        let first = value(&answer, &targets);
        for _ in 0..200 {
            loss(&answer, &targets).unwrap().backward();
            for part in &mut answer.0 {
                let grad = part.grad();
                let _same = tch::no_grad(|| part.f_sub_(&(grad * 0.3)).unwrap());
                part.zero_grad();
            }
        }
        let last = value(&answer, &targets);
        assert!(last < 0.1 * first, "{first} → {last}");
    }

    #[test]
    fn empty_pictures_have_a_loss_too() {
        let (quiet, noisy) = (value(&answer(1, -9.0), &[]), value(&answer(1, 3.0), &[]));
        assert!(quiet < 0.02 && noisy > 100.0, "{quiet} {noisy}");
    }
}
