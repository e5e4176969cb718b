//! Writes down what was decided and what came of it: the windows of the run record.

use std::collections::BTreeMap;

use ekya_profiler::comparison::mean_of_series;
use ekya_sched::Share;

use crate::record::{Decision, RetrainingRecord, ShareSegment, WindowRecord, WindowStream};

/// The windows so far, the last one open.
#[derive(Debug, Default)]
pub struct Journal {
    windows: Vec<WindowRecord>,
    open: Vec<Option<OpenSegment>>,
    /// Scores of labelled frames in the order of their labels, by window and stream; those of
    /// windows long past are settled and no longer here.
    scores: BTreeMap<(usize, usize), Vec<f64>>,
}

/// Windows after which no labels come any more.
const SETTLED_AFTER: usize = 4;

/// Shares that are in force since `from`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenSegment {
    pub(super) from: f64,
    pub(super) inference: Share,
    pub(super) training: Share,
    pub(super) sample_every: u32,
    pub(super) resolution: f64,
    /// Device seconds used by inference and training before `from`.
    pub(super) used_before: (f64, f64),
}

impl Journal {
    /// Opens the next window.
    pub(super) fn begin_window(&mut self, from: f64, to: f64, streams: usize) {
        let index = self.windows.len();
        let streams_of_window = vec![WindowStream::default(); streams];
        self.windows.push(WindowRecord {
            index,
            from,
            to,
            streams: streams_of_window,
        });
        self.open.resize(streams, None);
    }

    /// Makes room for a stream that has come while the window is open.
    pub(super) fn add_stream(&mut self, stream: usize) {
        if let Some(window) = self.windows.last_mut()
            && stream >= window.streams.len()
        {
            window.streams.resize(stream + 1, WindowStream::default());
            self.open.resize(stream + 1, None);
        }
    }

    /// The entry of a stream in the window of that index, if that window has begun.
    pub(super) fn entry(&mut self, window: usize, stream: usize) -> Option<&mut WindowStream> {
        self.windows.get_mut(window)?.streams.get_mut(stream)
    }

    /// The entry of a stream in the open window.
    pub(super) fn now(&mut self, stream: usize) -> Option<&mut WindowStream> {
        self.windows.last_mut()?.streams.get_mut(stream)
    }

    /// Writes a decision down; one that only repeats the last says nothing new.
    pub(super) fn decide(&mut self, stream: usize, at: f64, text: impl Into<String>) {
        let text = text.into();
        tracing::debug!(stream, at, %text, "decision");
        if let Some(entry) = self.now(stream)
            && entry.decisions.last().is_none_or(|last| last.text != text)
        {
            entry.decisions.push(Decision { at, text });
        }
    }

    /// Ends the stream's segment at `at`, having used so many device seconds in all, and begins
    /// `next`.
    pub(super) fn segment(
        &mut self,
        stream: usize,
        at: f64,
        used: (f64, f64),
        next: Option<OpenSegment>,
    ) {
        let Some(slot) = self.open.get_mut(stream) else {
            return;
        };
        let ended = std::mem::replace(slot, next);
        let (Some(ended), Some(entry)) = (ended, self.now(stream)) else {
            return;
        };
        let seconds = at - ended.from;
        if seconds <= 0.0 {
            return;
        }
        entry.segments.push(ShareSegment {
            from: ended.from,
            to: at,
            inference_granted: ended.inference,
            inference_used: (used.0 - ended.used_before.0) / seconds,
            training_granted: ended.training,
            training_used: (used.1 - ended.used_before.1) / seconds,
            sample_every: ended.sample_every,
            resolution: ended.resolution,
        });
    }

    /// The segment in force.
    pub(super) fn segment_now(&self, stream: usize) -> Option<OpenSegment> {
        self.open.get(stream).copied().flatten()
    }

    /// The retrainings of a stream, the last one first.
    fn retrainings(&mut self, stream: usize) -> impl Iterator<Item = &mut RetrainingRecord> {
        let newest_first = self.windows.iter_mut().rev();
        let streams = newest_first.filter_map(move |window| window.streams.get_mut(stream));
        streams.flat_map(|entry| entry.retrainings.iter_mut().rev())
    }

    /// The last retraining of a stream; it may have begun in an earlier window.
    pub(super) fn retraining(&mut self, stream: usize) -> Option<&mut RetrainingRecord> {
        self.retrainings(stream).next()
    }

    /// The last retraining of a stream that was promoted.
    pub(super) fn promotion(&mut self, stream: usize) -> Option<&mut RetrainingRecord> {
        self.retrainings(stream).find(|record| record.promoted)
    }

    /// Writes down that a stream's running retraining has ended before it was through.
    pub(super) fn cut_off(&mut self, stream: usize, at: f64, text: String) {
        if let Some(record) = self.retraining(stream) {
            record.to = Some(at);
            record.cut_off = true;
        }
        self.decide(stream, at, text);
    }

    /// Takes in scores of labelled frames that arrived in the window of that index.
    pub(super) fn measured(&mut self, window: usize, stream: usize, scores: &[f64]) {
        if scores.is_empty() || self.entry(window, stream).is_none() {
            return;
        }
        let unsettled = self.windows.len().saturating_sub(SETTLED_AFTER);
        self.scores.retain(|(of, _), _| *of >= unsettled);
        let all = self.scores.entry((window, stream)).or_default();
        all.extend(scores);
        let (frames, mean) = (all.len(), mean_of_series(all));
        if let Some(entry) = self.entry(window, stream) {
            entry.labelled_frames = frames;
            entry.measured_accuracy = mean.map(|mean| mean.mean);
            entry.measured_sd = mean.map(|mean| mean.sd);
        }
    }

    /// Ends the open window early.
    pub(super) fn cut_window(&mut self, at: f64) {
        if let Some(window) = self.windows.last_mut() {
            window.to = window.to.min(at);
        }
    }

    /// The windows.
    #[must_use]
    pub fn into_windows(self) -> Vec<WindowRecord> {
        self.windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retraining(from: f64) -> RetrainingRecord {
        RetrainingRecord {
            config: ekya_sched::RetrainingConfig::default(),
            from,
            to: None,
            cut_off: false,
            gpu_seconds: 0.0,
            predicted_accuracy: None,
            predicted_gpu_seconds: None,
            examples: 0,
            held_out: 0,
            serving_accuracy: None,
            retrained_accuracy: None,
            difference_sd: None,
            chance: None,
            promoted: false,
            rolled_back: None,
        }
    }

    #[test]
    fn a_retraining_stays_in_the_window_in_which_it_began() {
        let mut journal = Journal::default();
        journal.begin_window(0.0, 8.0, 1);
        journal
            .now(0)
            .unwrap()
            .retrainings
            .extend([retraining(1.0), retraining(6.0)]);
        journal.begin_window(8.0, 16.0, 1);
        journal.cut_off(0, 9.0, "given up".to_owned());
        let windows = journal.into_windows();
        let [first, second] = &windows[0].streams[0].retrainings[..] else {
            panic!("{windows:?}")
        };
        assert_eq!((first.to, second.to), (None, Some(9.0)));
        assert!(!first.cut_off && second.cut_off);
        assert_eq!(windows[1].streams[0].decisions.len(), 1);
    }

    #[test]
    fn scores_may_come_in_parts() {
        let mut journal = Journal::default();
        journal.begin_window(0.0, 8.0, 1);
        journal.measured(0, 0, &[1.0, 0.0, 1.0]);
        journal.measured(0, 0, &[]);
        journal.measured(0, 0, &[0.0]);
        // A frame that arrived after the last window belongs to none.
        journal.measured(1, 0, &[1.0]);
        let entry = &journal.into_windows()[0].streams[0];
        assert_eq!(
            (entry.measured_accuracy, entry.labelled_frames),
            (Some(0.5), 4)
        );
    }
}
