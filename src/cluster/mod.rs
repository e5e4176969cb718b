//! One node among others.
//!
//! Each node runs its own streams and is the only authority over its devices. One of them leads
//! ([`leadership`]): it hears the situation of every node, plans for all, and tells each what to do; a node
//! takes that from the highest term that it knows, and plans for itself where nobody leads or answers.

mod actor;
mod assignments;
mod borrow;
mod bundle;
mod copies;
mod custody;
mod error;
mod homes;
mod leadership;
mod lend;
mod manage;
mod means;
mod messages;
mod peers;
mod seeds;
mod start;
mod survey;
mod term;

pub use actor::{ACTOR, ClusterActor};
pub use error::ClusterError;
pub use homes::{Entry, Order, Present, Roll, keeper, orders};
pub use leadership::{Claim, Leader, Leadership};
pub(crate) use lend::LentDevice;
pub use manage::{ManageError, drain, manage};
pub use messages::{Manage, Overview, StreamOverview, View};
pub(crate) use start::Cluster;
pub use survey::{Answered, Survey, SurveyError, Surveyed, SurveyedDevice, SurveyedJob, survey};
