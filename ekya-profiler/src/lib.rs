//! Micro-profiling: what would each retraining configuration give, and what would it cost?
//!
//! Training every configuration to its end would cost more than all retraining. So
//! [`MicroProfiler`] trains on a small sample for a few epochs, through the trait [`Trainable`],
//! and extrapolates: accuracy along a fitted [`AccuracyCurve`], cost linearly. A sample of ten or
//! forty pictures says little, so the extrapolation is weighed against what real retrainings gave
//! in earlier windows: [`History`] has the rule.
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
//! | GPU-time, linear in epochs and data | [`Profile::gpu_seconds`], corrected by [`History`] |

pub mod curve;
pub mod history;
pub mod inference;
mod micro;
mod prune;

pub use curve::AccuracyCurve;
pub use history::{Estimate, History, Outcome};
pub use micro::{Epoch, MicroProfiler, Profile, Profiling, Situation, Start, Trainable};
pub use prune::Pruner;
