//! kameo: two swarms of libp2p over TCP, as kameo sets them up itself, but on the loopback and with
//! limits that hold what is asked here.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use ekya_rivals::{PATIENCE, PAYLOAD, PING, Ping, Rival, ask_each};
use futures::StreamExt as _;
use kameo::actor::{ActorRef, RemoteActorRef, Spawn as _};
use kameo::message::{Context, Message};
use kameo::{Actor, RemoteActor, mailbox, remote, remote_message};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, noise, tcp, yamux};
use serde::{Deserialize, Serialize};

/// More than asks in the air.
const STREAMS: usize = 1 << 14;

fn main() -> Result<()> {
    ekya_rivals::run::<Kameo>()
}

/// Answers with what it gets.
#[derive(Actor, RemoteActor)]
struct Echo;

#[derive(Serialize, Deserialize)]
struct Asked(Ping);

#[remote_message]
impl Message<Asked> for Echo {
    type Reply = Vec<u64>;

    async fn handle(&mut self, asked: Asked, _: &mut Context<Self, Vec<u64>>) -> Vec<u64> {
        asked.0.to_vec()
    }
}

/// Has a payload, and starts others.
#[derive(Actor, RemoteActor)]
struct Host {
    weights: Bytes,
    started: Vec<ActorRef<Echo>>,
}

#[derive(Serialize, Deserialize)]
struct Fetch;

#[derive(kameo::Reply, Serialize, Deserialize)]
struct Weights(Bytes);

#[remote_message]
impl Message<Fetch> for Host {
    type Reply = Weights;

    async fn handle(&mut self, _: Fetch, _: &mut Context<Self, Weights>) -> Weights {
        Weights(self.weights.clone())
    }
}

#[derive(Serialize, Deserialize)]
struct Start(usize);

#[derive(kameo::Reply, Serialize, Deserialize)]
struct Started(Vec<RemoteActorRef<Echo>>);

#[remote_message]
impl Message<Start> for Host {
    type Reply = Started;

    async fn handle(&mut self, Start(actors): Start, _: &mut Context<Self, Started>) -> Started {
        let mut started = Vec::with_capacity(actors);
        for _ in 0..actors {
            let echo = Echo::spawn(Echo);
            started.push(echo.into_remote_ref().await);
            // A remote reference does not keep it alive.
            self.started.push(echo);
        }
        Started(started)
    }
}

/// References to the actors there.
#[derive(Clone)]
struct Kameo {
    echo: RemoteActorRef<Echo>,
    host: RemoteActorRef<Host>,
}

impl Rival for Kameo {
    const PACKAGE: &'static str = "kameo";
    const TRANSPORT: &'static str = "TCP, Noise with keys on both sides";
    type Given = ();
    /// Of the swarm: its identity, and where it listens.
    type Address = (String, Multiaddr);
    type Served = (ActorRef<Echo>, ActorRef<Host>);

    fn prepare() -> Result<((), ())> {
        Ok(((), ()))
    }

    async fn serve((): ()) -> Result<(Self::Address, Self::Served)> {
        let mut swarm = swarm()?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let peer = swarm.local_peer_id().to_string();
        drive(swarm);
        let echo = Echo::spawn_with_mailbox(Echo, mailbox::unbounded());
        let host = Host::spawn(Host {
            weights: vec![7; PAYLOAD].into(),
            started: Vec::new(),
        });
        echo.register("echo").await?;
        host.register("host").await?;
        Ok(((peer, address), (echo, host)))
    }

    async fn connect((): (), (peer, address): Self::Address) -> Result<Self> {
        let mut swarm = swarm()?;
        let peer = PeerId::from_str(&peer)?;
        // What lookups need, and what a discovery would tell.
        swarm.add_peer_address(peer, address.clone());
        swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build())?;
        while !matches!(
            swarm.select_next_some().await,
            SwarmEvent::ConnectionEstablished { .. }
        ) {}
        drive(swarm);
        let (echo, host) = (find("echo").await?, find("host").await?);
        Ok(Self { echo, host })
    }

    async fn ask(&self) -> Result<()> {
        ask(&self.echo).await
    }

    async fn payload(&self) -> Result<usize> {
        let weights = self.host.ask(&Fetch).reply_timeout(PATIENCE).await?;
        Ok(weights.0.len())
    }

    async fn start(&self, actors: usize) -> Result<()> {
        let start = Start(actors);
        let started = self.host.ask(&start).reply_timeout(PATIENCE).await?;
        ask_each(started.0, async |echo| ask(&echo).await).await
    }
}

async fn ask(echo: &RemoteActorRef<Echo>) -> Result<()> {
    echo.ask(&Asked(PING)).reply_timeout(PATIENCE).await?;
    Ok(())
}

/// The actor of that name, which nodes that have just met may not know yet.
async fn find<A: Actor + remote::RemoteActor>(name: &str) -> Result<RemoteActorRef<A>> {
    loop {
        if let Some(found) = RemoteActorRef::lookup(name).await? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn swarm() -> Result<Swarm<remote::Behaviour>> {
    let mut streams = yamux::Config::default();
    streams.set_max_num_streams(STREAMS);
    let limits = remote::messaging::Config::default()
        .with_request_timeout(PATIENCE)
        .with_max_concurrent_streams(STREAMS)
        .with_response_size_maximum(2 * PAYLOAD as u64);
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            || streams,
        )?
        .with_behaviour(|key| remote::Behaviour::new(key.public().to_peer_id(), limits))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build();
    swarm.behaviour().try_init_global()?;
    Ok(swarm)
}

/// Lets the swarm do its work for as long as the program runs.
fn drive(mut swarm: Swarm<remote::Behaviour>) {
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}
