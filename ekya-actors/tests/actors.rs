//! Actors in one process. Most tests answer to one of the known weaknesses of the runtime below:
//! panics, bounds that do not hold, floods, waiting without an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ekya_actors::{
    Actor, AskError, Backoff, Ctx, Exit, ExitReason, Group, Handler, Message, Ref, Restarts,
    SendError, ShutdownError, SpawnError, System,
};

/// Long enough for anything on a busy machine, and never waited out by a test that passes.
const LONG: Duration = Duration::from_secs(20);

fn system() -> System {
    System::start().expect("a thread can be started")
}

/// The exits of a system, as they come.
fn exits(system: &System) -> Receiver<Exit> {
    let (tell, exits) = unbounded();
    system.on_exit(move |exit| drop(tell.send(exit.clone())));
    exits
}

#[derive(Default)]
struct Counter(u32);

impl Actor for Counter {}

struct Add(u32);

impl Message for Add {
    type Reply = u32;
}

impl Handler<Add> for Counter {
    fn handle(&mut self, Add(number): Add, _: &mut Ctx<Self>) -> u32 {
        self.0 += number;
        self.0
    }
}

struct Panic;

impl Message for Panic {
    type Reply = ();
}

impl Handler<Panic> for Counter {
    fn handle(&mut self, _: Panic, _: &mut Ctx<Self>) {
        panic!("told to, at {}", self.0);
    }
}

/// Occupies the actor, and with it the thread, until the test lets go.
struct Block {
    begun: Sender<()>,
    end: Receiver<()>,
}

impl Message for Block {
    type Reply = ();
}

impl Handler<Block> for Counter {
    fn handle(&mut self, block: Block, _: &mut Ctx<Self>) {
        block.begun.send(()).expect("the test waits");
        // Disconnected is the signal.
        let _ = block.end.recv();
    }
}

/// Occupies the actor; returns what lets it go when dropped.
fn block(actor: &Ref<Counter>) -> Sender<()> {
    let ((begun, has_begun), (release, end)) = (bounded(1), bounded(0));
    actor
        .tell(Block { begun, end })
        .expect("the mailbox has room");
    has_begun.recv_timeout(LONG).expect("the actor runs");
    release
}

struct Stop;

impl Message for Stop {
    type Reply = ();
}

impl Handler<Stop> for Counter {
    fn handle(&mut self, _: Stop, ctx: &mut Ctx<Self>) {
        ctx.stop();
    }
}

#[test]
fn an_ask_is_answered() {
    let system = system();
    let counter = system
        .spawn("counter", Counter::default(), 4)
        .expect("the name is free");
    assert_eq!(counter.ask_blocking(Add(2), LONG), Ok(2));
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let tokio = tokio.expect("a runtime can be built");
    assert_eq!(tokio.block_on(counter.ask(Add(3), LONG)), Ok(5));
    assert_eq!(system.shutdown(LONG), Ok(()));
}

#[test]
fn a_panic_ends_one_actor_only() {
    let system = system();
    let exits = exits(&system);
    let victim = system
        .spawn("victim", Counter(7), 4)
        .expect("the name is free");
    let sibling = system
        .spawn("sibling", Counter(1), 4)
        .expect("the name is free");
    let panic = "told to, at 7".to_owned();
    let error = victim.ask_blocking(Panic, LONG).expect_err("it panics");
    assert_eq!(
        error,
        AskError::ActorPanicked {
            actor: "victim".into(),
            panic: panic.clone()
        }
    );
    let exit = exits.recv_timeout(LONG).expect("somebody is told");
    assert_eq!((&*exit.actor, exit.restarted), ("victim", false));
    assert_eq!(exit.reason, ExitReason::Panicked(panic));
    assert_eq!(
        victim.tell(Add(1)),
        Err(SendError::Stopped {
            actor: "victim".into()
        })
    );
    assert_eq!(sibling.ask_blocking(Add(1), LONG), Ok(2));
    system
        .spawn("victim", Counter(0), 4)
        .expect("its name is free again");
}

#[test]
fn asks_that_wait_hear_of_the_panic_before_them() {
    let system = system();
    let victim = system
        .spawn("victim", Counter(0), 4)
        .expect("the name is free");
    let release = block(&victim);
    victim.tell(Panic).expect("the mailbox has room");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| victim.ask_blocking(Add(1), LONG));
        // Whether the ask arrives before or after the end, it must not hang or be answered.
        drop(release);
        let error = waiting
            .join()
            .expect("no panic")
            .expect_err("its actor is gone");
        let gone = matches!(
            error,
            AskError::ActorPanicked { .. } | AskError::Stopped { .. }
        );
        assert!(gone, "{error}");
    });
}

#[test]
fn a_mailbox_is_bounded_over_all_references() {
    let system = system();
    let counter = system
        .spawn("counter", Counter::default(), 16)
        .expect("the name is free");
    let release = block(&counter);
    let clones: Vec<_> = (0..100).map(|_| counter.clone()).collect();
    let accepted = clones
        .iter()
        .filter(|clone| clone.tell(Add(1)).is_ok())
        .count();
    assert_eq!(accepted, 16);
    let full = SendError::Overloaded {
        actor: "counter".into(),
    };
    assert_eq!(counter.tell(Add(1)), Err(full));
    drop(release);
    // What was refused was not added, and the places come back.
    let total = loop {
        match counter.ask_blocking(Add(0), LONG) {
            Err(AskError::Overloaded { .. }) => std::thread::yield_now(),
            answer => break answer,
        }
    };
    assert_eq!(total, Ok(16));
}

/// Sends itself the same message for ever: the worst of neighbours.
struct Flood(Arc<AtomicU32>);

impl Actor for Flood {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        while ctx.me().tell(Add(1)).is_ok() {}
    }
}

impl Handler<Add> for Flood {
    fn handle(&mut self, _: Add, ctx: &mut Ctx<Self>) -> u32 {
        drop(ctx.me().tell(Add(1)));
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

#[test]
fn a_flood_leaves_siblings_their_turn() {
    let system = system();
    let handled = Arc::new(AtomicU32::new(0));
    let sibling = system
        .spawn("sibling", Counter::default(), 4)
        .expect("the name is free");
    let flood = Flood(Arc::clone(&handled));
    let flood = system
        .spawn("flood", flood, 1_000)
        .expect("the name is free");
    let start = Instant::now();
    let mut asked = 0;
    // Until the flood was one.
    while asked < 100 || handled.load(Ordering::Relaxed) < 1_000 {
        asked += 1;
        // Without a slice the flood never ends its turn.
        assert_eq!(sibling.ask_blocking(Add(1), LONG), Ok(asked));
        assert!(start.elapsed() < LONG, "the flood was none");
    }
    flood.stop();
    assert_eq!(system.shutdown(LONG), Ok(()));
}

#[test]
fn an_ask_has_a_deadline_and_is_not_worked_on_after_it() {
    let system = system();
    let counter = system
        .spawn("counter", Counter::default(), 4)
        .expect("the name is free");
    let release = block(&counter);
    let within = Duration::from_millis(10);
    let late = AskError::Deadline {
        actor: "counter".into(),
        within,
    };
    assert_eq!(counter.ask_blocking(Add(100), within), Err(late.clone()));
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let tokio = tokio.expect("a runtime can be built");
    assert_eq!(tokio.block_on(counter.ask(Add(100), within)), Err(late));
    drop(release);
    assert_eq!(counter.ask_blocking(Add(1), LONG), Ok(1));
}

#[test]
fn a_supervised_actor_is_restarted_within_its_budget() {
    let system = system();
    let exits = exits(&system);
    let restarts = Restarts::new(2, LONG);
    let born = Arc::new(AtomicU32::new(0));
    let factory = {
        let born = Arc::clone(&born);
        move || Counter(10 * born.fetch_add(1, Ordering::SeqCst))
    };
    let counter = system
        .spawn_supervised("counter", factory, 8, restarts)
        .expect("free name");
    for generation in 1..=2 {
        counter.tell(Panic).expect("it runs");
        assert!(
            exits
                .recv_timeout(LONG)
                .expect("somebody is told")
                .restarted
        );
        // A new instance with a state of its own, behind the same reference.
        let answer = counter.ask_blocking(Add(1), LONG);
        assert_eq!(answer, Ok(10 * generation + 1));
        assert_eq!(counter.generation(), u64::from(generation));
    }
    counter.tell(Panic).expect("it runs");
    assert!(
        !exits
            .recv_timeout(LONG)
            .expect("somebody is told")
            .restarted
    );
    assert_eq!(
        counter.tell(Add(1)),
        Err(SendError::Stopped {
            actor: "counter".into()
        })
    );
    assert_eq!(born.load(Ordering::SeqCst), 3);
}

#[test]
fn messages_of_an_older_generation_are_failed() {
    let system = system();
    let restarts = Restarts::new(1, LONG);
    let counter = system.spawn_supervised("counter", Counter::default, 8, restarts);
    let counter = counter.expect("the name is free");
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let tokio = tokio.expect("a runtime can be built");
    let release = block(&counter);
    counter.tell(Panic).expect("the mailbox has room");
    counter.tell(Add(1_000)).expect("the mailbox has room");
    let answer = tokio.block_on(async {
        let ask = counter.ask(Add(1_000), LONG);
        // The ask is sent at its first poll, before the actor gets to the panic.
        let release = async { drop(release) };
        tokio::join!(ask, release).0
    });
    assert_eq!(
        answer,
        Err(AskError::ActorRestarted {
            actor: "counter".into()
        })
    );
    assert_eq!(counter.ask_blocking(Add(1), LONG), Ok(1));
}

/// Panics before its first message.
struct Stillborn;

impl Actor for Stillborn {
    fn started(&mut self, _: &mut Ctx<Self>) {
        panic!("stillborn");
    }
}

#[test]
fn an_actor_that_cannot_start_uses_up_its_budget() {
    let system = system();
    let exits = exits(&system);
    let restarts = Restarts::new(3, LONG);
    let _ref = system.spawn_supervised("stillborn", || Stillborn, 1, restarts);
    let restarted: Vec<_> = exits.iter().take(4).map(|exit| exit.restarted).collect();
    assert_eq!(restarted, [true, true, true, false]);
}

#[test]
fn a_restart_waits_for_its_backoff_and_messages_wait_for_it() {
    let system = system();
    let exits = exits(&system);
    let pause = Duration::from_millis(80);
    let restarts = Restarts::new(3, LONG).after(Backoff {
        first: pause,
        most: LONG,
    });
    let counter = system.spawn_supervised("counter", Counter::default, 8, restarts);
    let counter = counter.expect("the name is free");
    let start = Instant::now();
    counter.tell(Panic).expect("it runs");
    assert!(
        exits
            .recv_timeout(LONG)
            .expect("somebody is told")
            .restarted
    );
    assert_eq!(counter.ask_blocking(Add(1), LONG), Ok(1));
    assert!(start.elapsed() >= pause);
}

#[test]
fn stopping_does_not_wait_for_a_backoff() {
    let system = system();
    let exits = exits(&system);
    let restarts = Restarts::new(3, LONG).after(Backoff {
        first: 10 * LONG,
        most: 10 * LONG,
    });
    let counter = system.spawn_supervised("counter", Counter::default, 8, restarts);
    counter
        .expect("the name is free")
        .tell(Panic)
        .expect("it runs");
    assert!(
        exits
            .recv_timeout(LONG)
            .expect("somebody is told")
            .restarted
    );
    assert_eq!(system.shutdown(LONG), Ok(()));
}

#[test]
fn a_group_is_restarted_together_and_ends_together() {
    let system = system();
    let exits = exits(&system);
    let group = Group::new(Restarts::new(1, LONG));
    let spawn = |name| {
        let counter = system.spawn_in(&group, name, Counter::default, 8);
        counter.expect("the name is free")
    };
    let (a, b) = (spawn("a"), spawn("b"));
    let outsider = system
        .spawn("c", Counter::default(), 8)
        .expect("the name is free");
    for counter in [&a, &b, &outsider] {
        assert_eq!(counter.ask_blocking(Add(5), LONG), Ok(5));
    }
    a.tell(Panic).expect("it runs");
    let next = || exits.recv_timeout(LONG).expect("somebody is told");
    let mut restarted = [next(), next()].map(|exit| {
        assert!(exit.restarted, "{exit:?}");
        exit.actor.to_string()
    });
    restarted.sort();
    assert_eq!(restarted, ["a", "b"]);
    for (counter, sum) in [(&a, 1), (&b, 1), (&outsider, 6)] {
        assert_eq!(counter.ask_blocking(Add(1), LONG), Ok(sum));
    }
    b.tell(Panic).expect("it runs");
    let mut ended = [next(), next()].map(|exit| {
        assert!(!exit.restarted, "{exit:?}");
        exit.actor.to_string()
    });
    ended.sort();
    assert_eq!(ended, ["a", "b"]);
    assert_eq!(outsider.ask_blocking(Add(1), LONG), Ok(7));
}

#[test]
fn a_group_forgets_those_that_have_stopped() {
    let system = system();
    let exits = exits(&system);
    let group = Group::new(Restarts::new(1, LONG));
    for name in ["a", "b", "c"] {
        let counter = system.spawn_in(&group, name, Counter::default, 8);
        assert_eq!(format!("{group:?}"), format!("{{{name:?}}}"));
        counter.expect("the name is free").stop();
        exits.recv_timeout(LONG).expect("somebody is told");
    }
}

/// Passes numbers on, or keeps them.
enum Relay {
    To(Ref<Self>),
    Keep(Vec<u32>, Sender<Vec<u32>>),
}

impl Actor for Relay {}

impl Handler<Add> for Relay {
    fn handle(&mut self, Add(number): Add, _: &mut Ctx<Self>) -> u32 {
        match self {
            Self::To(next) => next.tell(Add(number)).expect("the mailbox holds all"),
            Self::Keep(kept, done) => {
                kept.push(number);
                if kept.len() == 1_000 {
                    done.send(kept.clone()).expect("the test waits");
                }
            }
        }
        number
    }
}

#[test]
fn messages_between_two_actors_keep_their_order() {
    let system = system();
    let (done, kept) = bounded(1);
    let keep = Relay::Keep(Vec::new(), done);
    let last = system.spawn("last", keep, 1_000).expect("the name is free");
    let first = system
        .spawn("first", Relay::To(last), 1_000)
        .expect("the name is free");
    for number in 0..1_000 {
        first.tell(Add(number)).expect("the mailbox holds all");
    }
    let kept = kept.recv_timeout(LONG).expect("all arrive");
    assert!(kept.into_iter().eq(0..1_000));
}

/// Counts the ticks of its own timer.
struct Clock(Sender<u32>);

impl Actor for Clock {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        ctx.after(Duration::from_millis(1), Add(0))
            .expect("the first timer");
    }
}

impl Handler<Add> for Clock {
    fn handle(&mut self, Add(ticks): Add, ctx: &mut Ctx<Self>) -> u32 {
        // The test may have heard enough.
        let _ = self.0.send(ticks);
        ctx.after(Duration::from_millis(1), Add(ticks + 1))
            .expect("the only timer");
        ticks
    }
}

#[test]
fn timers_ring_until_the_actor_stops() {
    let system = system();
    let (tick, ticks) = unbounded();
    let clock = system
        .spawn("clock", Clock(tick), 1)
        .expect("the name is free");
    assert!(ticks.iter().take(10).eq(0..10));
    clock.stop();
    // The channel ends with the actor; a timer that went on would keep it.
    assert!(ticks.iter().count() < 10_000);
}

/// Sets more timers than it may.
struct Alarmist(Sender<usize>);

impl Actor for Alarmist {
    fn started(&mut self, ctx: &mut Ctx<Self>) {
        let set = (0..5_000)
            .take_while(|_| ctx.after(LONG, Add(1)).is_ok())
            .count();
        self.0.send(set).expect("the test waits");
    }
}

impl Handler<Add> for Alarmist {
    fn handle(&mut self, _: Add, _: &mut Ctx<Self>) -> u32 {
        0
    }
}

#[test]
fn timers_are_bounded() {
    let system = system();
    let (tell, set) = bounded(1);
    system
        .spawn("alarmist", Alarmist(tell), 1)
        .expect("the name is free");
    assert_eq!(set.recv_timeout(LONG), Ok(1_024));
    assert_eq!(
        system.shutdown(LONG),
        Ok(()),
        "timers do not hold up the end"
    );
}

/// Asks itself, which can never be answered.
struct Narcissus;

impl Actor for Narcissus {}

impl Handler<Stop> for Narcissus {
    fn handle(&mut self, _: Stop, ctx: &mut Ctx<Self>) {
        let error = ctx
            .me()
            .ask_blocking(Stop, LONG)
            .expect_err("it would wait for itself");
        assert!(matches!(error, AskError::OnRuntimeThread { .. }), "{error}");
    }
}

#[test]
fn an_actor_cannot_block_on_an_actor() {
    let system = system();
    let actor = system
        .spawn("narcissus", Narcissus, 2)
        .expect("the name is free");
    assert_eq!(actor.ask_blocking(Stop, LONG), Ok(()));
}

#[test]
fn stopping_handles_what_came_before() {
    let system = system();
    let exits = exits(&system);
    let counter = system
        .spawn("counter", Counter::default(), 8)
        .expect("the name is free");
    let release = block(&counter);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let tokio = tokio.expect("a runtime can be built");
    let (before, after) = tokio.block_on(async {
        let before = counter.ask(Add(1), LONG);
        let stop = async { counter.stop() };
        let after = counter.ask(Add(1), LONG);
        let release = async { drop(release) };
        let (before, (), after, ()) = tokio::join!(biased; before, stop, after, release);
        (before, after)
    });
    assert_eq!(before, Ok(1));
    assert_eq!(
        after,
        Err(AskError::Stopped {
            actor: "counter".into()
        })
    );
    let exit = exits.recv_timeout(LONG).expect("somebody is told");
    assert_eq!(exit.reason, ExitReason::Stopped);
}

#[test]
fn names_and_capacities_are_checked() {
    let system = system();
    let counter = system
        .spawn("counter", Counter::default(), 1)
        .expect("the name is free");
    let taken = system.spawn("counter", Counter::default(), 1).map(drop);
    assert_eq!(taken, Err(SpawnError::NameTaken("counter".to_owned())));
    let none = system.spawn("other", Counter::default(), 0).map(drop);
    assert_eq!(
        none,
        Err(SpawnError::Capacity {
            actor: "other".to_owned(),
            capacity: 0
        })
    );
    assert_eq!(counter.ask_blocking(Stop, LONG), Ok(()));
    assert_eq!(system.shutdown(LONG), Ok(()));
    let late = system.spawn("late", Counter::default(), 1).map(drop);
    assert_eq!(late, Err(SpawnError::Stopped("late".to_owned())));
    assert_eq!(
        system.shutdown(LONG),
        Ok(()),
        "shutting down twice is no error"
    );
}

#[test]
fn a_slow_actor_on_a_thread_of_its_own_holds_up_nobody() {
    let system = system();
    let exits = exits(&system);
    let slow = system
        .spawn_apart("slow", Counter::default, 4, Restarts::new(1, LONG))
        .expect("the name is free");
    let sibling = system
        .spawn("sibling", Counter::default(), 4)
        .expect("the name is free");
    let release = block(&slow);
    assert_eq!(sibling.ask_blocking(Add(1), LONG), Ok(1));
    drop(release);
    // It is supervised as any other, and its name is its own.
    drop(slow.ask_blocking(Panic, LONG));
    assert_eq!(slow.ask_blocking(Add(3), LONG), Ok(3));
    let again = system.spawn_apart("slow", Counter::default, 4, Restarts::new(1, LONG));
    assert_eq!(
        again.map(drop),
        Err(SpawnError::NameTaken("slow".to_owned()))
    );
    assert_eq!(slow.ask_blocking(Stop, LONG), Ok(()));
    let reasons = [(); 2].map(|()| exits.recv_timeout(LONG).map(|exit| exit.restarted));
    assert_eq!(reasons, [Ok(true), Ok(false)]);
    assert_eq!(system.shutdown(LONG), Ok(()));
}

#[test]
fn shutting_down_has_a_deadline() {
    let system = system();
    let stuck = system
        .spawn("stuck", Counter::default(), 1)
        .expect("the name is free");
    let release = block(&stuck);
    let start = Instant::now();
    let late = system.shutdown(Duration::from_millis(20));
    assert_eq!(late, Err(ShutdownError::Late(vec!["stuck".to_owned()])));
    assert!(start.elapsed() < LONG);
    drop(release);
    assert_eq!(system.shutdown(LONG), Ok(()));
}

#[test]
fn dropping_the_system_stops_its_actors() {
    let system = system();
    let exits = exits(&system);
    let counter = system
        .spawn("counter", Counter::default(), 1)
        .expect("the name is free");
    drop(system);
    assert_eq!(
        exits.recv_timeout(LONG).map(|exit| exit.reason),
        Ok(ExitReason::Stopped)
    );
    assert_eq!(
        counter.tell(Add(1)),
        Err(SendError::Stopped {
            actor: "counter".into()
        })
    );
}
