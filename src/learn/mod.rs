//! Learning from the stream: labels, training memory, profiles, retraining, promotion.
//!
//! Each part is work for a compute thread; the actors around it ([`LabellerActor`],
//! [`TrainerActor`]) take the order and send the result back to the scheduler as a message.
//!
//! # Continual learning
//!
//! A student forgets what it no longer sees. Every retraining therefore replays the `memory`, frames
//! of earlier times with about as many objects of each class. That is all there is to
//! [`Method::FineTuning`](crate::config::Method::FineTuning), which draws these frames at random.
//! [`Method::Icarl`](crate::config::Method::Icarl) is a modified iCaRL (Rebuffi et al. 2017), as in the
//! Ekya paper: `herd` chooses the frames, and students also learn from the answers of the one before
//! about the classes that it knew. It deviates in this:
//! - answers come from the network's softmax output, not from the nearest mean of exemplars;
//! - the old answers are compared by a divergence of softened softmax outputs (Hinton et al. 2015)
//!   that is added to the loss on the labels, where iCaRL has sigmoid outputs learn old classes from
//!   old answers and new classes from labels alone: here labels of old classes change with the scene;
//! - exemplars are whole frames, chosen again with the student of the day whenever there are too many,
//!   out of those kept and new ones, where iCaRL chooses once, when a class is new;
//! - detectors have no features of objects and are not distilled: both methods are the same for them.
//!
//! Fine-tuning is the default: on the frames that come next nothing was shown to be better, and strong
//! distillation was worse, since the old answers hold back what the drift asks for. Differences to it
//! in points, with twice the standard error over the pairs of stream and seed as if they were
//! independent; the small student, all blocks trained, always promoted, a memory of 40 frames; 3 streams of
//! traffic crops whose cameras change, 10 pairs (fine-tuning: 78.2 % on the next frames, 88.3 % on all
//! earlier ones), and 3 drifting scenes, 9 pairs (80.3 and 93.7 %):
//!
//! | | next, crops | next, scenes | earlier, crops | earlier, scenes |
//! |---|---|---|---|---|
//! | herding | +0.1 ± 0.4 | −0.4 ± 1.1 | −0.1 ± 0.6 | +0.5 ± 0.5 |
//! | distillation, weight 0.3 | −0.8 ± 1.1 | −0.3 ± 0.5 | +0.3 ± 0.3 | +0.4 ± 0.6 |
//! | distillation, weight 1 | −1.5 ± 1.2 | −1.6 ± 1.7 | +0.3 ± 0.7 | +0.4 ± 0.8 |
//! | herding, weight 0.3 | −0.4 ± 0.5 | −0.2 ± 1.1 | +0.2 ± 0.5 | +0.7 ± 0.9 |

mod elsewhere;
mod evaluate;
mod experience;
mod gate;
mod herd;
mod keeping;
mod labeller;
mod learner;
mod memory;
mod pace;
mod retrain;
mod split;
mod trainable;
mod trainer;
mod turn;

pub(crate) use elsewhere::unpack as unpack_sample;
pub use elsewhere::{Brought, Elsewhere, Errand, Find, Lend, Origin};
pub use evaluate::{LearnError, Work, accuracy, profile_inference};
pub use experience::Experience;
pub use labeller::{Golden, Label, LabellerActor, Labelling};
pub use learner::{Beginning, Learner};
pub use memory::{Features, Kept, Limits, Memory};
pub use pace::Pace;
pub use retrain::{Attempt, Gate, Outcome, Retraining};
pub use split::{Labelled, Split};
pub use trainer::{
    KeepNow, Order, Prepare, Prepared, Report, RolledBack, TrainerActor, TrainerOrder,
};
pub use turn::{TURNS_A_STEP, Turn};
