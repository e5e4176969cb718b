//! What is kept of settled frames: scores against the truth, samples for the teacher, results.

use std::sync::Arc;

use super::intake::{Answer, Fate};
use super::sampler::{Sample, SampleSchedule};
use super::score::{Metric, Timeline};
use crate::clock::unix_seconds;
use crate::sink::StreamOutlets;
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
    stream: String,
    metric: Metric,
    against_truth: Timeline,
    schedule: Option<SampleSchedule>,
    samples: Vec<Sample>,
    on_burst: Option<Box<dyn FnOnce() + Send>>,
    outlets: Option<StreamOutlets>,
}

impl StreamLog {
    /// An empty log of the stream of that name, whose results go to these outlets.
    #[must_use]
    pub fn new(stream: &str, metric: Metric, outlets: Option<StreamOutlets>) -> Self {
        Self {
            stream: stream.to_owned(),
            metric,
            against_truth: Timeline::default(),
            schedule: None,
            samples: Vec::new(),
            on_burst: None,
            outlets,
        }
    }

    /// Scores, samples and passes on one frame.
    pub(super) fn record(&mut self, settled: Settled) {
        if let Some(outlets) = &self.outlets {
            outlets.send(&settled);
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
                taken_at: unix_seconds(),
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
        std::mem::take(&mut self.samples)
    }

    /// The samples that have come since they were last taken. A burst is given whole: what there is
    /// of it stays until it is complete.
    #[must_use]
    pub fn take_samples(&mut self) -> Vec<Sample> {
        let complete = self.schedule.as_ref().is_none_or(|s| s.burst_done());
        let (given, kept) = std::mem::take(&mut self.samples)
            .into_iter()
            .partition(|sample| complete || !sample.burst);
        self.samples = kept;
        given
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ekya_models::Image;

    use super::*;

    fn settled(index: u64, at: f64) -> Settled {
        Settled {
            frame: Frame {
                index,
                at: Duration::from_secs_f64(at),
                image: Arc::new(Image::new(1, 1, vec![0; 3]).unwrap()),
                regions: vec![],
                truth: None,
            },
            at,
            fate: Fate::Skipped,
            answer: None,
        }
    }

    #[test]
    fn a_burst_is_given_whole() {
        let mut log = StreamLog::new("a", Metric::Accuracy, None);
        // The burst is at the very start: frames 0 to 3.
        let _ = log.resample(SampleSchedule::new(0.0, 8.0, 12, 4, true, 1));
        for index in 0..3 {
            log.record(settled(index, index as f64 / 10.0));
        }
        assert!(log.take_samples().iter().all(|sample| !sample.burst));
        for index in 3..80 {
            log.record(settled(index, index as f64 / 10.0));
        }
        let given = log.take_samples();
        let burst: Vec<u64> = given
            .iter()
            .filter(|sample| sample.burst)
            .map(|sample| sample.frame.index)
            .collect();
        assert_eq!(burst, [0, 1, 2, 3]);
        assert!(log.take_samples().is_empty());
    }
}
