//! What training on a sample showed: points of a learning curve, and what epochs cost.

use ekya_sched::RetrainingConfig;

use crate::{AccuracyCurve, Epoch, Start};

/// What a run on a sample says of the cost of its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredCost {
    /// A configuration of the kind.
    pub config: RetrainingConfig,
    /// GPU-seconds for a pass over one picture.
    pub rate: f64,
    /// GPU-seconds to begin with.
    pub fixed: f64,
}

/// Where a curve leads.
pub(crate) struct Extrapolated {
    /// Accuracy at the end.
    pub(crate) end: f64,
    /// How much of it is gained, or lost, beyond the last epoch that was seen.
    pub(crate) rise: f64,
    /// How many times as long as what was seen the whole training is.
    pub(crate) stretch: f64,
}

/// What training a sample showed.
pub(crate) struct Observed {
    sample_fraction: f64,
    start_gpu_seconds: f64,
    /// Epochs on the sample, accuracy.
    points: Vec<(f64, f64)>,
    epoch_gpu_seconds: Vec<f64>,
}

impl Observed {
    pub(crate) fn new(start: &Start) -> Self {
        let before = start.accuracy.filter(|accuracy| accuracy.is_finite());
        Self {
            sample_fraction: start.sample_fraction.clamp(1e-6, 1.0),
            start_gpu_seconds: start.gpu_seconds.max(0.0),
            points: before.map(|accuracy| (0.0, accuracy)).into_iter().collect(),
            epoch_gpu_seconds: Vec::new(),
        }
    }

    /// Whether the epoch was one.
    pub(crate) fn add(&mut self, epoch: usize, trained: &Epoch) -> bool {
        let cost = trained.training_gpu_seconds;
        let usable = trained.accuracy.is_finite() && cost.is_finite() && cost >= 0.0;
        if usable {
            self.points.push((epoch as f64, trained.accuracy));
            self.epoch_gpu_seconds.push(cost);
        }
        usable
    }

    /// Epochs on the sample that show as many examples as the configuration does.
    fn equivalent_epochs(&self, config: &RetrainingConfig) -> f64 {
        config.epochs as f64 * config.data_fraction / self.sample_fraction
    }

    /// The first epoch may do what later ones need not, such as computing features of frozen
    /// blocks: what it took more grows with the pictures, not with the epochs.
    pub(crate) fn cost(&self, config: &RetrainingConfig, pictures: usize) -> MeasuredCost {
        let epoch = median(self.epoch_gpu_seconds.get(1..).unwrap_or_default())
            .or_else(|| self.epoch_gpu_seconds.first().copied())
            .unwrap_or(0.0);
        let first = self.epoch_gpu_seconds.first().copied().unwrap_or(0.0);
        let once = (first - epoch).max(0.0) / self.sample_fraction;
        MeasuredCost {
            config: config.clone(),
            rate: epoch / (self.sample_fraction * pictures.max(1) as f64),
            fixed: self.start_gpu_seconds + once,
        }
    }

    /// The end along the curve.
    pub(crate) fn extrapolate(&self, config: &RetrainingConfig) -> Option<Extrapolated> {
        let curve = AccuracyCurve::fit(&self.points)?;
        let epochs = self.equivalent_epochs(config);
        let end = curve.at(epochs);
        let last = self.points.last().map_or(0.0, |&(epoch, _)| epoch);
        Some(Extrapolated {
            end,
            rise: (end - curve.at(last)).abs(),
            stretch: epochs / last.max(1.0),
        })
    }
}

/// The middle value; `None` of none.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
