//! How students are retrained: labels, memory, training, profiles.

use ekya_models::{Distillation, Sampling};
use ekya_profiler::comparison::Rule;
use ekya_sched::{RetrainingConfig, Share};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How students are retrained.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LearningConfig {
    /// Frames a stream and window that the teacher labels, 4 to 100000.
    pub samples: usize,
    /// Consecutive frames among `samples`, on which the inference configurations are profiled: at
    /// least 2, and fewer than `samples`.
    pub burst: usize,
    /// Fraction of a window's labelled frames, the latest at any time, that retraining does not see
    /// yet; the gate compares students on them. Between 0 and 1, both excluded.
    pub holdout: f64,
    /// How students keep what they have learnt.
    pub method: Method,
    /// Labelled frames older than about a window that a stream keeps and replays, at most: each
    /// retraining goes through all of them.
    pub memory: usize,
    /// Bytes that the frames of `memory` take, at most; the newest frames, which are not yet among them, add about as
    /// many as `samples` frames have.
    pub memory_bytes: u64,
    /// Labelled frames taken longer ago than so many hours are erased, from the training memory and
    /// from the state folder, whether or not new ones come: above 0 and up to 876600, a hundred years.
    /// Absent, there is no such limit.
    pub retention_hours: Option<f64>,
    /// Under `method = "icarl"`, how much the answers of the student before a retraining count in it
    /// beside the labels, which count 1; 0 leaves them out.
    pub distillation_weight: f64,
    /// What logits are divided by before old and new answers are compared, above 0; 1 compares them
    /// as they are.
    pub distillation_temperature: f64,
    /// Whether each crop is trained on equally often, or each class.
    pub sampling: Sampling,
    /// Device seconds that a training step should take at most, in the mean, above 0 and at most 60; larger
    /// minibatches are computed in several steps. Where others wait, training gives up the device after
    /// a quarter of this, in worker processes also in the middle of a step.
    pub step_seconds: f64,
    /// Share of each device for labelling (half of it, as long as labels are wanted) and profiling
    /// (the other half, while it lasts). Above 0 and below 1.
    pub overhead_share: Share,
    /// Fraction of the labelled frames that a micro-profile trains on, above 0 and at most
    /// 1.
    pub profile_fraction: f64,
    /// Epochs of a micro-profile, at least 2.
    pub profile_epochs: usize,
    /// A retrained student serves when the chance that it is better is at least this, after its
    /// comparison with the serving one on held-out frames; at least 0.5 and below 1.
    pub confidence: f64,
    /// What no class may lose by a promotion, in accuracy (0 to 1), on held-out frames or on remembered
    /// ones.
    pub class_margin: f64,
    /// Label although nobody retrains, so that accuracy is measured.
    pub measure: bool,
    /// Seconds that the end of a run waits at most for the labels of its last samples, 0 to 3600.
    pub last_labels_seconds: f64,
    /// The retraining configurations Γ to choose from, at least one. Each takes time and gives
    /// accuracy: offer cheap and costly ones.
    #[serde(rename = "configuration")]
    pub configurations: Vec<RetrainingConfig>,
}

impl LearningConfig {
    /// Frames labelled in a window, the burst apart: as many count as recent.
    #[must_use]
    #[doc(hidden)]
    pub fn spread(&self) -> usize {
        self.samples.saturating_sub(self.burst)
    }

    /// What a retrained student must pass.
    #[must_use]
    #[doc(hidden)]
    pub const fn rule(&self) -> Rule {
        Rule {
            confidence: self.confidence,
            class_margin: self.class_margin,
        }
    }

    /// When the oldest frames were taken that may still be kept at `now` (both in Unix seconds).
    #[must_use]
    pub(crate) fn oldest_kept(&self, now: u64) -> u64 {
        let retention = self.retention_hours.map(|hours| (hours * 3600.0) as u64);
        retention.map_or(0, |retention| now.saturating_sub(retention))
    }

    /// How a student that knows the first so many classes is kept from forgetting them.
    #[must_use]
    #[doc(hidden)]
    pub fn distillation(&self, known_classes: usize) -> Option<Distillation> {
        let wanted = self.method == Method::Icarl && known_classes > 0;
        wanted.then_some(Distillation {
            classes: known_classes,
            weight: self.distillation_weight,
            temperature: self.distillation_temperature,
        })
    }

    /// Frames, the latest of them, that students are compared on.
    #[must_use]
    #[doc(hidden)]
    pub fn held_out(&self) -> usize {
        (self.spread() as f64 * self.holdout).ceil() as usize
    }
}

impl Default for LearningConfig {
    fn default() -> Self {
        let config = |epochs, layers_frozen, learning_rate| RetrainingConfig {
            epochs,
            layers_frozen,
            learning_rate,
            ..RetrainingConfig::default()
        };
        Self {
            samples: 60,
            burst: 10,
            holdout: 0.3,
            method: Method::FineTuning,
            memory: 120,
            memory_bytes: 256 << 20,
            retention_hours: None,
            distillation_weight: 0.3,
            distillation_temperature: 2.0,
            sampling: Sampling::Uniform,
            step_seconds: 0.05,
            overhead_share: Share::from_micro(300_000),
            profile_fraction: 0.3,
            profile_epochs: 3,
            confidence: 0.6,
            class_margin: 0.1,
            measure: false,
            last_labels_seconds: 120.0,
            configurations: vec![
                config(10, usize::MAX, 2e-3),
                config(8, 3, 1e-3),
                config(6, 0, 5e-4),
                config(12, 0, 5e-4),
            ],
        }
    }
}

/// How students keep what they have learnt. Both replay the memory; what each is worth is told in
/// `src/learn/mod.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A modified iCaRL (Rebuffi et al. 2017): the memory keeps what stands for each class, and
    /// students learn from the answers of the one before.
    Icarl,
    /// The memory keeps random frames of each class, and students learn from labels alone.
    FineTuning,
}
