//! Windows under a scheduler, with recorded outcomes in place of training.
//!
//! [`run_window`] carries one window out: it asks the scheduler for a plan, goes on until the first
//! retraining ends, and asks again with what is left. [`Scenario`] makes windows of a recorded
//! [`Trace`], tells the scheduler what it may know (the true outcomes, or predictions, with errors
//! if so asked) and writes down what came of it ([`WindowRecord`]).
//!
//! The simulator takes a retraining to cost what the trace says; what it gives is known only when it
//! has ended. Nothing is read from or written to files here.

mod profiles;
mod scenario;
mod trace;
mod window;

pub use profiles::{ProfileError, inference_from_csv, throughput_from_csv};
pub use scenario::{
    Devices, GpuSegment, PlanOn, Scenario, SimulateError, Start, StreamRecord, WindowRecord, ends,
};
pub use trace::{RecordedOption, RecordedWindow, Trace, TraceError};
pub use window::{StreamOutcome, WindowOutcome, run_window, run_window_with};
