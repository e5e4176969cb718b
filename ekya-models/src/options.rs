//! How a retraining is carried out, beside what is trained: what the scheduler does not choose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "torch")]
use crate::ModelError;

/// How a retraining is carried out. The defaults are plain fine-tuning, a whole minibatch a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingOptions {
    /// Most examples (crops for a classifier, pictures for a detector) that one
    /// [`Training::step`](crate::Training::step) computes on, at least 1. A larger minibatch is
    /// several steps, whose gradients are summed before the weights move. Where a block trains that
    /// normalises by what it computes on, at least eight: it would learn the statistics of too few.
    pub micro_batch: usize,
    /// Which crops an epoch is made of. Classifiers only.
    pub sampling: Sampling,
    /// What else to learn from beside the labels. Classifiers only: a detector refuses it.
    pub distillation: Option<Distillation>,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            micro_batch: usize::MAX,
            sampling: Sampling::default(),
            distillation: None,
        }
    }
}

#[cfg(feature = "torch")]
impl TrainingOptions {
    /// # Errors
    /// [`ModelError::BadInput`] for a value out of range.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if self.micro_batch == 0 {
            let wrong = "a training step computes on at least 1 example, got micro_batch 0";
            return Err(ModelError::BadInput(wrong.to_owned()));
        }
        self.distillation
            .as_ref()
            .map_or(Ok(()), Distillation::check)
    }
}

/// Which crops an epoch is made of; as many in either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Each crop once.
    #[default]
    Uniform,
    /// Each class equally often: crops of a rare class several times, of a frequent one a part.
    Balanced,
}

/// Learning from the answers of the student that trains as it was before, so that it does not forget
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distillation {
    /// Outputs that answer something: the first so many classes. Those added since are left out.
    pub classes: usize,
    /// How much the old answers count beside the labels, which count 1; not negative.
    pub weight: f64,
    /// What logits are divided by before they are compared, above 0: the higher, the more count the
    /// classes that the old student held for less likely.
    pub temperature: f64,
}

#[cfg(feature = "torch")]
impl Distillation {
    fn check(&self) -> Result<(), ModelError> {
        let Self {
            classes,
            weight,
            temperature,
        } = *self;
        let wrong = if classes == 0 {
            "distillation needs at least 1 class that is known, got 0".to_owned()
        } else if !(weight >= 0.0 && weight.is_finite()) {
            format!("a weight of distillation is finite and not negative, got {weight}")
        } else if !(temperature > 0.0 && temperature.is_finite()) {
            format!("a temperature of distillation is finite and above 0, got {temperature}")
        } else {
            return Ok(());
        };
        Err(ModelError::BadInput(wrong))
    }
}
