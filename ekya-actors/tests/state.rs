//! What nodes say of what they are doing, and the metrics that come of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use ekya_actors::security::Role;
use ekya_actors::{Actor, Ctx, Device, ExitReason, Handler, Message, Node, Ref, Restarts, System};
use ekya_sched::Share;
use metrics::{
    Counter as MetricCounter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use parking_lot::Mutex;
use site::{Add, Counter, Fail, PATIENCE, Site, connect, until};

/// A node with a counter that has counted twice and failed once, and one that has called it.
async fn site() -> (Site, Node, Node) {
    let site = Site::new();
    let device = Device::new("gpu0", 1);
    let job = device.job("training");
    let node = site.builder("b").device("gpu", device.clone());
    let (a, b) = (site.node("a"), node.start().unwrap());
    let grant = ekya_actors::Grant {
        job: job.id(),
        share: Share::from_micro(250_000),
        term: 0,
        sequence: 1,
        expires: None,
    };
    device.grant(grant).unwrap();
    drop(job.lease().unwrap());
    // Kept as long as the device.
    std::mem::forget(job);
    let restarts = Restarts::new(3, PATIENCE);
    let counter = b
        .system()
        .spawn_supervised("counter", Counter::default, 8, restarts)
        .unwrap();
    b.publish(&counter);
    connect(&a, &b).await;
    let far: Ref<Counter> = a.find("counter", "b").await.unwrap();
    far.ask(Add(1), PATIENCE).await.unwrap();
    drop(far.ask(Fail, PATIENCE).await);
    far.ask(Add(1), PATIENCE).await.unwrap();
    until(|| !a.members().is_empty() && !b.members().is_empty()).await;
    (site, a, b)
}

#[tokio::test]
async fn a_node_says_what_it_does_to_those_who_only_look() {
    let (site, _a, b) = site().await;
    let observer = Node::builder(site.identity("eye", Role::Observer));
    let observer = observer.start().unwrap();
    connect(&observer, &b).await;
    let state = observer.state_of("b").await.unwrap();
    assert_eq!(&state.who, b.who());
    assert_eq!(state.incarnation, b.state().incarnation);
    let counter = state.actors.iter().find(|actor| actor.name == "counter");
    let counter = counter.unwrap();
    assert!(counter.actor_type.ends_with("site::Counter"));
    assert_eq!((counter.waiting, counter.capacity), (0, 8));
    assert_eq!((counter.counts.handled, counter.counts.restarts), (3, 1));
    let device = &state.devices[0];
    assert_eq!((&*device.name, &*device.kind), ("gpu0", "gpu"));
    assert_eq!(device.free_micro, 750_000);
    assert_eq!(device.jobs[0].share_micro, 250_000);
    assert_eq!(device.jobs[0].minibatches, 1);
    let peers: Vec<&str> = state.peers.iter().map(|peer| &*peer.who.name).collect();
    assert_eq!(peers, ["a", "eye"]);
    assert_eq!(state.members.len(), 1);
    assert!(state.connections.accepted >= 2);
    // As people and scripts read it.
    let json = serde_json::to_value(&state).unwrap();
    assert_eq!(json["who"]["role"], "node");
    assert_eq!(json["devices"][0]["free_micro"], 750_000);
}

#[tokio::test]
async fn counts_of_a_type_outlast_its_actors() {
    let (_site, _a, b) = site().await;
    b.system().stop("counter");
    until(|| !b.system().actors().contains(&"counter".to_owned())).await;
    let (_, types) = b.system().state();
    let counters = types
        .iter()
        .find(|one| one.actor_type.ends_with("site::Counter"))
        .unwrap();
    assert_eq!((counters.spawned, counters.ended), (1, 1));
    assert!(counters.counts.handled >= 3);
}

/// Told by a timer of a [`Clerk`], and by others.
struct Note;

impl Message for Note {
    type Reply = ();
}

/// Handles a note that it writes itself when it starts, and those of others when it is let.
struct Clerk(Receiver<()>);

impl Actor for Clerk {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        ctx.run(async { Note }).unwrap();
    }
}

impl Handler<Note> for Clerk {
    fn handle(&mut self, _: Note, _: &mut Ctx<Self>) {
        self.0.recv().unwrap();
    }
}

#[tokio::test]
async fn messages_are_counted_that_a_handler_was_called_with() {
    let system = System::start().unwrap();
    let (let_it, is_let) = crossbeam_channel::unbounded();
    let clerk = system.spawn("clerk", Clerk(is_let), 4).unwrap();
    let handled = || system.state().0[0].counts.handled;
    // The output of a future, while it is being handled.
    until(|| handled() == 1).await;
    // One that nobody waits for any more is not handled.
    let forgotten = tokio::time::timeout(Duration::ZERO, clerk.ask(Note, PATIENCE));
    assert!(forgotten.await.is_err());
    clerk.tell(Note).unwrap();
    clerk.stop();
    let_it.send(()).unwrap();
    let_it.send(()).unwrap();
    assert_eq!(clerk.ended().await.reason, ExitReason::Stopped);
    let (_, types) = system.state();
    assert_eq!(types[0].counts.handled, 2);
}

/// Keeps what is recorded, by name and labels.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, f64>>>);

struct Cell(Recorded, String);

impl Cell {
    fn of(recorded: &Recorded, key: &Key) -> Arc<Self> {
        let labels = key.labels().map(|label| format!(" {}", label.value()));
        let name = format!("{}{}", key.name(), labels.collect::<String>());
        Arc::new(Self(recorded.clone(), name))
    }

    fn put(&self, value: f64) {
        self.0.0.lock().insert(self.1.clone(), value);
    }
}

impl metrics::CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.absolute(value);
    }

    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl metrics::GaugeFn for Cell {
    fn increment(&self, value: f64) {
        self.put(value);
    }

    fn decrement(&self, value: f64) {
        self.put(-value);
    }

    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> MetricCounter {
        MetricCounter::from_arc(Cell::of(self, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Cell::of(self, key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test]
async fn metrics_are_recorded_where_the_application_wants_them() {
    let (_site, _a, b) = site().await;
    let recorded = Recorded::default();
    let state = b.state();
    metrics::with_local_recorder(&recorded, || state.record_metrics());
    let values = recorded.0.lock().clone();
    let value = |name: &str| values.get(name).copied();
    assert_eq!(value("ekya_device_share_granted gpu0 training"), Some(0.25));
    assert_eq!(value("ekya_device_share_free gpu0"), Some(0.75));
    assert_eq!(value("ekya_peer_connected a"), Some(1.0));
    assert_eq!(value("ekya_members"), Some(1.0));
    let handled = values.iter().find(|(name, _)| {
        name.starts_with("ekya_actor_messages_total") && name.ends_with("site::Counter")
    });
    assert_eq!(handled.map(|(_, value)| *value), Some(3.0));
}
