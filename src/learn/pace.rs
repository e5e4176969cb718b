//! How many examples a training step may compute on, so that it holds the device for no longer than
//! is allowed.

use std::collections::BTreeMap;
use std::time::Duration;

use ekya_models::Training;
use ekya_sched::RetrainingConfig;

use super::evaluate::{LearnError, Work};
use super::turn::TURNS_A_STEP;

/// Examples a step where nothing has been measured yet: few, for the largest student on the slowest
/// device.
const UNMEASURED: usize = 8;

/// What an example costs, from what trainings before have shown.
#[derive(Debug)]
pub struct Pace {
    step_seconds: f64,
    /// Device seconds of an example, by the number of frozen layers: what costs depends on it most.
    example_seconds: BTreeMap<usize, f64>,
}

impl Pace {
    /// Steps of at most `step_seconds` in the mean.
    #[must_use]
    pub fn new(step_seconds: f64) -> Self {
        Self {
            step_seconds,
            example_seconds: BTreeMap::new(),
        }
    }

    /// A training whose steps are to be counted.
    pub(crate) fn timed(&self, training: Box<dyn Training>) -> Timed {
        Timed {
            training,
            turn: Duration::from_secs_f64(self.step_seconds) / TURNS_A_STEP,
            done: 0,
            seconds: 0.0,
            examples: 0,
        }
    }

    /// Most examples of a step in a training of that configuration, at least 1.
    pub(super) fn micro_batch(&self, config: &RetrainingConfig) -> usize {
        let seconds = self.example_seconds.get(&config.layers_frozen);
        // A quotient out of range is cut off at the nearest number of examples.
        seconds.map_or(UNMEASURED, |seconds| {
            ((self.step_seconds / seconds) as usize).max(1)
        })
    }

    /// Learns from a training what its examples cost.
    pub(super) fn learn(&mut self, config: &RetrainingConfig, training: &Timed) {
        if training.examples > 0 {
            let seconds = training.seconds / training.examples as f64;
            self.example_seconds.insert(config.layers_frozen, seconds);
        }
    }
}

/// A training whose first epoch is timed: later ones may find more computed already.
pub(crate) struct Timed {
    training: Box<dyn Training>,
    /// What steps are computed in, at a time.
    turn: Duration,
    /// Steps so far.
    done: usize,
    seconds: f64,
    examples: usize,
}

impl Timed {
    /// The training.
    pub(crate) fn training(&self) -> &dyn Training {
        &*self.training
    }

    /// One step or more, as a minibatch of `work`; at most until so many are done. Returns how many
    /// are.
    ///
    /// # Errors
    /// See [`Work::minibatch`].
    pub(crate) fn advance(&mut self, until: usize, work: &mut Work) -> Result<usize, LearnError> {
        let epoch = self.training.steps_per_epoch();
        let first = self.done < epoch;
        let until = if first { until.min(epoch) } else { until };
        let (training, turn, at_most) = (&mut self.training, self.turn, until - self.done);
        let before = work.spent();
        let steps = work.minibatch(|| training.steps_within(turn, at_most))?;
        if first {
            self.seconds += work.spent() - before;
            self.examples += steps.iter().map(|step| step.examples).sum::<usize>();
        }
        self.done += steps.len();
        Ok(self.done)
    }

    /// The steps up to the next end of an epoch.
    ///
    /// # Errors
    /// See [`Work::minibatch`].
    pub(super) fn train_epoch(&mut self, work: &mut Work) -> Result<(), LearnError> {
        let epoch = self.training.steps_per_epoch();
        let end = (self.done / epoch + 1) * epoch;
        while self.done < end {
            self.advance(end, work)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ekya_models::{ModelError, Step, Student};

    use super::*;

    struct Never;

    impl Training for Never {
        fn steps(&self) -> usize {
            0
        }

        fn steps_per_epoch(&self) -> usize {
            0
        }

        fn step(&mut self) -> Result<Step, ModelError> {
            Err(ModelError::NoExamples)
        }

        fn student(&self) -> Result<Box<dyn Student>, ModelError> {
            Err(ModelError::NoExamples)
        }
    }

    fn after(seconds: f64, examples: usize) -> usize {
        let config = RetrainingConfig::default();
        let mut pace = Pace::new(0.05);
        let mut timed = pace.timed(Box::new(Never));
        (timed.seconds, timed.examples) = (seconds, examples);
        pace.learn(&config, &timed);
        let other = RetrainingConfig {
            layers_frozen: 3,
            ..RetrainingConfig::default()
        };
        assert_eq!(pace.micro_batch(&other), UNMEASURED);
        pace.micro_batch(&config)
    }

    #[test]
    fn as_many_examples_as_fit_in_a_step() {
        assert_eq!(after(1.0, 100), 5);
        assert_eq!(after(10.0, 100), 1, "one at least");
        assert_eq!(after(0.0, 100), usize::MAX, "too quick to measure");
        assert_eq!(after(0.0, 0), UNMEASURED, "nothing was trained");
    }
}
