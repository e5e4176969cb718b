//! Answers that come later, and streams of them, here and across nodes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::sync::Barrier;
use std::time::Duration;

use ekya_actors::{
    Actor, AskError, Ctx, Group, Handler, ItemError, Items, Message, Messages, Node, Receive, Ref,
    Remote, Reply, Restarts, SendError, Streams, System, Wire,
};
use serde::{Deserialize, Serialize};
use site::{PATIENCE, Site, connect, until};

/// Keeps what it is asked until it is told to answer.
#[derive(Default)]
struct Gate {
    waiting: Vec<(u64, Reply<Wait>)>,
    streams: Vec<Items<Count>>,
}

impl Actor for Gate {}

impl Remote for Gate {
    const TYPE: &'static str = "gate";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Wait>().add::<Open>().add_stream::<Count>();
    }
}

/// Answered with its number, once the gate opens.
#[derive(Serialize, Deserialize)]
struct Wait(u64);

impl Message for Wait {
    type Reply = u64;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("gate/wait", 1));
}

impl Receive<Wait> for Gate {
    fn receive(&mut self, Wait(number): Wait, reply: Reply<Wait>, _: &mut Ctx<Self>) {
        self.waiting.push((number, reply));
    }
}

/// What becomes of those who wait; how many there were.
#[derive(Serialize, Deserialize)]
enum Open {
    /// They are answered, the last first.
    Answer,
    /// They are not.
    Forget,
    /// The actor panics.
    Panic,
    /// Those who have gone are forgotten.
    Prune,
    /// Nothing.
    Look,
}

impl Message for Open {
    type Reply = usize;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("gate/open", 1));
}

impl Handler<Open> for Gate {
    fn handle(&mut self, open: Open, _: &mut Ctx<Self>) -> usize {
        let waiting = self.waiting.len() + self.streams.len();
        match open {
            Open::Answer => {
                let answered = self.waiting.drain(..).rev();
                answered.for_each(|(number, reply)| reply.send(number));
            }
            Open::Forget => {
                self.waiting.clear();
                self.streams.clear();
            }
            Open::Panic => panic!("the gate breaks"),
            Open::Prune => {
                self.waiting.retain(|(_, reply)| reply.is_wanted());
                self.streams.retain(Items::is_wanted);
            }
            Open::Look => {}
        }
        waiting
    }
}

/// Answered by the numbers below this one; without one, by nothing until the gate opens.
#[derive(Serialize, Deserialize)]
struct Count(Option<u64>);

impl Message for Count {
    type Reply = u64;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("gate/count", 1));
}

/// Told when a stream has been written.
struct Counted;

impl Message for Counted {
    type Reply = ();
}

impl Handler<Counted> for Gate {
    fn handle(&mut self, _: Counted, _: &mut Ctx<Self>) {}
}

impl Streams<Count> for Gate {
    fn stream(&mut self, Count(to): Count, items: Items<Count>, ctx: &mut Ctx<Self>) {
        let Some(to) = to else {
            return self.streams.push(items);
        };
        let counting = async move {
            for number in 0..to {
                if items.send(number).await.is_err() {
                    break;
                }
            }
            Counted
        };
        ctx.run(counting).unwrap();
    }
}

/// A gate, here and as another node sees it.
struct Gates {
    here: Ref<Gate>,
    there: Ref<Gate>,
    nodes: [Node; 2],
}

impl Gates {
    async fn new() -> Self {
        let site = Site::new();
        let nodes = [site.node("a"), site.node("b")];
        let here = nodes[1].system().spawn("gate", Gate::default(), 64);
        let here = here.unwrap();
        nodes[1].publish(&here);
        connect(&nodes[0], &nodes[1]).await;
        let there = nodes[0].find("gate", "b").await.unwrap();
        Self { here, there, nodes }
    }

    fn both(&self) -> [Ref<Gate>; 2] {
        [self.here.clone(), self.there.clone()]
    }
}

/// Waits until so many wait.
async fn waiting(gate: &Ref<Gate>, wanted: usize) {
    while gate.ask(Open::Look, PATIENCE).await.unwrap() != wanted {
        tokio::task::yield_now().await;
    }
}

type Waiting = tokio::task::JoinHandle<Result<u64, AskError>>;

fn wait(gate: &Ref<Gate>, number: u64) -> Waiting {
    let gate = gate.clone();
    tokio::spawn(async move { gate.ask(Wait(number), PATIENCE).await })
}

#[tokio::test]
async fn an_actor_answers_when_it_can() {
    let gates = Gates::new().await;
    for gate in gates.both() {
        let asks: Vec<Waiting> = (0..8).map(|number| wait(&gate, number)).collect();
        waiting(&gate, 8).await;
        assert_eq!(gate.ask(Open::Answer, PATIENCE).await, Ok(8));
        for (number, ask) in (0..).zip(asks) {
            assert_eq!(ask.await.unwrap(), Ok(number));
        }
    }
}

#[tokio::test]
async fn what_is_left_unanswered_is_heard_of() {
    let gates = Gates::new().await;
    for gate in gates.both() {
        let ask = wait(&gate, 1);
        waiting(&gate, 1).await;
        assert_eq!(gate.ask(Open::Forget, PATIENCE).await, Ok(1));
        let answer = ask.await.unwrap();
        assert!(
            matches!(answer, Err(AskError::Unanswered { .. })),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_panic_is_heard_of_by_all_who_wait_for_its_actor() {
    let gates = Gates::new().await;
    let mut asks = vec![wait(&gates.here, 1), wait(&gates.there, 2)];
    waiting(&gates.here, 2).await;
    let breaking = gates.here.clone();
    asks.push(tokio::spawn(async move {
        breaking.ask(Open::Panic, PATIENCE).await.map(|n| n as u64)
    }));
    for ask in asks {
        let answer = ask.await.unwrap();
        assert!(
            matches!(&answer, Err(AskError::ActorPanicked { panic, .. }) if panic == "the gate breaks"),
            "{answer:?}"
        );
    }
}

/// Panics at a message, when it is let.
struct Doomed;

static DOOM: Barrier = Barrier::new(2);

impl Actor for Doomed {}

impl Remote for Doomed {
    const TYPE: &'static str = "doomed";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Doom>();
    }
}

#[derive(Serialize, Deserialize)]
struct Doom;

impl Message for Doom {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("doomed/doom", 1));
}

impl Handler<Doom> for Doomed {
    fn handle(&mut self, _: Doom, _: &mut Ctx<Self>) {
        // The test knows that it is here; the test lets it go on.
        DOOM.wait();
        DOOM.wait();
        panic!("doomed");
    }
}

#[tokio::test]
async fn a_panic_is_heard_of_by_all_whose_messages_wait_for_its_actor() {
    let gates = Gates::new().await;
    let [a, b] = &gates.nodes;
    let here = b.system().spawn("doomed", Doomed, 4).unwrap();
    b.publish(&here);
    let there: Ref<Doomed> = a.find("doomed", "b").await.unwrap();
    let ask = |doomed: &Ref<Doomed>| {
        let doomed = doomed.clone();
        tokio::spawn(async move { doomed.ask(Doom, PATIENCE).await })
    };
    let let_it = || tokio::task::spawn_blocking(|| DOOM.wait());
    let first = ask(&here);
    let_it().await.unwrap();
    let asks = [first, ask(&here), ask(&there)];
    until(|| {
        let (actors, _) = b.system().state();
        let doomed = actors.iter().find(|actor| actor.name == "doomed");
        doomed.unwrap().waiting == 2
    })
    .await;
    let_it().await.unwrap();
    for ask in asks {
        let answer = ask.await.unwrap();
        assert!(
            matches!(&answer, Err(AskError::ActorPanicked { panic, .. }) if panic == "doomed"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_restart_with_its_group_is_heard_of_by_all_who_wait_for_an_actor() {
    let gates = Gates::new().await;
    let [a, b] = &gates.nodes;
    let group = Group::new(Restarts::new(1, PATIENCE));
    let spawn = |name| b.system().spawn_in(&group, name, Gate::default, 8).unwrap();
    let (here, other) = (spawn("one"), spawn("other"));
    b.publish(&here);
    let there: Ref<Gate> = a.find("one", "b").await.unwrap();
    let asks = [wait(&here, 1), wait(&there, 2)];
    waiting(&here, 2).await;
    drop(other.ask(Open::Panic, PATIENCE).await);
    for ask in asks {
        let answer = ask.await.unwrap();
        assert!(
            matches!(answer, Err(AskError::ActorRestarted { .. })),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn an_asker_that_has_gone_is_known_to_have() {
    let gates = Gates::new().await;
    for gate in gates.both() {
        let ask = wait(&gate, 1);
        let replies = gate.stream(Count(None), 4).unwrap();
        waiting(&gate, 2).await;
        drop(replies);
        ask.abort();
        while gate.ask(Open::Prune, PATIENCE).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn an_asker_whose_session_has_ended_is_known_to_have_gone() {
    let gates = Gates::new().await;
    let gate = gates.there.clone();
    let hour = Duration::from_secs(3600);
    let ask = tokio::spawn(async move { gate.ask(Wait(1), hour).await });
    waiting(&gates.here, 1).await;
    gates.nodes[0].access().revoke("b");
    gates.nodes[0].enforce_access();
    let lost = ask.await.unwrap();
    assert!(matches!(lost, Err(AskError::Lost { .. })), "{lost:?}");
    let pruned = async {
        while gates.here.ask(Open::Prune, PATIENCE).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, pruned).await.unwrap();
}

#[tokio::test]
async fn a_stream_brings_all_in_order_whatever_room_there_is() {
    let gates = Gates::new().await;
    for gate in gates.both() {
        for room in [1, 2, 7, 4096] {
            let mut replies = gate.stream(Count(Some(500)), room).unwrap();
            for number in 0..500 {
                assert_eq!(replies.next(PATIENCE).await, Ok(Some(number)));
            }
            assert_eq!(replies.next(PATIENCE).await, Ok(None));
            assert_eq!(replies.next(PATIENCE).await, Ok(None));
        }
    }
}

#[tokio::test]
async fn a_stream_waits_and_ends_with_its_actor() {
    let gates = Gates::new().await;
    for gate in gates.both() {
        let mut replies = gate.stream(Count(None), 4).unwrap();
        let early = replies.next(Duration::from_millis(1)).await;
        assert!(matches!(early, Err(AskError::Deadline { .. })), "{early:?}");
        waiting(&gate, 1).await;
        gate.ask(Open::Forget, PATIENCE).await.unwrap();
        assert_eq!(replies.next(PATIENCE).await, Ok(None));
    }
    let mut streams = gates
        .both()
        .map(|gate| gate.stream(Count(None), 4).unwrap());
    waiting(&gates.here, 2).await;
    drop(gates.here.ask(Open::Panic, PATIENCE).await);
    for replies in &mut streams {
        let ended = replies.next(PATIENCE).await;
        assert!(
            matches!(ended, Err(AskError::ActorPanicked { .. })),
            "{ended:?}"
        );
        assert_eq!(replies.next(PATIENCE).await, Ok(None));
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_node() {
    let gates = Gates::new().await;
    let mut replies = gates.there.stream(Count(None), 4).unwrap();
    waiting(&gates.here, 1).await;
    gates.nodes[1].shutdown(PATIENCE).unwrap();
    let ended = replies.next(PATIENCE).await;
    assert!(
        matches!(ended, Err(AskError::Lost { .. } | AskError::Stopped { .. })),
        "{ended:?}"
    );
}

#[tokio::test]
async fn one_answer_and_a_stream_are_not_taken_for_each_other() {
    /// Named as the gate's stream is, and asked for one answer.
    #[derive(Serialize, Deserialize)]
    struct CountOnce(Option<u64>);
    impl Message for CountOnce {
        type Reply = u64;
        const WIRE: Option<Wire<Self>> = Some(Wire::new("gate/count", 1));
    }
    struct Other;
    impl Actor for Other {}
    impl Remote for Other {
        const TYPE: &'static str = "gate";
        fn messages(messages: &mut Messages<Self>) {
            messages.add::<CountOnce>();
        }
    }
    impl Handler<CountOnce> for Other {
        fn handle(&mut self, _: CountOnce, _: &mut Ctx<Self>) -> u64 {
            0
        }
    }
    let gates = Gates::new().await;
    let other: Ref<Other> = gates.nodes[0].find("gate", "b").await.unwrap();
    let refused = other.ask(CountOnce(None), PATIENCE).await;
    assert!(
        matches!(refused, Err(AskError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_stream_ends_with_an_item_that_cannot_be_read() {
    /// Named as the gate's stream is, with items that are longer.
    #[derive(Serialize, Deserialize)]
    struct CountTwice(Option<u64>);
    impl Message for CountTwice {
        type Reply = (u64, u64);
        const WIRE: Option<Wire<Self>> = Some(Wire::new("gate/count", 1));
    }
    struct Other;
    impl Actor for Other {}
    impl Remote for Other {
        const TYPE: &'static str = "gate";
        fn messages(messages: &mut Messages<Self>) {
            messages.add_stream::<CountTwice>();
        }
    }
    impl Streams<CountTwice> for Other {
        fn stream(&mut self, _: CountTwice, _: Items<CountTwice>, _: &mut Ctx<Self>) {}
    }
    let gates = Gates::new().await;
    let other: Ref<Other> = gates.nodes[0].find("gate", "b").await.unwrap();
    let mut replies = other.stream(CountTwice(Some(4)), 2).unwrap();
    let refused = replies.next(PATIENCE).await;
    assert!(
        matches!(refused, Err(AskError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(replies.next(PATIENCE).await, Ok(None));
}

/// Keeps replies in futures that do not end, and is never content for long.
#[derive(Default)]
struct Keeper {
    starts_badly: bool,
}

impl Actor for Keeper {
    fn started(&mut self, _: &mut Ctx<Self>) {
        assert!(!self.starts_badly, "it starts badly");
    }
}

/// Kept in a future.
struct Keep {
    /// The handler panics when it has begun the future.
    panics: bool,
}

impl Message for Keep {
    type Reply = ();
}

impl Receive<Keep> for Keeper {
    fn receive(&mut self, keep: Keep, reply: Reply<Keep>, ctx: &mut Ctx<Self>) {
        ctx.run(async move {
            std::future::pending::<()>().await;
            reply.send(());
            Counted
        })
        .unwrap();
        assert!(!keep.panics, "it cannot keep it");
    }
}

impl Handler<Counted> for Keeper {
    fn handle(&mut self, _: Counted, _: &mut Ctx<Self>) {}
}

#[tokio::test]
async fn what_a_future_has_kept_goes_down_with_its_actor() {
    let system = System::start().unwrap();
    let restarts = Restarts::new(1, PATIENCE);
    let keeper = system.spawn_supervised("keeper", Keeper::default, 4, restarts);
    let keeper = keeper.unwrap();
    let keep = |panics| {
        let keeper = keeper.clone();
        async move { keeper.ask(Keep { panics }, PATIENCE).await }
    };
    // Restarted, and ended; in a future that runs already, and in one that does not yet.
    for _ in 0..2 {
        let (kept, not_kept) = tokio::join!(keep(false), keep(true));
        for answer in [kept, not_kept] {
            assert!(
                matches!(answer, Err(AskError::ActorPanicked { .. })),
                "{answer:?}"
            );
        }
    }
    let keeper = system.spawn("another", Keeper::default(), 4).unwrap();
    let kept = keeper.ask(Keep { panics: false }, PATIENCE);
    let (kept, ()) = tokio::join!(kept, async { keeper.stop() });
    assert!(matches!(kept, Err(AskError::Stopped { .. })), "{kept:?}");
}

#[test]
fn an_actor_that_never_starts_holds_up_no_other() {
    let system = System::start().unwrap();
    let other = system.spawn("other", Keeper::default(), 4).unwrap();
    let starts_badly = || Keeper { starts_badly: true };
    let ever = Restarts::new(u32::MAX, Duration::MAX);
    let never = system.spawn_supervised("never", starts_badly, 4, ever);
    let never = never.unwrap();
    while never.generation() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(other.ask_blocking(Counted, PATIENCE), Ok(()));
    never.stop();
    system.shutdown(PATIENCE).unwrap();
}

/// Says what became of items that it sent.
#[test]
fn items_without_room_are_refused() {
    struct Flood;
    impl Actor for Flood {}
    impl Handler<Counted> for Flood {
        fn handle(&mut self, _: Counted, _: &mut Ctx<Self>) {}
    }
    struct Pour;
    impl Message for Pour {
        type Reply = Vec<Option<ItemError>>;
    }
    impl Streams<Pour> for Flood {
        fn stream(&mut self, _: Pour, items: Items<Pour>, _: &mut Ctx<Self>) {
            let sent = (0..3).map(|_| items.try_send(Vec::new()).err()).collect();
            // Room was made for one: the first is taken from the front by nobody yet.
            assert_eq!(items.try_send(sent), Err(ItemError::Full));
        }
    }
    let system = System::start().unwrap();
    let flood = system.spawn("flood", Flood, 4).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut replies = flood.stream(Pour, 2).unwrap();
        // Nothing is taken until all was poured.
        flood.ask(Counted, PATIENCE).await.unwrap();
        assert_eq!(replies.next(PATIENCE).await, Ok(Some(Vec::new())));
        assert_eq!(replies.next(PATIENCE).await, Ok(Some(Vec::new())));
        assert_eq!(replies.next(PATIENCE).await, Ok(None), "no panic");
    });
}

#[test]
fn a_future_that_panics_ends_its_actor_and_no_other() {
    struct Runner;
    impl Actor for Runner {}
    struct Run;
    impl Message for Run {
        type Reply = ();
    }
    impl Handler<Run> for Runner {
        fn handle(&mut self, _: Run, ctx: &mut Ctx<Self>) {
            ctx.run(async {
                assert!(std::hint::black_box(false), "in a future");
                Run
            })
            .unwrap();
        }
    }
    let system = System::start().unwrap();
    let runner = system.spawn("runner", Runner, 4).unwrap();
    let other = system.spawn("other", Runner, 4).unwrap();
    assert_eq!(runner.ask_blocking(Run, PATIENCE), Ok(()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let exit = runtime.block_on(runner.ended());
    assert_eq!(
        exit.reason,
        ekya_actors::ExitReason::Panicked("in a future".to_owned())
    );
    assert!(matches!(runner.tell(Run), Err(SendError::Stopped { .. })));
    assert!(system.actors().contains(&other.name().to_owned()));
}
