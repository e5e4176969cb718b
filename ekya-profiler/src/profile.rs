//! What a micro-profile starts from, and what it says.

use ekya_sched::RetrainingConfig;

use crate::{Estimate, Features, MeasuredCost, Point};

/// What is to be predicted from.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// Name of the stream.
    pub stream: String,
    /// Number of the window or round.
    pub occasion: u64,
    /// Labelled pictures that a retraining on all the data trains on.
    pub pictures: usize,
    /// Accuracy of the serving student, in 0..=1, on the examples at whose level the learner reports
    /// those of candidates.
    pub start_accuracy: f64,
    /// Standard deviation of measuring it; 0 where it is known.
    pub start_sd: f64,
    /// How many held-out examples candidates are validated on.
    pub validation_examples: usize,
    /// GPU-seconds that profiling may spend on configurations whose cost is known; the epoch that
    /// passes it is the last, and what was not started is predicted from the history alone.
    /// Configurations whose cost nothing tells are trained regardless. Infinite for no limit.
    pub budget_gpu_seconds: f64,
    /// The most GPU-seconds a retraining can get in this window; costlier candidates cannot win.
    /// Infinite when not known.
    pub affordable_gpu_seconds: f64,
}

impl Situation {
    /// The retraining with that configuration.
    #[must_use]
    pub fn point(&self, config: &RetrainingConfig) -> Point {
        Point {
            stream: self.stream.clone(),
            occasion: self.occasion,
            config: Features::from(config),
            start_accuracy: self.start_accuracy,
        }
    }

    /// Standard deviation of an accuracy about `accuracy`, measured on the held-out examples.
    pub(crate) fn noise(&self, accuracy: f64) -> f64 {
        let examples = self.validation_examples.max(1) as f64;
        // Laplace's estimate, so that a student that is right on all ten examples is not certain.
        let right = (accuracy * examples + 1.0) / (examples + 2.0);
        (right * (1.0 - right) / examples).sqrt()
    }
}

/// What a retraining with one configuration is expected to give and cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Index of the configuration.
    pub config: usize,
    /// Expected accuracy of the retrained student on held-out examples, in 0..=1.
    pub end_accuracy: f64,
    /// Its standard deviation, that of the accuracy before included.
    pub end_sd: f64,
    /// Lower and upper end of an 80 % interval of it.
    pub interval: (f64, f64),
    /// The gain over [`Situation::start_accuracy`], with its standard deviation.
    pub gain: Estimate,
    /// Expected cost on a whole device.
    pub gpu_seconds: f64,
    /// The gain that the curve alone promises; hand it to [`History::record_curve`](crate::History::record_curve) with that of the
    /// retraining. `None` when the configuration was not trained.
    pub promised_gain: Option<f64>,
}

/// The profiles of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiling {
    /// In the order of the configurations. One that was neither trained nor retrained before has
    /// no known cost and is left out.
    pub profiles: Vec<Profile>,
    /// GPU-seconds spent, to be taken from the window.
    pub gpu_seconds: f64,
    /// What the runs measured, for [`Costs::record_profiled`](crate::Costs::record_profiled).
    pub measured_costs: Vec<MeasuredCost>,
}
