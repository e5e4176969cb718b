//! Connections that break and come back, and nodes that die, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod relay;
mod site;

use std::time::Duration;

use ekya_actors::{AskError, Detection, Node, Ref, SendError};
use relay::Relay;
use site::{Add, Counter, PATIENCE, Site, until};

/// A connection breaks after this silence.
const IDLE: Duration = Duration::from_millis(300);

/// Two nodes, each behind a relay, and a counter of the second one.
struct Apart {
    a: Node,
    b: Node,
    relays: [Relay; 2],
    counter: Ref<Counter>,
}

impl Apart {
    async fn new(detection: Detection) -> Self {
        let site = Site::new();
        let relays = [Relay::start().await, Relay::start().await];
        let start = |name, relay: &Relay| {
            let builder = site.builder(name).idle_timeout(IDLE).detection(detection);
            let node = builder
                .advertise(relay.address().to_string())
                .start()
                .unwrap();
            relay.lead_to(node.listens_at());
            node
        };
        let (a, b) = (start("a", &relays[0]), start("b", &relays[1]));
        let counter = b
            .system()
            .spawn("counter", Counter::default(), 1 << 14)
            .unwrap();
        b.publish(&counter);
        a.connect(relays[1].address()).await.unwrap();
        let counter = a.find("counter", "b").await.unwrap();
        Self {
            a,
            b,
            relays,
            counter,
        }
    }

    fn block(&self, is_blocked: bool) {
        self.relays.iter().for_each(|relay| relay.block(is_blocked));
    }
}

/// So slow that no node is taken for dead here.
fn patient() -> Detection {
    Detection {
        probe_every: Duration::from_secs(20),
        answer_within: Duration::from_secs(5),
        suspect_for: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn nothing_is_lost_nor_done_twice_when_a_connection_breaks() {
    let apart = Apart::new(patient()).await;
    let is_connected = || apart.a.peers().iter().all(|peer| peer.is_connected);
    for _ in 0..2 {
        apart.counter.tell(Add(1)).unwrap();
        apart.block(true);
        apart.counter.tell(Add(10)).unwrap();
        until(|| !is_connected()).await;
        apart.counter.tell(Add(100)).unwrap();
        apart.block(false);
    }
    assert_eq!(apart.counter.ask(Add(0), PATIENCE).await, Ok(222));
}

#[tokio::test]
async fn messages_keep_their_order_on_a_bad_network() {
    let apart = Apart::new(patient()).await;
    apart.relays[1].lose_each(7);
    apart.relays[1].delay(Duration::from_millis(2));
    let mut sum = 0;
    for n in 1..=500 {
        apart.counter.tell(Add(n)).unwrap();
        sum += n;
        if n % 100 == 0 {
            assert_eq!(apart.counter.ask(Add(0), PATIENCE).await, Ok(sum));
        }
    }
}

#[tokio::test]
async fn an_ask_has_its_deadline_also_without_a_connection() {
    let apart = Apart::new(patient()).await;
    apart.block(true);
    let late = apart.counter.ask(Add(1), Duration::from_millis(50)).await;
    assert!(matches!(late, Err(AskError::Deadline { .. })), "{late:?}");
}

#[tokio::test]
async fn nodes_find_each_other_through_one_that_both_know_and_say_what_they_have() {
    let site = Site::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| site.node(name));
    c.set_notice(b"two devices".to_vec()).unwrap();
    site::connect(&a, &b).await;
    site::connect(&c, &b).await;
    until(|| a.members().len() == 2 && c.members().len() == 2).await;
    until(|| a.peers().iter().filter(|peer| peer.is_connected).count() == 2).await;
    let notice = |node: &Node| {
        let members = node.members();
        members
            .into_iter()
            .find(|member| member.name == "c")
            .map(|member| member.notice)
    };
    until(|| notice(&a).as_deref() == Some(b"two devices")).await;
    c.shutdown(PATIENCE).unwrap();
    until(|| a.members().len() == 1 && b.members().len() == 1).await;
}

#[tokio::test]
async fn a_node_that_is_out_of_reach_for_too_long_is_lost() {
    let fast = Detection {
        probe_every: Duration::from_millis(100),
        answer_within: Duration::from_millis(40),
        suspect_for: Duration::from_millis(300),
    };
    let apart = Apart::new(fast).await;
    until(|| apart.a.members().len() == 1 && apart.b.members().len() == 1).await;
    apart.block(true);
    let lost = apart.counter.ask(Add(1), PATIENCE).await;
    assert!(matches!(lost, Err(AskError::Lost { .. })), "{lost:?}");
    let told = apart.counter.tell(Add(1));
    assert!(matches!(told, Err(SendError::Lost { .. })), "{told:?}");
    until(|| apart.a.members().is_empty() && apart.b.members().is_empty()).await;
    apart.block(false);
    until(|| apart.a.members().len() == 1 && apart.b.members().len() == 1).await;
    let again: Ref<Counter> = loop {
        match apart.a.find("counter", "b").await {
            Ok(found) => break found,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(again.ask(Add(0), PATIENCE).await.is_ok());
}
