//! What people have done with the nodes and streams of a site, from anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use ekya_actors::security::Identity;
use ekya_actors::{Node, Ref};
use thiserror::Error;

use super::actor::{ACTOR, ClusterActor};
use super::client::{Client, connect};
use super::homes::admits;
use super::messages::{Drain, Manage, View};
use crate::config::StreamConfig;

/// Time for a node to do as it is told: bundles travel and models are loaded.
const WITHIN: Duration = Duration::from_secs(150);
/// Time to reach a node.
const REACH_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at a node that drains.
const LOOK: Duration = Duration::from_millis(500);

/// Why it was not done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManageError {
    /// Nothing to ask with.
    #[error("cannot ask: {0}")]
    Start(String),
    /// A node does not answer.
    #[error("{node}: {reason}")]
    Silent {
        /// Its name or address.
        node: String,
        /// Why.
        reason: String,
    },
    /// There is no such node.
    #[error("no node '{node}'; there are {known}")]
    NoNode {
        /// The name.
        node: String,
        /// Those that there are.
        known: String,
    },
    /// No node runs such a stream.
    #[error("no node runs a stream '{stream}'; there are {known}")]
    NoStream {
        /// The name.
        stream: String,
        /// Those that there are.
        known: String,
    },
    /// The node would not.
    #[error("{node}: {reason}")]
    Refused {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// It takes longer than anybody waits.
    #[error("{node} still runs {streams} after {within:?}; it goes on handing them over")]
    Draining {
        /// The node.
        node: String,
        /// What it still runs.
        streams: String,
        /// How long was waited.
        within: Duration,
    },
}

/// The nodes of a site, reached one by one.
struct Reached {
    node: Node,
    nodes: BTreeMap<String, (Ref<ClusterActor>, Vec<String>)>,
}

/// Has done what a person wants with a stream, by the node that runs it, or is to run it: `on` where that
/// is said, else the one with the fewest streams. `address` is the `host:port` of any node, `identity` one
/// that may call actors.
///
/// # Errors
/// [`ManageError`].
pub fn manage(
    identity: Identity,
    address: &str,
    what: Manage,
    on: Option<&str>,
) -> Result<String, ManageError> {
    with_site(identity, address, async |site| {
        let node = match (&what, on) {
            (Manage::Add(_), Some(node)) => node.to_owned(),
            (Manage::Add(config), None) => site.least(config)?,
            (Manage::Remove(stream), _) => site.runner(stream)?,
            (Manage::Move { stream, to }, _) => {
                site.actor(to)?;
                site.runner(stream)?
            }
        };
        let answer = site.actor(&node)?.ask(what, WITHIN).await;
        let silent = |error: ekya_actors::AskError| ManageError::Silent {
            node: node.clone(),
            reason: error.to_string(),
        };
        let refused = |reason| ManageError::Refused {
            node: node.clone(),
            reason,
        };
        answer.map_err(silent)?.map_err(refused)?;
        Ok(node)
    })
}

/// Takes a node out of service, and waits until it runs only what no other node may run, which is returned;
/// `progress` is told what it still runs.
///
/// # Errors
/// [`ManageError`].
pub fn drain(
    identity: Identity,
    address: &str,
    node: &str,
    mut progress: impl FnMut(&[String]),
) -> Result<Vec<String>, ManageError> {
    with_site(identity, address, async |site| {
        let actor = site.actor(node)?;
        let silent = |error: ekya_actors::AskError| ManageError::Silent {
            node: node.to_owned(),
            reason: error.to_string(),
        };
        actor.ask(Drain, REACH_WITHIN).await.map_err(silent)?;
        let mut waited = Duration::ZERO;
        loop {
            let overview = actor.ask(View, REACH_WITHIN).await.map_err(silent)?;
            let left: Vec<_> = overview.runs;
            progress(&left);
            if left.iter().all(|stream| overview.bound.contains(stream)) {
                return Ok(left);
            }
            if waited >= WITHIN {
                return Err(ManageError::Draining {
                    node: node.to_owned(),
                    streams: left.join(", "),
                    within: WITHIN,
                });
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    })
}

fn with_site<R>(
    identity: Identity,
    address: &str,
    act: impl AsyncFnOnce(&Reached) -> Result<R, ManageError>,
) -> Result<R, ManageError> {
    let client = Client::start(identity, address).map_err(ManageError::Start)?;
    client.runtime.block_on(async {
        let site = Reached::reach(client.node.clone(), address).await?;
        act(&site).await
    })
}

impl Reached {
    async fn reach(node: Node, address: &str) -> Result<Self, ManageError> {
        let silent = |reason| ManageError::Silent {
            node: address.to_owned(),
            reason,
        };
        let mut site = Self {
            node,
            nodes: BTreeMap::new(),
        };
        let first = site.meet(address).await.map_err(silent)?;
        let members = site.node.state_of(&first).await;
        for member in members.map_err(|error| silent(error.to_string()))?.members {
            if let Err(reason) = site.meet(&member.address).await {
                tracing::warn!(node = member.name, reason, "it does not answer");
            }
        }
        Ok(site)
    }

    async fn meet(&mut self, address: &str) -> Result<String, String> {
        let met = tokio::time::timeout(REACH_WITHIN, async {
            let name = connect(&self.node, address).await?;
            let found = self.node.find::<ClusterActor>(ACTOR, &name).await;
            let actor = found.map_err(|error| error.to_string())?;
            let overview = actor.ask(View, REACH_WITHIN).await;
            let runs = overview.map_err(|error| error.to_string())?.runs;
            self.nodes.insert(name.clone(), (actor, runs));
            Ok(name)
        });
        met.await
            .unwrap_or_else(|_| Err(format!("no answer within {REACH_WITHIN:?}")))
    }

    fn actor(&self, node: &str) -> Result<&Ref<ClusterActor>, ManageError> {
        let known = self.nodes.get(node).map(|(actor, _)| actor);
        known.ok_or_else(|| ManageError::NoNode {
            node: node.to_owned(),
            known: self.nodes.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    fn runner(&self, stream: &str) -> Result<String, ManageError> {
        let mut nodes = self.nodes.iter();
        let runner = nodes.find(|(_, (_, runs))| runs.iter().any(|name| name == stream));
        let all = self
            .nodes
            .values()
            .flat_map(|(_, runs)| runs.iter().cloned());
        runner
            .map(|(node, _)| node.clone())
            .ok_or_else(|| ManageError::NoStream {
                stream: stream.to_owned(),
                known: all.collect::<Vec<_>>().join(", "),
            })
    }

    /// The node with the fewest streams, of those that may run it.
    fn least(&self, config: &str) -> Result<String, ManageError> {
        // What is no configuration is refused by whichever node gets it.
        let nodes = serde_json::from_str::<StreamConfig>(config).map(|config| config.nodes);
        let nodes = nodes.unwrap_or_default();
        let least = self.nodes.iter().filter(|(name, _)| admits(&nodes, name));
        let least = least.min_by_key(|(_, (_, runs))| runs.len());
        least
            .map(|(node, _)| node.clone())
            .ok_or_else(|| ManageError::NoNode {
                node: nodes.join("' or '"),
                known: self.nodes.keys().cloned().collect::<Vec<_>>().join(", "),
            })
    }
}
