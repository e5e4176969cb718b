//! What the scheduler actor is told.

use ekya_actors::Message;

use crate::learn::{Labelled, Report};

/// Something happened. `stream` is the index of the stream, `window` the window that the work
/// belongs to: what comes from an earlier window is late and ignored.
pub enum Event {
    /// The run begins.
    Begin,
    /// The burst of consecutive frames is complete.
    BurstReady {
        /// The stream.
        stream: usize,
    },
    /// The teacher is done, or was cut off.
    Labelled {
        /// The stream.
        stream: usize,
        /// The window in which the labels were asked for.
        window: usize,
        /// The labelled frames.
        labelled: Vec<Labelled>,
        /// Device seconds spent.
        gpu_seconds: f64,
    },
    /// The trainer of a stream got on.
    Trainer {
        /// The stream.
        stream: usize,
        /// The window in which the order was given.
        window: usize,
        /// What it reports.
        report: Report,
    },
    /// The source of a stream has ended.
    SourceEnded {
        /// The stream.
        stream: usize,
        /// Why, when it did not end by itself.
        failure: Option<String>,
    },
    /// The window of that index is over.
    WindowOver(usize),
    /// Stop now.
    Interrupt,
}

impl Message for Event {
    type Reply = ();
}
