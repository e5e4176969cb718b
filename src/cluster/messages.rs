//! What nodes tell each other.

use ekya_actors::{Message, Payload, Wire};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::homes::{Order, Roll};
use super::leadership::{Claim, Leader};
use crate::planning::{Decisions, Part, Place, Situation};

/// To the leader: what a node knows and wants, in parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report(pub(super) Part<Situation>);

impl Message for Report {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/report", 1));
}

/// To a node: what it is to do, in parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Instruct {
    /// Who has decided.
    pub(super) leader: Leader,
    pub(super) decisions: Part<Decisions>,
}

impl Message for Instruct {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/instruct", 2));
}

/// To the leader: what a node runs and keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rolled(pub(super) Roll);

impl Message for Rolled {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/roll", 2));
}

/// To a node: what it is to do with a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Act {
    /// Who has ordered it.
    pub(super) leader: Leader,
    pub(super) order: Order,
}

impl Message for Act {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/act", 2));
}

/// What another node is to do with what there is of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// Run it.
    Run,
    /// Keep a copy of it.
    Keep,
    /// It runs there already; take from it what is better.
    Merge,
}

/// To another node: what there is of a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) purpose: Purpose,
    pub(super) stream: String,
    /// As JSON, which later versions may add to.
    pub(super) assignment: String,
    /// Counts what was copied.
    pub(super) revision: u64,
    /// A bundle.
    pub(super) payload: Payload,
}

impl Message for Offer {
    type Reply = Result<(), Refusal>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/offer", 2));
}

/// Why a node does not do what it is asked to do with a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
pub(super) enum Refusal {
    /// It is at something else with it.
    #[error("busy with the stream; try again in a moment")]
    Busy,
    /// It could not.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// To a lender: retrain a student. Answered by a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Train {
    pub(super) stream: String,
    /// The lender's device.
    pub(super) device: String,
    /// How, as JSON.
    pub(super) terms: String,
    /// The student, as handed over.
    pub(super) weights: Payload,
    /// What to train on.
    pub(super) sample: Payload,
}

impl Message for Train {
    type Reply = Lent;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/train", 1));
}

/// How a retraining on another node goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Lent {
    /// It goes on.
    Progressed {
        done: usize,
        steps: usize,
        gpu_seconds: f64,
    },
    /// It is through.
    Done {
        /// The retrained student, as handed over.
        student: Payload,
        gpu_seconds: f64,
    },
    /// Nothing comes of it.
    Failed(String),
}

/// Takes a node out of service: it is given nothing more to do, and what it runs goes elsewhere.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Drain;

impl Message for Drain {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/drain", 1));
}

/// What becomes of a stream, on the word of a person; asked of the node that runs it, or is to run it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Manage {
    /// Run a new one: its configuration, as JSON.
    Add(String),
    /// End it for good.
    Remove(String),
    /// Give it to another node, whose it is from then on.
    Move {
        /// The stream.
        stream: String,
        /// The node.
        to: String,
    },
}

impl Message for Manage {
    type Reply = Result<(), String>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/manage", 1));
}

/// Asks a node for its overview. Observers may.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct View;

impl Message for View {
    type Reply = Overview;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/view", 2));
}

/// What a node says of itself to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// What it says to all others.
    pub claim: Claim,
    /// Whom it follows; nobody for a node that plans for itself.
    pub leader: Option<Leader>,
    /// Names of the streams that were given to it, the first 256.
    pub runs: Vec<String>,
    /// Of these, those that no other node that is there may run.
    pub bound: Vec<String>,
    /// What is known of its streams, the first 256.
    pub streams: Vec<StreamOverview>,
}

/// A stream, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamOverview {
    /// Its name.
    pub name: String,
    /// Name of the device that serves it.
    pub device: String,
    /// Accuracy of its student where every frame is answered, as last measured.
    pub accuracy: f64,
    /// Whether it is being retrained.
    pub retrains: bool,
    /// Where, when that is another device.
    pub trained_on: Option<Place>,
}

/// Streams of an [`Overview`]: more would not fit in a message.
pub(super) const OVERVIEW_MAX: usize = 256;
