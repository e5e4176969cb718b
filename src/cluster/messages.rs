//! What nodes tell each other.

use ekya_actors::{Message, Wire};
use serde::{Deserialize, Serialize};

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
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/instruct", 1));
}

/// Asks a node for its overview. Observers may.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct View;

impl Message for View {
    type Reply = Overview;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("ekya/view", 1));
}

/// What a node says of itself to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// What it says to all others.
    pub claim: Claim,
    /// Whom it follows; nobody for a node that plans for itself.
    pub leader: Option<Leader>,
    /// Its streams, the first 256.
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
