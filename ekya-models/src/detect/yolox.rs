//! The detection teacher: a YOLOX network from an ONNX file, run by tract.

use std::path::Path;

use super::coco::{ClassMap, coco_names};
use super::decode::suppress;
use super::view::{Levels, Order, View};
use crate::onnx::OnnxNetwork;
use crate::{BBox, Image, ModelError, Object, Teacher};

/// Answers below this score are not labels. Lower than the 0.5 one would show to people: an object
/// that is missing from the labels teaches the student to overlook it.
const MIN_SCORE: f32 = 0.35;

/// Strides of the three grids, in the order of the output's rows.
const STRIDES: [usize; 3] = [8, 16, 32];

/// Columns before the class scores: x, y, width, height, objectness.
const BOX_COLUMNS: usize = 5;

/// Pixels as YOLOX wants them: 0..=255, and its grey around the picture.
const LEVELS: Levels = Levels {
    order: Order::Bgr,
    scale: [1.0; 3],
    shift: [0.0; 3],
    outside: 114.0,
};

/// Any network of the YOLOX family exported without its decoding: input 1 × 3 × S × S (letterboxed,
/// B G R in 0..=255), output 1 × cells × (5 + classes) with the cells of strides 8, 16 and 32.
#[derive(Debug)]
pub struct YoloxTeacher {
    network: OnnxNetwork,
    classes: ClassMap,
}

impl YoloxTeacher {
    /// Loads a network that knows COCO's classes. `classes` are COCO names (see [`coco_names`]); a
    /// label's class is an index into them, and all others are dropped.
    ///
    /// # Errors
    /// As [`YoloxTeacher::with_names`].
    pub fn load(path: &Path, classes: &[String]) -> Result<Self, ModelError> {
        Self::with_names(path, &coco_names(), classes)
    }

    /// Loads a network that knows the classes `names`, in the order of its outputs, and labels those
    /// of `classes`.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be read, [`ModelError::BadFile`] when it is damaged or
    /// not such a network, and [`ModelError::BadInput`] for a class that is not among `names`.
    pub fn with_names(
        path: &Path,
        names: &[String],
        classes: &[String],
    ) -> Result<Self, ModelError> {
        let classes = ClassMap::new(names, classes)?;
        let network = OnnxNetwork::load(path)?;
        check(&network, names.len()).map_err(|reason| ModelError::BadFile {
            path: path.into(),
            reason,
        })?;
        Ok(Self { network, classes })
    }

    /// Boxes in the rows of `output`.
    fn decode(&self, output: &[f32], view: View) -> Vec<Object> {
        let columns = BOX_COLUMNS + self.classes.width();
        let mut rows = output.chunks_exact(columns);
        let mut found = Vec::new();
        let side = self.network.side();
        for stride in STRIDES {
            let cells = side / stride;
            for (cell, row) in (0..cells * cells).zip(&mut rows) {
                let (class, probability) = self.classes.best(|output| row[BOX_COLUMNS + output]);
                let score = row[4] * probability;
                if score >= MIN_SCORE {
                    let unit = cell_box(
                        row,
                        (cell % cells, cell / cells),
                        stride as f32 / side as f32,
                    );
                    found.push(Object {
                        class,
                        score,
                        bbox: view.to_picture(unit),
                    });
                }
            }
        }
        found
    }
}

/// The box that `row` puts at a cell (column, row) of `stride`, in fractions of the input's side.
fn cell_box(row: &[f32], cell: (usize, usize), stride: f32) -> BBox {
    let x = (row[0] + cell.0 as f32) * stride;
    let y = (row[1] + cell.1 as f32) * stride;
    BBox::around(x, y, row[2].exp() * stride, row[3].exp() * stride)
}

/// Whether the input can be divided into cells, and the output has a row a cell and a column a class.
fn check(network: &OnnxNetwork, classes: usize) -> Result<(), String> {
    let side = network.side();
    if !side.is_multiple_of(32) {
        return Err(format!(
            "its input has a side of {side} pixels, not a multiple of 32"
        ));
    }
    let cells: usize = STRIDES.iter().map(|stride| (side / stride).pow(2)).sum();
    let expected = [1, cells, BOX_COLUMNS + classes];
    let found = match network.output_shape() {
        Ok(shape) if shape == expected => return Ok(()),
        Ok(shape) => format!("{shape:?}"),
        Err(found) => found,
    };
    Err(format!(
        "its output is {found}, not {expected:?} of f32 (cells of an input of side {side}, 5 + {classes} classes)"
    ))
}

impl Teacher for YoloxTeacher {
    fn label(&self, image: &Image, _regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        let view = View::letterbox(image)?;
        let side = self.network.side();
        let mut input = vec![0.0; 3 * side * side];
        view.sample(image, side, LEVELS, &mut input);
        let output = self.network.run(&input)?;
        Ok(suppress(self.decode(&output, view), image))
    }
}
