//! What the scheduler actor is told.

use std::path::PathBuf;

use ekya_actors::Message;
use tempfile::TempDir;

use super::actor::StreamSetup;
use crate::learn::{Labelling, Report};
use crate::planning::Decisions;

/// Something happened. `stream` is the index of the stream.
pub enum Event {
    /// The run begins.
    Begin,
    /// The burst of consecutive frames is complete.
    BurstReady {
        /// The stream.
        stream: usize,
    },
    /// It is time to hand the samples of the window of that index, so far, to the teacher.
    CollectSamples(usize),
    /// The teacher is done with the samples it was given.
    Labelled {
        /// The stream.
        stream: usize,
        /// What came of them.
        labelling: Labelling,
    },
    /// The trainer of a stream got on.
    Trainer {
        /// The stream.
        stream: usize,
        /// Number of the order; what comes from an order that was cut off is ignored.
        order: u64,
        /// What it reports.
        report: Report,
    },
    /// A stream has come: its index, that of one that has gone or the next, and what serves it.
    Joined {
        /// The stream.
        stream: usize,
        /// What serves it.
        setup: Box<StreamSetup>,
    },
    /// A stream goes.
    Left {
        /// The stream.
        stream: usize,
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
    /// Whoever plans for several nodes has decided.
    Decided {
        /// Its term.
        term: u64,
        /// What this node is to do.
        decisions: Decisions,
    },
    /// Another node has run a stream of this one meanwhile; what its student has learnt.
    Found(Box<Found>),
    /// A retraining of another node's student waits for its share here.
    GuestCame {
        /// The node.
        of: String,
        /// The stream.
        stream: String,
    },
    /// Nobody plans for several nodes any more, or answers.
    PlanHere,
    /// Stop now.
    Interrupt,
}

/// A student that another node has trained while it ran a stream.
#[derive(Debug)]
pub struct Found {
    /// Name of the stream.
    pub stream: String,
    /// The node.
    pub node: String,
    /// Class names that it knows, by class index.
    pub classes: Vec<String>,
    /// Its weights, whole, in the folder.
    pub weights: PathBuf,
    /// Goes with this.
    pub folder: TempDir,
}

impl Message for Event {
    type Reply = ();
}
