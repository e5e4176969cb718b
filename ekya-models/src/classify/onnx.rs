//! A classification teacher: any network of one output a class from an ONNX file.

use std::path::Path;

use super::crops::cut;
use crate::onnx::OnnxNetwork;
use crate::{BBox, IMAGENET, Image, ModelError, Normalisation, Object, Teacher};

/// How an ONNX classifier wants its crops, and what its outputs are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnnxOptions {
    /// Scale of its pixels.
    pub pixels: Normalisation,
    /// Whether the outputs are logits; if not, they are chances.
    pub softmax: bool,
}

impl Default for OnnxOptions {
    /// ImageNet's scale, and logits.
    fn default() -> Self {
        Self {
            pixels: IMAGENET,
            softmax: true,
        }
    }
}

/// A network from an ONNX file, input 1 × 3 × S × S (R G B), output 1 × n, as teacher.
#[derive(Debug)]
pub struct OnnxTeacher {
    network: OnnxNetwork,
    /// Class of the stream of each output; the others are of no class.
    classes: Vec<Option<usize>>,
    /// How many classes the stream has.
    count: usize,
    options: OnnxOptions,
}

impl OnnxTeacher {
    /// Loads a network whose outputs are named `names`, in their order, for a stream of `classes`.
    /// Outputs of one name are taken together; those of a name that is no class are ignored.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be read, [`ModelError::BadFile`] when it is damaged or
    /// not such a network, and [`ModelError::BadInput`] for a class that is not among `names` or
    /// options that make no sense.
    pub fn load(
        path: &Path,
        names: &[String],
        classes: &[String],
        options: OnnxOptions,
    ) -> Result<Self, ModelError> {
        check(&options.pixels)?;
        if let Some(class) = classes.iter().find(|class| !names.contains(class)) {
            return Err(ModelError::BadInput(format!(
                "no output of the teacher is named '{class}'"
            )));
        }
        let network = OnnxNetwork::load(path)?;
        let bad = |found: String| ModelError::BadFile {
            path: path.to_owned(),
            reason: format!("its output is {found}, not 1 × {} of f32", names.len()),
        };
        let shape = network.output_shape().map_err(bad)?;
        if shape.iter().product::<usize>() != names.len() {
            return Err(bad(format!("{shape:?}")));
        }
        let class = |name| classes.iter().position(|class| class == name);
        Ok(Self {
            network,
            classes: names.iter().map(class).collect(),
            count: classes.len(),
            options,
        })
    }

    fn label_one(&self, image: &Image, region: &BBox) -> Result<Object, ModelError> {
        let side = self.network.side();
        let mut crop = Vec::new();
        cut(image, region, side, &mut crop);
        for (channel, plane) in crop.chunks_exact_mut(side * side).enumerate() {
            let Normalisation { mean, deviation } = self.options.pixels;
            for value in plane {
                // Crops are about -1..1.
                *value = (0.5 * *value + 0.5 - mean[channel]) / deviation[channel];
            }
        }
        let mut chances = self.network.run(&crop)?;
        if self.options.softmax {
            softmax(&mut chances);
        }
        let (class, score) = self.best(&chances)?;
        Ok(Object {
            class,
            score,
            bbox: *region,
        })
    }

    /// The likeliest class and its chance.
    fn best(&self, chances: &[f32]) -> Result<(usize, f32), ModelError> {
        let mut sums = vec![0.0; self.count];
        for (class, chance) in self.classes.iter().zip(chances) {
            if let Some(class) = class {
                sums[*class] += chance;
            }
        }
        let best = sums.into_iter().enumerate();
        best.max_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|(_, score)| score.is_finite())
            .ok_or_else(|| ModelError::Torch("the teacher answers with no number".to_owned()))
    }
}

fn check(pixels: &Normalisation) -> Result<(), ModelError> {
    let Normalisation { mean, deviation } = pixels;
    let positive = deviation.iter().all(|one| one.is_finite() && *one > 0.0);
    if positive && mean.iter().all(|mean| mean.is_finite()) {
        return Ok(());
    }
    Err(ModelError::BadInput(format!(
        "pixels have finite means and deviations above 0, got {mean:?} and {deviation:?}"
    )))
}

/// Logits to chances.
fn softmax(values: &mut [f32]) {
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values
        .iter_mut()
        .for_each(|value| *value = (*value - most).exp());
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
}

impl Teacher for OnnxTeacher {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        regions
            .iter()
            .map(|region| self.label_one(image, region))
            .collect()
    }
}
