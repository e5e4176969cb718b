//! One edge node: puts devices, streams, models and actors together, runs them, and writes down
//! what happened.

mod beginning;
mod build;
mod feed;
mod gpu;
mod lines;
mod measured;
mod memory;
mod models;
#[cfg(feature = "torch")]
mod networks;
#[cfg(not(feature = "torch"))]
#[path = "no_networks.rs"]
mod networks;
mod options;
mod reload;
mod roster;
mod run;
mod running;

#[doc(hidden)]
pub use models::builtin_history;
#[cfg(feature = "torch")]
pub use networks::{builtin_student, builtin_teacher};
pub(crate) use networks::{load_teacher, take_over};
pub use options::{OpenSource, OpenStudent, OpenTeacher, RunOptions};
pub(crate) use roster::{Command, Done};
pub use run::{NodeError, run};
pub use running::{RunningNode, start};

pub use crate::cluster::ClusterError;
pub use crate::keep::StateError;
pub use crate::serve::ServeError;
pub use crate::write::WriteError;
