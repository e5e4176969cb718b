//! Joint scheduling of inference and retraining over shared devices.
//!
//! Every stream has two jobs, its inference and its retraining, and all jobs of a device share it.
//! A [`Scheduler`] takes a [`Problem`] (what is left of the window, the devices, and per stream
//! what each configuration would give and cost) and returns a [`Plan`]: configurations and shares
//! that make the accuracy of inference, averaged over the window and over the streams, as high as
//! it can.
//!
//! The crate is pure: no clock, no I/O, no threads. Time enters as data, which is why the live
//! system, a simulator and a property test can run the same code. The caller re-plans whenever a
//! retraining ends, with a new problem that holds what is left; [`simulate`] does so for a whole
//! window.
//!
//! # The model
//!
//! | paper (NSDI 2022) | here |
//! |---|---|
//! | window ‖T‖ | [`Problem::remaining`] |
//! | devices G | [`Problem::devices`], each with its capacity; no job spans two |
//! | smallest share δ | [`Problem::quantum`] |
//! | a_MIN | [`Problem::min_accuracy`] |
//! | streams V | [`Problem::streams`] |
//! | inference configurations Λ | [`StreamSpec::inference`] |
//! | retraining configurations Γ | [`StreamSpec::retraining`] |
//! | shares I and R | [`StreamPlan::inference_share`], [`StreamPlan::training_share`] |
//!
//! [`Thief`] is the paper's scheduler; [`Optimal`] looks for the best plan and states in
//! [`Plan::upper_bound`] what none could exceed; [`NoRetraining`] and [`Uniform`] are there to
//! compare with.
//!
//! Training is taken to scale linearly with its share: an option of `c` GPU-seconds under a share
//! of `r` devices takes `c / r` seconds. Until it ends the old accuracy counts, afterwards the new
//! one, both times the factor of the inference configuration. A student that is not better than
//! the serving one is not promoted.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use ekya_sched::{
//!     DeviceSpec, InferenceOption, Problem, RetrainingOption, Scheduler, Share, StreamSpec, Thief,
//! };
//!
//! let problem = Problem {
//!     devices: vec![DeviceSpec::new(Share::WHOLE)],
//!     streams: vec![StreamSpec {
//!         name: "crossing".into(),
//!         accuracy: 0.6,
//!         inference: vec![
//!             InferenceOption { accuracy_factor: 1.0, share: Share::from_micro(500_000) },
//!             InferenceOption { accuracy_factor: 0.8, share: Share::from_micro(250_000) },
//!         ],
//!         retraining: vec![RetrainingOption::new(0.9, 20.0)],
//!         ..StreamSpec::default()
//!     }],
//!     ..Problem::new(Duration::from_secs(120))
//! };
//! let plan = Thief::default().plan(&problem)?;
//! plan.check(&problem)?;
//! assert_eq!(plan.streams[0].retraining, Some(0));
//! println!("{}", plan.streams[0].reason);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod baselines;
mod check;
mod config;
mod names;
mod optimal;
mod pick;
mod placement;
mod plan;
mod problem;
mod reason;
mod scheduler;
mod share;
pub mod simulate;
mod thief;
mod throughput;
mod timeline;

pub use baselines::{Cloud, Fixed, FixedConfig, FixedRes, NoRetraining, Uniform};
pub use check::{Fault, Limited, PlanError};
pub use config::RetrainingConfig;
pub use names::{SCHEDULER_NAMES, SchedulerNameError, scheduler_by_name};
pub use optimal::Optimal;
pub use plan::{Plan, StreamPlan};
pub use problem::{
    DEFAULT_QUANTUM, DeviceSpec, InferenceOption, Problem, ProblemError, RetrainingOption,
    StreamSpec,
};
pub use scheduler::{ScheduleError, Scheduler};
pub use share::{Share, ShareError};
pub use thief::{Stealing, Thief};
pub use throughput::{Corner, Throughput, ThroughputError};
pub use timeline::Segment;
