//! Actors spawned on other nodes, on shares of their devices.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use ekya_actors::security::Role;
use ekya_actors::{
    Actor, Arrangement, AskError, Ctx, Device, ExitReason, Handler, Holding, Message, Messages,
    Needs, Node, Order, PlaceError, Ref, Refusal, Remote, Restarts, Spawn, Wire,
};
use ekya_sched::Share;
use serde::{Deserialize, Serialize};
use site::{PATIENCE, Site, connect, until};

/// Holdings of workers that are not there any more.
static LEFT_BEHIND: Mutex<Vec<Arc<Holding>>> = Mutex::new(Vec::new());

/// Where a worker is held up while it is made.
static HELD_UP: Barrier = Barrier::new(2);

/// Runs minibatches on what it holds.
struct Worker {
    label: String,
    holding: Option<Arc<Holding>>,
}

impl Actor for Worker {}

impl Remote for Worker {
    const TYPE: &'static str = "worker";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Work>();
    }
}

impl Spawn for Worker {
    type Args = String;

    fn spawn(label: &String, holding: Option<&Arc<Holding>>) -> Self {
        assert_ne!(label, "unlucky");
        if label == "held up" {
            // The test knows that it is here; the test lets it go on.
            HELD_UP.wait();
            HELD_UP.wait();
        }
        if label == "left behind" {
            LEFT_BEHIND.lock().unwrap().extend(holding.cloned());
        }
        Self {
            label: label.clone(),
            holding: holding.cloned(),
        }
    }
}

/// Runs a minibatch, or panics; the worker's label, its device and how many it has run.
#[derive(Serialize, Deserialize)]
struct Work {
    panics: bool,
}

impl Message for Work {
    type Reply = (String, Option<(String, u64)>);
    const WIRE: Option<Wire<Self>> = Some(Wire::new("worker/work", 1));
}

impl Handler<Work> for Worker {
    fn handle(&mut self, work: Work, _: &mut Ctx<Self>) -> (String, Option<(String, u64)>) {
        assert!(!work.panics, "as ordered");
        let on = self.holding.as_ref().map(|holding| {
            // The device is free: nothing is waited for.
            drop(holding.job().lease().unwrap());
            let minibatches = holding.job().usage().minibatches;
            (holding.device().name().to_owned(), minibatches)
        });
        (self.label.clone(), on)
    }
}

const WORK: Work = Work { panics: false };

fn share(micro: u32) -> Needs {
    Needs::of("gpu", Share::from_micro(micro))
}

fn order(name: &str) -> Order<Worker> {
    Order::new(name, format!("label of {name}"))
}

/// A node that asks, and nodes with so many devices that offer to work.
async fn cluster(site: &Site, devices: &[usize]) -> (Node, Vec<Node>) {
    let asker = site.node("asker");
    let mut nodes = Vec::new();
    for (number, devices) in devices.iter().enumerate() {
        let name = format!("worker-{number}");
        let mut builder = site.builder(&name);
        for device in 0..*devices {
            builder = builder.device("gpu", Device::new(format!("{name}/gpu{device}"), 1));
        }
        let node = builder.start().unwrap();
        node.offer::<Worker>();
        connect(&asker, &node).await;
        nodes.push(node);
    }
    (asker, nodes)
}

async fn free(asker: &Node, node: &str) -> u32 {
    let rooms = asker.rooms(node).await.unwrap();
    rooms.iter().map(|room| room.free_micro).sum()
}

/// Waits until so much is free.
async fn freed(asker: &Node, node: &str, micro: u32) {
    let start = Instant::now();
    while free(asker, node).await != micro {
        assert!(start.elapsed() < PATIENCE, "not in time");
        tokio::task::yield_now().await;
    }
}

fn refusal(result: Result<Ref<Worker>, PlaceError>) -> Refusal {
    match result {
        Err(PlaceError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_actor_is_spawned_on_another_node_and_holds_its_share_until_it_ends() {
    let site = Site::new();
    let (asker, _nodes) = cluster(&site, &[1]).await;
    let quarter = order("w").needs(share(250_000));
    let worker = asker.spawn_on("worker-0", &quarter).await.unwrap();
    assert_eq!((worker.name(), worker.node()), ("w", Some("worker-0")));
    assert_eq!(free(&asker, "worker-0").await, 750_000);
    let (label, on) = worker.ask(WORK, PATIENCE).await.unwrap();
    assert_eq!(label, "label of w");
    assert_eq!(on, Some(("worker-0/gpu0".to_owned(), 1)));
    // It is found as any other.
    let found: Ref<Worker> = asker.find("w", "worker-0").await.unwrap();
    assert!(found.ask(WORK, PATIENCE).await.is_ok());
    worker.stop();
    assert_eq!(worker.ended().await.reason, ExitReason::Stopped);
    freed(&asker, "worker-0", 1_000_000).await;
}

#[tokio::test]
async fn a_restart_keeps_the_share_and_the_last_panic_frees_it() {
    let site = Site::new();
    let (asker, _nodes) = cluster(&site, &[1]).await;
    let restarts = Restarts::new(1, Duration::from_secs(60));
    let order = order("w").needs(share(400_000)).restarts(restarts);
    let worker = asker.spawn_on("worker-0", &order).await.unwrap();
    let panic = Work { panics: true };
    let panicked = worker.ask(panic, PATIENCE).await;
    assert!(matches!(panicked, Err(AskError::ActorPanicked { .. })));
    // The new instance has what the old one had.
    let (_, on) = worker.ask(WORK, PATIENCE).await.unwrap();
    assert_eq!(on, Some(("worker-0/gpu0".to_owned(), 1)));
    assert_eq!(free(&asker, "worker-0").await, 600_000);
    drop(worker.ask(Work { panics: true }, PATIENCE).await);
    freed(&asker, "worker-0", 1_000_000).await;
}

#[tokio::test]
async fn what_cannot_be_spawned_is_refused_with_a_reason() {
    let site = Site::new();
    let (asker, nodes) = cluster(&site, &[1]).await;
    let on = async |order: Order<Worker>| refusal(asker.spawn_on("worker-0", &order).await);
    let _w = asker.spawn_on("worker-0", &order("w")).await.unwrap();
    assert_eq!(on(order("w")).await, Refusal::NameTaken("w".to_owned()));
    assert_eq!(on(order("x").mailbox(0)).await, Refusal::Mailbox(0));
    let much = order("x").needs(share(1_000_001));
    let shortage = Refusal::Shortage {
        kind: "gpu".to_owned(),
        micro: 1_000_001,
    };
    assert_eq!(on(much).await, shortage);
    let unlucky = Order::new("x", "unlucky".to_owned()).needs(share(1));
    assert!(matches!(on(unlucky).await, Refusal::Panicked(_)));
    let left_behind = Order::new("w", "left behind".to_owned()).needs(share(1));
    assert_eq!(on(left_behind).await, Refusal::NameTaken("w".to_owned()));
    assert_eq!(LEFT_BEHIND.lock().unwrap().len(), 1);
    // Nothing is held for those who did not come to be.
    assert_eq!(free(&asker, "worker-0").await, 1_000_000);
    // The asker itself offers nothing.
    let here = refusal(asker.spawn_on("asker", &order("x")).await);
    assert_eq!(here, Refusal::NotOffered("worker".to_owned()));
    let nowhere = asker.spawn_on("worker-9", &order("x")).await;
    assert!(matches!(nowhere, Err(PlaceError::Find(_))), "{nowhere:?}");
    // An observer looks and does no more.
    let observer = Node::builder(site.identity("eye", Role::Observer));
    let observer = observer.start().unwrap();
    connect(&observer, &nodes[0]).await;
    assert_eq!(observer.rooms("worker-0").await.unwrap().len(), 1);
    let refused = observer.spawn_on("worker-0", &order("x")).await;
    assert!(
        matches!(refused, Err(PlaceError::Ask(AskError::Refused { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_actor_is_spawned_where_there_is_room() {
    let site = Site::new();
    let (asker, nodes) = cluster(&site, &[1, 1]).await;
    let most = order("a").needs(share(600_000));
    let first = asker.spawn_anywhere(&most).await.unwrap();
    let most = order("b").needs(share(600_000));
    let second = asker.spawn_anywhere(&most).await.unwrap();
    let mut on = [first.node().unwrap(), second.node().unwrap()];
    on.sort_unstable();
    assert_eq!(on, ["worker-0", "worker-1"]);
    let third = order("c").needs(share(600_000));
    let none = asker.spawn_anywhere(&third).await.unwrap_err();
    assert!(matches!(none, PlaceError::NoRoom { .. }), "{none}");
    assert!(
        none.to_string()
            .contains("worker-1 has 400000/1000000 of worker-1/gpu0 (gpu)"),
        "{none}"
    );
    // Each node says who holds what.
    let holders = nodes.iter().map(|node| {
        let jobs = node.state().devices.remove(0).jobs;
        jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
    });
    let mut holders: Vec<String> = holders.flatten().collect();
    holders.sort();
    assert_eq!(holders, ["a", "b"]);
    // A node is asked like any other for what it spawns on itself.
    let own = nodes[0].spawn_anywhere(&order("d")).await.unwrap();
    assert!(own.ask(WORK, PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_gang_is_packed_spread_or_not_spawned_at_all() {
    let site = Site::new();
    let (asker, _nodes) = cluster(&site, &[1, 2, 1]).await;
    let gang = |prefix: &str, micro: u32, of: usize| -> Vec<Order<Worker>> {
        let member = |n: usize| order(&format!("{prefix}-{n}")).needs(share(micro));
        (0..of).map(member).collect()
    };
    let nodes = |gang: &[Ref<Worker>]| {
        let mut nodes: Vec<String> = gang
            .iter()
            .map(|one| one.node().unwrap().to_owned())
            .collect();
        nodes.sort();
        nodes.dedup();
        nodes.len()
    };
    let packed = gang("p", 500_000, 2);
    let packed = asker.spawn_gang(&packed, Arrangement::Pack).await.unwrap();
    assert_eq!(nodes(&packed), 1);
    packed.iter().for_each(Ref::stop);
    for node in ["worker-0", "worker-1", "worker-2"] {
        let all = if node == "worker-1" {
            2_000_000
        } else {
            1_000_000
        };
        freed(&asker, node, all).await;
    }
    let spread = gang("s", 500_000, 3);
    let spread = asker
        .spawn_gang(&spread, Arrangement::Spread)
        .await
        .unwrap();
    assert_eq!(nodes(&spread), 3);
    // There is room for four more, not for six.
    let many = gang("m", 500_000, 6);
    let none = asker.spawn_gang(&many, Arrangement::Pack).await;
    assert!(matches!(none, Err(PlaceError::NoRoom { .. })), "{none:?}");
    // One that cannot be made takes the others with it.
    let mut unlucky = gang("u", 500_000, 2);
    unlucky.push(Order::new("u-2", "unlucky".to_owned()));
    let refused = asker.spawn_gang(&unlucky, Arrangement::Spread).await;
    assert!(
        matches!(
            refused,
            Err(PlaceError::Refused {
                why: Refusal::Panicked(_),
                ..
            })
        ),
        "{refused:?}"
    );
    freed(&asker, "worker-0", 500_000).await;
    freed(&asker, "worker-1", 1_500_000).await;
    freed(&asker, "worker-2", 500_000).await;
}

#[tokio::test]
async fn nothing_of_a_gang_runs_that_nobody_waits_for_any_more() {
    let site = Site::new();
    let (asker, nodes) = cluster(&site, &[1, 1]).await;
    let held_up = Order::new("second", "held up".to_owned());
    let gang = [order("first"), held_up, order("third")].map(|one| one.needs(share(500_000)));
    let spawning = tokio::spawn({
        let asker = asker.clone();
        async move { asker.spawn_gang(&gang, Arrangement::Spread).await }
    });
    let hold_up = || tokio::task::spawn_blocking(|| HELD_UP.wait());
    hold_up().await.unwrap();
    spawning.abort();
    assert!(spawning.await.unwrap_err().is_cancelled());
    hold_up().await.unwrap();
    for node in ["worker-0", "worker-1"] {
        freed(&asker, node, 1_000_000).await;
    }
    let run = |node: &Node| node.system().actors().len();
    assert_eq!(nodes.iter().map(run).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn gangs_of_several_askers_never_share_what_is_one_s_alone() {
    let site = Site::new();
    let (asker, nodes) = cluster(&site, &[1, 1]).await;
    let other = site.node("other");
    for node in &nodes {
        connect(&other, node).await;
    }
    let mut racing = tokio::task::JoinSet::new();
    for (number, asker) in [&asker, &other].into_iter().cycle().take(8).enumerate() {
        let asker = asker.clone();
        racing.spawn(async move {
            let gang =
                ["a", "b"].map(|one| order(&format!("{number}-{one}")).needs(share(400_000)));
            asker.spawn_gang(&gang, Arrangement::Spread).await
        });
    }
    let spawned = racing.join_all().await;
    let spawned: Vec<Vec<Ref<Worker>>> = spawned.into_iter().filter_map(Result::ok).collect();
    // Two fit on each node. Those who were too late hold nothing.
    assert!((1..=2).contains(&spawned.len()), "{}", spawned.len());
    let held = 400_000 * u32::try_from(spawned.len()).unwrap();
    for node in ["worker-0", "worker-1"] {
        freed(&asker, node, 1_000_000 - held).await;
    }
}

#[tokio::test]
async fn an_actor_is_stopped_by_the_node_that_has_ordered_it_and_by_no_other() {
    let site = Site::new();
    let (asker, nodes) = cluster(&site, &[1]).await;
    let other = site.node("other");
    connect(&other, &nodes[0]).await;
    let owned = asker.spawn_on("worker-0", &order("owned")).await.unwrap();
    let detached = order("detached").detached();
    let detached = asker.spawn_on("worker-0", &detached).await.unwrap();
    for name in ["owned", "detached"] {
        let found: Ref<Worker> = other.find(name, "worker-0").await.unwrap();
        found.stop();
    }
    // Answered after what was told before.
    other.rooms("worker-0").await.unwrap();
    assert!(owned.ask(WORK, PATIENCE).await.is_ok());
    assert!(detached.ask(WORK, PATIENCE).await.is_ok());
    owned.stop();
    assert_eq!(owned.ended().await.reason, ExitReason::Stopped);
    // Whoever has ordered it is still that when it was started again.
    asker.shutdown(PATIENCE).unwrap();
    let asker = site.node("asker");
    connect(&asker, &nodes[0]).await;
    let detached: Ref<Worker> = asker.find("detached", "worker-0").await.unwrap();
    detached.stop();
    assert_eq!(detached.ended().await.reason, ExitReason::Stopped);
}

#[tokio::test]
async fn an_actor_ends_with_the_session_of_its_owner_unless_it_is_detached() {
    let site = Site::new();
    let (asker, nodes) = cluster(&site, &[1]).await;
    let owned = order("owned").needs(share(300_000));
    let detached = order("detached").needs(share(200_000)).detached();
    asker.spawn_on("worker-0", &owned).await.unwrap();
    asker.spawn_on("worker-0", &detached).await.unwrap();
    asker.shutdown(PATIENCE).unwrap();
    let system = nodes[0].system();
    until(|| !system.actors().contains(&"owned".to_owned())).await;
    assert!(system.actors().contains(&"detached".to_owned()));
    let own = nodes[0].rooms("worker-0").await.unwrap();
    assert_eq!(own[0].free_micro, 800_000);
}
