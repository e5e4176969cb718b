//! What is kept of settled frames: scores against the truth, samples for the teacher, results.

use std::sync::Arc;

use super::intake::{Answer, Fate};
use super::sampler::{Sample, SampleSchedule};
use super::score::{Metric, Timeline};
use crate::sink::ResultSink;
use crate::source::Frame;

/// A frame whose fate is known.
#[derive(Debug)]
pub struct Settled {
    /// The frame.
    pub frame: Frame,
    /// Seconds from the start of the run.
    pub at: f64,
    /// What became of it.
    pub fate: Fate,
    /// The answer in force at its time: its own, or the last one before it.
    pub answer: Option<Arc<Answer>>,
}

/// The log of one stream.
pub struct StreamLog {
    stream: Arc<str>,
    metric: Metric,
    against_truth: Timeline,
    schedule: Option<SampleSchedule>,
    samples: Vec<Sample>,
    on_burst: Option<Box<dyn FnOnce() + Send>>,
    sink: Option<ResultSink>,
}

impl StreamLog {
    /// An empty log of the stream of that name.
    #[must_use]
    pub fn new(stream: &str, metric: Metric, sink: Option<ResultSink>) -> Self {
        Self {
            stream: stream.into(),
            metric,
            against_truth: Timeline::default(),
            schedule: None,
            samples: Vec::new(),
            on_burst: None,
            sink,
        }
    }

    /// Scores, samples and passes on one frame.
    pub(super) fn record(&mut self, settled: Settled) {
        if let Some(sink) = &self.sink {
            sink.send(&self.stream, &settled);
        }
        if let Some(truth) = &settled.frame.truth {
            let answers = settled
                .answer
                .as_ref()
                .map_or(&[][..], |answer| &answer.objects);
            if let Some(score) = self.metric.score(truth, answers) {
                self.against_truth.add(settled.at, score);
            }
        }
        self.sample(settled);
    }

    fn sample(&mut self, settled: Settled) {
        let Some(schedule) = &mut self.schedule else {
            return;
        };
        if let Some(burst) = schedule.pick(settled.at) {
            let Settled {
                frame, at, answer, ..
            } = settled;
            self.samples.push(Sample {
                frame,
                at,
                answer,
                burst,
            });
        }
        if schedule.burst_done()
            && let Some(done) = self.on_burst.take()
        {
            done();
        }
    }

    /// See [`super::Intake::resample`].
    pub(super) fn resample(&mut self, schedule: SampleSchedule) -> Vec<Sample> {
        self.schedule = Some(schedule);
        self.take_samples()
    }

    /// The samples that have come since they were last taken.
    #[must_use]
    pub fn take_samples(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.samples)
    }

    /// Calls `done` once the burst of the schedule in force is complete.
    pub fn on_burst(&mut self, done: Box<dyn FnOnce() + Send>) {
        self.on_burst = Some(done);
    }

    /// How answers are scored.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Scores against the source's truth, by second; empty where the source knows none.
    #[must_use]
    pub fn against_truth(&self) -> &Timeline {
        &self.against_truth
    }
}

impl std::fmt::Debug for StreamLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamLog")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
