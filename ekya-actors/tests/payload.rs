//! Large payloads, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod relay;
mod site;

use std::time::Duration;

use bytes::Bytes;
use ekya_actors::{Detection, Node, PayloadError};
use relay::Relay;
use site::{PATIENCE, Site, connect};

const MEBIBYTE: usize = 1 << 20;

fn bytes(length: usize) -> Bytes {
    (0..length)
        .map(|i| (i * 31 % 251) as u8)
        .collect::<Vec<u8>>()
        .into()
}

async fn pair(site: &Site) -> (Node, Node) {
    let (a, b) = (site.node("a"), site.node("b"));
    connect(&a, &b).await;
    (a, b)
}

#[tokio::test]
async fn a_payload_comes_whole() {
    let (a, b) = pair(&Site::new()).await;
    for length in [0, 1, 3 * MEBIBYTE + 7] {
        let payload = b.keep(bytes(length), PATIENCE).unwrap();
        assert_eq!((payload.node(), payload.length()), ("b", length as u64));
        assert_eq!(a.fetch(&payload, length, PATIENCE).await, Ok(bytes(length)));
    }
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_gone() {
    let (a, b) = pair(&Site::new()).await;
    let dropped = b.keep(bytes(10), PATIENCE).unwrap();
    b.drop_payload(&dropped);
    let lapsed = b.keep(bytes(10), Duration::ZERO).unwrap();
    for payload in [dropped, lapsed] {
        let gone = a.fetch(&payload, 10, PATIENCE).await;
        assert_eq!(gone, Err(PayloadError::Gone("b".to_owned())));
    }
}

#[tokio::test]
async fn nobody_is_made_to_take_more_than_it_wants() {
    let (a, b) = pair(&Site::new()).await;
    let payload = b.keep(bytes(11), PATIENCE).unwrap();
    let refused = a.fetch(&payload, 10, PATIENCE).await;
    let (length, at_most) = (11, 10);
    assert_eq!(refused, Err(PayloadError::TooLong { length, at_most }));
}

#[tokio::test]
async fn a_node_has_its_own_payloads_at_hand() {
    let node = Site::new().node("a");
    let payload = node.keep(bytes(11), PATIENCE).unwrap();
    assert_eq!(node.fetch(&payload, 11, PATIENCE).await, Ok(bytes(11)));
    let (length, at_most) = (11, 10);
    let refused = node.fetch(&payload, 10, PATIENCE).await;
    assert_eq!(refused, Err(PayloadError::TooLong { length, at_most }));
    node.drop_payload(&payload);
    let gone = node.fetch(&payload, 11, PATIENCE).await;
    assert_eq!(gone, Err(PayloadError::Gone("a".to_owned())));
}

#[tokio::test]
async fn a_shelf_has_an_end() {
    let (_a, b) = pair(&Site::new()).await;
    let large = Bytes::from(vec![0; 600 * MEBIBYTE]);
    let first = b.keep(large.clone(), PATIENCE).unwrap();
    let refused = b.keep(large.clone(), PATIENCE);
    assert!(
        matches!(refused, Err(PayloadError::Full { .. })),
        "{refused:?}"
    );
    b.drop_payload(&first);
    assert!(b.keep(large, PATIENCE).is_ok());
}

/// The connection breaks in the middle, and the transfer goes on where it was.
#[tokio::test]
async fn a_transfer_outlives_its_connection() {
    let site = Site::new();
    let idle = Duration::from_millis(300);
    let patient = Detection {
        probe_every: Duration::from_secs(20),
        answer_within: Duration::from_secs(5),
        suspect_for: Duration::from_secs(60),
    };
    let relays = [Relay::start().await, Relay::start().await];
    let start = |name, relay: &Relay| {
        let builder = site.builder(name).idle_timeout(idle).detection(patient);
        let node = builder
            .advertise(relay.address().to_string())
            .start()
            .unwrap();
        relay.lead_to(node.listens_at());
        node
    };
    let (a, b) = (start("a", &relays[0]), start("b", &relays[1]));
    a.connect(relays[1].address()).await.unwrap();
    let whole = bytes(8 * MEBIBYTE);
    let payload = b.keep(whole.clone(), PATIENCE).unwrap();
    relays
        .iter()
        .for_each(|relay| relay.delay(Duration::from_millis(5)));
    let fetching = {
        let a = a.clone();
        tokio::spawn(async move { a.fetch(&payload, 8 * MEBIBYTE, 3 * PATIENCE).await })
    };
    let passed = relays[1].packets();
    while relays[1].packets() < passed + 500 {
        tokio::task::yield_now().await;
    }
    relays.iter().for_each(|relay| relay.block(true));
    while a.peers().iter().any(|peer| peer.is_connected) {
        tokio::task::yield_now().await;
    }
    assert!(!fetching.is_finished());
    relays.iter().for_each(|relay| relay.block(false));
    assert_eq!(fetching.await.unwrap(), Ok(whole));
}
