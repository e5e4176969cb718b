//! Connections that are begun by the thousand and gone on with by nobody.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod initial;
mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use ekya_actors::{Node, Ref};
use initial::Beginner;
use site::{Add, Counter, PATIENCE, Site, connect, until};

/// Connections that are begun, in all.
const COUNT: u64 = 10_000;
/// Sockets that they come from.
const SOCKETS: usize = 2;
/// By how much the memory of this process may grow, friends included. Ten thousand that a node keeps take
/// 470 MiB.
const GROWTH_MAX: u64 = 64 << 20;

/// Threads that begin connections.
struct Flood {
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// Of beginners that show, where they are asked to, that they get what is sent to them; or that
    /// do not.
    fn start(target: &Node, shows_address: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicU64::new(0));
        let start = |_| {
            let beginner = Beginner::new(target.listens_at(), shows_address);
            let (stop, begun) = (Arc::clone(&stop), Arc::clone(&begun));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    begun.fetch_add(beginner.begin_some(), Ordering::Relaxed);
                }
            })
        };
        let threads = (0..SOCKETS).map(start).collect();
        Self {
            stop,
            begun,
            threads,
        }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.begun.load(Ordering::Relaxed)
    }
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Connects a friend that is new and has an address of its own, however often it has to try.
async fn let_in(site: &Site, name: &str, node: &Node) -> (Node, Ref<Counter>) {
    let elsewhere = ([127, 0, 0, 2], 0).into();
    let friend = site.builder(name).listen(elsewhere).start().unwrap();
    let start = Instant::now();
    while let Err(error) = friend.connect(node.listens_at()).await {
        assert!(start.elapsed() < PATIENCE, "{name} is kept out: {error}");
    }
    let counter = friend.find("counter", "b").await.unwrap();
    answered(&counter).await;
    (friend, counter)
}

async fn answered(counter: &Ref<Counter>) {
    assert!(counter.ask(Add(1), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn ten_thousand_half_open_connections_cost_little_and_keep_nobody_out() {
    let site = Site::new();
    let node = site.node("b");
    let counter = node
        .system()
        .spawn("counter", Counter::default(), 64)
        .unwrap();
    node.publish(&counter);
    let a = site.node("a");
    connect(&a, &node).await;
    let known: Ref<Counter> = a.find("counter", "b").await.unwrap();
    let before = resident();
    // As from addresses that are not their own.
    let flood = Flood::start(&node, false);
    until(|| node.connections().validated >= COUNT / 2).await;
    let (_c, during) = let_in(&site, "c", &node).await;
    until(|| node.connections().validated >= COUNT).await;
    answered(&known).await;
    answered(&during).await;
    let begun = flood.stop();
    assert!(begun >= COUNT, "{begun}");
    // From one that is: they get further, and take the places that one may have.
    let flood = Flood::start(&node, true);
    until(|| node.connections().turned_away >= COUNT / 10).await;
    let (_d, during_both) = let_in(&site, "d", &node).await;
    answered(&known).await;
    answered(&during).await;
    answered(&during_both).await;
    flood.stop();
    let grown = resident().saturating_sub(before);
    assert!(grown <= GROWTH_MAX, "{} MiB", grown >> 20);
    let_in(&site, "e", &node).await;
    assert_eq!(node.connections().misbehaved, 0);
}
