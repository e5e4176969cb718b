//! What the nodes of a site are doing, for somebody who only looks.

use std::collections::BTreeMap;
use std::time::Duration;

use ekya_actors::security::Identity;
use ekya_actors::{DeviceState, MemberState, Node, NodeState, Ref};
use serde::Serialize;
use thiserror::Error;

use super::actor::{ACTOR, ClusterActor};
use super::client::{Client, connect};
use super::messages::{Overview, View};

/// Time for a node to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Time over which what devices do is measured.
const MEASURED: Duration = Duration::from_secs(1);

/// The nodes of a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Survey {
    /// By name.
    pub nodes: BTreeMap<String, Surveyed>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Surveyed {
    /// What it says of itself.
    Answered(Box<Answered>),
    /// Others take it to be alive, and it does not answer.
    Silent {
        /// Why.
        reason: String,
    },
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// Where it is reached.
    pub address: String,
    /// What it says to people.
    pub overview: Overview,
    /// Its devices.
    pub devices: Vec<SurveyedDevice>,
}

/// A device: what jobs were granted, and what they have used in the second before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SurveyedDevice {
    /// Its name.
    pub name: String,
    /// Its jobs.
    pub jobs: Vec<SurveyedJob>,
}

/// A job on a device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SurveyedJob {
    /// Its name.
    pub name: String,
    /// Its share, as a part of the device.
    pub granted: f64,
    /// Device time that it has used, as a part of the time.
    pub used: f64,
}

/// Why there is no survey.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// Nothing to ask with.
    #[error("cannot look: {0}")]
    Start(String),
    /// The node that was named does not answer.
    #[error("{address}: {reason}")]
    Silent {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
}

/// Asks the node at `address`, a `host:port`, and all that it takes to be alive, as whoever `identity` is:
/// an observer may. Takes a second and some.
///
/// # Errors
/// [`SurveyError`] when the first node does not answer. Of the others, the survey says so.
pub fn survey(identity: Identity, address: &str) -> Result<Survey, SurveyError> {
    let client = Client::start(identity, address).map_err(SurveyError::Start)?;
    client.runtime.block_on(async {
        let node = &client.node;
        let first = look(node, address).await;
        let first = first.map_err(|reason| SurveyError::Silent {
            address: address.to_owned(),
            reason,
        })?;
        Ok(survey_all(node, first).await)
    })
}

/// The same by a node of the site.
pub(crate) async fn survey_from(node: &Node) -> Survey {
    let name = node.who().name.to_string();
    match ask(node, &name).await {
        Ok(first) => survey_all(node, first).await,
        Err(reason) => Survey {
            nodes: BTreeMap::from([(name, Surveyed::Silent { reason })]),
        },
    }
}

/// Asks all that the `first` node takes to be alive.
async fn survey_all(node: &Node, first: (NodeState, Overview)) -> Survey {
    let members = first.0.members.clone();
    let mut looks = BTreeMap::from([(first.0.who.name.to_string(), Ok(first))]);
    for member in members {
        let looked = look_at(node, &member).await;
        looks.insert(member.name, looked);
    }
    tokio::time::sleep(MEASURED).await;
    let mut nodes = BTreeMap::new();
    for (name, looked) in looks {
        nodes.insert(name, look_again(node, looked).await);
    }
    Survey { nodes }
}

/// A member of the site: by the connection that there is, as a node has with the others, since to dial
/// would put another in its place.
async fn look_at(node: &Node, member: &MemberState) -> Result<(NodeState, Overview), String> {
    let peers = node.peers();
    let mut connected = peers.iter().filter(|peer| peer.is_connected);
    if connected.any(|peer| *peer.who.name == *member.name) {
        in_time(ask(node, &member.name)).await
    } else {
        look(node, &member.address).await
    }
}

async fn look(node: &Node, address: &str) -> Result<(NodeState, Overview), String> {
    in_time(async {
        let name = connect(node, address).await?;
        ask(node, &name).await
    })
    .await
}

async fn in_time<T>(looking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("no answer within {WITHIN:?}"));
    let looked = tokio::time::timeout(WITHIN, looking).await;
    looked.unwrap_or_else(late)
}

async fn ask(node: &Node, name: &str) -> Result<(NodeState, Overview), String> {
    let state = node
        .state_of(name)
        .await
        .map_err(|error| error.to_string())?;
    let actor: Ref<ClusterActor> =
        (node.find(ACTOR, name).await).map_err(|error| error.to_string())?;
    let overview = actor.ask(View, WITHIN).await;
    Ok((state, overview.map_err(|error| error.to_string())?))
}

/// What a node's devices have done since the first look.
async fn look_again(node: &Node, first: Result<(NodeState, Overview), String>) -> Surveyed {
    let looked = match first {
        Ok((before, overview)) => {
            let after = node.state_of(&before.who.name).await;
            let after = after.map_err(|error| error.to_string());
            after.map(|after| (before, after, overview))
        }
        Err(reason) => Err(reason),
    };
    match looked {
        Ok((before, after, overview)) => Surveyed::Answered(Box::new(Answered {
            address: after.address,
            overview,
            devices: devices(&before.devices, &after.devices),
        })),
        Err(reason) => Surveyed::Silent { reason },
    }
}

fn devices(before: &[DeviceState], after: &[DeviceState]) -> Vec<SurveyedDevice> {
    let device = |after: &DeviceState| {
        let before = before.iter().find(|before| before.name == after.name);
        let busy = |job: &str| {
            let jobs = before.map_or(&[][..], |device| &device.jobs);
            let known = jobs.iter().find(|known| known.name == job);
            known.map(|known| known.busy_seconds)
        };
        let jobs = after.jobs.iter().map(|job| SurveyedJob {
            name: job.name.clone(),
            granted: f64::from(job.share_micro) / 1e6,
            used: (job.busy_seconds - busy(&job.name).unwrap_or(job.busy_seconds))
                / MEASURED.as_secs_f64(),
        });
        SurveyedDevice {
            name: after.name.clone(),
            jobs: jobs.collect(),
        }
    };
    after.iter().map(device).collect()
}
