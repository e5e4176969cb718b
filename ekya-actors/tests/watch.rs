//! Hearing of the end of other actors, and ending with them, here and across nodes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use ekya_actors::{
    Actor, AskError, Ctx, Exit, ExitReason, FindError, Handler, Message, Messages, Node, Ref,
    Remote, Restarts, System,
};
use site::{Add, Counter, Fail, PATIENCE, Site, connect};

/// Watches or links, and tells what it hears.
struct Watcher {
    other: Ref<Counter>,
    links: bool,
    heard: Sender<Exit>,
}

impl Actor for Watcher {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        if self.links {
            ctx.link(&self.other).unwrap();
        } else {
            ctx.watch(&self.other).unwrap();
        }
    }
}

impl Handler<Exit> for Watcher {
    fn handle(&mut self, exit: Exit, _: &mut Ctx<Self>) {
        self.heard.send(exit).unwrap();
    }
}

/// Answered when all before has been.
struct Ping;

impl Message for Ping {
    type Reply = ();
}

impl Handler<Ping> for Watcher {
    fn handle(&mut self, _: Ping, _: &mut Ctx<Self>) {}
}

fn watch(system: &System, other: &Ref<Counter>, links: bool) -> (Ref<Watcher>, Receiver<Exit>) {
    let (heard, exits) = unbounded();
    let other = other.clone();
    let watcher = Watcher {
        other,
        links,
        heard,
    };
    let watcher = system.spawn("watcher", watcher, 16).unwrap();
    watcher.ask_blocking(Ping, PATIENCE).unwrap();
    (watcher, exits)
}

/// Two nodes, and a counter on the second as the first one sees it.
fn pair() -> (tokio::runtime::Runtime, Node, Node, Ref<Counter>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    let counter = b.system().spawn("counter", Counter::default(), 64).unwrap();
    b.publish(&counter);
    let far = runtime.block_on(async {
        connect(&a, &b).await;
        a.find("counter", "b").await.unwrap()
    });
    (runtime, a, b, far)
}

/// Waits until another node waits for an end here.
fn wait_for_watch(node: &Node) {
    while node.peers()[0].its_asks == 0 {
        std::thread::yield_now();
    }
}

fn panicked() -> ExitReason {
    ExitReason::Panicked("on purpose".to_owned())
}

#[test]
fn an_end_is_heard_of_once_here() {
    let system = System::start().unwrap();
    let restarts = Restarts::new(1, PATIENCE);
    let counter = system.spawn_supervised("counter", Counter::default, 16, restarts);
    let counter = counter.unwrap();
    let (_watcher, exits) = watch(&system, &counter, false);
    drop(counter.ask_blocking(Fail, PATIENCE));
    // It was restarted, which is no end.
    assert_eq!(counter.ask_blocking(Add(1), PATIENCE), Ok(1));
    assert!(exits.is_empty());
    drop(counter.ask_blocking(Fail, PATIENCE));
    let exit = Exit {
        actor: "counter".into(),
        node: None,
        reason: panicked(),
        restarted: false,
    };
    assert_eq!(exits.recv_timeout(PATIENCE), Ok(exit));
    // Whoever comes late hears of it all the same.
    let (heard, late) = unbounded();
    let watcher = Watcher {
        other: counter,
        links: false,
        heard,
    };
    system.spawn("late", watcher, 16).unwrap();
    assert_eq!(late.recv_timeout(PATIENCE).unwrap().reason, panicked());
}

#[test]
fn an_end_is_heard_of_across_nodes() {
    let (runtime, a, b, far) = pair();
    let (_watcher, exits) = watch(a.system(), &far, false);
    wait_for_watch(&b);
    drop(runtime.block_on(far.ask(Fail, PATIENCE)));
    let exit = exits.recv_timeout(PATIENCE).unwrap();
    assert_eq!(exit.node.as_deref(), Some("b"));
    assert_eq!((&*exit.actor, exit.reason), ("counter", panicked()));
    // And so it is by whoever watches what has ended before.
    while b.system().actors().contains(&"counter".to_owned()) {
        std::thread::yield_now();
    }
    let late = runtime.block_on(far.ended());
    assert_eq!(late.reason, panicked());
}

#[test]
fn a_long_panic_is_heard_of_across_nodes() {
    /// Panics at length.
    struct Babbler;
    impl Actor for Babbler {}
    impl Remote for Babbler {
        const TYPE: &'static str = "babbler";
        fn messages(messages: &mut Messages<Self>) {
            messages.add::<Fail>();
        }
    }
    impl Handler<Fail> for Babbler {
        fn handle(&mut self, _: Fail, _: &mut Ctx<Self>) {
            panic!("{}", "on purpose ".repeat(10_000))
        }
    }
    let (runtime, a, b, _far) = pair();
    let here = b.system().spawn("babbler", Babbler, 4).unwrap();
    b.publish(&here);
    let there: Ref<Babbler> = runtime.block_on(a.find("babbler", "b")).unwrap();
    let watched = runtime.spawn({
        let there = there.clone();
        async move { there.ended().await.reason }
    });
    wait_for_watch(&b);
    let failed = runtime.block_on(there.ask(Fail, PATIENCE)).unwrap_err();
    let AskError::ActorPanicked { panic, .. } = failed else {
        panic!("{failed:?}")
    };
    let reason = runtime.block_on(watched).unwrap();
    assert_eq!(reason, ExitReason::Panicked(panic));
    assert_eq!(runtime.block_on(here.ended()).reason, reason);
}

#[test]
fn an_actor_that_is_published_again_is_the_one_that_it_was() {
    let (runtime, a, b, far) = pair();
    let (_watcher, exits) = watch(a.system(), &far, false);
    wait_for_watch(&b);
    let here: Ref<Counter> = runtime.block_on(b.find("counter", "b")).unwrap();
    b.publish(&here);
    assert_eq!(runtime.block_on(far.ask(Add(1), PATIENCE)), Ok(1));
    assert!(exits.is_empty());
    drop(here.ask_blocking(Fail, PATIENCE));
    assert_eq!(exits.recv_timeout(PATIENCE).unwrap().reason, panicked());
}

#[test]
fn an_actor_that_has_ended_is_not_published() {
    let (runtime, a, b, _far) = pair();
    let late = b.system().spawn("late", Counter::default(), 4).unwrap();
    drop(late.ask_blocking(Fail, PATIENCE));
    runtime.block_on(late.ended());
    b.publish(&late);
    let found = runtime.block_on(a.find::<Counter>("late", "b"));
    assert!(matches!(found, Err(FindError::Unknown { .. })), "{found:?}");
}

#[test]
fn a_lost_node_ends_what_is_known_of_its_actors() {
    let (runtime, a, b, far) = pair();
    let (_watcher, exits) = watch(a.system(), &far, false);
    wait_for_watch(&b);
    // The end of the watch must not be what the node says of its actors when it stops in good order.
    a.access().revoke("b");
    a.enforce_access();
    let exit = exits.recv_timeout(PATIENCE).unwrap();
    assert_eq!(exit.reason, ExitReason::Lost("revoked".to_owned()));
    assert!(b.system().actors().contains(&"counter".to_owned()));
    drop(runtime);
}

#[test]
fn a_linked_actor_ends_too_and_is_restarted_if_it_may() {
    let system = System::start().unwrap();
    let counter = system.spawn("counter", Counter::default(), 16).unwrap();
    let (watcher, _) = watch(&system, &counter, true);
    drop(counter.ask_blocking(Fail, PATIENCE));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let exit = runtime.block_on(watcher.ended());
    assert_eq!(exit.reason, ExitReason::WithLinked("counter".into()));

    let (_runtime, a, b, far) = pair();
    let (heard, _exits) = unbounded();
    let (restarted, restarts) = unbounded();
    a.system().on_exit(move |exit| {
        // The test may be over.
        let _ = restarted.send((exit.reason.clone(), exit.restarted));
    });
    let again = b.system().spawn("again", Counter::default(), 4).unwrap();
    let mut others = vec![again, far];
    let linked = move || Watcher {
        other: others.pop().unwrap(),
        links: true,
        heard: heard.clone(),
    };
    let once = Restarts::new(1, Duration::from_secs(60));
    let linked = a.system().spawn_supervised("linked", linked, 4, once);
    linked.unwrap().ask_blocking(Ping, PATIENCE).unwrap();
    assert!(b.system().stop("counter"));
    assert_eq!(
        restarts.recv_timeout(PATIENCE),
        Ok((ExitReason::WithLinked("counter".into()), true))
    );
}
