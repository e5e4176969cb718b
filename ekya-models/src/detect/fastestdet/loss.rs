//! What the network should have answered, and how far off its answer was.
//!
//! The scheme is that of FastestDet's authors with the assignment made per object: of the four cells
//! around an object's centre, those whose box fits at least as well as the four do on average answer
//! for it, and learn its box, its class, and as objectness how well their box fits. All other cells
//! learn that there is nothing. Objectness is learned by cross-entropy: the authors' squared error
//! through a logistic function has no gradient left where the network is sure and wrong, and a few
//! steps at a high rate could switch a student off for good.

use tch::{Kind, Reduction, TchError, Tensor};

use super::super::network::Target;
use super::network::Answer;

/// Weights of the three parts. The box counts for less than with the authors: streams are scored at
/// an IoU of 0.3, where finding and naming an object matters more than its exact edges.
const BOX_WEIGHT: f64 = 2.0;
const OBJECT_WEIGHT: f64 = 12.0;
const CLASS_WEIGHT: f64 = 1.0;

/// How many empty cells a cell with an object outweighs in the objectness loss. Chosen so that the
/// score threshold that is best for the published weights is also good after short and long trainings.
const POSITIVE_WEIGHT: f32 = 3.0;

/// Keeps divisions by the size of a box finite.
const EPS: f64 = 1e-7;

/// A cell that could answer for a target.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    target: usize,
    /// Index into the cells of all pictures: picture, row, column.
    cell: i64,
    column: f32,
    row: f32,
}

/// Mean loss of `answer` over a batch.
pub(super) fn loss(answer: &Answer, targets: &[Target]) -> Result<Tensor, TchError> {
    let object = answer.object.f_flatten(0, -1)?;
    let mut wanted = vec![0.0; object.numel()];
    let mut weights = vec![1.0; object.numel()];
    let mut positive = None;
    let candidates = candidates(targets, answer.object.size4()?.3 as usize);
    if !candidates.is_empty() {
        let fit = fit(&answer.bbox, targets, &candidates)?;
        let quality = Vec::<f32>::try_from(fit.f_detach()?)?;
        let chosen = choose(&candidates, &quality);
        for &i in &chosen {
            wanted[candidates[i].cell as usize] = quality[i].clamp(0.0, 1.0);
            weights[candidates[i].cell as usize] = POSITIVE_WEIGHT;
        }
        positive = Some(positive_loss(answer, targets, &candidates, &chosen, &fit)?);
    }
    let device = object.device();
    let wanted = Tensor::f_from_slice(&wanted)?.f_to_device(device)?;
    let weights = Tensor::f_from_slice(&weights)?.f_to_device(device)?;
    let objectness = object
        .f_binary_cross_entropy_with_logits(&wanted, Some(&weights), None, Reduction::Mean)?
        .f_mul_scalar(OBJECT_WEIGHT)?;
    match positive {
        Some(positive) => objectness.f_add(&positive),
        None => Ok(objectness),
    }
}

/// The four cells around each target's centre that lie in the grid of `side` × `side`.
fn candidates(targets: &[Target], side: usize) -> Vec<Candidate> {
    let mut found = Vec::with_capacity(targets.len() * 4);
    for (target, object) in targets.iter().enumerate() {
        let (column, row) = (object.bbox[0] * side as f32, object.bbox[1] * side as f32);
        for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let (column, row) = (column as usize + dx, row as usize + dy);
            if column < side && row < side {
                let cell = ((object.picture * side + row) * side + column) as i64;
                found.push(Candidate {
                    target,
                    cell,
                    column: column as f32,
                    row: row as f32,
                });
            }
        }
    }
    found
}

/// Candidates that answer for their target; a cell answers for one target only, the better fitting.
fn choose(candidates: &[Candidate], quality: &[f32]) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut start = 0;
    while start < candidates.len() {
        let target = candidates[start].target;
        let end = start
            + candidates[start..]
                .iter()
                .take_while(|c| c.target == target)
                .count();
        let mean = quality[start..end].iter().sum::<f32>() / (end - start) as f32;
        // Rounding may put the mean of equal values above them.
        chosen.extend((start..end).filter(|&i| quality[i] >= mean - 1e-6));
        start = end;
    }
    chosen.sort_by(|&a, &b| {
        let cells = candidates[a].cell.cmp(&candidates[b].cell);
        cells.then(quality[b].total_cmp(&quality[a]))
    });
    chosen.dedup_by_key(|i| candidates[*i].cell);
    chosen
}

/// Loss of the boxes and classes of the `chosen` candidates.
fn positive_loss(
    answer: &Answer,
    targets: &[Target],
    candidates: &[Candidate],
    chosen: &[usize],
    fit: &Tensor,
) -> Result<Tensor, TchError> {
    let device = fit.device();
    let index = |values: Vec<i64>| Tensor::f_from_slice(&values)?.f_to_device(device);
    let rows = index(chosen.iter().map(|&i| i as i64).collect())?;
    let cells = index(chosen.iter().map(|&i| candidates[i].cell).collect())?;
    let outputs = chosen
        .iter()
        .map(|&i| targets[candidates[i].target].output as i64);
    let outputs = index(outputs.collect())?;
    let boxes = fit
        .f_index_select(0, &rows)?
        .f_neg()?
        .f_add_scalar(1.0)?
        .f_mean(Kind::Float)?;
    let logits = by_cell(&answer.class)?.f_index_select(0, &cells)?;
    let classes = logits.f_log_softmax(1, Kind::Float)?.f_nll_loss::<Tensor>(
        &outputs,
        None,
        Reduction::Mean,
        -100,
    )?;
    boxes
        .f_mul_scalar(BOX_WEIGHT)?
        .f_add(&classes.f_mul_scalar(CLASS_WEIGHT)?)
}

/// `[n, channels, rows, columns]` as `[cells, channels]`.
fn by_cell(x: &Tensor) -> Result<Tensor, TchError> {
    let channels = x.size4()?.1;
    x.f_permute([0, 2, 3, 1])?.f_reshape([-1, channels])
}

/// How well each candidate's box fits its target, at most 1: IoU less a penalty for the distance of
/// the centres and for different widths and heights, which tells boxes apart that do not overlap
/// (after distance-IoU, arXiv 1911.08287, and the shape term of SIoU, arXiv 2205.12740).
fn fit(bbox: &Tensor, targets: &[Target], candidates: &[Candidate]) -> Result<Tensor, TchError> {
    let side = bbox.size4()?.3 as f64;
    let device = bbox.device();
    let column = |value: &dyn Fn(&Candidate) -> f32| {
        let values: Vec<f32> = candidates.iter().map(value).collect();
        Tensor::f_from_slice(&values)?.f_to_device(device)
    };
    let cells: Vec<i64> = candidates.iter().map(|c| c.cell).collect();
    let cells = Tensor::f_from_slice(&cells)?.f_to_device(device)?;
    let raw = by_cell(bbox)?.f_index_select(0, &cells)?.f_unbind(1)?;
    let centre = |raw: &Tensor, cell: Tensor| raw.f_tanh()?.f_add(&cell)?.f_div_scalar(side);
    let ours = Sides::new(
        centre(&raw[0], column(&|c| c.column)?)?,
        centre(&raw[1], column(&|c| c.row)?)?,
        raw[2].f_sigmoid()?,
        raw[3].f_sigmoid()?,
    )?;
    let theirs = |i: usize| column(&|c| targets[c.target].bbox[i]);
    let theirs = Sides::new(theirs(0)?, theirs(1)?, theirs(2)?, theirs(3)?)?;
    ours.fit(&theirs)
}

/// Boxes, one value a box in each tensor.
struct Sides {
    x: Tensor,
    y: Tensor,
    width: Tensor,
    height: Tensor,
    left: Tensor,
    right: Tensor,
    upper: Tensor,
    lower: Tensor,
}

impl Sides {
    fn new(x: Tensor, y: Tensor, width: Tensor, height: Tensor) -> Result<Self, TchError> {
        let (half_width, half_height) = (width.f_div_scalar(2.0)?, height.f_div_scalar(2.0)?);
        Ok(Self {
            left: x.f_sub(&half_width)?,
            right: x.f_add(&half_width)?,
            upper: y.f_sub(&half_height)?,
            lower: y.f_add(&half_height)?,
            x,
            y,
            width,
            height,
        })
    }

    fn area(&self) -> Result<Tensor, TchError> {
        self.width.f_mul(&self.height)
    }

    fn fit(&self, other: &Self) -> Result<Tensor, TchError> {
        let width = self
            .right
            .f_minimum(&other.right)?
            .f_sub(&self.left.f_maximum(&other.left)?)?;
        let height = self
            .lower
            .f_minimum(&other.lower)?
            .f_sub(&self.upper.f_maximum(&other.upper)?)?;
        let overlap = width.f_clamp_min(0.0)?.f_mul(&height.f_clamp_min(0.0)?)?;
        let union = self
            .area()?
            .f_add(&other.area()?)?
            .f_sub(&overlap)?
            .f_add_scalar(EPS)?;
        let iou = overlap.f_div(&union)?;
        let penalty = self
            .distance(other)?
            .f_add(&self.shape_difference(other)?.f_mul_scalar(0.5)?)?;
        iou.f_sub(&penalty)
    }

    /// Squared distance of the centres over the squared diagonal of the box around both.
    fn distance(&self, other: &Self) -> Result<Tensor, TchError> {
        let square = |a: Tensor| a.f_mul(&a);
        let width = self
            .right
            .f_maximum(&other.right)?
            .f_sub(&self.left.f_minimum(&other.left)?)?;
        let height = self
            .lower
            .f_maximum(&other.lower)?
            .f_sub(&self.upper.f_minimum(&other.upper)?)?;
        let diagonal = square(width)?.f_add(&square(height)?)?.f_add_scalar(EPS)?;
        let apart = square(self.x.f_sub(&other.x)?)?.f_add(&square(self.y.f_sub(&other.y)?)?)?;
        apart.f_div(&diagonal)
    }

    /// 0 for boxes of one shape, towards 2 for very different ones.
    fn shape_difference(&self, other: &Self) -> Result<Tensor, TchError> {
        let side = |a: &Tensor, b: &Tensor| {
            let relative = a
                .f_sub(b)?
                .f_abs()?
                .f_div(&a.f_maximum(b)?.f_add_scalar(EPS)?)?;
            relative
                .f_neg()?
                .f_exp()?
                .f_neg()?
                .f_add_scalar(1.0)?
                .f_pow_tensor_scalar(4.0)
        };
        side(&self.width, &other.width)?.f_add(&side(&self.height, &other.height)?)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// An answer for one picture of 4 × 4 cells in which everything is `value`.
    fn answer(value: f64) -> Answer {
        let channels = |c: i64| Tensor::full([1, c, 4, 4], value, (Kind::Float, Device::Cpu));
        Answer {
            object: channels(1),
            bbox: channels(4),
            class: channels(80),
        }
    }

    fn target(x: f32, y: f32) -> Target {
        Target {
            picture: 0,
            output: 2,
            bbox: [x, y, 0.5, 0.5],
        }
    }

    #[test]
    fn candidates_stay_in_the_grid() {
        let inside = candidates(&[target(0.3, 0.6)], 4);
        assert_eq!(
            inside.iter().map(|c| c.cell).collect::<Vec<_>>(),
            [9, 10, 13, 14]
        );
        let corner = candidates(&[target(0.99, 0.99)], 4);
        assert_eq!(corner.iter().map(|c| c.cell).collect::<Vec<_>>(), [15]);
        assert!(candidates(&[target(1.0, 0.5)], 4).is_empty());
    }

    #[test]
    fn a_perfect_box_fits_with_one() {
        // tanh(0) and logistic(0) put a box of half the picture at the cell's corner.
        let bbox = answer(0.0).bbox;
        let targets = [target(0.5, 0.5)];
        let found = candidates(&targets, 4);
        let fit = Vec::<f32>::try_from(fit(&bbox, &targets, &found).unwrap()).unwrap();
        assert!((fit[0] - 1.0).abs() < 1e-4, "{fit:?}");
        assert!(fit[1] < 0.6 && fit[3] < fit[1], "{fit:?}");
        assert_eq!(choose(&found, &fit), [0]);
    }

    #[test]
    fn a_cell_answers_for_the_target_that_it_fits_better() {
        let targets = [target(0.3, 0.3), target(0.3, 0.3)];
        let found = candidates(&targets, 4);
        let chosen = choose(&found, &[0.5, 0.5, 0.5, 0.5, 0.9, 0.1, 0.1, 0.1]);
        assert_eq!(chosen, [4, 1, 2, 3]);
    }

    #[test]
    fn descending_the_loss_finds_the_object() {
        let mut answer = answer(0.1);
        for part in [&mut answer.object, &mut answer.bbox, &mut answer.class] {
            let _same = part.set_requires_grad(true);
        }
        let targets = [target(0.4, 0.7)];
        let first = loss(&answer, &targets).unwrap().double_value(&[]);
        let mut last = first;
        for _ in 0..200 {
            let loss = loss(&answer, &targets).unwrap();
            last = loss.double_value(&[]);
            loss.backward();
            for part in [&mut answer.object, &mut answer.bbox, &mut answer.class] {
                let grad = part.grad();
                let _same = tch::no_grad(|| part.f_sub_(&(grad * 0.5)).unwrap());
                part.zero_grad();
            }
        }
        assert!(last < 0.2 * first, "{first} → {last}");
    }

    #[test]
    fn empty_pictures_have_a_loss_too() {
        let quiet = loss(&answer(-9.0), &[]).unwrap().double_value(&[]);
        let noisy = loss(&answer(3.0), &[]).unwrap().double_value(&[]);
        assert!(quiet < 1e-2 && noisy > 1.0, "{quiet} {noisy}");
    }
}
