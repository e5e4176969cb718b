//! ractor: two node servers of ractor_cluster over TCP, in the clear, with limits that hold what is
//! asked here.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use ekya_rivals::{PATIENCE, PAYLOAD, Rival, ask_each};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, BytesConvertable, RpcReplyPort, pg};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};

/// The group that the first actors are found in.
const HOSTS: &str = "hosts";

fn main() -> Result<()> {
    ekya_rivals::run::<Ractor>()
}

/// Bytes that travel as they are.
struct Blob(Vec<u8>);

impl BytesConvertable for Blob {
    fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

#[derive(RactorClusterMessage)]
enum Asked {
    #[rpc]
    Echo(Blob, RpcReplyPort<Blob>),
    #[rpc]
    Fetch(RpcReplyPort<Blob>),
    /// Starts so many echoes, which join the group of that name.
    #[rpc]
    Start(u64, String, RpcReplyPort<bool>),
}

/// Answers with what it gets, and starts others.
struct Echo;

impl Actor for Echo {
    type Msg = Asked;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Asked>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Asked>,
        asked: Asked,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match asked {
            Asked::Echo(blob, reply) => reply.send(blob)?,
            Asked::Fetch(reply) => reply.send(Blob(vec![7; PAYLOAD]))?,
            Asked::Start(actors, group, reply) => {
                let mut started = Vec::new();
                for _ in 0..actors {
                    let (echo, _) = Actor::spawn(None, Self, ()).await?;
                    started.push(echo.get_cell());
                }
                pg::join(group, started);
                reply.send(true)?;
            }
        }
        Ok(())
    }
}

/// References to the actors there.
#[derive(Clone)]
struct Ractor {
    echo: ActorRef<Asked>,
    host: ActorRef<Asked>,
    started: Arc<AtomicUsize>,
}

impl Rival for Ractor {
    const PACKAGE: &'static str = "ractor_cluster";
    const TRANSPORT: &'static str = "TCP in the clear";
    type Given = ();
    type Address = SocketAddr;
    type Served = ();

    fn prepare() -> Result<((), ())> {
        Ok(((), ()))
    }

    async fn serve((): ()) -> Result<(SocketAddr, ())> {
        let (address, _) = node("there").await?;
        let mut hosts = Vec::new();
        for _ in 0..2 {
            let (host, _) = Actor::spawn(None, Echo, ()).await?;
            hosts.push(host.get_cell());
        }
        pg::join(HOSTS.to_owned(), hosts);
        Ok((address, ()))
    }

    async fn connect((): (), address: SocketAddr) -> Result<Self> {
        let (_, node) = node("here").await?;
        ractor_cluster::client_connect(&node, address).await?;
        let mut hosts = members(HOSTS, 2).await.into_iter();
        Ok(Self {
            echo: hosts.next().context("no echo")?,
            host: hosts.next().context("no host")?,
            started: Arc::default(),
        })
    }

    async fn ask(&self) -> Result<()> {
        ask(&self.echo).await
    }

    async fn payload(&self) -> Result<usize> {
        Ok(call(&self.host, Asked::Fetch).await?.0.len())
    }

    async fn start(&self, actors: usize) -> Result<()> {
        let round = self.started.fetch_add(1, Ordering::Relaxed);
        let group = format!("echoes-{round}");
        let start = |reply| Asked::Start(actors as u64, group.clone(), reply);
        call(&self.host, start).await?;
        ask_each(members(&group, actors).await, async |echo| ask(&echo).await).await
    }
}

/// A node on the loopback, and where it listens.
async fn node(name: &str) -> Result<(SocketAddr, ActorRef<NodeServerMessage>)> {
    // It does not tell a port that it chose itself.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let server = NodeServer::new(
        address.port(),
        "the same on both".to_owned(),
        name.to_owned(),
        address.ip().to_string(),
        None,
        None,
    )
    .with_listen_addr(address.ip())
    .with_max_inbound_frame_size(2 * PAYLOAD as u64);
    let (node, _) = Actor::spawn(None, server, ()).await?;
    Ok((address, node))
}

/// So many members of a group, once the other node has told of them.
async fn members(group: &str, at_least: usize) -> Vec<ActorRef<Asked>> {
    loop {
        let members = pg::get_members(&group.to_owned());
        if members.len() >= at_least {
            return members.into_iter().map(ActorRef::from).collect();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn ask(echo: &ActorRef<Asked>) -> Result<()> {
    let ping = Blob(vec![7; size_of::<ekya_rivals::Ping>()]);
    call(echo, |reply| Asked::Echo(ping, reply)).await?;
    Ok(())
}

async fn call<T: Send + 'static>(
    actor: &ActorRef<Asked>,
    ask: impl FnOnce(RpcReplyPort<T>) -> Asked,
) -> Result<T> {
    match actor.call(ask, Some(PATIENCE)).await {
        Ok(CallResult::Success(answer)) => Ok(answer),
        Ok(CallResult::Timeout) => Err(anyhow!("no answer within {PATIENCE:?}")),
        Ok(CallResult::SenderError) => Err(anyhow!("the answer was given up")),
        Err(error) => Err(anyhow!("{error}")),
    }
}
