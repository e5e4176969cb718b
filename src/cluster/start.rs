//! Starts what makes a node one among others.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use ekya_actors::security::{Identity, Role};
use ekya_actors::{Compute, Device, Node, Ref, ShutdownError, System};
use ekya_sched::Scheduler;

use super::actor::{Beginning, ClusterActor, Serve, Want};
use super::assignments::Assignments;
use super::borrow::Borrower;
use super::error::ClusterError;
use super::leadership::Leadership;
use super::lend::{Lending, LentDevice};
use super::peers::CLUSTER;
use super::seeds::Seeds;
use super::term::TermFile;
use crate::config::{ClusterConfig, StreamConfig, StudentConfig};
use crate::node::Command;
use crate::schedule::{Ask, Guests, Load, SchedulerActor};

/// Time for a node's actors to end that did not come to run.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Bundles that may wait for the disk.
const FILES_MAX: usize = 64;
/// Messages that may wait for the cluster actor: reports of a hundred nodes.
const MAILBOX: usize = 1024;

/// This node among others.
pub(crate) struct Cluster {
    node: Node,
    actor: Ref<ClusterActor>,
    seeds: Seeds,
    /// Those that the node begins with.
    pub(crate) streams: Vec<StreamConfig>,
    /// How long each has been run before.
    ages: BTreeMap<String, Duration>,
}

impl Cluster {
    /// Listens, and looks for others. What outlives the process goes into the folder `state`; `scheduler`
    /// plans for all while this node leads.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub(crate) fn start(
        config: &ClusterConfig,
        configured: &[StreamConfig],
        state: &Path,
        devices: Vec<Device>,
        scheduler: Arc<dyn Scheduler + Send + Sync>,
    ) -> Result<Self, ClusterError> {
        let identity = Identity::load(&config.certs, &config.name);
        let identity = identity.map_err(|source| ClusterError::Identity {
            name: config.name.clone(),
            source,
        })?;
        let who = identity.who();
        if who.role != Role::Node || *who.name != *config.name {
            return Err(ClusterError::Role {
                name: config.name.clone(),
                who: who.to_string(),
            });
        }
        let term = TermFile::read(state)?;
        let node = start_node(config, identity, state, devices)?;
        let start = |error: &dyn std::error::Error| ClusterError::Start(error.to_string());
        let planner = Compute::start("planner", 1).map_err(|error| start(&error))?;
        let files = Compute::start("bundles", FILES_MAX).map_err(|error| start(&error))?;
        let mut assignments = Assignments::read(state);
        let streams = assignments.begin(&config.name, configured);
        let ages = assignments
            .runs()
            .map(|(stream, one)| (stream.clone(), one.age()));
        let ages = ages.collect();
        let actor = ClusterActor::new(Beginning {
            node: node.clone(),
            leadership: Leadership::new(config.name.clone(), term.term()),
            term,
            scheduler,
            planner,
            state: state.to_owned(),
            assignments,
            configured: streams.iter().map(|stream| stream.name.clone()).collect(),
            files,
        });
        let spawned = node.system().spawn(CLUSTER, actor, MAILBOX);
        let actor = spawned.map_err(|error| start(&error))?;
        node.publish(&actor);
        // A list may be the same for all nodes of a site.
        let itself = config.advertise.as_ref().unwrap_or(&config.listen);
        let others = config.seeds.iter().filter(|seed| *seed != itself);
        let seeds = Seeds::join(node.clone(), others.cloned().collect());
        let seeds = seeds.map_err(|error| start(&error))?;
        tracing::info!(
            name = config.name,
            address = node.address(),
            "this node is reached"
        );
        Ok(Self {
            node,
            actor,
            seeds,
            streams,
            ages,
        })
    }

    /// How long a stream that the node begins with has been run before.
    pub(crate) fn age_of(&self, stream: &str) -> Duration {
        self.ages.get(stream).copied().unwrap_or_default()
    }

    /// Its actors.
    pub(crate) fn system(&self) -> &System {
        self.node.system()
    }

    /// The node and its cluster actor, for who looks.
    pub(crate) fn inside(&self) -> (Node, Ref<ClusterActor>) {
        (self.node.clone(), self.actor.clone())
    }

    /// Uses the certificate that is in the folder now, from the next connection on.
    pub(crate) fn renew(&self, config: &ClusterConfig) {
        let identity = Identity::load(&config.certs, &config.name);
        match identity.and_then(|identity| self.node.rotate(&identity)) {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "the certificate stays as it was"),
        }
    }

    /// Asks for decisions.
    pub(crate) fn ask(&self) -> Ask {
        let actor = self.actor.clone();
        Box::new(move |situation| actor.tell(Want(situation.clone())).is_ok())
    }

    /// From here on decisions reach the scheduler.
    pub(crate) fn begin(
        &self,
        scheduler: Ref<SchedulerActor>,
        commands: Sender<Command>,
        devices: Vec<LentDevice>,
        guests: Guests,
    ) {
        let devices = devices.into_iter().map(Arc::new).collect();
        let serve = Serve {
            scheduler,
            commands,
            lending: Lending::new(devices, guests),
        };
        // A mailbox that has just been opened is not full.
        drop(self.actor.tell(serve));
    }

    /// Has a stream's student retrained elsewhere; `load` makes one that computes where it does.
    pub(crate) fn borrower(&self, stream: &str, student: &StudentConfig, load: Load) -> Borrower {
        Borrower {
            node: self.node.clone(),
            stream: stream.to_owned(),
            student: student.clone(),
            load,
        }
    }

    /// Says goodbye to the others and ends the node's actors.
    ///
    /// # Errors
    /// See [`System::shutdown`].
    pub(crate) fn leave(&self, within: Duration) -> Result<(), ShutdownError> {
        self.seeds.stop();
        self.node.shutdown(within)
    }
}

impl Drop for Cluster {
    /// A node that did not come to run is none of the site's: its own actor must not keep it there.
    fn drop(&mut self) {
        drop(self.leave(END_WITHIN));
    }
}

fn start_node(
    config: &ClusterConfig,
    identity: Identity,
    state: &Path,
    devices: Vec<Device>,
) -> Result<Node, ClusterError> {
    let mut builder = Node::builder(identity).keep_in(state);
    // Checked with the configuration.
    let listen = config.listen.to_socket_addrs().ok();
    if let Some(address) = listen.and_then(|mut addresses| addresses.next()) {
        builder = builder.listen(address);
    }
    if let Some(advertised) = &config.advertise {
        builder = builder.advertise(advertised);
    }
    for device in devices {
        builder = builder.device("device", device);
    }
    Ok(builder.start()?)
}
