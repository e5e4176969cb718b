//! One node among others.
//!
//! Each node runs its own streams and is the only authority over its devices. One of them leads
//! ([`Leadership`]): it hears the situation of every node, plans for all, and tells each what to do; a node
//! takes that from the highest term that it knows, and plans for itself where nobody leads or answers.
//!
//! Of each stream another node keeps a copy (what the state folder keeps of it), and runs it when its node
//! is gone; [`orders`] says who is to run what. A node may retrain students of others on its devices.

mod actor;
mod assignments;
mod borrow;
mod bundle;
mod client;
mod copies;
mod custody;
mod desk;
mod error;
mod handover;
mod homes;
mod leadership;
mod lend;
mod manage;
mod means;
mod messages;
mod peers;
mod relief;
mod seeds;
mod start;
mod survey;
mod term;
mod tries;
mod wishes;

pub use actor::{ACTOR, ClusterActor};
pub use error::ClusterError;
pub use homes::{Entry, Order, Present, Roll, keeper, orders};
pub use leadership::{Claim, Leader, Leadership};
pub(crate) use lend::LentDevice;
pub use manage::{ManageError, drain, manage};
pub use messages::{Manage, Overview, StreamOverview, View};
pub(crate) use start::Cluster;
pub(crate) use survey::survey_from;
pub use survey::{Answered, Survey, SurveyError, Surveyed, SurveyedDevice, SurveyedJob, survey};
