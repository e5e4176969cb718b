//! Learning from the stream: labels, training memory, profiles, retraining, promotion.
//!
//! Each part is work for a compute thread; the actors around it ([`LabellerActor`],
//! [`TrainerActor`]) take the order and send the result back to the scheduler as a message.

mod evaluate;
mod gate;
mod keeping;
mod labeller;
mod learner;
mod memory;
mod retrain;
mod trainable;
mod trainer;

pub use evaluate::{LearnError, Work, accuracy, profile_inference};
pub use labeller::{Label, LabellerActor};
pub use learner::Learner;
pub use memory::{Kept, Labelled, Memory, Split};
pub use retrain::{Gate, Outcome, Retraining};
pub use trainer::{Order, Prepare, Prepared, Report, RolledBack, TrainerActor, TrainerOrder};
