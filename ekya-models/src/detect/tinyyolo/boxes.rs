//! The two grids, their anchors, and from predictions to scored boxes.

use tch::{TchError, Tensor};

use super::super::coco::ClassMap;
use super::super::decode::logistic;
use super::network::Answer;
use crate::{BBox, Object};

/// Answers below this score are dropped.
const MIN_SCORE: f32 = 0.4;

/// Anchors of a grid.
pub(super) const ANCHORS: usize = 3;

/// Columns before those of the classes: x, y, width, height, objectness.
pub(super) const BOX_COLUMNS: usize = 5;

/// The column of objectness.
pub(super) const OBJECT: usize = 4;

/// Largest logarithm of a box's side over its anchor's: keeps sides finite.
const LOG_MAX: f32 = 8.0;

/// A grid of cells.
#[derive(Debug)]
pub(super) struct Grid {
    /// Side of a cell in pixels of the input.
    pub(super) stride: usize,
    /// Width and height in pixels of the input.
    pub(super) anchors: [(f32, f32); ANCHORS],
}

/// The published anchors.
pub(super) const GRIDS: [Grid; 2] = [
    Grid {
        stride: 32,
        anchors: [(81.0, 82.0), (135.0, 169.0), (344.0, 319.0)],
    },
    Grid {
        stride: 16,
        anchors: [(10.0, 14.0), (23.0, 27.0), (37.0, 58.0)],
    },
];

/// Which prediction of a grid of `cells` × `cells`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) picture: usize,
    pub(super) anchor: usize,
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Place {
    /// The place of a row of [`rows`].
    pub(super) fn at(index: usize, cells: usize) -> Self {
        Self {
            picture: index / (ANCHORS * cells * cells),
            anchor: index / (cells * cells) % ANCHORS,
            row: index / cells % cells,
            column: index % cells,
        }
    }

    /// Its row of [`rows`].
    pub(super) fn index(self, cells: usize) -> usize {
        ((self.picture * ANCHORS + self.anchor) * cells + self.row) * cells + self.column
    }
}

impl Grid {
    /// The box that the columns of a prediction put at a place, in fractions of the input.
    pub(super) fn bbox(&self, columns: &[f32], place: Place, cells: usize) -> BBox {
        let side = (cells * self.stride) as f32;
        let (width, height) = self.anchors[place.anchor];
        BBox::around(
            (place.column as f32 + logistic(columns[0])) / cells as f32,
            (place.row as f32 + logistic(columns[1])) / cells as f32,
            width * columns[2].min(LOG_MAX).exp() / side,
            height * columns[3].min(LOG_MAX).exp() / side,
        )
    }
}

/// `[n, anchors · columns, cells, cells]` as a row of columns for each prediction, in the order of
/// picture, anchor, row, column.
pub(super) fn rows(grid: &Tensor) -> Result<Tensor, TchError> {
    let (n, channels, h, w) = grid.size4()?;
    let columns = channels / ANCHORS as i64;
    grid.f_reshape([n, ANCHORS as i64, columns, h, w])?
        .f_permute([0, 1, 3, 4, 2])?
        .f_reshape([-1, columns])
}

/// Boxes of the stream's classes in an answer about one picture, in fractions of the input. A score
/// is objectness times the probability of the class, as published.
pub(super) fn boxes(answer: &Answer, classes: &ClassMap) -> Result<Vec<Object>, TchError> {
    let mut found = Vec::new();
    for (grid, said) in GRIDS.iter().zip(&answer.0) {
        let cells = said.size4()?.3 as usize;
        let values = Vec::<f32>::try_from(rows(said)?.f_flatten(0, -1)?)?;
        let predictions = values.chunks_exact(BOX_COLUMNS + classes.width());
        for (index, columns) in predictions.enumerate() {
            // The class part of a score is at most 1.
            let object = logistic(columns[OBJECT]);
            if object < MIN_SCORE {
                continue;
            }
            let (class, logit) = classes.best(|output| columns[BOX_COLUMNS + output]);
            let score = object * logistic(logit);
            if score >= MIN_SCORE {
                found.push(Object {
                    class,
                    score,
                    bbox: grid.bbox(columns, Place::at(index, cells), cells),
                });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn places_are_numbered_in_the_order_of_the_rows() {
        for index in 0..2 * ANCHORS * 16 {
            assert_eq!(Place::at(index, 4).index(4), index);
        }
        let place = Place::at(3 * 16 + 16 + 7, 4);
        let expected = Place {
            picture: 1,
            anchor: 1,
            row: 1,
            column: 3,
        };
        assert_eq!(place, expected);
    }

    #[test]
    fn a_prediction_becomes_a_box_of_its_cell_and_anchor() {
        // 4 × 4 cells of 32 pixels: an input of 128.
        let said = Tensor::full([1, 21, 4, 4], -9.0, (Kind::Float, Device::Cpu));
        // Of the second anchor's seven columns at row 2, column 1.
        for (column, value) in [0.0, 0.0, 0.0, 2f64.ln(), 3.0, -3.0, 4.0]
            .into_iter()
            .enumerate()
        {
            let _ = said
                .get(0)
                .get(7 + column as i64)
                .get(2)
                .get(1)
                .fill_(value);
        }
        let fine = Tensor::full([1, 21, 8, 8], -9.0, (Kind::Float, Device::Cpu));
        let names = ["a".to_owned(), "b".to_owned()];
        let map = ClassMap::new(&names, &names).unwrap();
        let found = boxes(&Answer([said.shallow_clone(), fine]), &map).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].class, 1);
        assert!((found[0].score - logistic(3.0) * logistic(4.0)).abs() < 1e-6);
        let expected = BBox::around(1.5 / 4.0, 2.5 / 4.0, 135.0 / 128.0, 338.0 / 128.0);
        assert!(found[0].bbox.iou(&expected) > 0.999, "{:?}", found[0].bbox);
    }
}
