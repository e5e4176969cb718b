//! How a student may be retrained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A retraining configuration γ. The scheduler never looks inside; the profiler looks at `epochs`
/// and `data_fraction`, the training code at everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrainingConfig {
    /// Passes over the data, at least 1.
    pub epochs: usize,
    /// Pictures (detection) or crops (classification) a minibatch, at least 1.
    pub batch_size: usize,
    /// Neurons of the hidden layer before the output; a student whose head has another width gets
    /// a new head. 0 keeps the head as it is.
    pub head_width: usize,
    /// Blocks of the network that stay as they are, counted from the input; all but the head are
    /// frozen when it is larger than the number of blocks, as 100 is.
    pub layers_frozen: usize,
    /// Fraction of the labelled data that is used, above 0 and at most 1.
    pub data_fraction: f64,
    /// Learning rate at the start, above 0; it falls to zero along a half cosine.
    pub learning_rate: f64,
}

impl Default for RetrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            head_width: 0,
            layers_frozen: 0,
            data_fraction: 1.0,
            learning_rate: 1e-3,
        }
    }
}
