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
mod options;
mod reload;
mod roster;
mod run;

pub use models::{builtin_history, builtin_student, builtin_teacher};
pub(crate) use models::{load_teacher, take_over};
pub(crate) use options::Teachers;
pub use options::{OpenSource, OpenTeacher, RunOptions};
pub(crate) use roster::{Command, Done};
pub use run::{NodeError, run};
