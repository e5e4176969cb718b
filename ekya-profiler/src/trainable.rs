//! What the micro-profiler wants of a learner, so that any can be profiled.

use ekya_sched::RetrainingConfig;

/// A learner that can be profiled. It holds one candidate at a time.
pub trait Trainable {
    /// What can go wrong; ends the profiling. A candidate that merely trains badly (a loss that
    /// is no number) is reported as an epoch with an accuracy of NaN instead.
    type Error;

    /// Begins anew with the serving student, set up for `config`, and a uniform sample of about
    /// `sample_fraction` of the window's labelled data. `config.epochs` and
    /// `config.data_fraction` are to be ignored.
    ///
    /// # Errors
    /// The learner's own.
    fn start(
        &mut self,
        config: &RetrainingConfig,
        sample_fraction: f64,
    ) -> Result<Start, Self::Error>;

    /// Trains the candidate that was started for one epoch of its sample, and validates it on
    /// held-out examples.
    ///
    /// # Errors
    /// The learner's own.
    fn train_epoch(&mut self) -> Result<Epoch, Self::Error>;
}

/// What a learner says when a candidate is set up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Start {
    /// Part of the data that the sample really is, in (0, 1]; more than asked when that would be
    /// too few.
    pub sample_fraction: f64,
    /// Accuracy before training, in 0..=1; `None` when a new head makes it meaningless.
    pub accuracy: Option<f64>,
    /// What setting up cost; a full retraining pays it once too.
    pub gpu_seconds: f64,
}

/// What a learner says after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// Accuracy on held-out examples, in 0..=1; NaN when training failed.
    pub accuracy: f64,
    /// GPU-seconds of training, on a whole device.
    pub training_gpu_seconds: f64,
    /// GPU-seconds of validating.
    pub validation_gpu_seconds: f64,
}
