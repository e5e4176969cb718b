//! One retraining: train a copy, compare it with the serving student on held-out frames, decide.

use ekya_models::{Example, ModelError, Student, TrainingOptions, gpu};
use ekya_profiler::comparison::{Rule, Verdict};
use ekya_profiler::inference::Measurement;
use ekya_profiler::{Estimate, Progress, measuring_variance};
use ekya_sched::RetrainingConfig;

use super::elsewhere::{Brought, Elsewhere, Errand, Origin, pack};
use super::evaluate::{LearnError, Work, accuracy};
use super::gate::{compare, recall};
use super::pace::Pace;
use super::split::Labelled;
use crate::stream::Metric;

/// Parts of a retraining after which the student as trained so far is measured.
const MEASURED_PARTS: usize = 4;

/// How a retraining ended.
pub struct Outcome {
    /// The retrained student, when it passed the gate.
    pub promoted: Option<Box<dyn Student>>,
    /// How it did at the gate; `None` when no held-out frame had anything to score, which is not
    /// better.
    pub verdict: Option<Verdict>,
    /// Inference configurations measured on the promoted student; empty when none was.
    pub inference: Vec<Measurement>,
    /// Labelled pictures that were there to train on.
    pub examples: usize,
    /// Device seconds spent, gate and inference profile included.
    pub gpu_seconds: f64,
    /// Where it was trained, when not on the own device; the seconds of the other one are among those.
    pub came_from: Option<Origin>,
}

/// A retraining that has come to its end, if need be at the second attempt.
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// Device seconds of the attempt before, which are among the outcome's.
    pub lost_gpu_seconds: f64,
    /// Examples a step that memory has room for, where there was none for more.
    pub room: Option<usize>,
}

/// What to retrain on and how.
pub struct Retraining<'a> {
    /// The serving student, which stays as it is.
    pub serving: &'a dyn Student,
    /// Labelled pictures to train on.
    pub examples: &'a [Example],
    /// How to train.
    pub config: &'a RetrainingConfig,
    /// How to carry it out.
    pub options: &'a TrainingOptions,
    /// How answers are scored.
    pub metric: Metric,
    /// Seed of order, augmentation and new weights.
    pub seed: u64,
    /// Trains it, where that is to be on another node's device.
    pub elsewhere: Option<&'a Elsewhere>,
}

/// What a retrained student must pass.
pub struct Gate<'a> {
    /// Frames to compare on, later than those trained on; asked for when training is over.
    pub held_out: &'a dyn Fn() -> Vec<Labelled>,
    /// Frames of earlier times, on which no class may be unlearnt.
    pub remembered: &'a [Example],
    /// Frames to measure on while it trains, and the serving student's accuracy on them.
    pub meanwhile: (&'a [Labelled], f64),
    /// The gain that the profile let expect.
    pub expected: Option<Estimate>,
    /// When it is proven.
    pub rule: Rule,
}

impl Retraining<'_> {
    /// [`run`](Self::run), and once more where that may go better: what a process died of may have been
    /// chance, or somebody who kills processes, and half as many examples a step need less memory.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub fn run_twice(
        &self,
        gate: &Gate<'_>,
        pace: &mut Pace,
        work: &mut Work,
        mut report: impl FnMut(Progress),
    ) -> Result<Attempt, LearnError> {
        let error = match self.run(gate, pace, work, &mut report) {
            Err(error) => error,
            Ok(outcome) => {
                return Ok(Attempt {
                    outcome,
                    lost_gpu_seconds: 0.0,
                    room: None,
                });
            }
        };
        let room = match &error {
            LearnError::Model(ModelError::Process(_)) => None,
            LearnError::Model(ModelError::OutOfMemory(_)) => Some(self.half_a_step()),
            _ => return Err(error),
        };
        tracing::warn!(%error, room, "a retraining begins again");
        gpu::empty_cache();
        let lost_gpu_seconds = work.spent();
        let options = TrainingOptions {
            micro_batch: room.unwrap_or(self.options.micro_batch),
            ..self.options.clone()
        };
        let again = Retraining {
            options: &options,
            ..*self
        };
        Ok(Attempt {
            outcome: again.run(gate, pace, work, report)?,
            lost_gpu_seconds,
            room,
        })
    }

    fn half_a_step(&self) -> usize {
        let step = self.options.micro_batch.min(self.config.batch_size);
        (step / 2).max(1)
    }

    /// Trains to the end, then through the gate.
    ///
    /// # Errors
    /// [`LearnError::Cancelled`] when cut off; the model's own. Nothing is promoted then.
    pub fn run(
        &self,
        gate: &Gate<'_>,
        pace: &mut Pace,
        work: &mut Work,
        report: impl FnMut(Progress),
    ) -> Result<Outcome, LearnError> {
        let (retrained, lent) = match self.elsewhere {
            Some(elsewhere) => {
                let brought = self.train_elsewhere(elsewhere, work, report)?;
                (brought.student, Some(brought.gpu_seconds))
            }
            None => (self.train(gate, pace, work, report)?, None),
        };
        let held_out = (gate.held_out)();
        let compared = compare(self.serving, &*retrained, &held_out, self.metric, work)?;
        let mut verdict = compared.verdict(gate.expected, &gate.rule);
        if let Some(verdict) = verdict.as_mut().filter(|verdict| verdict.refusal.is_none()) {
            let recalled = recall(self.serving, &*retrained, gate.remembered, work)?;
            verdict.refusal = recalled.unlearnt(&gate.rule);
        }
        let passed = verdict.as_ref().is_some_and(|v| v.refusal.is_none());
        Ok(Outcome {
            promoted: passed.then_some(retrained),
            verdict,
            inference: Vec::new(),
            examples: self.examples.len(),
            gpu_seconds: work.spent() + lent.unwrap_or(0.0),
            came_from: self.elsewhere.map(Elsewhere::kind),
        })
    }

    /// Has it trained on another node, and lets the own device go meanwhile; or takes what was found.
    fn train_elsewhere(
        &self,
        elsewhere: &Elsewhere,
        work: &mut Work,
        mut report: impl FnMut(Progress),
    ) -> Result<Brought, LearnError> {
        let lent = match elsewhere {
            Elsewhere::Lent(lent) => lent,
            Elsewhere::Found(find) => {
                let student = work.minibatch(find)?;
                let gpu_seconds = 0.0;
                return Ok(Brought {
                    student,
                    gpu_seconds,
                });
            }
        };
        let failed = |error: std::io::Error| LearnError::Elsewhere(error.to_string());
        let folder = tempfile::tempdir().map_err(failed)?;
        let file = folder.path().join("student");
        work.minibatch(|| self.serving.hand_over(&file))?;
        let cancelled = work.pause();
        let errand = Errand {
            weights: std::fs::read(&file).map_err(failed)?,
            sample: pack(self.examples).map_err(failed)?,
            config: self.config.clone(),
            options: self.options.clone(),
            seed: self.seed,
        };
        lent(errand, cancelled, &mut report)
    }

    /// A retrained copy; `pace` learns from it. Now and then there is a look at what the steps have
    /// brought.
    fn train(
        &self,
        gate: &Gate<'_>,
        pace: &mut Pace,
        work: &mut Work,
        mut report: impl FnMut(Progress),
    ) -> Result<Box<dyn Student>, LearnError> {
        let mut training = pace.timed(work.minibatch(|| {
            self.serving
                .train_with(self.examples, self.config, self.options, self.seed)
        })?);
        let steps = training.training().steps();
        let part = steps.div_ceil(MEASURED_PARTS).max(1);
        let mut done = 0;
        while done < steps {
            let measured = (done / part + 1) * part;
            done = training.advance(measured.min(steps), work)?;
            let accuracy = if done.is_multiple_of(part) && done < steps {
                let so_far = work.minibatch(|| training.training().student())?;
                self.measure(&*so_far, gate, work)?
            } else {
                None
            };
            report(Progress {
                done,
                steps,
                gpu_seconds: work.spent(),
                accuracy,
            });
        }
        pace.learn(self.config, &training);
        work.minibatch(|| training.training().student())
    }

    /// Gain of a student over the serving one on the frames for that.
    fn measure(
        &self,
        student: &dyn Student,
        gate: &Gate<'_>,
        work: &mut Work,
    ) -> Result<Option<Estimate>, LearnError> {
        let (frames, serving) = gate.meanwhile;
        let accuracy = accuracy(student, frames, self.metric, work)?;
        Ok(accuracy.map(|accuracy| Estimate {
            mean: accuracy - serving,
            sd: measuring_variance(frames.len()).sqrt(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use ekya_actors::{Device, GrantError};
    use ekya_models::{BBox, Image, Object, Step, Training};
    use ekya_sched::Share;
    use parking_lot::Mutex;

    use super::*;
    use crate::learn::Turn;

    /// A student whose training needs more memory than there is, beyond some examples a step.
    #[derive(Clone)]
    struct Hungry {
        room: usize,
        /// Examples a step of each training that was begun.
        begun: Arc<Mutex<Vec<usize>>>,
    }

    impl Student for Hungry {
        fn infer(&self, _: &Image, _: &[BBox], _: f64) -> Result<Vec<Object>, ModelError> {
            Ok(Vec::new())
        }

        fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
            Ok(Box::new(self.clone()))
        }

        fn network(&self) -> String {
            "hungry".to_owned()
        }

        fn train_with(
            &self,
            _: &[Example],
            config: &RetrainingConfig,
            options: &TrainingOptions,
            _: u64,
        ) -> Result<Box<dyn Training>, ModelError> {
            let step = options.micro_batch.min(config.batch_size);
            self.begun.lock().push(step);
            Ok(Box::new(Steps(self.clone(), step)))
        }

        fn save(&self, _: &Path) -> Result<(), ModelError> {
            Ok(())
        }
    }

    struct Steps(Hungry, usize);

    impl Training for Steps {
        fn steps(&self) -> usize {
            1
        }

        fn steps_per_epoch(&self) -> usize {
            1
        }

        fn step(&mut self) -> Result<Step, ModelError> {
            let Self(student, examples) = self;
            if *examples > student.room {
                return Err(ModelError::of_runtime("CUDA out of memory. Tried to"));
            }
            Ok(Step {
                loss: 0.0,
                done: 1,
                examples: *examples,
            })
        }

        fn student(&self) -> Result<Box<dyn Student>, ModelError> {
            self.0.fork()
        }
    }

    fn work() -> Result<Work, GrantError> {
        let device = Device::new("cpu0", 1);
        let job = device.job_with("training", Share::WHOLE)?;
        Ok(Work::new(
            Arc::new(Turn::new(Arc::new(job))),
            Arc::default(),
        ))
    }

    /// Examples a step of every attempt, and what came of them.
    fn retrained(room: usize) -> Result<(Vec<usize>, Result<Attempt, LearnError>), GrantError> {
        let begun = Arc::default();
        let student = Hungry { room, begun };
        let retraining = Retraining {
            serving: &student,
            examples: &[],
            config: &RetrainingConfig {
                batch_size: 32,
                ..RetrainingConfig::default()
            },
            options: &TrainingOptions::default(),
            metric: Metric::Accuracy,
            seed: 1,
            elsewhere: None,
        };
        let gate = Gate {
            held_out: &Vec::new,
            remembered: &[],
            meanwhile: (&[], 0.0),
            expected: None,
            rule: Rule {
                confidence: 0.5,
                class_margin: 1.0,
            },
        };
        let mut pace = Pace::new(0.05);
        let attempt = retraining.run_twice(&gate, &mut pace, &mut work()?, |_| {});
        let begun = student.begun.lock().clone();
        Ok((begun, attempt))
    }

    #[test]
    fn a_lack_of_memory_halves_a_step_once() -> Result<(), GrantError> {
        let (begun, attempt) = retrained(32)?;
        assert_eq!(begun, [32]);
        assert!(attempt.is_ok_and(|attempt| attempt.room.is_none()));
        let (begun, attempt) = retrained(16)?;
        assert_eq!(begun, [32, 16]);
        assert!(attempt.is_ok_and(|attempt| attempt.room == Some(16)));
        let (begun, attempt) = retrained(15)?;
        assert_eq!(begun, [32, 16]);
        let failed = attempt.err();
        assert!(
            matches!(failed, Some(LearnError::Model(ModelError::OutOfMemory(_)))),
            "{failed:?}"
        );
        Ok(())
    }
}
