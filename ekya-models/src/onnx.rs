//! Networks from ONNX files, run by tract: one picture in, one tensor out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use crate::ModelError;

/// A network that takes one picture, `1 × 3 × side × side`.
pub(crate) struct OnnxNetwork {
    plan: TypedRunnableModel<TypedModel>,
    side: usize,
}

impl OnnxNetwork {
    /// Reads and prepares a network; where it leaves the number of pictures open, that is one.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the file cannot be read, [`ModelError::BadFile`] when it is damaged or
    /// not such a network.
    pub(crate) fn load(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io {
            path: path.into(),
            source,
        })?;
        // tract panics on some damaged graphs; nothing it was given is used again after that.
        let loaded = catch_unwind(AssertUnwindSafe(|| read(&bytes)))
            .unwrap_or_else(|_| Err("damaged: the ONNX reader gave up on it".into()));
        loaded.map_err(|reason| ModelError::BadFile {
            path: path.into(),
            reason,
        })
    }

    /// Side of the pictures, in pixels.
    pub(crate) fn side(&self) -> usize {
        self.side
    }

    /// The shape of what it gives, if that is fixed and of f32; what it is, for a person, if not.
    pub(crate) fn output_shape(&self) -> Result<&[usize], String> {
        let fact = self.plan.model().output_fact(0);
        let fact = fact.map_err(|error| error.to_string())?;
        match fact.shape.as_concrete() {
            Some(shape) if fact.datum_type == f32::datum_type() => Ok(shape),
            _ => Err(format!("{fact:?}")),
        }
    }

    /// Answers one picture: three planes of `side × side` values.
    ///
    /// # Errors
    /// [`ModelError::Torch`] when the network cannot compute it.
    pub(crate) fn run(&self, picture: &[f32]) -> Result<Vec<f32>, ModelError> {
        let failed = |error: TractError| ModelError::Torch(format!("ONNX network: {error:#}"));
        let shape = [1, 3, self.side, self.side];
        let input = Tensor::from_shape(&shape, picture).map_err(failed)?;
        let output = self.plan.run(tvec!(input.into())).map_err(failed)?;
        Ok(output[0].as_slice::<f32>().map_err(failed)?.to_vec())
    }
}

impl std::fmt::Debug for OnnxNetwork {
    /// Without the plan, which fills pages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnnxNetwork")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

/// Parses and prepares a network, or says what is wrong with it.
fn read(mut bytes: &[u8]) -> Result<OnnxNetwork, String> {
    let broken = |error: TractError| format!("not an ONNX network that can be run: {error:#}");
    let model = onnx().model_for_read(&mut bytes).map_err(broken)?;
    if model.inputs.len() != 1 || model.outputs.len() != 1 {
        let (inputs, outputs) = (model.inputs.len(), model.outputs.len());
        return Err(format!(
            "has {inputs} inputs and {outputs} outputs, not one of each"
        ));
    }
    let side = input_side(model.input_fact(0).map_err(broken)?)?;
    let one = f32::fact([1, 3, side, side]);
    let plan = model
        .with_input_fact(0, one.into())
        .and_then(|model| model.into_typed())
        .and_then(|model| model.into_optimized())
        .and_then(|model| model.into_runnable())
        .map_err(broken)?;
    Ok(OnnxNetwork { plan, side })
}

/// The side of the one picture that a network takes.
fn input_side(fact: &InferenceFact) -> Result<usize, String> {
    let other = || format!("its input is {fact:?}, not 1,3,S,S of f32");
    if fact.datum_type.concretize() != Some(f32::datum_type()) {
        return Err(other());
    }
    let shape: Vec<Option<usize>> = fact
        .shape
        .dims()
        .map(|dim| {
            dim.concretize()
                .and_then(|dim| usize::try_from(dim.to_i64().ok()?).ok())
        })
        .collect();
    match *shape {
        [None | Some(1), Some(3), Some(height), Some(width)] if height == width && height > 0 => {
            Ok(height)
        }
        _ => Err(other()),
    }
}
