//! Measured throughput: how fast a device trains and answers under a part of it, in place of the
//! straight line that schedulers take for granted.
//!
//! On a device that runs one minibatch at a time the fair queue makes that line straight by
//! construction, and there is nothing to measure. Where several run side by side (`depth` above 1), a
//! job that keeps one slot busy is as fast as it can be with less than the whole device, and how much
//! the others slow it down is the hardware's business: `measure` finds out with real minibatches in
//! real leases, and [`Store`] keeps that from one start of a node to the next.
//!
//! Costs that students show later (`gpu_seconds`, seconds an answer) are taken while others compute
//! beside them, so that what these slow down counts twice in a plan; the watch over running retrainings
//! sets their pace right.

mod contest;
mod curves;
mod machine;
mod measure;
mod store;

pub use contest::{Contest, ContestError, Effort, Minibatch};
pub use curves::Curves;
pub use machine::describe;
pub use measure::{Subject, Trained, examples, measure, training_rate};
pub use store::{Key, Store};
