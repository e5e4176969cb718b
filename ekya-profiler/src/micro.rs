//! Training candidates a little, to predict what training them fully would give.

use ekya_sched::RetrainingConfig;

use crate::{AccuracyCurve, Estimate, History};

/// Standard deviations on either side of the mean that hold 80 % of a normal distribution.
const SD_OF_80_PERCENT: f64 = 1.2816;

/// How wrong the extrapolated part of a curve's rise may be, as a part of it: one deviation.
const EXTRAPOLATION_DOUBT: f64 = 0.5;

/// Epochs before a run may be stopped early; one point says nothing of the slope.
const EPOCHS_BEFORE_STOP: usize = 2;

/// Outcomes of a configuration, older ones counting less, from which on a micro-profile of it adds
/// little: the history's estimate is then surer than one from a few held-out pictures.
const WELL_KNOWN: f64 = 8.0;

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

/// What is to be predicted from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Situation {
    /// Accuracy of the serving student, in 0..=1, on the examples at whose level the learner reports
    /// those of candidates.
    pub start_accuracy: f64,
    /// How many held-out examples candidates are validated on.
    pub validation_examples: usize,
    /// GPU-seconds that profiling may spend on configurations that the history knows; the epoch
    /// that passes it is the last, and what was not started is predicted from the history alone.
    /// Configurations whose cost nothing tells are trained regardless. Infinite for no limit.
    pub budget_gpu_seconds: f64,
    /// The most GPU-seconds a retraining can get in this window; costlier candidates cannot win.
    /// Infinite when not known.
    pub affordable_gpu_seconds: f64,
}

/// What a retraining with one configuration is expected to give and cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// Index of the configuration.
    pub config: usize,
    /// Expected accuracy of the retrained student on held-out examples, in 0..=1.
    pub end_accuracy: f64,
    /// Lower and upper end of an 80 % interval of it.
    pub interval: (f64, f64),
    /// The gain over [`Situation::start_accuracy`], with its standard deviation, that the two above
    /// are made from.
    pub gain: Estimate,
    /// Expected cost on a whole device.
    pub gpu_seconds: f64,
    /// What the curve alone says; hand it to [`History::record`] with the outcome. `None` when the
    /// configuration was not trained.
    pub curve_accuracy: Option<f64>,
    /// The cost as extrapolated, before it was corrected; likewise.
    pub measured_gpu_seconds: Option<f64>,
}

/// The profiles of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiling {
    /// In the order of the configurations. One that was neither trained nor retrained before has
    /// no known cost and is left out.
    pub profiles: Vec<Profile>,
    /// GPU-seconds spent, to be taken from the window.
    pub gpu_seconds: f64,
}

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
    /// sample of fraction `s`; that is where the curve is read. Cost grows linearly in `e·d`. Runs
    /// that the history knows least of go first; a run ends early when, for each of its
    /// configurations, another one is no costlier and better beyond doubt, or it is not
    /// affordable.
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
        let mut profiling = Profiling {
            profiles: Vec::new(),
            gpu_seconds: 0.0,
        };
        let profiler = Run {
            configs,
            situation,
            history,
        };
        for group in profiler.groups(active) {
            let within = profiling.gpu_seconds < situation.budget_gpu_seconds
                && !profiler.is_well_known(&group);
            let observed = if within || profiler.is_unknown(&group) {
                self.train(learner, &profiler, &group, &mut profiling)?
            } else {
                None
            };
            let predict = |&config: &usize| profiler.predict(config, observed.as_ref());
            profiling.profiles.extend(group.iter().filter_map(predict));
        }
        profiling.profiles.sort_by_key(|profile| profile.config);
        Ok(profiling)
    }

    /// Trains the run that a group shares; adds its cost to `profiling`.
    fn train<L: Trainable>(
        &self,
        learner: &mut L,
        run: &Run<'_>,
        group: &[usize],
        profiling: &mut Profiling,
    ) -> Result<Option<Observed>, L::Error> {
        let Some(&first) = group.first() else {
            return Ok(None);
        };
        let start = learner.start(&run.configs[first], self.sample_fraction)?;
        profiling.gpu_seconds += start.gpu_seconds;
        let mut observed = Observed::new(&start);
        for epoch in 1..=self.epochs.max(1) {
            let trained = learner.train_epoch()?;
            profiling.gpu_seconds += trained.training_gpu_seconds + trained.validation_gpu_seconds;
            if !observed.add(epoch, &trained) {
                return Ok(None);
            }
            let spent =
                profiling.gpu_seconds >= run.situation.budget_gpu_seconds && !run.is_unknown(group);
            let hopeless =
                epoch >= EPOCHS_BEFORE_STOP && run.cannot_win(group, &observed, profiling);
            if spent || hopeless {
                break;
            }
        }
        Ok(Some(observed))
    }
}

/// What training a sample showed.
struct Observed {
    sample_fraction: f64,
    start_gpu_seconds: f64,
    /// Epochs on the sample, accuracy.
    points: Vec<(f64, f64)>,
    epoch_gpu_seconds: Vec<f64>,
}

impl Observed {
    fn new(start: &Start) -> Self {
        let before = start.accuracy.filter(|accuracy| accuracy.is_finite());
        Self {
            sample_fraction: start.sample_fraction.clamp(1e-6, 1.0),
            start_gpu_seconds: start.gpu_seconds.max(0.0),
            points: before.map(|accuracy| (0.0, accuracy)).into_iter().collect(),
            epoch_gpu_seconds: Vec::new(),
        }
    }

    /// Whether the epoch was one.
    fn add(&mut self, epoch: usize, trained: &Epoch) -> bool {
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

    fn gpu_seconds(&self, config: &RetrainingConfig) -> f64 {
        let per_epoch = median(&self.epoch_gpu_seconds);
        self.start_gpu_seconds + per_epoch * self.equivalent_epochs(config)
    }

    /// End accuracy along the curve, and how much of it lies beyond the last epoch.
    fn extrapolate(&self, config: &RetrainingConfig) -> Option<(f64, f64)> {
        let curve = AccuracyCurve::fit(&self.points)?;
        let end = curve.at(self.equivalent_epochs(config));
        let last = self.points.last().map_or(0.0, |&(epoch, _)| epoch);
        Some((end, (end - curve.at(last)).abs()))
    }
}

/// What predictions are made from, besides what is observed.
struct Run<'a> {
    configs: &'a [RetrainingConfig],
    situation: &'a Situation,
    history: &'a History,
}

impl Run<'_> {
    /// Configurations that share a run, by what the history knows of them, least first.
    fn groups(&self, active: &[usize]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for &config in active.iter().filter(|&&config| config < self.configs.len()) {
            let shares = |group: &&mut Vec<usize>| {
                shares_run(&self.configs[group[0]], &self.configs[config])
            };
            match groups.iter_mut().find(shares) {
                Some(group) => group.push(config),
                None => groups.push(vec![config]),
            }
        }
        let known = |group: &Vec<usize>| -> f64 {
            let outcomes = |&config: &usize| self.history.outcomes(&self.configs[config]);
            group.iter().map(outcomes).sum()
        };
        groups.sort_by(|a, b| known(a).total_cmp(&known(b)));
        groups
    }

    /// Whether the history knows enough of the whole group for a micro-profile to add little.
    fn is_well_known(&self, group: &[usize]) -> bool {
        let outcomes = |&config: &usize| self.history.outcomes(&self.configs[config]);
        group.iter().all(|config| outcomes(config) >= WELL_KNOWN)
    }

    /// Whether nothing tells the cost of one of the group.
    fn is_unknown(&self, group: &[usize]) -> bool {
        let cost = |&config: &usize| self.history.known_gpu_seconds(&self.configs[config]);
        group.iter().any(|config| cost(config).is_none())
    }

    /// The prediction for a configuration; `None` when nothing tells its cost.
    fn predict(&self, config: usize, observed: Option<&Observed>) -> Option<Profile> {
        let gamma = &self.configs[config];
        let measured_gpu_seconds = observed.map(|observed| observed.gpu_seconds(gamma));
        let gpu_seconds = match measured_gpu_seconds {
            Some(measured) => measured * self.history.cost_ratio(gamma),
            None => self.history.known_gpu_seconds(gamma)?,
        };
        let curve = observed.and_then(|observed| observed.extrapolate(gamma));
        let gain = self.gain(gamma, curve);
        let start = self.situation.start_accuracy;
        let at = |deviations: f64| (start + gain.mean + deviations * gain.sd).clamp(0.0, 1.0);
        Some(Profile {
            config,
            end_accuracy: at(0.0),
            interval: (at(-SD_OF_80_PERCENT), at(SD_OF_80_PERCENT)),
            gain,
            gpu_seconds,
            curve_accuracy: curve.map(|(end, _)| end),
            measured_gpu_seconds,
        })
    }

    fn gain(&self, config: &RetrainingConfig, curve: Option<(f64, f64)>) -> Estimate {
        let start = self.situation.start_accuracy;
        let known = self.history.gain(config, start);
        let Some((end, extrapolated)) = curve else {
            return known;
        };
        let examples = self.situation.validation_examples.max(1) as f64;
        // Laplace's estimate, so that a student that is right on all ten examples is not certain.
        let right = (end * examples + 1.0) / (examples + 2.0);
        let noise = (right * (1.0 - right) / examples).sqrt();
        let sd = noise.hypot(EXTRAPOLATION_DOUBT * extrapolated);
        known.combine(self.history.corrected_curve(end - start, sd))
    }

    /// Whether training on can change nothing: every configuration of the group is beaten beyond
    /// doubt by one that is no costlier, or not affordable.
    fn cannot_win(&self, group: &[usize], observed: &Observed, so_far: &Profiling) -> bool {
        let beaten = |candidate: &Profile| {
            candidate.gpu_seconds > self.situation.affordable_gpu_seconds
                || so_far.profiles.iter().any(|other| {
                    other.gpu_seconds <= candidate.gpu_seconds
                        && other.interval.0 > candidate.interval.1
                })
        };
        let predict = |&config: &usize| self.predict(config, Some(observed));
        group
            .iter()
            .filter_map(predict)
            .all(|candidate| beaten(&candidate))
    }
}

/// Whether two configurations differ in epochs and data fraction only.
fn shares_run(a: &RetrainingConfig, b: &RetrainingConfig) -> bool {
    let alike = RetrainingConfig {
        epochs: a.epochs,
        data_fraction: a.data_fraction,
        ..b.clone()
    };
    *a == alike
}

/// The middle value; 0 of none. The first epoch is often slower than the rest.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::Outcome;

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

    const SITUATION: Situation = Situation {
        start_accuracy: 0.5,
        validation_examples: 1000,
        budget_gpu_seconds: f64::INFINITY,
        affordable_gpu_seconds: f64::INFINITY,
    };

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
        let Ok(profiling) = profiler.profile(learner, configs, &active, situation, &History::new());
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
        let profiling = profile(&mut learner, &configs, &SITUATION);
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
        let profiling = profile(&mut Fake::default(), &configs, &SITUATION);
        let [one, five] = profiling.profiles[..] else {
            panic!("{profiling:?}")
        };
        assert!(five.end_accuracy > one.end_accuracy);
        let (low, high) = one.interval;
        assert!((low..=high).contains(&Fake::accuracy(0, 1.0)));
        // Ten times beyond what was trained: drawn towards the prior, still in the region.
        let truth = Fake::accuracy(0, 5.0);
        assert!((five.end_accuracy - truth).abs() < 0.1);
        assert!(five.interval.1 - five.interval.0 > high - low);
    }

    #[test]
    fn a_run_that_cannot_win_is_stopped() {
        let mut learner = Fake::default();
        let configs = [config(2, 1.0, 0), config(2, 1.0, 1)];
        profile(&mut learner, &configs[1..], &SITUATION);
        assert_eq!(learner.epochs, 5);
        let situation = Situation {
            affordable_gpu_seconds: 1.0,
            ..SITUATION
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
            ..SITUATION
        };
        let mut history = History::new();
        history.record(&Outcome {
            config: configs[0].clone(),
            start_accuracy: 0.5,
            end_accuracy: 0.8,
            gpu_seconds: 4.0,
            curve_accuracy: None,
            measured_gpu_seconds: None,
        });
        let mut learner = Fake::default();
        let profiler = MicroProfiler::default();
        let Ok(profiling) = profiler.profile(&mut learner, &configs, &[0, 1], &situation, &history);
        // The other one is not known, so it is trained to the end although the budget is spent.
        assert_eq!((learner.runs, learner.epochs), (1, 5));
        let untrained = &profiling.profiles[0];
        assert_eq!(untrained.curve_accuracy, None);
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
            &SITUATION,
        );
        assert!(profiling.profiles.is_empty());
        assert!(profiling.gpu_seconds > 0.0);
    }

    #[test]
    fn few_validation_examples_draw_the_prediction_to_the_prior() {
        let configs = [config(10, 1.0, 0)];
        let end_with = |validation_examples: usize| {
            let situation = Situation {
                validation_examples,
                ..SITUATION
            };
            profile(&mut Fake::default(), &configs, &situation).profiles[0]
        };
        let [few, many] = [8, 1000].map(end_with);
        let prior = History::new().gain(&configs[0], 0.5).mean + 0.5;
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
            let mut history = History::new();
            for (start, end, curve) in outcomes {
                history.record(&Outcome {
                    config: configs[0].clone(),
                    start_accuracy: start,
                    end_accuracy: end,
                    gpu_seconds: 3.0,
                    curve_accuracy: Some(curve),
                    measured_gpu_seconds: Some(1.0),
                });
            }
            let situation = Situation { start_accuracy, validation_examples, ..SITUATION };
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
