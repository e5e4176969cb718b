//! Three nodes in one process, as they would be on three machines: two have a device each and offer to
//! run workers on it, the third one spawns a gang of them and says where it went.
//!
//! `cargo run -p ekya-actors --example placement`. On real machines each node is given the files that
//! `ekya certs` makes; here an authority is made for the moment.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Identity, Role, Who};
use ekya_actors::{
    Actor, Arrangement, Builder, Ctx, Device, Handler, Holding, Message, Messages, Needs, Node,
    Order, PlaceError, Remote, Spawn, Wire,
};
use ekya_sched::Share;
use serde::{Deserialize, Serialize};

/// Answers with what it holds of which device.
struct Worker {
    holding: Option<Arc<Holding>>,
}

impl Actor for Worker {}

impl Remote for Worker {
    const TYPE: &'static str = "worker";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Where>();
    }
}

impl Spawn for Worker {
    /// Whatever a worker is made from: a path, weights, a camera's name. Nothing here.
    type Args = ();

    fn spawn((): &(), holding: Option<&Arc<Holding>>) -> Self {
        let holding = holding.cloned();
        Self { holding }
    }
}

#[derive(Serialize, Deserialize)]
struct Where;

impl Message for Where {
    type Reply = String;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("worker/where", 1));
}

impl Handler<Where> for Worker {
    fn handle(&mut self, _: Where, _: &mut Ctx<Self>) -> String {
        let Some(holding) = &self.holding else {
            return "without a device".to_owned();
        };
        // Long work would go to a `Compute` thread, which takes a lease for each minibatch.
        format!("{} of {}", holding.share(), holding.device().name())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::create(1)?;
    let boss = node(&authority, "boss")?.start()?;
    let mut edges = Vec::new();
    for name in ["edge-1", "edge-2"] {
        let gpu = Device::new(format!("{name}/gpu0"), 1);
        let edge = node(&authority, name)?.device("gpu", gpu).start()?;
        edge.offer::<Worker>();
        boss.connect(edge.listens_at()).await?;
        edges.push(edge);
    }

    let quarter = Needs::of("gpu", Share::try_from(0.25)?);
    let order = |name: &str| Order::<Worker>::new(name, ()).needs(quarter.clone());
    let gang = [order("worker-1"), order("worker-2")];
    let workers = boss.spawn_gang(&gang, Arrangement::Spread).await?;
    for worker in &workers {
        let holds = worker.ask(Where, Duration::from_secs(1)).await?;
        println!("{} has {holds}", worker.name());
    }

    let whole = Order::<Worker>::new("large", ()).needs(Needs::of("gpu", Share::WHOLE));
    match boss.spawn_anywhere(&whole).await {
        Err(PlaceError::NoRoom { rooms, .. }) => println!("no room for a large one: {rooms}"),
        other => println!("not expected: {other:?}"),
    }
    for worker in workers {
        worker.stop();
        worker.ended().await;
    }
    for room in boss.rooms("edge-1").await? {
        println!(
            "{} is free again: {} millionths",
            room.device, room.free_micro
        );
    }

    for node in edges.iter().chain([&boss]) {
        node.shutdown(Duration::from_secs(1))?;
    }
    Ok(())
}

fn node(authority: &Authority, name: &str) -> Result<Builder, Box<dyn Error>> {
    let issued = authority.issue(&Who::new(name, Role::Node)?, 1)?;
    let [certificate, key] = [&issued.certificate, &issued.key].map(|pem| pem.as_bytes());
    let authority = authority.certificate().as_bytes();
    Ok(Node::builder(Identity::from_pem(
        certificate,
        key,
        authority,
    )?))
}
