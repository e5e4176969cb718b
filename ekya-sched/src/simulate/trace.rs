//! Recorded retrainings: what every configuration gave and cost, stream by stream and window by
//! window.

use std::io::Read;

use serde::Deserialize;
use thiserror::Error;

use crate::{CachedStudent, RetrainingConfig, Scene};

/// Recorded outcomes of retraining.
///
/// As CSV, a line is one configuration of one stream in one window:
///
/// | column | meaning |
/// |---|---|
/// | `stream` | name of the stream |
/// | `window` | number of the window |
/// | `start_accuracy` | accuracy of the serving student in that window, 0..=1; the same for all of its configurations |
/// | `config` | name of the configuration |
/// | `gpu_seconds` | its work, on a whole device |
/// | `end_accuracy` | accuracy of the retrained student in that window, 0..=1 |
/// | `predicted_accuracy` | what was predicted for it, 0..=1; may be missing |
/// | `epochs`, `data_fraction`, `head_width`, `last_layer_only` | what the configuration is ([`RetrainingConfig`]); may be missing |
/// | `startup_seconds` | seconds until it computes; may be missing: 0 |
/// | `hour`, `objects`, `location_x`, `location_y`, `class_…` | what the stream shows in that window ([`Scene`]); may be missing |
///
/// Columns may come in any order, and others are allowed. Streams and configurations keep the order
/// of their first lines. Every stream has the same windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    streams: Vec<RecordedStream>,
}

/// A stream of a trace.
#[derive(Debug, Clone, PartialEq)]
struct RecordedStream {
    name: String,
    /// By number.
    windows: Vec<(u32, RecordedWindow)>,
}

/// A stream in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedWindow {
    /// Accuracy of the serving student, 0..=1.
    pub start_accuracy: f64,
    /// Configurations, in the trace's order.
    pub options: Vec<RecordedOption>,
    /// What the stream shows.
    pub scene: Scene,
    /// Students of earlier windows that it could be served with ([`Trace::with_reuse`]).
    pub cached: Vec<CachedStudent>,
}

/// A configuration in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedOption {
    /// Its name.
    pub config: String,
    /// Its work, on a whole device.
    pub gpu_seconds: f64,
    /// Seconds until it computes.
    pub startup_seconds: f64,
    /// Accuracy of the retrained student, 0..=1.
    pub end_accuracy: f64,
    /// What was predicted for it, 0..=1.
    pub predicted_accuracy: Option<f64>,
    /// What it is, as far as the trace says; what it leaves open is as by default.
    pub retraining: Option<RetrainingConfig>,
}

/// Why a trace cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Not CSV, or a column is missing or holds something else.
    #[error("not a trace")]
    Csv(#[from] csv::Error),
    /// A number that makes no sense.
    #[error("line {line}: {column} is {value}; it has to be {wanted}")]
    Value {
        /// Line of the file.
        line: u64,
        /// Name of the column.
        column: &'static str,
        /// What it holds.
        value: f64,
        /// What it has to be.
        wanted: &'static str,
    },
    /// Two lines of a stream's window disagree on the accuracy that it starts with.
    #[error("line {line}: stream {stream:?} starts window {window} with another accuracy before")]
    StartAccuracy {
        /// Line of the file.
        line: u64,
        /// Name of the stream.
        stream: String,
        /// Number of the window.
        window: u32,
    },
    /// A stream lacks a window that another has.
    #[error("stream {stream:?} does not have the same windows as {first:?}")]
    Windows {
        /// Name of the stream.
        stream: String,
        /// Name of the first stream.
        first: String,
    },
    /// A window that the trace does not have.
    #[error("line {line}: the trace has no window {window} of a stream {stream:?}")]
    NoSuchWindow {
        /// Line of the file.
        line: u64,
        /// Name of the stream.
        stream: String,
        /// Number of the window.
        window: u32,
    },
    /// There are no lines.
    #[error("the trace is empty")]
    Empty,
}

#[derive(Deserialize)]
struct Line {
    stream: String,
    window: u32,
    start_accuracy: f64,
    config: String,
    gpu_seconds: f64,
    end_accuracy: f64,
    #[serde(default)]
    predicted_accuracy: Option<f64>,
    #[serde(default)]
    epochs: Option<usize>,
    #[serde(default)]
    data_fraction: Option<f64>,
    #[serde(default)]
    head_width: Option<usize>,
    #[serde(default)]
    last_layer_only: Option<bool>,
    #[serde(default)]
    startup_seconds: Option<f64>,
    #[serde(default)]
    hour: Option<f64>,
    #[serde(default)]
    objects: Option<f64>,
    #[serde(default)]
    location_x: Option<f64>,
    #[serde(default)]
    location_y: Option<f64>,
}

/// A line of the file that [`Trace::with_reuse`] reads.
#[derive(Deserialize)]
struct ReuseLine {
    stream: String,
    window: u32,
    from_stream: String,
    from_window: u32,
    accuracy: f64,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// When it is not a trace; most errors name the line.
    pub fn from_csv(csv: impl Read) -> Result<Self, TraceError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(csv);
        let headers = reader.headers()?.clone();
        let mut trace = Self {
            streams: Vec::new(),
        };
        for record in reader.records() {
            let record = record?;
            let number = record.position().map_or(0, csv::Position::line);
            let line: Line = record.deserialize(Some(&headers))?;
            line.check(number)?;
            let classes = classes(&headers, &record, number)?;
            trace.add(line, classes, number)?;
        }
        trace.complete()
    }

    /// Adds students that streams could be served with again. As CSV: `stream` and `window`, the
    /// stream and the earlier window that a student was trained in (`from_stream`, `from_window`),
    /// and its `accuracy` on what the stream shows in that window.
    ///
    /// # Errors
    /// When it is not such a file, or names a stream or window that the trace does not have.
    pub fn with_reuse(mut self, csv: impl Read) -> Result<Self, TraceError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(csv);
        let headers = reader.headers()?.clone();
        for record in reader.records() {
            let record = record?;
            let number = record.position().map_or(0, csv::Position::line);
            let line: ReuseLine = record.deserialize(Some(&headers))?;
            in_unit("accuracy", Some(line.accuracy), number)?;
            let scene = self
                .recorded(&line.from_stream, line.from_window, number)?
                .scene
                .clone();
            let accuracy = line.accuracy;
            let here = self.recorded(&line.stream, line.window, number)?;
            here.cached.push(CachedStudent { scene, accuracy });
        }
        Ok(self)
    }

    /// The same with other predictions, one for each of its lines: stream by stream, window by
    /// window. What has none keeps its own.
    #[must_use]
    pub fn with_predictions(mut self, accuracies: impl IntoIterator<Item = f64>) -> Self {
        let windows = self
            .streams
            .iter_mut()
            .flat_map(|stream| &mut stream.windows);
        let options = windows.flat_map(|(_, recorded)| &mut recorded.options);
        for (option, accuracy) in options.zip(accuracies) {
            option.predicted_accuracy = Some(accuracy.clamp(0.0, 1.0));
        }
        self
    }

    fn recorded(
        &mut self,
        stream: &str,
        window: u32,
        line: u64,
    ) -> Result<&mut RecordedWindow, TraceError> {
        let streams = self.streams.iter_mut();
        let mut windows = streams
            .filter(|known| known.name == stream)
            .flat_map(|known| &mut known.windows);
        let found = windows.find(|(number, _)| *number == window);
        found
            .map(|(_, recorded)| recorded)
            .ok_or_else(|| TraceError::NoSuchWindow {
                line,
                stream: stream.into(),
                window,
            })
    }

    fn add(&mut self, line: Line, classes: Vec<f64>, number: u64) -> Result<(), TraceError> {
        let known = self
            .streams
            .iter()
            .position(|stream| stream.name == line.stream);
        let stream = known.unwrap_or(self.streams.len());
        if stream == self.streams.len() {
            self.streams.push(RecordedStream {
                name: line.stream.clone(),
                windows: Vec::new(),
            });
        }
        let windows = &mut self.streams[stream].windows;
        let known = windows
            .iter()
            .position(|(window, _)| *window == line.window);
        let window = known.unwrap_or(windows.len());
        if window == windows.len() {
            let new = RecordedWindow {
                start_accuracy: line.start_accuracy,
                options: Vec::new(),
                scene: line.scene(classes),
                cached: Vec::new(),
            };
            windows.push((line.window, new));
        }
        let recorded = &mut windows[window].1;
        if recorded.start_accuracy != line.start_accuracy {
            return Err(TraceError::StartAccuracy {
                line: number,
                stream: line.stream,
                window: line.window,
            });
        }
        recorded.options.push(RecordedOption {
            retraining: line.retraining(),
            config: line.config,
            gpu_seconds: line.gpu_seconds,
            startup_seconds: line.startup_seconds.unwrap_or(0.0),
            end_accuracy: line.end_accuracy,
            predicted_accuracy: line.predicted_accuracy,
        });
        Ok(())
    }

    /// Sorts the windows, and checks that all streams have the same.
    fn complete(mut self) -> Result<Self, TraceError> {
        for stream in &mut self.streams {
            stream.windows.sort_by_key(|(number, _)| *number);
        }
        let numbers = |stream: &RecordedStream| -> Vec<u32> {
            stream.windows.iter().map(|(number, _)| *number).collect()
        };
        let first = self.streams.first().ok_or(TraceError::Empty)?;
        let other = |stream: &&RecordedStream| numbers(stream) != numbers(first);
        match self.streams.iter().find(other) {
            None => Ok(self),
            Some(stream) => Err(TraceError::Windows {
                stream: stream.name.clone(),
                first: first.name.clone(),
            }),
        }
    }

    /// How many streams it has; at least one.
    #[must_use]
    pub const fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How many windows every stream has; at least one.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.streams[0].windows.len()
    }

    /// The number that the trace gives its `window`-th window, counted from 0; windows repeat after
    /// the last.
    #[must_use]
    pub fn window_number(&self, window: usize) -> u32 {
        let windows = &self.streams[0].windows;
        windows[window % windows.len()].0
    }

    /// A stream's name and its recorded window, both counted from 0. More streams than there are
    /// come from repeating them, each time one window later; windows repeat after the last.
    #[must_use]
    pub fn window(&self, stream: usize, window: usize) -> (String, &RecordedWindow) {
        let recorded = &self.streams[stream % self.streams.len()];
        let round = stream / self.streams.len();
        let name = match round {
            0 => recorded.name.clone(),
            round => format!("{}-{}", recorded.name, round + 1),
        };
        let index = (window + round) % recorded.windows.len();
        (name, &recorded.windows[index].1)
    }
}

impl Line {
    /// What the configuration is; `None` when no column says anything of it.
    fn retraining(&self) -> Option<RetrainingConfig> {
        let default = RetrainingConfig::default();
        let says = self.epochs.is_some()
            || self.data_fraction.is_some()
            || self.head_width.is_some()
            || self.last_layer_only.is_some();
        says.then(|| RetrainingConfig {
            epochs: self.epochs.unwrap_or(default.epochs),
            data_fraction: self.data_fraction.unwrap_or(default.data_fraction),
            head_width: self.head_width.unwrap_or(default.head_width),
            layers_frozen: match self.last_layer_only {
                Some(true) => usize::MAX,
                _ => default.layers_frozen,
            },
            ..default
        })
    }

    fn check(&self, line: u64) -> Result<(), TraceError> {
        in_unit("start_accuracy", Some(self.start_accuracy), line)?;
        in_unit("end_accuracy", Some(self.end_accuracy), line)?;
        in_unit("predicted_accuracy", self.predicted_accuracy, line)?;
        in_unit("data_fraction", self.data_fraction, line)?;
        let seconds = "a number of seconds";
        let amount = |value: f64| value.is_finite() && value >= 0.0;
        holds(amount, "gpu_seconds", Some(self.gpu_seconds), seconds, line)?;
        holds(
            amount,
            "startup_seconds",
            self.startup_seconds,
            seconds,
            line,
        )?;
        for (column, value) in [
            ("hour", self.hour),
            ("objects", self.objects),
            ("location_x", self.location_x),
            ("location_y", self.location_y),
        ] {
            holds(f64::is_finite, column, value, "a number", line)?;
        }
        Ok(())
    }

    fn scene(&self, classes: Vec<f64>) -> Scene {
        Scene {
            classes,
            hour: self.hour.unwrap_or(0.0),
            objects: self.objects.unwrap_or(0.0),
            location: (
                self.location_x.unwrap_or(0.0),
                self.location_y.unwrap_or(0.0),
            ),
        }
    }
}

/// What stands in the columns whose names begin with `class_`, in their order.
fn classes(
    headers: &csv::StringRecord,
    record: &csv::StringRecord,
    line: u64,
) -> Result<Vec<f64>, TraceError> {
    let columns = headers
        .iter()
        .zip(record)
        .filter(|(header, _)| header.starts_with("class_"));
    columns
        .map(|(_, text)| {
            let value = text.parse().unwrap_or(f64::NAN);
            in_unit("class_…", Some(value), line)?;
            Ok(value)
        })
        .collect()
}

fn in_unit(column: &'static str, value: Option<f64>, line: u64) -> Result<(), TraceError> {
    let inside = |value: f64| (0.0..=1.0).contains(&value);
    holds(inside, column, value, "in 0..=1", line)
}

fn holds(
    good: impl Fn(f64) -> bool,
    column: &'static str,
    value: Option<f64>,
    wanted: &'static str,
    line: u64,
) -> Result<(), TraceError> {
    match value {
        Some(value) if !good(value) => Err(TraceError::Value {
            line,
            column,
            value,
            wanted,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "extra,stream,window,start_accuracy,config,gpu_seconds,end_accuracy\n\
        x,a,2,0.5,cheap,10,0.6\n\
        x,a,1,0.4,cheap,10,0.6\n\
        x,a,1,0.4,costly,90,0.8\n\
        x,b,1,0.7,cheap,10,0.6\n\
        x,b,2,0.7,cheap,10,0.6\n";

    #[test]
    fn lines_are_sorted_into_streams_and_windows() -> Result<(), TraceError> {
        let trace = Trace::from_csv(GOOD.as_bytes())?;
        assert_eq!((trace.streams(), trace.windows()), (2, 2));
        let (name, window) = trace.window(0, 0);
        assert_eq!((name.as_str(), window.start_accuracy), ("a", 0.4));
        assert_eq!(window.options[1].config, "costly");
        assert_eq!(window.options[1].predicted_accuracy, None);
        Ok(())
    }

    #[test]
    fn more_streams_repeat_the_trace_a_window_later() -> Result<(), TraceError> {
        let trace = Trace::from_csv(GOOD.as_bytes())?;
        let (name, window) = trace.window(2, 0);
        assert_eq!((name.as_str(), window.start_accuracy), ("a-2", 0.5));
        assert_eq!(trace.window(2, 1).1.start_accuracy, 0.4);
        Ok(())
    }

    #[test]
    fn configurations_are_known_by_their_columns() -> Result<(), TraceError> {
        let csv = "stream,window,start_accuracy,config,gpu_seconds,end_accuracy,epochs,last_layer_only\n\
            a,1,0.4,c,10,0.6,5,true\n";
        let trace = Trace::from_csv(csv.as_bytes())?;
        let known = trace.window(0, 0).1.options[0].retraining.clone();
        let expected = RetrainingConfig {
            epochs: 5,
            layers_frozen: usize::MAX,
            ..RetrainingConfig::default()
        };
        assert_eq!(known, Some(expected));
        assert_eq!(trace.window_number(3), 1);
        let nameless = Trace::from_csv(GOOD.as_bytes())?;
        assert_eq!(nameless.window(0, 0).1.options[0].retraining, None);
        Ok(())
    }

    #[test]
    fn predictions_can_be_put_in() -> Result<(), TraceError> {
        let trace = Trace::from_csv(GOOD.as_bytes())?.with_predictions([0.1, 0.2, 1.5]);
        let of = |window: usize| {
            let (_, recorded) = trace.window(0, window);
            let options = recorded.options.iter();
            options.map(|o| o.predicted_accuracy).collect::<Vec<_>>()
        };
        assert_eq!(of(0), [Some(0.1), Some(0.2)]);
        assert_eq!(of(1), [Some(1.0)]);
        assert_eq!(trace.window(1, 0).1.options[0].predicted_accuracy, None);
        Ok(())
    }

    #[test]
    fn students_of_earlier_windows_can_be_added() -> Result<(), TraceError> {
        let csv = "stream,window,start_accuracy,config,gpu_seconds,end_accuracy,hour,class_car,class_bus\n\
            a,1,0.4,c,10,0.6,9,0.75,0.25\n\
            a,2,0.4,c,10,0.6,21,0.5,0.5\n";
        let reuse = "stream,window,from_stream,from_window,accuracy\na,2,a,1,0.7\n";
        let trace = Trace::from_csv(csv.as_bytes())?.with_reuse(reuse.as_bytes())?;
        let (_, window) = trace.window(0, 1);
        assert_eq!(
            (window.scene.hour, window.scene.classes.as_slice()),
            (21.0, [0.5, 0.5].as_slice())
        );
        assert_eq!(window.cached[0].scene.hour, 9.0);
        assert_eq!(window.cached[0].accuracy, 0.7);
        let unknown =
            Trace::from_csv(csv.as_bytes())?.with_reuse(reuse.replace("2,a", "3,a").as_bytes());
        assert_eq!(
            unknown.map_err(|error| error.to_string()).err().as_deref(),
            Some("line 2: the trace has no window 3 of a stream \"a\"")
        );
        Ok(())
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let refused = |csv: String| {
            Trace::from_csv(csv.as_bytes())
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert_eq!(refused(String::new()), Err("the trace is empty".into()));
        assert_eq!(
            refused("stream,window\na,1\n".into()),
            Err("not a trace".into())
        );
        assert_eq!(
            refused(GOOD.replace("costly,90", "costly,-90")),
            Err("line 4: gpu_seconds is -90; it has to be a number of seconds".into())
        );
        assert_eq!(
            refused(GOOD.replace("0.4,costly", "0.5,costly")),
            Err("line 4: stream \"a\" starts window 1 with another accuracy before".into())
        );
        assert_eq!(
            refused(GOOD.replace("b,2", "b,3")),
            Err("stream \"b\" does not have the same windows as \"a\"".into())
        );
    }
}
