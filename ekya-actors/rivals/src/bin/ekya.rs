//! ekya-actors: two nodes over QUIC, each with a certificate of the same authority.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Identity, Role, Who};
use ekya_actors::{Actor, Ctx, Handler, Message, Messages, Node, Payload, Ref, Remote, Wire};
use ekya_rivals::{PATIENCE, PAYLOAD, PING, Ping, Rival, ask_each};
use serde::{Deserialize, Serialize};

/// Places in a mailbox: more than asks in the air.
const PLACES: usize = 1 << 16;
/// The node with the actors.
const THERE: &str = "there";

fn main() -> Result<()> {
    ekya_rivals::run::<Ekya>()
}

/// Answers with what it gets.
struct Echo;

impl Actor for Echo {}

impl Remote for Echo {
    const TYPE: &'static str = "echo";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Asked>();
    }
}

#[derive(Serialize, Deserialize)]
struct Asked(Ping);

impl Message for Asked {
    type Reply = Ping;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("echo/asked", 1));
}

impl Handler<Asked> for Echo {
    fn handle(&mut self, Asked(ping): Asked, _: &mut Ctx<Self>) -> Ping {
        ping
    }
}

/// Has a payload, and starts others.
struct Host {
    node: Node,
    weights: Bytes,
    kept: Option<Payload>,
}

impl Actor for Host {}

impl Remote for Host {
    const TYPE: &'static str = "host";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Keep>().add::<Start>();
    }
}

/// Keeps the payload to be fetched, and the one before no longer.
#[derive(Serialize, Deserialize)]
struct Keep;

impl Message for Keep {
    type Reply = Option<Payload>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("host/keep", 1));
}

impl Handler<Keep> for Host {
    fn handle(&mut self, _: Keep, _: &mut Ctx<Self>) -> Option<Payload> {
        if let Some(before) = self.kept.take() {
            self.node.drop_payload(&before);
        }
        self.kept = self.node.keep(self.weights.clone(), PATIENCE).ok();
        self.kept.clone()
    }
}

/// Starts and publishes echoes of these numbers; whether all have started.
#[derive(Serialize, Deserialize)]
struct Start {
    from: usize,
    to: usize,
}

impl Message for Start {
    type Reply = bool;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("host/start", 1));
}

impl Handler<Start> for Host {
    fn handle(&mut self, Start { from, to }: Start, _: &mut Ctx<Self>) -> bool {
        let start = |number| {
            let echo = self.node.system().spawn(&name(number), Echo, 16);
            echo.map(|echo| self.node.publish(&echo)).is_ok()
        };
        (from..to).all(start)
    }
}

fn name(number: usize) -> String {
    format!("echo-{number}")
}

/// The node here, and the actors there.
#[derive(Clone)]
struct Ekya {
    node: Node,
    echo: Ref<Echo>,
    host: Ref<Host>,
    started: Arc<AtomicUsize>,
}

/// Certificate, key and authority of a node.
type Pem = [String; 3];

impl Rival for Ekya {
    const PACKAGE: &'static str = "ekya-actors";
    const TRANSPORT: &'static str = "QUIC, TLS 1.3 with certificates on both sides";
    type Given = Pem;
    type Address = SocketAddr;
    type Served = Node;

    fn prepare() -> Result<(Pem, Pem)> {
        let authority = Authority::create(1)?;
        let pem = |name| {
            let issued = authority.issue(&Who::new(name, Role::Node)?, 1)?;
            let authority = authority.certificate().to_owned();
            anyhow::Ok([issued.certificate, issued.key, authority])
        };
        Ok((pem("here")?, pem(THERE)?))
    }

    async fn serve(given: Pem) -> Result<(SocketAddr, Node)> {
        let node = start(&given)?;
        let echo = node.system().spawn("echo", Echo, PLACES)?;
        node.publish(&echo);
        let host = Host {
            node: node.clone(),
            weights: vec![7; PAYLOAD].into(),
            kept: None,
        };
        node.publish(&node.system().spawn("host", host, 16)?);
        Ok((node.listens_at(), node))
    }

    async fn connect(given: Pem, address: SocketAddr) -> Result<Self> {
        let node = start(&given)?;
        node.connect(address).await?;
        Ok(Self {
            echo: node.find("echo", THERE).await?,
            host: node.find("host", THERE).await?,
            node,
            started: Arc::default(),
        })
    }

    async fn ask(&self) -> Result<()> {
        self.echo.ask(Asked(PING), PATIENCE).await?;
        Ok(())
    }

    async fn payload(&self) -> Result<usize> {
        let kept = self.host.ask(Keep, PATIENCE).await?;
        let payload = kept.context("no room for the payload")?;
        let fetched = self.node.fetch(&payload, PAYLOAD, PATIENCE).await?;
        Ok(fetched.len())
    }

    async fn start(&self, actors: usize) -> Result<()> {
        let from = self.started.fetch_add(actors, Ordering::Relaxed);
        let to = from + actors;
        let started = self.host.ask(Start { from, to }, PATIENCE).await?;
        anyhow::ensure!(started, "not all actors have started");
        ask_each(from..to, async |number| {
            let echo: Ref<Echo> = self.node.find(&name(number), THERE).await?;
            echo.ask(Asked(PING), PATIENCE).await?;
            Ok(())
        })
        .await
    }
}

fn start(pem: &Pem) -> Result<Node> {
    let [certificate, key, authority] = pem.each_ref().map(|pem| pem.as_bytes());
    let identity = Identity::from_pem(certificate, key, authority)?;
    Ok(Node::builder(identity).start()?)
}
