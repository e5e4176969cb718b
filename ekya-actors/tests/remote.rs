//! Actors of other nodes, over real sockets on the loopback.

mod site;

use std::time::Duration;

use ekya_actors::{AskError, FindError, Node, Ref, SendError};
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
async fn a_deadline_holds_across_nodes() {
    let (_a, _b, far) = pair(&Site::new()).await;
    let late = far.ask(Add(1), Duration::ZERO).await;
    assert!(matches!(late, Err(AskError::Deadline { .. })), "{late:?}");
}
