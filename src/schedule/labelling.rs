//! How the scheduler actor gets samples labelled: while a window runs, part by part.

use std::time::Duration;

use ekya_actors::Ctx;

use super::actor::{SchedulerActor, StreamSetup};
use super::event::Event;
use super::policy::Retraining;
use crate::learn::{Label, Labelled, Labelling};
use crate::sink::LabelledLine;
use crate::stream::{Sample, SampleSchedule};

/// How often in a window the samples so far are handed to the teacher.
const COLLECTIONS: f64 = 16.0;

/// Samples may wait for the teacher, and labels for the trainer, for about so many windows.
const WAITING_WINDOWS: usize = 2;

impl SchedulerActor {
    pub(super) fn resample(&mut self, stream: usize, from: f64, to: f64) -> Vec<Sample> {
        let learning = &self.setup.config.learning;
        let (samples, burst) = (learning.samples, learning.burst);
        let schedule = SampleSchedule::new(
            from,
            to,
            samples,
            burst,
            self.window == self.streams[stream].since,
            self.seed(stream, self.window as u64, 1),
        );
        self.setup.streams[stream].intake.resample(schedule)
    }

    pub(super) fn wants_labels(&self) -> bool {
        self.setup.policy.retraining != Retraining::Never || self.setup.config.learning.measure
    }

    /// Has the samples collected after a part of the window; the window's end collects the last.
    pub(super) fn collect_later(&self, ctx: &mut Ctx<Self>) {
        let seconds = self.setup.config.run.window_seconds / COLLECTIONS;
        if self.remaining().as_secs_f64() > 1.5 * seconds
            && let Err(error) = ctx.after(
                Duration::from_secs_f64(seconds),
                Event::CollectSamples(self.window),
            )
        {
            tracing::error!(%error, "no timer; samples are labelled at the window's end only");
        }
    }

    pub(super) fn burst_ready(&mut self, stream: usize, ctx: &mut Ctx<Self>) {
        self.label_new(stream, ctx);
        self.plan(ctx);
    }

    pub(super) fn collect_samples(&mut self, ctx: &mut Ctx<Self>) {
        if self.finishing {
            return;
        }
        for stream in 0..self.streams.len() {
            self.label_new(stream, ctx);
        }
        self.collect_later(ctx);
    }

    fn label_new(&mut self, stream: usize, ctx: &Ctx<Self>) {
        let intake = &self.setup.streams[stream].intake;
        let samples = intake.with_log(|log| log.take_samples());
        self.label(stream, samples, ctx);
    }

    /// Hands samples to the teacher, after those that it has not got round to.
    pub(super) fn label(&mut self, stream: usize, samples: Vec<Sample>, ctx: &Ctx<Self>) {
        let bound = WAITING_WINDOWS * self.setup.config.learning.samples;
        let labels = &mut self.streams[stream].labels;
        let surplus = labels.wait(samples, bound);
        let ready = labels.in_progress.is_none() && !labels.waiting.is_empty();
        if surplus > 0 {
            let now = self.now();
            let text = format!(
                "{surplus} samples not labelled, the teacher is too slow: label fewer samples, or make windows longer"
            );
            self.journal.decide(stream, now, text);
        }
        if ready {
            self.order_labels(stream, ctx);
        }
    }

    fn order_labels(&mut self, stream: usize, ctx: &Ctx<Self>) {
        let me = ctx.me();
        let done = Box::new(move |labelling| {
            drop(me.tell(Event::Labelled { stream, labelling }));
        });
        let samples = std::mem::take(&mut self.streams[stream].labels.waiting);
        let first = samples.first().map(|sample| sample.at);
        let label = Label {
            samples,
            cancelled: self.stopped.clone(),
            done,
        };
        match self.setup.streams[stream].labeller.tell(label) {
            Ok(()) => self.streams[stream].labels.in_progress = first,
            Err(error) => {
                let now = self.now();
                self.journal
                    .decide(stream, now, format!("not labelled: {error}"));
            }
        }
    }

    pub(super) fn labelled(&mut self, stream: usize, labelling: Labelling, ctx: &mut Ctx<Self>) {
        let labelled = labelling.labelled;
        self.record_measured(stream, &labelled);
        if let Some(entry) = self.journal.now(stream) {
            entry.labelling_seconds += labelling.gpu_seconds;
            entry.not_labelled += labelling.left_out;
        }
        self.journal.count(stream, |tally| {
            tally.labelling_seconds += labelling.gpu_seconds;
            tally.not_labelled += labelling.left_out;
        });
        let labels = &mut self.streams[stream].labels;
        labels.in_progress = None;
        if !labels.waiting.is_empty() {
            self.order_labels(stream, ctx);
        }
        if self.finishing {
            return self.finish_when_labelled();
        }
        self.keep(stream, labelled);
        self.prepare_when_due(stream, ctx);
        self.plan(ctx);
    }

    /// Keeps labels until the trainer is given them.
    fn keep(&mut self, stream: usize, labelled: Vec<Labelled>) {
        let bound = WAITING_WINDOWS * self.setup.config.learning.samples;
        let mut fresh = self.streams[stream].labels.fresh.lock();
        fresh.extend(labelled);
        let surplus = fresh.len().saturating_sub(bound);
        fresh.drain(..surplus);
        drop(fresh);
        if surplus > 0 {
            let now = self.now();
            let text = format!("{surplus} labels not learnt from: the trainer was too slow");
            self.journal.decide(stream, now, text);
        }
    }

    /// Writes the labelled frames down, and the live accuracy of the windows that they are from.
    fn record_measured(&mut self, stream: usize, labelled: &[Labelled]) {
        let intake = &self.setup.streams[stream].intake;
        let metric = intake.with_log(|log| log.metric());
        let seconds = self.setup.config.run.window_seconds;
        for one in labelled {
            // Times are not negative.
            let window = (one.at / seconds) as usize;
            if let Some(sink) = &self.setup.labelled {
                let StreamSetup { name, classes, .. } = &self.setup.streams[stream];
                sink.send(LabelledLine::of(name, classes, window, metric, one));
            }
            // A burst is one moment, not a sample of the window.
            if let Some(score) = one.live_score(metric)
                && !one.burst
            {
                self.journal.measured(window, stream, &[score]);
            }
        }
    }
}
