//! `summary.json`: one mean accuracy a run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::statistics::mean;
use crate::record::{RunRecord, StreamRecord};

/// What `summary.json` holds. Accuracies are 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Runs, in the order of the report.
    pub runs: Vec<RunSummary>,
}

/// One run in a word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Seed of the run.
    pub seed: u64,
    /// Scheduler, as written in the configuration.
    pub scheduler: String,
    /// Label of the load, where runs of several loads are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<String>,
    /// Mean over the streams.
    pub mean_accuracy: f64,
    /// Accuracy of each stream over the whole run: against the truth where the source knows one,
    /// else against the teacher.
    pub streams: BTreeMap<String, f64>,
}

/// Why records cannot be summed up.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SummaryError {
    /// No records.
    #[error("there are no runs to report")]
    NoRuns,
    /// A run without streams.
    #[error("the run of scheduler {scheduler:?} with seed {seed} has no streams")]
    NoStreams {
        /// Scheduler of the run.
        scheduler: String,
        /// Seed of the run.
        seed: u64,
    },
    /// A stream whose accuracy is not known, or is not a number in 0..=1.
    #[error(
        "stream {stream:?} of scheduler {scheduler:?} with seed {seed} has no accuracy (got \
         {accuracy:?}): it needs a source that knows the truth, or labelled frames"
    )]
    Accuracy {
        /// Scheduler of the run.
        scheduler: String,
        /// Seed of the run.
        seed: u64,
        /// Name of the stream.
        stream: String,
        /// What the record says.
        accuracy: Option<f64>,
    },
    /// Two streams of one name in one run.
    #[error(
        "two streams are named {stream:?} in the run of scheduler {scheduler:?} with seed {seed}"
    )]
    SameStream {
        /// Scheduler of the run.
        scheduler: String,
        /// Seed of the run.
        seed: u64,
        /// Name of both streams.
        stream: String,
    },
    /// Two runs that cannot be told apart, and so not be paired.
    #[error("two runs of scheduler {scheduler:?} have seed {seed} and load {load:?}")]
    SameRun {
        /// Scheduler of both runs.
        scheduler: String,
        /// Seed of both runs.
        seed: u64,
        /// Load of both runs.
        load: Option<String>,
    },
}

impl Summary {
    /// Sums up records, each with the label of its load.
    ///
    /// # Errors
    /// [`SummaryError`]: there are no runs, a stream has neither a true nor a measured accuracy, or
    /// two runs or two streams of a run have the same name.
    pub fn of(records: &[(Option<String>, RunRecord)]) -> Result<Self, SummaryError> {
        if records.is_empty() {
            return Err(SummaryError::NoRuns);
        }
        let mut seen = BTreeSet::new();
        for (load, record) in records {
            if !seen.insert((&record.scheduler, record.seed, load)) {
                return Err(SummaryError::SameRun {
                    scheduler: record.scheduler.clone(),
                    seed: record.seed,
                    load: load.clone(),
                });
            }
        }
        let runs = records
            .iter()
            .map(|(load, record)| RunSummary::of(load.clone(), record))
            .collect::<Result<_, _>>()?;
        Ok(Self { runs })
    }
}

impl RunSummary {
    /// Sums up one record.
    ///
    /// # Errors
    /// [`SummaryError`], as for [`Summary::of`].
    pub fn of(load: Option<String>, record: &RunRecord) -> Result<Self, SummaryError> {
        let (scheduler, seed) = (record.scheduler.clone(), record.seed);
        let mut streams = BTreeMap::new();
        for stream in &record.streams {
            let accuracy = stream_accuracy(record, stream)?;
            if streams.insert(stream.name.clone(), accuracy).is_some() {
                return Err(SummaryError::SameStream {
                    scheduler,
                    seed,
                    stream: stream.name.clone(),
                });
            }
        }
        let accuracies: Vec<f64> = streams.values().copied().collect();
        match mean(&accuracies) {
            Some(mean_accuracy) => Ok(Self {
                seed,
                scheduler,
                load,
                mean_accuracy,
                streams,
            }),
            None => Err(SummaryError::NoStreams { scheduler, seed }),
        }
    }
}

/// Against the truth, else against the teacher.
fn stream_accuracy(record: &RunRecord, stream: &StreamRecord) -> Result<f64, SummaryError> {
    let accuracy = stream.true_accuracy.or(stream.measured_accuracy);
    accuracy
        .filter(|accuracy| (0.0..=1.0).contains(accuracy))
        .ok_or_else(|| SummaryError::Accuracy {
            scheduler: record.scheduler.clone(),
            seed: record.seed,
            stream: stream.name.clone(),
            accuracy,
        })
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    #[test]
    fn json_has_exactly_the_promised_keys() {
        let mut records = synthetic::records(&[1], &[None], &["ekya"]);
        records[0].1.streams.truncate(2);
        records[0].1.streams[0].true_accuracy = Some(0.5);
        records[0].1.streams[1].true_accuracy = None;
        records[0].1.streams[1].measured_accuracy = Some(0.75);
        let name = |index: usize| records[0].1.streams[index].name.clone();
        let expected = serde_json::json!({"runs": [{
            "seed": 1,
            "scheduler": "ekya",
            "mean_accuracy": 0.625,
            "streams": {name(0): 0.5, name(1): 0.75},
        }]});
        let summary = Summary::of(&records).unwrap();
        assert_eq!(serde_json::to_value(&summary).unwrap(), expected);
    }

    #[test]
    fn a_load_is_written_and_read_back() {
        let records = synthetic::records(&[1, 2], &[Some("high")], &["none", "ekya"]);
        let summary = Summary::of(&records).unwrap();
        let text = serde_json::to_string(&summary).unwrap();
        assert!(text.contains(r#""load":"high""#));
        assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary);
    }

    #[test]
    fn a_stream_without_accuracy_is_an_error_and_so_is_nan() {
        for bad in [None, Some(f64::NAN), Some(1.5)] {
            let mut records = synthetic::records(&[1], &[None], &["ekya"]);
            records[0].1.streams[1].true_accuracy = bad;
            records[0].1.streams[1].measured_accuracy = None;
            let error = Summary::of(&records).unwrap_err();
            assert!(matches!(error, SummaryError::Accuracy { .. }), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let one = synthetic::records(&[1], &[None], &["ekya"]);
        let twice = [one.clone(), one.clone()].concat();
        let error = Summary::of(&twice).unwrap_err();
        assert!(matches!(error, SummaryError::SameRun { .. }));

        let mut same_stream = one;
        same_stream[0].1.streams[1].name = same_stream[0].1.streams[0].name.clone();
        let error = Summary::of(&same_stream).unwrap_err();
        assert!(matches!(error, SummaryError::SameStream { .. }));
    }

    #[test]
    fn nothing_is_an_error() {
        assert_eq!(Summary::of(&[]), Err(SummaryError::NoRuns));
        let mut empty = synthetic::records(&[1], &[None], &["ekya"]);
        empty[0].1.streams.clear();
        let error = Summary::of(&empty).unwrap_err();
        assert!(matches!(error, SummaryError::NoStreams { .. }));
    }
}
