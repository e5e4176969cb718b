//! Micro-profiling: what would each retraining configuration give, and what would it cost?
//!
//! Training every configuration to its end would cost more than all retraining. So two kinds of
//! evidence are combined. What earlier retrainings gave, of this stream and of others, goes into a
//! Gaussian process ([`History`], [`Posterior`], [`Kernel`]): it predicts every configuration's gain
//! with its uncertainty, and without training anything. Where that leaves doubts which are worth it,
//! [`MicroProfiler`] trains on a small sample for a few epochs, through the trait [`Trainable`], and
//! extrapolates along a fitted [`AccuracyCurve`]; what that promises is one more observation.
//!
//! A retraining that runs is watched ([`Watch`]), and its student compared with the one that serves
//! ([`comparison`]). [`accuracy`] sets measured accuracies right for a teacher that errs, [`quality`]
//! judges predictions, and [`trace`] predicts recorded ones.
//!
//! [`inference`] profiles the other side, what frame sampling and resolution cost in accuracy and
//! share, and [`Pruner`] drops configurations that are never near the Pareto front.
//!
//! The crate is pure: no clock, no I/O, no randomness, no libtorch. Costs are what the learner
//! reports.
//!
//! | paper (NSDI 2022, section 4.3) | here |
//! |---|---|
//! | retraining configuration γ | [`ekya_sched::RetrainingConfig`] |
//! | 5–10 % of the data, about 5 epochs | [`MicroProfiler::sample_fraction`], [`MicroProfiler::epochs`] |
//! | acc(k) = 1 − (1/(b0·k + b1) + b2) | [`AccuracyCurve`] |
//! | Pareto pruning over windows | [`Pruner`] |
//! | GPU-time, linear in epochs and data | [`Costs`], set right by what was observed |
//! | accuracy observed while training | [`Watch`] |

pub mod accuracy;
pub mod comparison;
mod cost;
mod curve;
mod estimate;
mod history;
pub mod inference;
pub mod kernel;
mod micro;
mod observed;
mod point;
mod posterior;
mod prediction;
mod profile;
mod prune;
pub mod quality;
pub mod trace;
mod trainable;
mod watch;

pub use cost::Costs;
pub use curve::AccuracyCurve;
pub use estimate::Estimate;
pub use history::{History, Outcome, measuring_variance};
pub use kernel::Kernel;
pub use micro::MicroProfiler;
pub use observed::MeasuredCost;
pub use point::{Features, Point};
pub use posterior::{Joint, Observation, Posterior, fitted};
pub use profile::{Profile, Profiling, Situation};
pub use prune::Pruner;
pub use trainable::{Epoch, Start, Trainable};
pub use watch::{Departure, Progress, Watch};
