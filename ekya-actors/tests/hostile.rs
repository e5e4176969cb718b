//! Peers that have a certificate and greet as they should, and then say again what they have said,
//! leave out a part, break off in the middle, or take in nothing.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod intruder;
mod puppet;
mod site;

use std::sync::Arc;
use std::time::Instant;

use ekya_actors::{
    Actor, AskError, Ctx, Handler, Holding, Items, Message, Messages, Node, PeerState, Ref, Remote,
    SendError, Spawn, Streams, Wire,
};
use intruder::{Intruder, greeting};
use puppet::{HEADER, ITEM, NODE, Puppet, ask, ask_as, stream, tell};
use serde::{Deserialize, Serialize};
use site::{Add, Counter, PATIENCE, Site, connect, until};

/// Frames that wait for a peer, at most; twice as many where they are answers.
const FRAMES_MAX: usize = 1 << 16;
/// Bytes that wait for a peer, at most.
const BYTES_MAX: usize = 16 << 20;
/// Asks of a peer that are being answered, at most.
const CALLS_MAX: usize = 1 << 16;

/// Two nodes that go on talking, and a third one's certificate in other hands.
struct Scene {
    a: Node,
    b: Node,
    counter: Ref<Counter>,
    /// One that only the intruder calls.
    its_counter: Ref<Counter>,
    intruder: Intruder,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new();
        let (a, b) = (site.node("a"), site.node("b"));
        let [_, its_counter] = ["counter", "its counter"].map(|name| {
            let counter = b.system().spawn(name, Counter::default(), 64).unwrap();
            b.publish(&counter);
            counter
        });
        connect(&a, &b).await;
        let counter = a.find("counter", "b").await.unwrap();
        let intruder = Intruder::new(site.authority(), site.authority(), "c", b"ekya/1");
        Self {
            a,
            b,
            counter,
            its_counter,
            intruder,
        }
    }

    async fn puppet(&self) -> Puppet {
        Puppet::greet(&self.intruder, self.b.listens_at(), None).await
    }

    async fn others_are_answered(&self) {
        assert!(self.counter.ask(Add(1), PATIENCE).await.is_ok());
    }

    /// What the counter of the puppet has counted.
    async fn sum(&self) -> u64 {
        self.its_counter.ask(Add(0), PATIENCE).await.unwrap()
    }

    /// The puppet, as the node sees it.
    fn seen(&self) -> PeerState {
        let peers = self.b.peers();
        peers
            .into_iter()
            .find(|peer| *peer.who.name == *"c")
            .unwrap()
    }
}

/// A tell of `Add`.
fn add(number: u64, actor: u64, n: u64) -> Vec<u8> {
    tell(number, actor, "counter/add", &n.to_le_bytes())
}

/// An ask of `Add`.
fn add_and_say(number: u64, actor: u64, n: u64) -> Vec<u8> {
    ask(number, actor, "counter/add", &n.to_le_bytes())
}

#[tokio::test]
async fn a_frame_that_comes_again_is_dropped_and_the_connection_lives() {
    let scene = Scene::new().await;
    let mut puppet = scene.puppet().await;
    let actor = puppet.find("its counter").await;
    let again = add(2, actor, 1);
    puppet.say(&[again.clone(), again.clone(), again]).await;
    // Also one from longer ago, and an ask: it is answered once.
    let first_ask = add_and_say(3, actor, 10);
    puppet
        .say(&[first_ask.clone(), add(2, actor, 1), first_ask])
        .await;
    assert_eq!(puppet.answer(3).await, 11_u64.to_le_bytes());
    puppet.say(&[add_and_say(4, actor, 100)]).await;
    assert_eq!(puppet.answer(4).await, 111_u64.to_le_bytes());
    assert_eq!(scene.b.connections().misbehaved, 0);
    scene.others_are_answered().await;
}

#[tokio::test]
async fn a_missing_frame_ends_the_connection_and_nothing_after_it_is_taken_in() {
    let scene = Scene::new().await;
    let mut puppet = scene.puppet().await;
    let actor = puppet.find("its counter").await;
    let out_of_order = [add(2, actor, 1), add(4, actor, 100), add(3, actor, 10)];
    puppet.say(&out_of_order).await;
    let why = puppet.connection.closed().await;
    assert!(
        why.to_string().contains("frame 4 came after frame 2"),
        "{why}"
    );
    assert_eq!(scene.b.connections().misbehaved, 1);
    assert_eq!(scene.sum().await, 1);
    scene.others_are_answered().await;
    // The session is over: the next connection begins another.
    let again = Puppet::greet(&scene.intruder, scene.b.listens_at(), Some(puppet.session)).await;
    assert!(again.is_new);
}

#[tokio::test]
async fn a_call_that_is_over_is_not_made_again() {
    let scene = Scene::new().await;
    let mut puppet = scene.puppet().await;
    let actor = puppet.find("its counter").await;
    puppet.say(&[add_and_say(2, actor, 1)]).await;
    assert_eq!(puppet.answer(2).await, 1_u64.to_le_bytes());
    let again = ask_as(3, 2, actor, "counter/add", &10_u64.to_le_bytes());
    puppet.say(&[again]).await;
    let why = puppet.connection.closed();
    let why = tokio::time::timeout(PATIENCE, why).await.unwrap();
    assert!(why.to_string().contains("call 2 was made twice"), "{why}");
    assert_eq!(scene.sum().await, 1);
    scene.others_are_answered().await;
}

#[tokio::test]
async fn a_frame_that_breaks_off_is_not_taken_in_until_it_comes_whole() {
    let scene = Scene::new().await;
    let mut puppet = scene.puppet().await;
    let actor = puppet.find("its counter").await;
    let cut = add(3, actor, 10);
    let (half, in_header) = (cut[..40].to_vec(), cut[..9].to_vec());
    // The connection ends in the middle of a frame,
    puppet.say(&[add(2, actor, 1), half]).await;
    while scene.sum().await == 0 {}
    puppet.connection.close(0_u32.into(), b"");
    until(|| !scene.seen().is_connected).await;
    // or the stream alone does, in the middle of a header.
    let session = Some(puppet.session);
    let mut second = Puppet::greet(&scene.intruder, scene.b.listens_at(), session).await;
    assert_eq!((second.is_new, second.taken_in), (false, 2));
    second.say(&[in_header]).await;
    second.send.finish().unwrap();
    second.connection.closed().await;
    let mut third = Puppet::greet(&scene.intruder, scene.b.listens_at(), session).await;
    assert_eq!((third.is_new, third.taken_in), (false, 2));
    third.say(&[cut, add_and_say(4, actor, 100)]).await;
    assert_eq!(third.answer(4).await, 111_u64.to_le_bytes());
    assert_eq!(scene.b.connections().misbehaved, 0);
    scene.others_are_answered().await;
}

/// Sends item after item, each as long as can be.
struct Spring;

impl Actor for Spring {}

impl Remote for Spring {
    const TYPE: &'static str = "spring";

    fn messages(messages: &mut Messages<Self>) {
        messages.add_stream::<Flow>();
    }
}

#[derive(Serialize, Deserialize)]
struct Flow;

impl Message for Flow {
    type Reply = Vec<u8>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("spring/flow", 1));
}

impl Streams<Flow> for Spring {
    fn stream(&mut self, _: Flow, items: Items<Flow>, ctx: &mut Ctx<Self>) {
        let flowing = async move {
            while items.send(vec![0; 60_000]).await.is_ok() {}
            Dry
        };
        ctx.run(flowing).unwrap();
    }
}

/// Nobody wants items any more.
struct Dry;

impl Message for Dry {
    type Reply = ();
}

impl Handler<Dry> for Spring {
    fn handle(&mut self, _: Dry, _: &mut Ctx<Self>) {}
}

#[tokio::test]
async fn a_stream_goes_on_when_a_greeting_makes_room_in_a_full_outbox() {
    let scene = Scene::new().await;
    let spring = scene.b.system().spawn("spring", Spring, 4).unwrap();
    scene.b.publish(&spring);
    let mut puppet = scene.puppet().await;
    let actor = puppet.find("spring").await;
    // There is more room than in an outbox.
    puppet.say(&[stream(2, actor, "spring/flow", 4096)]).await;
    // Nothing of this is acknowledged. The answer that the actor was found with is as little.
    let (mut taken_in, mut bytes, mut longest) = (1, 128, 0);
    while bytes + longest <= BYTES_MAX {
        let heard = puppet.hear().await;
        if heard.kind == ITEM {
            taken_in += 1;
            longest = HEADER + heard.body.len();
            bytes += longest;
        }
    }
    until(|| scene.seen().frames_waiting as u64 == taken_in).await;
    puppet.connection.close(0_u32.into(), b"");
    until(|| !scene.seen().is_connected).await;
    let (session, address) = (Some(puppet.session), scene.b.listens_at());
    let again = Puppet::greet_after(&scene.intruder, address, session, taken_in);
    let mut again = again.await;
    assert!(!again.is_new);
    let heard = tokio::time::timeout(PATIENCE, again.hear()).await;
    assert_eq!(heard.unwrap().kind, ITEM);
}

impl Spawn for Counter {
    type Args = ();

    fn spawn((): &(), _: Option<&Arc<Holding>>) -> Self {
        Self::default()
    }
}

/// An order for a counter.
fn order(name: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut order = [text("counter"), text(name), text("")].concat();
    // Room for four messages, no share of a device, no reservation, no restarts.
    order.extend(4_u32.to_le_bytes());
    order.extend([0, 0]);
    order.extend(0_u32.to_le_bytes());
    // Within no time, and without a pause before any. Not detached.
    order.extend([0; 3 * 12 + 1]);
    order
}

#[tokio::test]
async fn what_is_ordered_and_waited_for_by_nobody_does_not_go_on() {
    let scene = Scene::new().await;
    scene.b.offer::<Counter>();
    let mut puppet = scene.puppet().await;
    let ordered = tell(1, NODE, "node/place", &order("told"));
    puppet.say(&[ordered]).await;
    let counters = || {
        let (_, types) = scene.b.system().state();
        let counters = types.iter().find(|one| one.actor_type.ends_with("Counter"));
        counters.map(|counters| (counters.spawned, counters.ended))
    };
    // It has two of its own.
    until(|| counters() == Some((3, 1))).await;
    assert_eq!(scene.b.connections().misbehaved, 0);
}

#[tokio::test]
async fn a_connection_that_is_refused_changes_nothing_for_the_one_in_use() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    connect(&a, &b).await;
    // It says that it was started before, and speaks the first minor version, without streams.
    let intruder = Intruder::new(site.authority(), site.authority(), "a", b"ekya/1");
    let why = intruder.say(b.listens_at(), &greeting()).await;
    assert!(why.to_string().contains("started later"), "{why}");
    assert_eq!(b.state_of("a").await.unwrap().who, *a.who());
}

#[tokio::test]
async fn a_peer_that_asks_for_state_and_never_reads_keeps_nobody_else_from_it() {
    let scene = Scene::new().await;
    let mut puppet = scene.puppet().await;
    let asks = (1..=16).map(|number| stream(number, NODE, "node/state", 0));
    puppet.say(&asks.collect::<Vec<_>>()).await;
    // What comes after them is answered, so that they have been taken in.
    let mut name = 7_u64.to_le_bytes().to_vec();
    name.extend(b"counter");
    puppet.say(&[ask(17, NODE, "node/find", &name)]).await;
    puppet.answer(17).await;
    let state = scene.a.state_of("b").await;
    assert_eq!(state.unwrap().who, *scene.b.who());
}

#[tokio::test]
async fn a_peer_that_asks_and_never_reads_is_cut_off_and_the_others_are_answered() {
    is_cut_off(|number, actor| add_and_say(number, actor, 0)).await;
}

#[tokio::test]
async fn a_peer_that_tells_nobody_and_never_reads_is_cut_off_and_the_others_are_answered() {
    is_cut_off(|number, actor| add(number, actor + 100, 0)).await;
}

/// Says frame after frame to an actor, and reads nothing of what comes back.
async fn is_cut_off(frame: impl Fn(u64, u64) -> Vec<u8>) {
    let scene = Scene::new().await;
    let mut puppet = scene.puppet().await;
    let actor = puppet.find("its counter").await;
    let start = Instant::now();
    let mut number = 1;
    let why = loop {
        let frames: Vec<u8> = (1..=512).flat_map(|n| frame(number + n, actor)).collect();
        number += 512;
        if puppet.send.write_all(&frames).await.is_err() {
            break puppet.connection.closed().await;
        }
        let seen = scene.seen();
        assert!(seen.frames_waiting <= 2 * FRAMES_MAX, "{seen:?}");
        assert!(seen.its_asks <= CALLS_MAX, "{seen:?}");
        scene.others_are_answered().await;
        assert!(start.elapsed() < 3 * PATIENCE, "not cut off after {number}");
    };
    assert!(why.to_string().contains("answers pile up"), "{why}");
    until(|| scene.b.connections().misbehaved == 1).await;
    // Nothing is kept for it.
    until(|| (scene.seen().frames_waiting, scene.seen().its_asks) == (0, 0)).await;
    scene.others_are_answered().await;
}

#[tokio::test]
async fn what_is_told_to_a_peer_that_never_reads_is_refused_in_the_end() {
    let scene = Scene::new().await;
    let mut puppet = scene.puppet().await;
    let found = scene.b.find::<Counter>("of a puppet", "c");
    let (far, ()) = tokio::join!(found, puppet.pretend("of a puppet", "counter"));
    let far = far.unwrap();
    let mut told = 0;
    let refused = loop {
        match far.tell(Add(1)) {
            Ok(()) => told += 1,
            Err(error) => break error,
        }
        assert!(told <= FRAMES_MAX, "more than may wait");
    };
    assert!(
        matches!(refused, SendError::Overloaded { .. }),
        "{refused:?}"
    );
    assert!(scene.seen().frames_waiting <= FRAMES_MAX);
    let asked = far.ask(Add(1), PATIENCE).await;
    assert!(
        matches!(asked, Err(AskError::Overloaded { .. })),
        "{asked:?}"
    );
    scene.others_are_answered().await;
    // It has not broken the protocol, and may go on whenever it likes.
    assert!(scene.seen().is_connected);
    assert_eq!(scene.b.connections().misbehaved, 0);
}
