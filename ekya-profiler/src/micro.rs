//! Training candidates a little, to predict what training them fully would give.
//!
//! [`History`] says what to expect of every configuration beforehand, and how much is shared between
//! them. Where that leaves doubts that a few epochs on a sample can lessen, they are trained; what
//! the learning curve then promises is one more observation, which moves the others with it.

use ekya_sched::RetrainingConfig;

use crate::observed::Observed;
use crate::prediction::Prediction;
use crate::{History, Profiling, Situation, Trainable};

/// Epochs before a run may be stopped early; one point says nothing of the slope, and the first
/// epoch may cost more than others.
const EPOCHS_BEFORE_STOP: usize = 2;

/// Trains candidates on a sample for a few epochs and extrapolates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MicroProfiler {
    /// Part of the window's labelled data to train on, in (0, 1]; 0.05 to 0.1 in the paper. With
    /// few labels, take more.
    pub sample_fraction: f64,
    /// Epochs to train each candidate, at least 1.
    pub epochs: usize,
}

impl Default for MicroProfiler {
    fn default() -> Self {
        Self {
            sample_fraction: 0.1,
            epochs: 5,
        }
    }
}

impl MicroProfiler {
    /// Profiles the configurations `active` (indices into `configs`; see
    /// [`Pruner::active`](crate::Pruner::active)).
    ///
    /// Configurations that differ in epochs and data fraction only share one run: after `e` epochs
    /// on a fraction `d` of the data, as many samples were seen as after `e·d/s` epochs on a
    /// sample of fraction `s`; that is where the curve is read. Runs about which there is most doubt
    /// go first, those that would lessen none are left out; a run ends early when, for each of its
    /// configurations, another one is no costlier and better beyond doubt, or it is not affordable.
    ///
    /// # Errors
    /// Those of the learner, at once.
    pub fn profile<L: Trainable>(
        &self,
        learner: &mut L,
        configs: &[RetrainingConfig],
        active: &[usize],
        situation: &Situation,
        history: &History,
    ) -> Result<Profiling, L::Error> {
        let mut prediction = Prediction::new(configs, active, situation, history);
        let mut profiling = Profiling {
            profiles: Vec::new(),
            gpu_seconds: 0.0,
            measured_costs: Vec::new(),
        };
        for group in prediction.groups() {
            let within = profiling.gpu_seconds < situation.budget_gpu_seconds;
            if prediction.is_unknown(&group) || within && prediction.is_worth_it(&group) {
                self.train(learner, &mut prediction, &group, &mut profiling)?;
            }
        }
        profiling.profiles = prediction.profiles();
        Ok(profiling)
    }

    /// Trains the run that a group shares, and takes in what it shows.
    fn train<L: Trainable>(
        &self,
        learner: &mut L,
        prediction: &mut Prediction<'_>,
        group: &[usize],
        profiling: &mut Profiling,
    ) -> Result<(), L::Error> {
        let Some(config) = group.first().map(|&first| prediction.config(first)) else {
            return Ok(());
        };
        let start = learner.start(config, self.sample_fraction)?;
        profiling.gpu_seconds += start.gpu_seconds;
        let mut observed = Observed::new(&start);
        for epoch in 1..=self.epochs.max(1) {
            let trained = learner.train_epoch()?;
            profiling.gpu_seconds += trained.training_gpu_seconds + trained.validation_gpu_seconds;
            if !observed.add(epoch, &trained) {
                return Ok(());
            }
            let spent = profiling.gpu_seconds >= prediction.situation.budget_gpu_seconds;
            // Two epochs also tell what is not known: the cost.
            let may_stop = epoch >= EPOCHS_BEFORE_STOP || !prediction.is_unknown(group);
            let hopeless = epoch >= EPOCHS_BEFORE_STOP && prediction.cannot_win(group, &observed);
            if spent && may_stop || hopeless {
                break;
            }
        }
        let cost = observed.cost(config, prediction.situation.pictures);
        prediction.take_in(group, &observed, &cost);
        profiling.measured_costs.push(cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::{Epoch, Outcome, Start};

    /// Learns along a known curve of samples seen; a frozen student along a worse one.
    #[derive(Default)]
    struct Fake {
        runs: usize,
        epochs: usize,
        frozen: usize,
        epoch: f64,
        fails: bool,
    }

    impl Fake {
        fn accuracy(frozen: usize, full_epochs: f64) -> f64 {
            let best = 0.9 - 0.4 * frozen as f64;
            best - (best - 0.5).max(0.0) / (1.0 + full_epochs)
        }
    }

    impl Trainable for Fake {
        type Error = Infallible;

        fn start(
            &mut self,
            config: &RetrainingConfig,
            sample_fraction: f64,
        ) -> Result<Start, Infallible> {
            self.runs += 1;
            self.frozen = config.layers_frozen;
            self.epoch = 0.0;
            Ok(Start {
                sample_fraction,
                accuracy: Some(0.5),
                gpu_seconds: 0.5,
            })
        }

        fn train_epoch(&mut self) -> Result<Epoch, Infallible> {
            self.epoch += 1.0;
            self.epochs += 1;
            let accuracy = Self::accuracy(self.frozen, self.epoch / 10.0);
            Ok(Epoch {
                accuracy: if self.fails { f64::NAN } else { accuracy },
                training_gpu_seconds: 0.2,
                validation_gpu_seconds: 0.1,
            })
        }
    }

    fn situation() -> Situation {
        Situation {
            stream: "a".to_owned(),
            occasion: 1,
            pictures: 100,
            start_accuracy: 0.5,
            start_sd: 0.0,
            validation_examples: 1000,
            budget_gpu_seconds: f64::INFINITY,
            affordable_gpu_seconds: f64::INFINITY,
        }
    }

    fn config(epochs: usize, data_fraction: f64, layers_frozen: usize) -> RetrainingConfig {
        RetrainingConfig {
            epochs,
            data_fraction,
            layers_frozen,
            ..RetrainingConfig::default()
        }
    }

    fn profile(
        learner: &mut Fake,
        configs: &[RetrainingConfig],
        situation: &Situation,
    ) -> Profiling {
        let active: Vec<usize> = (0..configs.len()).collect();
        let profiler = MicroProfiler::default();
        let Ok(profiling) =
            profiler.profile(learner, configs, &active, situation, &History::default());
        profiling
    }

    #[test]
    fn configurations_that_differ_in_epochs_and_data_share_a_run() {
        let configs = [
            config(1, 1.0, 0),
            config(10, 1.0, 0),
            config(10, 0.5, 0),
            config(1, 1.0, 1),
        ];
        let mut learner = Fake::default();
        let profiling = profile(&mut learner, &configs, &situation());
        assert_eq!(learner.runs, 2);
        assert_eq!(profiling.profiles.len(), 4);
        let cost = |config: usize| profiling.profiles[config].gpu_seconds;
        // 0.2 s an epoch on a tenth of the data: 2 s on all of it, after 0.5 s to start.
        assert!((cost(0) - 2.5).abs() < 1e-9);
        assert!((cost(1) - 20.5).abs() < 1e-9);
        assert!((cost(2) - 10.5).abs() < 1e-9);
        let spent = 2.0 * 0.5 + 0.3 * learner.epochs as f64;
        assert!((profiling.gpu_seconds - spent).abs() < 1e-9);
    }

    #[test]
    fn longer_training_is_predicted_to_be_better_and_near_the_truth() {
        let configs = [config(1, 1.0, 0), config(5, 1.0, 0)];
        let profiling = profile(&mut Fake::default(), &configs, &situation());
        let [one, five] = profiling.profiles[..] else {
            panic!("{profiling:?}")
        };
        assert!(five.end_accuracy > one.end_accuracy);
        let (low, high) = one.interval;
        assert!((low..=high).contains(&Fake::accuracy(0, 1.0)));
        // Ten times beyond what was trained: drawn towards the prior, still in the region.
        let truth = Fake::accuracy(0, 5.0);
        assert!((five.end_accuracy - truth).abs() < 0.1, "{five:?} {truth}");
        assert!(five.interval.1 - five.interval.0 > high - low);
    }

    #[test]
    fn a_run_that_cannot_win_is_stopped() {
        let mut learner = Fake::default();
        let configs = [config(2, 1.0, 0), config(2, 1.0, 1)];
        profile(&mut learner, &configs[1..], &situation());
        assert_eq!(learner.epochs, 5);
        let situation = Situation {
            affordable_gpu_seconds: 1.0,
            ..situation()
        };
        let mut learner = Fake::default();
        profile(&mut learner, &configs, &situation);
        assert_eq!(learner.epochs, 2 * EPOCHS_BEFORE_STOP);
    }

    #[test]
    fn when_the_budget_is_spent_the_history_answers_for_what_it_knows() {
        let configs = [config(2, 1.0, 0), config(2, 1.0, 1)];
        let situation = Situation {
            budget_gpu_seconds: 0.1,
            ..situation()
        };
        let mut history = History::default();
        history.record(Outcome {
            point: situation.point(&configs[0]),
            end_accuracy: 0.8,
            frames: None,
        });
        history.record_cost(&configs[0], 100, 4.0);
        let mut learner = Fake::default();
        let profiler = MicroProfiler::default();
        let Ok(profiling) = profiler.profile(&mut learner, &configs, &[0, 1], &situation, &history);
        // The cost of the other one is not known, so it is trained although the budget is spent, until
        // it is.
        assert_eq!((learner.runs, learner.epochs), (1, EPOCHS_BEFORE_STOP));
        let untrained = &profiling.profiles[0];
        assert_eq!(untrained.promised_gain, None);
        assert!((untrained.gpu_seconds - 4.0).abs() < 1e-9);
        assert!(untrained.end_accuracy > 0.6);
    }

    #[test]
    fn a_candidate_that_fails_leaves_the_others_alone() {
        let mut learner = Fake {
            fails: true,
            ..Fake::default()
        };
        let profiling = profile(
            &mut learner,
            &[config(2, 1.0, 0), config(2, 1.0, 1)],
            &situation(),
        );
        assert!(profiling.profiles.is_empty());
        assert!(profiling.gpu_seconds > 0.0);
    }

    #[test]
    fn an_uncertain_start_widens_the_interval_and_moves_nothing() {
        let configs = [config(10, 1.0, 0)];
        let end_from = |start_sd: f64| {
            let situation = Situation {
                start_sd,
                ..situation()
            };
            profile(&mut Fake::default(), &configs, &situation).profiles[0]
        };
        let [known, measured] = [0.0, 0.1].map(end_from);
        assert_eq!(
            (known.end_accuracy, known.gain),
            (measured.end_accuracy, measured.gain)
        );
        assert!((measured.end_sd - known.end_sd.hypot(0.1)).abs() < 1e-12);
        assert!(measured.interval.0 < known.interval.0);
    }

    #[test]
    fn few_validation_examples_draw_the_prediction_to_the_prior() {
        let configs = [config(10, 1.0, 0)];
        let end_with = |validation_examples: usize| {
            let situation = Situation {
                validation_examples,
                ..situation()
            };
            profile(&mut Fake::default(), &configs, &situation).profiles[0]
        };
        let [few, many] = [8, 1000].map(end_with);
        let prior = 0.5 + 0.25 * 0.5;
        assert!((few.end_accuracy - prior).abs() < (many.end_accuracy - prior).abs());
        assert!(few.interval.1 - few.interval.0 > many.interval.1 - many.interval.0);
    }

    /// Says what it is given, sense or not.
    struct Scripted {
        accuracies: Vec<f64>,
        next: usize,
    }

    impl Trainable for Scripted {
        type Error = Infallible;

        fn start(&mut self, _: &RetrainingConfig, fraction: f64) -> Result<Start, Infallible> {
            Ok(Start {
                sample_fraction: fraction,
                accuracy: None,
                gpu_seconds: 0.0,
            })
        }

        fn train_epoch(&mut self) -> Result<Epoch, Infallible> {
            self.next += 1;
            Ok(Epoch {
                accuracy: self.accuracies[self.next % self.accuracies.len()],
                training_gpu_seconds: 0.1,
                validation_gpu_seconds: 0.0,
            })
        }
    }

    proptest! {
        #[test]
        fn predictions_are_accuracies_inside_their_intervals(
            accuracies in prop::collection::vec(
                prop_oneof![9 => 0.0..=1.0_f64, 1 => Just(f64::NAN)], 1..12,
            ),
            start_accuracy in 0.0..=1.0_f64,
            validation_examples in 0..50_usize,
            outcomes in prop::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..=1.0_f64), 0..5),
        ) {
            let configs = [config(1, 0.1, 0), config(30, 1.0, 0), config(5, 0.5, 1)];
            let mut history = History::default();
            for (start, end, curve) in outcomes {
                let start = Situation { start_accuracy: start, ..situation() };
                history.record(Outcome {
                    point: start.point(&configs[0]),
                    end_accuracy: end,
                    frames: Some(10),
                });
                history.record_curve(curve, end - start.start_accuracy);
                history.record_cost(&configs[0], 100, 3.0);
            }
            let situation = Situation { start_accuracy, validation_examples, ..situation() };
            let mut learner = Scripted { accuracies, next: 0 };
            let profiler = MicroProfiler::default();
            let Ok(profiling) =
                profiler.profile(&mut learner, &configs, &[0, 1, 2], &situation, &history);
            for profile in profiling.profiles {
                let (low, high) = profile.interval;
                prop_assert!(0.0 <= low && low <= profile.end_accuracy);
                prop_assert!(profile.end_accuracy <= high && high <= 1.0);
                prop_assert!(profile.gpu_seconds.is_finite() && profile.gpu_seconds >= 0.0);
            }
        }
    }
}
