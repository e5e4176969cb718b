//! Two nodes in one process, as they would be on two machines: one publishes a counter, the other one
//! finds it and counts.
//!
//! `cargo run -p ekya-actors --example two_nodes`. On real machines each node is given the files that
//! `ekya certs` makes; here an authority is made for the moment.

use std::error::Error;
use std::time::Duration;

use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Identity, Role, Who};
use ekya_actors::{Actor, Ctx, Handler, Message, Messages, Node, Ref, Remote, Wire};
use serde::{Deserialize, Serialize};

/// An actor: state…
#[derive(Default)]
struct Counter {
    sum: u64,
}

impl Actor for Counter {}

/// …and messages. This one may come from other nodes: it says what it is called on the wire.
#[derive(Serialize, Deserialize)]
struct Add(u64);

impl Message for Add {
    type Reply = u64;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("counter/add", 1));
}

impl Handler<Add> for Counter {
    fn handle(&mut self, Add(n): Add, _: &mut Ctx<Self>) -> u64 {
        self.sum += n;
        self.sum
    }
}

/// What other nodes may send it.
impl Remote for Counter {
    const TYPE: &'static str = "counter";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Add>();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::create(1)?;
    let edge_1 = Node::builder(identity(&authority, "edge-1")?).start()?;
    let edge_2 = Node::builder(identity(&authority, "edge-2")?).start()?;

    let counter = edge_1.system().spawn("counter", Counter::default(), 64)?;
    edge_1.publish(&counter);

    edge_2.connect(edge_1.listens_at()).await?;
    let far: Ref<Counter> = edge_2.find("counter", "edge-1").await?;
    let within = Duration::from_secs(1);
    // The same calls, whether it is here or there.
    println!("from there: {}", far.ask(Add(1), within).await?);
    println!("from here: {}", counter.ask(Add(1), within).await?);

    edge_2.shutdown(within)?;
    edge_1.shutdown(within)?;
    Ok(())
}

fn identity(authority: &Authority, name: &str) -> Result<Identity, Box<dyn Error>> {
    let issued = authority.issue(&Who::new(name, Role::Node)?, 1)?;
    let [certificate, key] = [&issued.certificate, &issued.key].map(|pem| pem.as_bytes());
    Ok(Identity::from_pem(
        certificate,
        key,
        authority.certificate().as_bytes(),
    )?)
}
