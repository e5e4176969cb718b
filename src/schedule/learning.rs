//! How the scheduler actor orders labels, profiles and retrainings, and what it makes of them.

use ekya_actors::Ctx;
use ekya_sched::RetrainingOption;

use super::actor::SchedulerActor;
use super::event::Event;
use super::policy::Retraining;
use super::stream::{Running, Stage};
use crate::learn::{
    Label, Labelled, LearnError, Order, Outcome, Prepare, Prepared, Progress, TrainerOrder,
};
use crate::record::{ProfileRecord, RetrainingRecord};
use crate::stream::{Sample, Serve};

impl SchedulerActor {
    pub(super) fn label_burst(&mut self, stream: usize, ctx: &mut Ctx<Self>) {
        let samples = self.setup.streams[stream].intake.with_log(|log| {
            log.samples()
                .iter()
                .filter(|sample| sample.burst)
                .cloned()
                .collect()
        });
        self.label(stream, samples, ctx);
        self.plan(ctx);
    }

    pub(super) fn label(&mut self, stream: usize, samples: Vec<Sample>, ctx: &Ctx<Self>) {
        if samples.is_empty() {
            return;
        }
        let (me, window) = (ctx.me(), self.window);
        let done = Box::new(move |labelled, gpu_seconds| {
            drop(me.tell(Event::Labelled {
                stream,
                window,
                labelled,
                gpu_seconds,
            }));
        });
        let label = Label {
            samples,
            cancelled: self.cancelled.clone(),
            done,
        };
        match self.setup.streams[stream].labeller.tell(label) {
            Ok(()) => self.streams[stream].stage = Stage::Labelling,
            Err(error) => self.journal.decide(
                stream,
                self.setup.start.elapsed().as_secs_f64(),
                format!("not labelled: {error}"),
            ),
        }
    }

    pub(super) fn labelled(
        &mut self,
        stream: usize,
        window: usize,
        labelled: Vec<Labelled>,
        gpu_seconds: f64,
        ctx: &mut Ctx<Self>,
    ) {
        self.record_measured(stream, window, &labelled);
        if let Some(entry) = self.journal.entry(window, stream) {
            entry.labelling_seconds += gpu_seconds;
        }
        if window != self.window {
            let now = self.now();
            let text =
                "the labels came after their window: label fewer samples, or make windows longer";
            return self.journal.decide(stream, now, text);
        }
        self.streams[stream].stage = Stage::Idle;
        if self.finishing {
            return self.finish_when_labelled();
        }
        let learns = self.policy.retraining != Retraining::Never && window > 0;
        let measures = self.streams[stream].inference.is_empty();
        if (learns || measures) && !labelled.is_empty() {
            let profiled = self.policy.retraining == Retraining::Profiled;
            let order = Order::Prepare(Prepare {
                labelled,
                evaluate: profiled,
                profile: learns && profiled,
                measure_inference: measures,
                seed: self.seed(stream, 2),
            });
            self.order(stream, order, Stage::Preparing, ctx);
        }
        self.plan(ctx);
    }

    /// Live accuracy of the window that the labelled frames are from: the one before, as labels
    /// are asked for when it is over.
    pub(super) fn record_measured(&mut self, stream: usize, window: usize, labelled: &[Labelled]) {
        let metric = self.setup.streams[stream]
            .intake
            .with_log(|log| log.metric());
        // A burst is one moment, not a sample of the window.
        let spread = labelled.iter().filter(|one| !one.burst);
        let scores: Vec<f64> = spread.filter_map(|one| one.live_score(metric)).collect();
        let Some(before) = window.checked_sub(1).filter(|_| !scores.is_empty()) else {
            return;
        };
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        if let Some(entry) = self.journal.entry(before, stream) {
            entry.measured_accuracy = Some(mean);
            entry.labelled_frames = scores.len();
        }
    }

    pub(super) fn order(&mut self, stream: usize, order: Order, stage: Stage, ctx: &Ctx<Self>) {
        let (me, window) = (ctx.me(), self.window);
        let report = Box::new(move |report| {
            // Progress may be lost to a full mailbox; results find room, as nothing else floods it.
            drop(me.tell(Event::Trainer {
                stream,
                window,
                report,
            }));
        });
        let order = TrainerOrder {
            order,
            cancelled: self.cancelled.clone(),
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
                if let (Retraining::Fixed(index), true) = (self.policy.retraining, self.window > 0)
                {
                    // A fixed configuration is not weighed against anything: nominal figures do.
                    let end_accuracy = self.streams[stream].accuracy;
                    let nominal = RetrainingOption {
                        end_accuracy,
                        gpu_seconds: 0.0,
                    };
                    prepared.options = vec![(index, nominal)];
                }
                self.streams[stream].prepared(&prepared);
            }
            Err(error) => {
                self.streams[stream].stage = Stage::Idle;
                self.journal.decide(
                    stream,
                    now,
                    format!("not retrained in this window: {error}"),
                );
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
        let record = RetrainingRecord {
            config,
            from: now,
            to: None,
            gpu_seconds: 0.0,
            examples: 0,
            serving_accuracy: None,
            retrained_accuracy: None,
            promoted: false,
        };
        if let Some(entry) = self.journal.now(stream) {
            entry.retraining = Some(record);
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
            seed: self.seed(stream, 3),
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
                .decide(stream, now, format!("retraining failed: {error}")),
        }
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
                format!("dropped: {new} on held-out frames, the serving student {old}"),
            );
        }
    }
}
