//! How the scheduler actor orders profiles and retrainings, and what it makes of them.

use ekya_actors::Ctx;
use ekya_sched::RetrainingOption;

use super::actor::SchedulerActor;
use super::event::Event;
use super::policy::Retraining;
use super::stream::{Running, Stage};
use crate::learn::{LearnError, Order, Outcome, Prepare, Prepared, Progress, TrainerOrder};
use crate::record::{ProfileRecord, RetrainingRecord};
use crate::stream::Serve;

/// Of a window's samples, the part that must be newly labelled before another retraining is
/// weighed.
const ROUND: f64 = 0.25;

/// GPU-seconds that a profile may take for what earlier retrainings have shown, as a part of the
/// window.
const PROFILING: f64 = 0.0025;

impl SchedulerActor {
    /// Has the trainer measure what a plan needs, when there are labels enough.
    pub(super) fn prepare_when_due(&mut self, stream: usize, ctx: &Ctx<Self>) {
        let state = &self.streams[stream];
        let (spread, burst) = state.labels.counts();
        if !matches!(state.stage, Stage::Idle | Stage::Ready(_)) || spread + burst == 0 {
            return;
        }
        let round = ROUND * self.setup.config.learning.samples as f64;
        let begin = self.window as f64 * self.setup.config.run.window_seconds;
        let learns = self.window > 0
            && match self.policy.retraining {
                Retraining::Never => false,
                Retraining::Fixed(_) => state.due && state.labels.complete_until(begin),
                Retraining::Profiled => spread as f64 >= round,
            };
        let measures = state.inference.is_empty() && burst > 0;
        // Alone it is measured where no retraining will come, or before the first one may.
        let alone = self.window == 0 || self.policy.retraining == Retraining::Never;
        if !(learns || measures && alone) {
            return;
        }
        let profiled = self.policy.retraining == Retraining::Profiled;
        let profile = PROFILING * self.setup.config.run.window_seconds;
        let order = Order::Prepare(Prepare {
            labelled: std::mem::take(&mut *self.streams[stream].labels.fresh.lock()),
            evaluate: profiled,
            profile: (learns && profiled).then_some(profile),
            measure_inference: measures,
            seed: self.seed(stream, self.streams[stream].order, 2),
        });
        self.order(stream, order, Stage::Preparing, ctx);
    }

    pub(super) fn order(&mut self, stream: usize, order: Order, stage: Stage, ctx: &Ctx<Self>) {
        let (number, cancelled) = self.streams[stream].begin_order();
        let me = ctx.me();
        let report = Box::new(move |report| {
            // Progress may be lost to a full mailbox; results find room, as nothing else floods it.
            drop(me.tell(Event::Trainer {
                stream,
                order: number,
                report,
            }));
        });
        let order = TrainerOrder {
            order,
            cancelled,
            report,
        };
        match self.setup.streams[stream].trainer.tell(order) {
            Ok(()) => self.streams[stream].stage = stage,
            Err(error) => {
                self.streams[stream].stage = Stage::Idle;
                let now = self.now();
                self.journal
                    .decide(stream, now, format!("the trainer does not answer: {error}"));
            }
        }
    }

    pub(super) fn prepared(
        &mut self,
        stream: usize,
        result: Result<Prepared, LearnError>,
        ctx: &mut Ctx<Self>,
    ) {
        let now = self.now();
        match result {
            Ok(mut prepared) => {
                self.journal_profiles(stream, &prepared);
                if let (Retraining::Fixed(index), true) =
                    (self.policy.retraining, self.streams[stream].due)
                {
                    self.streams[stream].due = false;
                    // A fixed configuration is not weighed against anything: nominal figures do.
                    // It is to have its share for as long as it runs, so it takes the window.
                    let end_accuracy = self.streams[stream].accuracy;
                    let window = self.horizon().as_secs_f64();
                    let nominal = RetrainingOption::new(end_accuracy, window);
                    prepared.options = vec![(index, nominal)];
                }
                self.streams[stream].prepared(&prepared);
            }
            Err(error) => {
                self.streams[stream].stage = Stage::Idle;
                self.journal
                    .decide(stream, now, format!("not retrained for now: {error}"));
                self.prepare_when_due(stream, ctx);
            }
        }
        self.plan(ctx);
    }

    pub(super) fn journal_profiles(&mut self, stream: usize, prepared: &Prepared) {
        let configurations = &self.setup.config.learning.configurations;
        let record = |(index, option): &(usize, RetrainingOption)| ProfileRecord {
            config: configurations[*index].clone(),
            end_accuracy: option.end_accuracy,
            gpu_seconds: option.gpu_seconds,
        };
        let profiles = prepared.options.iter().map(record).collect();
        if let Some(entry) = self.journal.now(stream) {
            entry.profiles = profiles;
            entry.profiling_seconds += prepared.gpu_seconds;
        }
    }

    pub(super) fn retrain(
        &mut self,
        stream: usize,
        configuration: usize,
        option: RetrainingOption,
        ctx: &Ctx<Self>,
    ) {
        let now = self.now();
        let config = self.setup.config.learning.configurations[configuration].clone();
        let predicted = (self.policy.retraining == Retraining::Profiled).then_some(option);
        let record = RetrainingRecord {
            config,
            from: now,
            to: None,
            cut_off: false,
            gpu_seconds: 0.0,
            predicted_accuracy: predicted.map(|option| option.end_accuracy),
            predicted_gpu_seconds: predicted.map(|option| option.gpu_seconds),
            examples: 0,
            serving_accuracy: None,
            retrained_accuracy: None,
            margin: 0.0,
            promoted: false,
        };
        if let Some(entry) = self.journal.now(stream) {
            entry.retrainings.push(record);
        }
        let running = Running {
            configuration,
            end_accuracy: option.end_accuracy,
            gpu_seconds: option.gpu_seconds,
            progress: Progress {
                done: 0,
                steps: 0,
                gpu_seconds: 0.0,
            },
        };
        let order = Order::Retrain {
            configuration,
            newest: self.streams[stream].labels.fresh.clone(),
            seed: self.seed(stream, self.streams[stream].order, 3),
        };
        self.order(stream, order, Stage::Training(running), ctx);
    }

    pub(super) fn progressed(&mut self, stream: usize, progress: Progress, ctx: &mut Ctx<Self>) {
        if let Some(record) = self.journal.retraining(stream) {
            record.gpu_seconds = progress.gpu_seconds;
        }
        let Stage::Training(running) = &mut self.streams[stream].stage else {
            return;
        };
        if running.observe(progress) && self.policy.retraining == Retraining::Profiled {
            let expected = running.gpu_seconds;
            let now = self.now();
            let text = format!("planned again: the retraining will take {expected:.1} GPU-seconds");
            self.journal.decide(stream, now, text);
            self.plan(ctx);
        }
    }

    pub(super) fn retrained(
        &mut self,
        stream: usize,
        result: Result<Outcome, LearnError>,
        ctx: &mut Ctx<Self>,
    ) {
        let now = self.now();
        self.streams[stream].stage = Stage::Idle;
        match result {
            Ok(outcome) => self.gate(stream, outcome, now),
            Err(error) => self
                .journal
                .cut_off(stream, now, format!("retraining failed: {error}")),
        }
        self.prepare_when_due(stream, ctx);
        self.plan(ctx);
    }

    pub(super) fn gate(&mut self, stream: usize, outcome: Outcome, now: f64) {
        let promoted = outcome.promoted.is_some();
        if let Some(record) = self.journal.retraining(stream) {
            record.to = Some(now);
            record.gpu_seconds = outcome.gpu_seconds;
            record.examples = outcome.examples;
            record.serving_accuracy = outcome.serving_accuracy;
            record.retrained_accuracy = outcome.retrained_accuracy;
            record.margin = outcome.margin;
            record.promoted = promoted;
        }
        let points = |accuracy: Option<f64>| {
            accuracy.map_or("nothing".to_owned(), |a| format!("{:.1} %", a * 100.0))
        };
        let (old, new) = (
            points(outcome.serving_accuracy),
            points(outcome.retrained_accuracy),
        );
        if let Some(student) = outcome.promoted {
            self.streams[stream].accuracy = outcome
                .retrained_accuracy
                .unwrap_or(self.streams[stream].accuracy);
            self.streams[stream].measured(&outcome.inference);
            match self.setup.streams[stream].inference.tell(Serve(student)) {
                Ok(()) => self.journal.decide(
                    stream,
                    now,
                    format!("promoted: {new} on held-out frames, {old} before"),
                ),
                Err(error) => self.journal.decide(
                    stream,
                    now,
                    format!("not promoted: inference does not answer: {error}"),
                ),
            }
        } else {
            self.journal.decide(
                stream,
                now,
                format!(
                    "dropped: {new} on held-out frames, the serving student {old}, {:.1} points more needed",
                    outcome.margin * 100.0
                ),
            );
        }
    }
}
