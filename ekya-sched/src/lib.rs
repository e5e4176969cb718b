//! Joint scheduling of inference and retraining over shared devices.
//!
//! Every stream has two jobs, its inference and its retraining, and all jobs of a device share it.
//! A [`Scheduler`] takes a [`Problem`] (what is left of the window, the devices, and per stream
//! what each configuration would give and cost) and returns a [`Plan`]: configurations, and shares
//! over time, that make the accuracy of inference, averaged over the window and over the streams,
//! as high as it can.
//!
//! The crate is pure: no clock, no I/O, no threads. Time enters as data, which is why the live
//! system, a simulator and a property test can run the same code. The caller carries a plan out
//! until the first retraining ends, and then asks for a new one with what is left;
//! [`simulate::run_window`] does so for a whole window, [`simulate::Scenario`] for weeks of recorded
//! ones.
//!
//! # The model
//!
//! | paper (NSDI 2022) | here |
//! |---|---|
//! | window ‖T‖ | [`Problem::remaining`], less [`Problem::labelling_delay`] for retrainings |
//! | devices G | [`Problem::devices`], each with its capacity; no job spans two |
//! | smallest share δ | [`Problem::quantum`] |
//! | a_MIN | [`Problem::min_accuracy`] |
//! | streams V | [`Problem::streams`], each with a weight |
//! | inference configurations Λ | [`StreamSpec::inference`] |
//! | retraining configurations Γ | [`StreamSpec::retraining`] |
//! | shares I and R | [`Segment::inference_share`], [`Segment::training_share`] |
//!
//! What is assumed:
//! - A retraining starts up for some seconds, then does its GPU-seconds at a speed that follows from
//!   its share ([`Throughput`]): proportional unless measured otherwise. Memory and training slots
//!   are occupied while it computes.
//! - Until it ends the old accuracy counts, afterwards the new one, both times the factor of the
//!   inference configuration. A student that is not better than the serving one is not promoted.
//! - An inference configuration either has the share that it needs, and then its factor, or counts
//!   for nothing.
//! - Each stream is retrained at most once in what is left of the window.
//! - A lowest accuracy that a device cannot give is no constraint: the plan serves as well as it
//!   goes, and its reasons say so.
//!
//! # Schedulers
//!
//! V streams, n of them retrained, L inference and R retraining options, G/δ quanta:
//!
//! | | what it does | source | cost of a plan |
//! |---|---|---|---|
//! | [`Thief`] | jobs steal shares from each other while that helps | the paper's Algorithms 1 and 2, with four differences | O(V² · (G/δ + L) · (R + log L)); most pairs are seen to be hopeless at once |
//! | [`Optimal`] | retrainings in the best sequence found, with a bound on what any plan could reach | Dinkelbach's method for the shares, a knapsack's core for inference, local search for the sequence, Lagrangian prices for the bound | O(n · V · log L) a sequence, their number limited |
//! | [`NoRetraining`], [`Uniform`] | nothing, or the same configuration and split for all | the paper's baselines | O(V · (L + R)) |
//! | [`FixedRes`], [`FixedConfig`] | configurations for a fixed split, shares for a fixed configuration | the paper's ablations | as [`Uniform`], as [`Thief`] |
//! | [`Cloud`], [`Reuse`] | retrain elsewhere, over a link; choose among students trained before | the paper's alternatives | O(V log V), O(V) a student |
//!
//! All of them plan several devices: a device is a problem of its own, and streams without a device
//! are placed first (at most 64 moves are tried). [`Plan::check`] says whether a plan can be carried
//! out, whoever made it. A scheduler of one's own is a type that implements [`Scheduler`]; the
//! example `own_scheduler` shows one.
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
mod placed;
mod placement;
mod plan;
mod problem;
mod reason;
mod scene;
mod scheduler;
mod share;
pub mod simulate;
mod thief;
mod throughput;
mod timeline;

pub use baselines::{Cloud, Fixed, FixedConfig, FixedRes, NoRetraining, Reuse, Uniform};
pub use check::{Fault, Limited, PlanError};
pub use config::RetrainingConfig;
pub use names::{SCHEDULER_NAMES, SchedulerNameError, scheduler_by_name};
pub use optimal::Optimal;
pub use plan::{Plan, StreamPlan};
pub use problem::{
    DEFAULT_QUANTUM, DeviceSpec, InferenceOption, Problem, ProblemError, RetrainingOption,
    StreamSpec,
};
pub use scene::{CachedStudent, Likeness, Scene};
pub use scheduler::{ScheduleError, Scheduler};
pub use share::{Share, ShareError};
pub use thief::{Stealing, Thief};
pub use throughput::{Corner, Throughput, ThroughputError};
pub use timeline::Segment;
