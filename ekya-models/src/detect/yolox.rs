//! The detection teacher: a YOLOX network from an ONNX file, run by tract.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tract_onnx::prelude::*;

use super::coco::{ClassMap, coco_names};
use super::decode::suppress;
use super::view::{Levels, Order, View};
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

type Plan = TypedRunnableModel<TypedModel>;

/// Any network of the YOLOX family exported without its decoding: input 1 × 3 × S × S (letterboxed,
/// B G R in 0..=255), output 1 × cells × (5 + classes) with the cells of strides 8, 16 and 32.
pub struct YoloxTeacher {
    plan: Plan,
    /// Input side in pixels.
    side: usize,
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
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io {
            path: path.into(),
            source,
        })?;
        let bad = |reason| ModelError::BadFile {
            path: path.into(),
            reason,
        };
        // tract panics on some damaged graphs; nothing it was given is used again after that.
        let loaded = catch_unwind(AssertUnwindSafe(|| read(&bytes)))
            .unwrap_or_else(|_| Err("damaged: the ONNX reader gave up on it".into()));
        let (plan, side) = loaded.map_err(bad)?;
        check_output(&plan, side, names.len()).map_err(bad)?;
        Ok(Self {
            plan,
            side,
            classes,
        })
    }

    /// Boxes in the rows of `output`.
    fn decode(&self, output: &[f32], view: View) -> Vec<Object> {
        let columns = BOX_COLUMNS + self.classes.width();
        let mut rows = output.chunks_exact(columns);
        let mut found = Vec::new();
        for stride in STRIDES {
            let cells = self.side / stride;
            for (cell, row) in (0..cells * cells).zip(&mut rows) {
                let (class, probability) = self.classes.best(|output| row[BOX_COLUMNS + output]);
                let score = row[4] * probability;
                if score >= MIN_SCORE {
                    let unit = cell_box(
                        row,
                        (cell % cells, cell / cells),
                        stride as f32 / self.side as f32,
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

/// Parses and prepares a network; its plan and input side, or what is wrong with it.
fn read(mut bytes: &[u8]) -> Result<(Plan, usize), String> {
    let broken = |error: TractError| format!("not an ONNX network that can be run: {error:#}");
    let model = onnx().model_for_read(&mut bytes).map_err(broken)?;
    if model.inputs.len() != 1 || model.outputs.len() != 1 {
        let (inputs, outputs) = (model.inputs.len(), model.outputs.len());
        return Err(format!(
            "has {inputs} inputs and {outputs} outputs, not one of each"
        ));
    }
    let model = model.into_typed().map_err(broken)?;
    let fact = model.input_fact(0).map_err(broken)?;
    let side = match fact.shape.as_concrete() {
        Some(&[1, 3, height, width])
            if height == width && height > 0 && height.is_multiple_of(32) =>
        {
            height
        }
        _ => {
            return Err(format!(
                "its input is {fact:?}, not 1,3,S,S with S a multiple of 32"
            ));
        }
    };
    if fact.datum_type != f32::datum_type() {
        return Err(format!("its input is of {:?}, not f32", fact.datum_type));
    }
    let plan = model
        .into_optimized()
        .and_then(|model| model.into_runnable())
        .map_err(broken)?;
    Ok((plan, side))
}

/// Whether the output has a row a cell and a column a class.
fn check_output(plan: &Plan, side: usize, classes: usize) -> Result<(), String> {
    let fact = plan
        .model()
        .output_fact(0)
        .map_err(|error| error.to_string())?;
    let cells: usize = STRIDES.iter().map(|stride| (side / stride).pow(2)).sum();
    let expected = [1, cells, BOX_COLUMNS + classes];
    if fact.shape.as_concrete() != Some(&expected) || fact.datum_type != f32::datum_type() {
        return Err(format!(
            "its output is {fact:?}, not {expected:?} of f32 (cells of an input of side {side}, 5 + {classes} classes)"
        ));
    }
    Ok(())
}

impl std::fmt::Debug for YoloxTeacher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("YoloxTeacher")
            .field("side", &self.side)
            .field("classes", &self.classes)
            .finish()
    }
}

impl Teacher for YoloxTeacher {
    fn label(&self, image: &Image, _regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        let view = View::letterbox(image)?;
        let mut input = vec![0.0; 3 * self.side * self.side];
        view.sample(image, self.side, LEVELS, &mut input);
        let failed = |error: TractError| ModelError::Torch(format!("teacher: {error:#}"));
        let input = Tensor::from_shape(&[1, 3, self.side, self.side], &input).map_err(failed)?;
        let output = self.plan.run(tvec!(input.into())).map_err(failed)?;
        let output = output[0].as_slice::<f32>().map_err(failed)?;
        Ok(suppress(self.decode(output, view), image))
    }
}
