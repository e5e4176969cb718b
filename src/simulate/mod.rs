//! Recorded traces under several schedulers and circumstances, on all cores; what came of it as
//! JSON, CSV and charts. The simulation itself is `ekya_sched::simulate`.

mod charts;
mod files;
mod parallel;
mod summary;
mod sweep;

pub use files::{FilesError, write_files};
pub use summary::{Needed, Row, gpus_needed, table};
pub use sweep::{Point, Sweep};
