//! Nodes that were given up and come back: after a long partition, and with a clock that was set back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod relay;
mod site;

use std::time::Duration;

use ekya_actors::{Detection, Node, Ref};
use relay::Relay;
use site::{Add, Counter, PATIENCE, Site, until};

/// Deaths are noticed soon.
const FAST: Detection = Detection {
    probe_every: Duration::from_millis(100),
    answer_within: Duration::from_millis(40),
    suspect_for: Duration::from_millis(300),
};

/// A connection breaks after this silence.
const IDLE: Duration = Duration::from_millis(300);

/// More packets than attempts bring that are under way when two nodes give each other up.
const ATTEMPTS: u64 = 24;

/// Two nodes that reach each other through relays.
struct Apart {
    site: Site,
    a: Node,
    b: Node,
    relays: [Relay; 2],
}

impl Apart {
    async fn new(incarnation: u64) -> Self {
        let site = Site::new();
        let relays = [Relay::start().await, Relay::start().await];
        let start = |name, relay: &Relay| {
            let builder = site.builder(name).idle_timeout(IDLE).detection(FAST);
            let builder = builder.advertise(relay.address().to_string());
            let node = builder.incarnation(incarnation).start().unwrap();
            relay.lead_to(node.listens_at());
            node
        };
        let (a, b) = (start("a", &relays[0]), start("b", &relays[1]));
        a.connect(relays[1].address()).await.unwrap();
        until(|| a.members().len() == 1 && b.members().len() == 1).await;
        Self { site, a, b, relays }
    }

    fn block(&self, is_blocked: bool) {
        self.relays.iter().for_each(|relay| relay.block(is_blocked));
    }

    /// In both directions.
    fn packets(&self) -> u64 {
        self.relays.iter().map(Relay::packets).sum()
    }
}

fn knows(node: &Node, other: &str, incarnation: u64) -> bool {
    let is_it = |name: &str, its| name == other && its == incarnation;
    let mut members = node.members().into_iter();
    members.any(|one| is_it(&one.name, one.incarnation))
}

#[tokio::test]
async fn two_sides_of_a_long_partition_find_each_other_again() {
    let apart = Apart::new(1).await;
    let (a, b) = (&apart.a, &apart.b);
    apart.block(true);
    until(|| a.members().is_empty() && b.members().is_empty()).await;
    // So long that no attempt from before is under way any more.
    let then = apart.packets();
    until(|| apart.packets() >= then + ATTEMPTS).await;
    apart.block(false);
    until(|| a.members().len() == 1 && b.members().len() == 1).await;
}

#[tokio::test]
async fn a_node_whose_clock_was_set_back_is_let_in_and_is_a_member_again() {
    let apart = Apart::new(1_000_000).await;
    let a = &apart.a;
    // It is gone without a word, and begins anew before that is noticed.
    apart.block(true);
    let again = apart.site.builder("b").detection(FAST).incarnation(10);
    let again = again.start().unwrap();
    let counter = again
        .system()
        .spawn("counter", Counter::default(), 64)
        .unwrap();
    again.publish(&counter);
    // Until the silence of the earlier one is noticed, this one is taken for its twin.
    while a.connect(again.listens_at()).await.is_err() {
        tokio::task::yield_now().await;
    }
    let far: Ref<Counter> = a.find("counter", "b").await.unwrap();
    assert_eq!(far.ask(Add(1), PATIENCE).await, Ok(1));
    until(|| knows(a, "b", 10) && knows(&again, "a", 1_000_000)).await;
    // The reference has outlived the death of the earlier one.
    assert_eq!(far.ask(Add(1), PATIENCE).await, Ok(2));
}
