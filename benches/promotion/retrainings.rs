//! Retrainings of one stream, round by round, through the code that runs live; sound ones and
//! spoilt ones, all from the student that serves, and the truth about each.
//!
//! The truth of a round is how both students do on all frames of the [`AHEAD`] rounds after it,
//! against the source's own truth: what a promotion would have been good for.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use ekya::config::{LearningConfig, Method};
use ekya::learn::{
    Gate, Labelled, LearnError, Limits, Memory, Outcome, Pace, Retraining, Split, Turn, Work,
    accuracy,
};
use ekya::report::chart::GateMark;
use ekya::source::Frame;
use ekya::stream::Metric;
use ekya::trial::Round;
use ekya_actors::Device;
use ekya_models::{ModelError, Object, Student, TrainingOptions, is_matched};
use ekya_profiler::comparison::{Comparison, Refusal, Verdict, mean_of_series};
use ekya_profiler::{Estimate, Features, History, Point};
use ekya_sched::Share;
use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::spoil::Kind;
use crate::streams::Stream;
use crate::witness::{Seen, Witness};

/// Rounds that tell the truth about the one before them.
const AHEAD: usize = 2;
/// Retrainings of a round with nothing wrong, each with another configuration.
const SOUND: usize = 2;
/// As a learner has it.
const RECALLED: usize = 32;
/// Part of a round's labels that is held out.
const HOLDOUT: f64 = 0.4;
/// Seed of everything drawn here.
const SEED: u64 = 17;

/// A retraining, what the gate made of it, and the truth.
#[derive(Debug, Serialize)]
pub(crate) struct Retrained {
    pub(crate) stream: String,
    pub(crate) round: usize,
    pub(crate) kind: Kind,
    pub(crate) configuration: usize,
    /// Gain that was expected beforehand.
    pub(crate) expected: Estimate,
    /// Gain on held-out frames; none where the training failed or nothing was comparable.
    pub(crate) measured: Option<Estimate>,
    /// The chance that it is better, as the gate saw it.
    pub(crate) chance: Option<f64>,
    pub(crate) promoted: bool,
    /// In words; empty for what was promoted.
    pub(crate) refusal: &'static str,
    /// Gain on the frames that came next, with the standard error of that.
    pub(crate) truth: Option<Estimate>,
    /// Whether a class lost more on them than it may.
    pub(crate) loses_class: bool,
}

impl Retrained {
    pub(crate) fn mark(&self) -> Option<GateMark> {
        Some(GateMark {
            measured: self.measured?.mean,
            truth: self.truth?.mean,
            promoted: self.promoted,
        })
    }
}

/// A stream while it learns.
pub(crate) struct Stretch {
    name: String,
    rounds: Vec<Round>,
    student: Box<dyn Student>,
    classes: usize,
    learning: LearningConfig,
    pace: Pace,
    memory: Memory,
    split: Split,
    history: History,
    device: Device,
    rng: ChaCha8Rng,
}

impl Stretch {
    pub(crate) fn of(stream: Stream) -> Result<Self> {
        let labels = stream.rounds.first().context("a stream without a round")?;
        let learning = LearningConfig {
            samples: labels.labelled.len(),
            burst: 0,
            holdout: HOLDOUT,
            ..LearningConfig::default()
        };
        Ok(Self {
            name: stream.name,
            rounds: stream.rounds,
            student: stream.student,
            classes: stream.classes,
            memory: Memory::new(Limits::of(&learning), stream.exemplars, SEED),
            pace: Pace::new(learning.step_seconds),
            learning,
            split: Split::default(),
            history: stream.history,
            device: Device::new("cpu", 1),
            rng: ChaCha8Rng::seed_from_u64(SEED),
        })
    }

    /// Goes on, each time, with a sound student that was promoted.
    pub(crate) fn retrain_round_by_round(mut self) -> Result<Vec<Retrained>> {
        let mut all = Vec::new();
        for round in 0..self.rounds.len().saturating_sub(AHEAD) {
            let labelled = self.rounds[round].labelled.clone();
            let (held_out, recent) = (self.learning.held_out(), self.learning.spread());
            let old = self.split.advance(labelled, held_out, recent);
            self.remember(&old)?;
            all.extend(self.round(round)?);
            eprintln!("{} round {round}: {} retrainings", self.name, all.len());
        }
        Ok(all)
    }

    /// Remembers frames that are no longer recent.
    fn remember(&mut self, frames: &[Labelled]) -> Result<(), ModelError> {
        let frames = frames.iter().map(Labelled::kept);
        let method = self.learning.method;
        self.memory.remember(frames, |example| match method {
            Method::Icarl => self.student.features(&example.image, &example.regions()),
            Method::FineTuning => Ok(None),
        })
    }

    fn round(&mut self, round: usize) -> Result<Vec<Retrained>> {
        let fresh = self.split.fresh();
        let start = accuracy(&*self.student, fresh, Metric::Accuracy, &mut self.work()?)?;
        let before = Before {
            round,
            accuracy: start.context("a round in which nothing is labelled")?,
            answers: answers(&*self.student, self.ahead(round))?,
        };
        let drawn = index::sample(&mut self.rng, self.learning.configurations.len(), SOUND);
        let mut promoted = None;
        let mut all = Vec::new();
        for configuration in drawn.iter() {
            let (retrained, student) = self.retrain(Kind::Sound, configuration, &before)?;
            all.push(retrained);
            promoted = promoted.or(student);
        }
        for kind in Kind::SPOILT {
            all.push(self.retrain(kind, drawn.index(0), &before)?.0);
        }
        if let Some(student) = promoted {
            self.student = student;
        }
        Ok(all)
    }

    /// Retrains and asks the gate, which does not know of the kind. Also returns the student when it
    /// was promoted.
    fn retrain(
        &mut self,
        kind: Kind,
        configuration: usize,
        before: &Before,
    ) -> Result<(Retrained, Option<Box<dyn Student>>)> {
        let point = self.point(configuration, before);
        let expected = self.history.expect(std::slice::from_ref(&point)).gain(0);
        let seen = Seen::default();
        let outcome = self.run(kind, configuration, expected, &seen)?;
        let after = match seen.lock().as_deref() {
            Some(student) => Some(answers(student, self.ahead(before.round))?),
            None => None,
        };
        let verdict = outcome.as_ref().and_then(|outcome| outcome.verdict.clone());
        let promoted = outcome.and_then(|outcome| outcome.promoted);
        if let (Kind::Sound, Some(verdict)) = (kind, &verdict) {
            self.observe(point, verdict);
        }
        let retrained = Retrained {
            stream: self.name.clone(),
            round: before.round,
            kind,
            configuration,
            expected,
            measured: verdict.as_ref().map(|verdict| verdict.measured),
            chance: verdict.as_ref().map(|verdict| verdict.chance),
            promoted: promoted.is_some(),
            refusal: refusal(verdict.as_ref()),
            truth: after.as_ref().and_then(|after| before.gain(after)),
            loses_class: after.is_some_and(|after| before.loses_class(&after, &self.learning)),
        };
        Ok((retrained, promoted))
    }

    /// A retraining to its end; none when the training failed, as one with a learning rate too high may.
    fn run(
        &mut self,
        kind: Kind,
        configuration: usize,
        expected: Estimate,
        seen: &Seen,
    ) -> Result<Option<Outcome>> {
        let mut work = self.work()?;
        let mut examples = self.memory.with(&self.split);
        let mut config = self.learning.configurations[configuration].clone();
        kind.spoil(
            &mut examples,
            &mut config,
            &self.split.training,
            &mut self.rng,
        );
        let retraining = Retraining {
            serving: &Witness {
                student: self.student.fork()?,
                seen: seen.clone(),
            },
            examples: &examples,
            config: &config,
            options: &TrainingOptions {
                sampling: self.learning.sampling,
                distillation: self.learning.distillation(self.classes),
                ..TrainingOptions::default()
            },
            metric: Metric::Accuracy,
            elsewhere: None,
            seed: self.rng.random(),
        };
        let gate = Gate {
            held_out: &|| self.split.holdout.clone(),
            remembered: &self.memory.some(RECALLED),
            // Nobody watches while it trains.
            meanwhile: (&[], 0.0),
            expected: Some(expected),
            rule: self.learning.rule(),
        };
        match retraining.run(&gate, &mut self.pace, &mut work, |_| {}) {
            Ok(outcome) => Ok(Some(outcome)),
            Err(LearnError::Model(error)) => {
                eprintln!("{}: {error}", kind.name());
                seen.lock().take();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn point(&self, configuration: usize, before: &Before) -> Point {
        Point {
            stream: self.name.clone(),
            occasion: before.round as u64,
            config: Features::from(&self.learning.configurations[configuration]),
            start_accuracy: before.accuracy,
        }
    }

    /// What a live stream learns from a retraining, too.
    fn observe(&mut self, mut point: Point, verdict: &Verdict) {
        point.start_accuracy = verdict.serving;
        self.history.record(ekya_profiler::Outcome {
            point,
            end_accuracy: verdict.candidate,
            frames: Some(verdict.frames),
        });
    }

    fn ahead(&self, round: usize) -> impl Iterator<Item = &Frame> {
        let rounds = &self.rounds[round + 1..=round + AHEAD];
        rounds.iter().flat_map(|round| &round.frames)
    }

    fn work(&self) -> Result<Work> {
        let job = self.device.job_with("retraining", Share::WHOLE)?;
        Ok(Work::new(
            Arc::new(Turn::new(Arc::new(job))),
            Arc::default(),
        ))
    }
}

/// The serving student before a round's retrainings.
struct Before {
    round: usize,
    /// On labels that it was not trained on.
    accuracy: f64,
    /// On the frames that tell the truth.
    answers: Answers,
}

impl Before {
    fn gain(&self, after: &Answers) -> Option<Estimate> {
        let pairs = self.answers.scores.iter().zip(&after.scores);
        let differences: Vec<f64> = pairs.map(|(before, after)| after - before).collect();
        mean_of_series(&differences)
    }

    fn loses_class(&self, after: &Answers, learning: &LearningConfig) -> bool {
        let mut compared = Comparison::default();
        let pairs = self.answers.objects.iter().zip(&after.objects);
        for (&(class, before), &(_, after)) in pairs {
            compared.add_object(class, before, after);
        }
        compared.unlearnt(&learning.rule()).is_some()
    }
}

/// How right a student is, against the truth, in order of time.
struct Answers {
    /// Of the frames that have anything to score.
    scores: Vec<f64>,
    /// Class of every object, and whether the student has it right.
    objects: Vec<(usize, bool)>,
}

fn answers<'a>(
    student: &dyn Student,
    frames: impl Iterator<Item = &'a Frame>,
) -> Result<Answers, ModelError> {
    let (mut scores, mut objects) = (Vec::new(), Vec::new());
    for frame in frames {
        let answers = student.infer(&frame.image, &frame.regions, 1.0)?;
        let truth = frame.truth.as_deref().unwrap_or_default();
        scores.extend(Metric::Accuracy.score(truth, &answers));
        let right = |object: &Object| (object.class, is_matched(object, &answers));
        objects.extend(truth.iter().map(right));
    }
    Ok(Answers { scores, objects })
}

fn refusal(verdict: Option<&Verdict>) -> &'static str {
    match verdict.map(|verdict| verdict.refusal) {
        None => "nothing to compare",
        Some(None) => "",
        Some(Some(Refusal::NotBetter)) => "not better",
        Some(Some(Refusal::NotProven)) => "not proven",
        Some(Some(Refusal::ClassLost { .. })) => "a class lost",
    }
}
