//! Writes down what was decided and what came of it: the windows of the run record.

use std::collections::BTreeMap;

use ekya_profiler::comparison::mean_of_series;
use ekya_sched::Share;

use serde::Serialize;

use super::look::MeasuredLook;
use crate::record::{Decision, RetrainingRecord, ShareSegment, WindowRecord, WindowStream};

/// The windows so far, the last one open.
#[derive(Debug, Default)]
pub struct Journal {
    windows: Vec<WindowRecord>,
    open: Vec<Option<OpenSegment>>,
    /// Scores of labelled frames in the order of their labels, by window and stream; those of
    /// windows long past are settled and no longer here.
    scores: BTreeMap<(usize, usize), Vec<f64>>,
    tallies: Vec<Tally>,
}

/// What has come of the retrainings of a stream so far, and what that took. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Tally {
    /// Retrained students that serve, or have served.
    pub promoted: u64,
    /// Those that the gate has dropped.
    pub dropped: u64,
    /// Retrainings that were ended before they were through.
    pub cut_off: u64,
    /// Those that failed.
    pub failed: u64,
    /// Promotions that were taken back.
    pub rolled_back: u64,
    /// Device seconds of the retrainings that are over.
    pub training_seconds: f64,
    /// Device seconds of profiling.
    pub profiling_seconds: f64,
    /// Device seconds of labelling.
    pub labelling_seconds: f64,
    /// Labelled frames.
    pub labelled: u64,
    /// Samples without labels because the teacher failed on them, or gave such as cannot be used.
    pub not_labelled: u64,
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
        self.tallies.resize(streams, Tally::default());
    }

    /// Makes room for a stream that has come while the window is open.
    pub(super) fn add_stream(&mut self, stream: usize) {
        if let Some(window) = self.windows.last_mut()
            && stream >= window.streams.len()
        {
            window.streams.resize(stream + 1, WindowStream::default());
            self.open.resize(stream + 1, None);
            self.tallies.resize(stream + 1, Tally::default());
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
        let spent = self.ends_early(stream, at);
        self.count(stream, |tally| {
            tally.cut_off += 1;
            tally.training_seconds += spent;
        });
        self.decide(stream, at, text);
    }

    /// Writes down that a stream's running retraining has failed.
    pub(super) fn failed(&mut self, stream: usize, at: f64, text: String) {
        let spent = self.ends_early(stream, at);
        self.count(stream, |tally| {
            tally.failed += 1;
            tally.training_seconds += spent;
        });
        self.decide(stream, at, text);
    }

    /// The device seconds that the retraining has taken.
    fn ends_early(&mut self, stream: usize, at: f64) -> f64 {
        let Some(record) = self.retraining(stream) else {
            return 0.0;
        };
        record.to = Some(at);
        record.cut_off = true;
        record.gpu_seconds
    }

    /// Counts what has come of a stream's retrainings.
    pub(super) fn count(&mut self, stream: usize, count: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.tallies.get_mut(stream) {
            count(tally);
        }
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
        self.count(stream, |tally| tally.labelled += scores.len() as u64);
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

    /// What has come of a stream's retrainings so far.
    pub(super) fn tally(&self, stream: usize) -> Tally {
        self.tallies.get(stream).copied().unwrap_or_default()
    }

    /// The open window.
    pub(super) fn open_window(&self) -> Option<&WindowRecord> {
        self.windows.last()
    }

    /// Start and end of the open window.
    pub(super) fn span(&self) -> (f64, f64) {
        self.open_window()
            .map_or((0.0, 0.0), |window| (window.from, window.to))
    }

    /// The entries of a stream with the indices of their windows, the newest first, as far back as
    /// labels may still come.
    fn recent(&self, stream: usize) -> impl Iterator<Item = (usize, &WindowStream)> {
        let newest = self.windows.iter().rev().take(SETTLED_AFTER);
        newest.filter_map(move |window| Some((window.index, window.streams.get(stream)?)))
    }

    /// Live accuracy in the newest window of which it was measured.
    pub(super) fn newest_measured(&self, stream: usize) -> Option<MeasuredLook> {
        self.recent(stream).find_map(|(window, entry)| {
            Some(MeasuredLook {
                window,
                mean: entry.measured_accuracy?,
                sd: entry.measured_sd,
                frames: entry.labelled_frames,
            })
        })
    }

    /// The newest decision about a stream.
    pub(super) fn newest_decision(&self, stream: usize) -> Option<&Decision> {
        self.recent(stream)
            .find_map(|(_, entry)| entry.decisions.last())
    }

    /// The newest `windows` windows with accuracies only.
    pub(super) fn accuracies(&self, windows: usize) -> Vec<WindowRecord> {
        let accuracies = |entry: &WindowStream| WindowStream {
            true_accuracy: entry.true_accuracy,
            measured_accuracy: entry.measured_accuracy,
            measured_sd: entry.measured_sd,
            labelled_frames: entry.labelled_frames,
            predicted_accuracy: entry.predicted_accuracy,
            previous_accuracy: entry.previous_accuracy,
            ..WindowStream::default()
        };
        self.newest(windows, |window| {
            window.streams.iter().map(accuracies).collect()
        })
    }

    /// The newest `windows` windows of one stream.
    pub(super) fn of_stream(&self, stream: usize, windows: usize) -> Vec<WindowRecord> {
        self.newest(windows, |window| {
            window.streams.get(stream).cloned().into_iter().collect()
        })
    }

    fn newest(
        &self,
        windows: usize,
        streams: impl Fn(&WindowRecord) -> Vec<WindowStream>,
    ) -> Vec<WindowRecord> {
        let before = self.windows.len().saturating_sub(windows);
        let window = |window: &WindowRecord| WindowRecord {
            streams: streams(window),
            ..*window
        };
        self.windows[before..].iter().map(window).collect()
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
