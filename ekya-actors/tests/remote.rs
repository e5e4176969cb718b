//! Actors of other nodes, over real sockets on the loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ekya_actors::{
    Actor, AskError, Ctx, FindError, Handler, Message, Node, Ref, SendError, ShutdownError,
};
use site::{Add, Counter, Fail, Local, PATIENCE, Site, connect};

async fn pair(site: &Site) -> (Node, Node, Ref<Counter>) {
    let (a, b) = (site.node("a"), site.node("b"));
    let counter = b.system().spawn("counter", Counter::default(), 64).unwrap();
    b.publish(&counter);
    connect(&a, &b).await;
    let far = a.find::<Counter>("counter", "b").await.unwrap();
    (a, b, far)
}

#[tokio::test]
async fn an_actor_of_another_node_is_called_like_one_here() {
    let (a, b, far) = pair(&Site::new()).await;
    assert_eq!((far.name(), far.node()), ("counter", Some("b")));
    assert_eq!(far.ask(Add(2), PATIENCE).await, Ok(2));
    far.tell(Add(3)).unwrap();
    assert_eq!(far.ask(Add(0), PATIENCE).await, Ok(5));
    a.shutdown(PATIENCE).unwrap();
    b.shutdown(PATIENCE).unwrap();
}

#[tokio::test]
async fn panics_and_ends_are_heard_of() {
    let (_a, b, far) = pair(&Site::new()).await;
    let panicked = far.ask(Fail, PATIENCE).await;
    assert!(
        matches!(panicked, Err(AskError::ActorPanicked { panic, .. }) if panic == "on purpose")
    );
    let stopped = far.ask(Add(1), PATIENCE).await;
    assert!(
        matches!(stopped, Err(AskError::Stopped { .. })),
        "{stopped:?}"
    );
    b.shutdown(PATIENCE).unwrap();
    let lost = far.ask(Add(1), PATIENCE).await;
    assert!(
        matches!(lost, Err(AskError::Lost { .. } | AskError::Stopped { .. })),
        "{lost:?}"
    );
}

#[tokio::test]
async fn an_actor_that_shuts_its_own_node_down_changes_nothing() {
    struct Closer(Node);
    impl Actor for Closer {}
    struct Close;
    impl Message for Close {
        type Reply = Result<(), ShutdownError>;
    }
    impl Handler<Close> for Closer {
        fn handle(&mut self, _: Close, _: &mut Ctx<Self>) -> Result<(), ShutdownError> {
            self.0.shutdown(PATIENCE)
        }
    }
    let (_a, b, far) = pair(&Site::new()).await;
    let closer = b.system().spawn("closer", Closer(b.clone()), 4).unwrap();
    let closed = closer.ask(Close, PATIENCE).await.unwrap();
    assert!(
        matches!(closed, Err(ShutdownError::OnRuntimeThread)),
        "{closed:?}"
    );
    assert_eq!(far.ask(Add(1), PATIENCE).await, Ok(1));
    b.shutdown(PATIENCE).unwrap();
}

#[tokio::test]
async fn messages_that_cannot_travel_are_not_sent() {
    let (_a, _b, far) = pair(&Site::new()).await;
    let sent = far.tell(Local);
    assert!(
        matches!(sent, Err(SendError::Untransportable { .. })),
        "{sent:?}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (a, _b, _far) = pair(&Site::new()).await;
    let unknown = a.find::<Counter>("nobody", "b").await;
    assert!(
        matches!(unknown, Err(FindError::Unknown { .. })),
        "{unknown:?}"
    );
    let nowhere = a.find::<Counter>("counter", "c").await;
    assert!(
        matches!(nowhere, Err(FindError::NotConnected(_))),
        "{nowhere:?}"
    );
}

#[tokio::test]
async fn a_node_tells_what_it_has_published_and_forgets_what_has_ended() {
    let (a, b, far) = pair(&Site::new()).await;
    let mut published = a.published_by("b").await.unwrap();
    published.sort();
    let expected = [("counter", "counter"), ("node", "ekya/node")];
    let expected = expected.map(|(name, of)| (name.to_owned(), of.to_owned()));
    assert_eq!(published, expected);
    assert!(b.system().actors().contains(&"counter".to_owned()));
    drop(far.ask(Fail, PATIENCE).await);
    while a.find::<Counter>("counter", "b").await.is_ok() {}
    let another = b.system().spawn("counter", Counter::default(), 4).unwrap();
    b.publish(&another);
    let found: Ref<Counter> = a.find("counter", "b").await.unwrap();
    assert_eq!(found.ask(Add(3), PATIENCE).await, Ok(3));
}

#[tokio::test]
async fn a_list_may_be_longer_than_a_message() {
    let (a, b, _far) = pair(&Site::new()).await;
    for number in 0..2000 {
        let name = format!("counter-{number}-with-a-name-of-some-length");
        b.publish(&b.system().spawn(&name, Counter::default(), 1).unwrap());
    }
    assert_eq!(a.published_by("b").await.unwrap().len(), 2002);
    assert_eq!(b.published_by("b").await.unwrap().len(), 2002);
}

/// Keeps the thread of its system's actors until it is told to go on.
struct Blocker;

impl Actor for Blocker {}

struct Block(Receiver<()>);

impl Message for Block {
    type Reply = ();
}

impl Handler<Block> for Blocker {
    fn handle(&mut self, Block(until): Block, _: &mut Ctx<Self>) {
        // The sender is dropped.
        let _ = until.recv();
    }
}

#[tokio::test]
async fn a_full_mailbox_is_heard_of_on_the_other_node() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    let counter = b.system().spawn("counter", Counter::default(), 4).unwrap();
    b.publish(&counter);
    connect(&a, &b).await;
    let far: Ref<Counter> = a.find("counter", "b").await.unwrap();
    let (go_on, until) = bounded(0);
    let blocker = b.system().spawn("blocker", Blocker, 1).unwrap();
    blocker.tell(Block(until)).unwrap();
    for _ in 0..4 {
        far.tell(Add(1)).unwrap();
    }
    let refused = far.ask(Add(100), PATIENCE).await;
    assert!(
        matches!(refused, Err(AskError::Overloaded { .. })),
        "{refused:?}"
    );
    // A tell hears of it late; some that were accepted here may find room there after all.
    let start = Instant::now();
    let refused = loop {
        match far.tell(Add(0)) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
        assert!(start.elapsed() < PATIENCE, "not refused");
    };
    assert!(
        matches!(refused, SendError::Overloaded { .. }),
        "{refused:?}"
    );
    drop::<Sender<()>>(go_on);
    let sum = loop {
        match far.ask(Add(0), PATIENCE).await {
            Err(AskError::Overloaded { .. }) => tokio::task::yield_now().await,
            sum => break sum,
        }
    };
    assert_eq!(sum, Ok(4));
}

#[tokio::test]
async fn a_deadline_holds_across_nodes() {
    let (_a, _b, far) = pair(&Site::new()).await;
    let late = far.ask(Add(1), Duration::ZERO).await;
    assert!(matches!(late, Err(AskError::Deadline { .. })), "{late:?}");
}
