//! Windows under a scheduler, with recorded outcomes in place of training.

mod window;

pub use window::{StreamOutcome, WindowOutcome, run_window, run_window_with};
