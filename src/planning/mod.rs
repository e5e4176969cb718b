//! From what nodes know to what they are to do, without I/O and clock: a node puts its [`Situation`]
//! together, [`plan`] makes one problem of those of all nodes, has it solved, and takes the solution apart
//! into the [`Decisions`] of each. A node that plans for itself does the same with its own alone.

mod decisions;
mod merge;
mod parts;
mod situation;

pub use decisions::{Ahead, Decided, Decisions, Guest, Place};
pub use merge::plan;
pub use parts::{Assembly, Part, Parts};
pub use situation::{DeviceSituation, Situation, StreamSituation};
