//! Three nodes on a machine that has no time for them. It takes minutes: `cargo xtask soak membership`
//! runs it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ekya_actors::{Node, Ref};
use site::{Add, Counter, PATIENCE, Site, connect, until};
use tracing::field::{Field, Visit};
use tracing::span;

/// How long it takes, in minutes.
const MINUTES: &str = "EKYA_SOAK_MINUTES";
/// Busy threads for each core: a node's thread gets one share of so many more.
const BUSY: usize = 4;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Counts how often a node says that another one is down.
#[derive(Clone, Default)]
struct Deaths(Arc<AtomicU64>);

impl Visit for Deaths {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" && format!("{value:?}") == "node down" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl tracing::Subscriber for Deaths {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Keeps all cores busy until `stop`.
fn burn(stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let cores = thread::available_parallelism().unwrap().get();
    let busy = |_| {
        let stop = Arc::clone(stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                spin_loop();
            }
        })
    };
    (0..BUSY * cores).map(busy).collect()
}

/// Nodes that all know each other, and a counter of the last one.
async fn cluster() -> ([Node; 3], Ref<Counter>) {
    let site = Site::new();
    let nodes = NAMES.map(|name| site.node(name));
    let [a, b, c] = &nodes;
    let counter = c.system().spawn("counter", Counter::default(), 64).unwrap();
    c.publish(&counter);
    connect(a, b).await;
    connect(a, c).await;
    until(|| nodes.iter().all(|node| node.members().len() == 2)).await;
    let counter = a.find("counter", "c").await.unwrap();
    (nodes, counter)
}

/// Asks for so long, and says every minute how it goes. Asks, and the longest that one took.
async fn ask_for(length: Duration, counter: &Ref<Counter>, deaths: &Deaths) -> (u64, Duration) {
    let (start, mut minute) = (Instant::now(), 1);
    let (mut asks, mut longest) = (0, Duration::ZERO);
    while start.elapsed() < length {
        let asked = Instant::now();
        counter.ask(Add(1), PATIENCE).await.unwrap();
        longest = longest.max(asked.elapsed());
        asks += 1;
        if start.elapsed() >= Duration::from_secs(60 * minute) {
            let deaths = deaths.0.load(Ordering::Relaxed);
            println!("{minute} min: {deaths} deaths, {asks} asks, the longest {longest:?}");
            minute += 1;
        }
    }
    (asks, longest)
}

#[tokio::test]
#[ignore = "takes minutes: cargo xtask soak membership"]
async fn nobody_is_declared_dead_while_all_cores_are_busy() {
    let minutes = std::env::var(MINUTES).map_or(1, |minutes| minutes.parse().unwrap());
    let deaths = Deaths::default();
    tracing::subscriber::set_global_default(deaths.clone()).unwrap();
    let ([a, b, c], counter) = cluster().await;
    let stop = Arc::new(AtomicBool::new(false));
    let busy = burn(&stop);
    let length = Duration::from_secs(60 * minutes);
    let (asks, longest) = ask_for(length, &counter, &deaths).await;
    stop.store(true, Ordering::Relaxed);
    for thread in busy {
        thread.join().unwrap();
    }
    let declared = deaths.0.load(Ordering::Relaxed);
    println!("{declared} deaths in {minutes} min; {asks} asks, the longest {longest:?}");
    assert_eq!(declared, 0, "declared dead, and alive");
    // One that does go is noticed, and would have been counted.
    c.shutdown(PATIENCE).unwrap();
    until(|| a.members().len() == 1 && b.members().len() == 1).await;
    assert_eq!(deaths.0.load(Ordering::Relaxed), 2);
}
