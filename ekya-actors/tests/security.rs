//! Peers that are not whom they should be, or do not do what they should: each is turned away with a
//! reason and counted, and the others do not notice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod intruder;
mod site;

use std::io::ErrorKind;
use std::time::Instant;

use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Identity, IdentityError, Role};
use ekya_actors::{AskError, ConnectError, FindError, ListenError, Node, NodeError, Ref};
use intruder::{Intruder, greeting, header};
use site::{Add, Counter, PATIENCE, Site, connect, until};

const PROTOCOL: &[u8] = b"ekya/1";

/// Two nodes that go on talking, whatever a third does to the second.
struct Friends {
    site: Site,
    _a: Node,
    b: Node,
    counter: Ref<Counter>,
}

impl Friends {
    async fn new() -> Self {
        let site = Site::new();
        let (a, b) = (site.node("a"), site.node("b"));
        let counter = b.system().spawn("counter", Counter::default(), 64).unwrap();
        b.publish(&counter);
        connect(&a, &b).await;
        let counter = a.find("counter", "b").await.unwrap();
        Self {
            site,
            _a: a,
            b,
            counter,
        }
    }

    async fn are_unaffected(&self) {
        assert!(self.counter.ask(Add(1), PATIENCE).await.is_ok());
    }
}

#[tokio::test]
async fn a_certificate_of_another_site_is_refused() {
    let friends = Friends::new().await;
    let stranger = Site::new().node("c");
    let refused = stranger.connect(friends.b.listens_at()).await;
    assert!(
        matches!(refused, Err(ConnectError::Unreachable { .. })),
        "{refused:?}"
    );
    // One that trusts this site, but is not of it.
    let other = Authority::create(1).unwrap();
    let intruder = Intruder::new(&other, friends.site.authority(), "c", PROTOCOL);
    let why = intruder.say(friends.b.listens_at(), &greeting()).await;
    assert!(why.to_string().contains("certificate"), "{why}");
    until(|| friends.b.connections().failed_handshakes >= 1).await;
    friends.are_unaffected().await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let friends = Friends::new().await;
    let late = Node::builder(friends.site.expired("c")).start().unwrap();
    let refused = late.connect(friends.b.listens_at()).await;
    assert!(refused.is_err(), "{refused:?}");
    friends.are_unaffected().await;
}

#[tokio::test]
async fn a_certificate_that_names_nobody_is_refused() {
    let friends = Friends::new().await;
    let (certificate, key) = friends.site.signed(vec!["peer.ekya".to_owned()], -1);
    let authority = friends.site.authority();
    let nobody = Intruder::with(&certificate, &key, authority, PROTOCOL);
    let why = nobody.say(friends.b.listens_at(), &greeting()).await;
    assert!(why.to_string().contains("names nobody"), "{why}");
    until(|| friends.b.connections().failed_handshakes >= 1).await;
    friends.are_unaffected().await;
}

#[tokio::test]
async fn another_node_at_the_address_of_a_peer_is_not_taken_for_it() {
    let site = Site::new();
    let (a, b) = (site.node("a"), site.node("b"));
    connect(&a, &b).await;
    let address = b.listens_at();
    b.shutdown(PATIENCE).unwrap();
    drop(b);
    let other = site.builder("z").listen(address).start().unwrap();
    let counter = other
        .system()
        .spawn("counter", Counter::default(), 64)
        .unwrap();
    other.publish(&counter);
    let who = a.connect(address).await.unwrap();
    assert_eq!(&who, other.who());
    let lost = a.find::<Counter>("counter", "b").await;
    assert!(matches!(lost, Err(FindError::NotConnected(_))), "{lost:?}");
    assert!(a.find::<Counter>("counter", "z").await.is_ok());
}

#[tokio::test]
async fn two_nodes_with_one_name_are_told_apart() {
    let friends = Friends::new().await;
    let double = friends.site.node("b");
    let refused = double.connect(friends.b.listens_at()).await;
    assert!(
        matches!(refused, Err(ConnectError::OwnName(_))),
        "{refused:?}"
    );
    friends.are_unaffected().await;
}

#[tokio::test]
async fn who_is_not_on_the_list_is_not_let_in_and_who_is_revoked_is_thrown_out() {
    let site = Site::new();
    let guarded = site.builder("b").allow_only(["a"]).start().unwrap();
    let counter = guarded
        .system()
        .spawn("counter", Counter::default(), 64)
        .unwrap();
    guarded.publish(&counter);
    let (a, c) = (site.node("a"), site.node("c"));
    let refused = c.connect(guarded.listens_at()).await;
    assert!(
        matches!(refused, Err(ConnectError::Ended { .. })),
        "{refused:?}"
    );
    connect(&a, &guarded).await;
    let far: Ref<Counter> = a.find("counter", "b").await.unwrap();
    assert!(far.ask(Add(1), PATIENCE).await.is_ok());
    guarded.access().revoke("a");
    guarded.enforce_access();
    let lost = far.ask(Add(1), PATIENCE).await;
    assert!(matches!(lost, Err(AskError::Lost { .. })), "{lost:?}");
    assert!(a.connect(guarded.listens_at()).await.is_err());
    guarded.access().restore("a");
    connect(&a, &guarded).await;
}

#[tokio::test]
async fn an_observer_calls_no_actor() {
    let friends = Friends::new().await;
    let observer = Node::builder(friends.site.identity("eye", Role::Observer));
    let observer = observer.start().unwrap();
    connect(&observer, &friends.b).await;
    let found: Ref<Counter> = observer.find("counter", "b").await.unwrap();
    let refused = found.ask(Add(1), PATIENCE).await;
    assert!(
        matches!(refused, Err(AskError::Refused { .. })),
        "{refused:?}"
    );
    friends.are_unaffected().await;
}

#[tokio::test]
async fn a_newer_major_version_is_refused_with_a_reason_at_both_ends() {
    let friends = Friends::new().await;
    let authority = friends.site.authority();
    // In TLS already,
    let newer = Intruder::new(authority, authority, "c", b"ekya/2");
    let why = newer.say(friends.b.listens_at(), &greeting()).await;
    assert!(why.to_string().contains("protocol"), "{why}");
    // and in the greeting.
    let mut bytes = greeting();
    bytes[4] = 2;
    let sly = Intruder::new(authority, authority, "c", PROTOCOL);
    let why = sly.say(friends.b.listens_at(), &bytes).await;
    assert!(why.to_string().contains("version 2"), "{why}");
    until(|| friends.b.connections().failed_handshakes >= 2).await;
    friends.are_unaffected().await;
}

#[tokio::test]
async fn a_node_of_the_previous_minor_version_is_talked_to() {
    let friends = Friends::new().await;
    let authority = friends.site.authority();
    let older = Intruder::new(authority, authority, "c", PROTOCOL);
    let connection = older.connect(friends.b.listens_at()).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let mut bytes = greeting();
    // The last that knows no streams of replies.
    bytes[6] = 1;
    send.write_all(&bytes).await.unwrap();
    let mut prefix = [0; 11];
    recv.read_exact(&mut prefix).await.unwrap();
    assert_eq!(&prefix[..8], b"EKYA\x01\0\x01\0");
    let refused = friends.b.state_of("c").await.unwrap_err();
    assert!(refused.to_string().contains("no streams"), "{refused}");
}

/// Two processes with one certificate, both connected to a third one.
#[tokio::test]
async fn of_two_nodes_with_one_name_the_older_is_refused_and_told_why() {
    let friends = Friends::new().await;
    let twin = |incarnation| friends.site.builder("c").incarnation(incarnation).start();
    let (older, newer) = (twin(1).unwrap(), twin(2).unwrap());
    connect(&older, &friends.b).await;
    connect(&newer, &friends.b).await;
    // The older one dials again, and is not let in as long as the newer one is there.
    let refused = older.connect(friends.b.listens_at()).await;
    assert!(
        matches!(&refused, Err(ConnectError::Ended { why, .. }) if why.contains("another node of this name")),
        "{refused:?}"
    );
    assert!(newer.published_by("b").await.is_ok());
    newer.shutdown(PATIENCE).unwrap();
    until_connected(&older, &friends.b).await;
    friends.are_unaffected().await;
}

async fn until_connected(from: &Node, to: &Node) {
    while from.connect(to.listens_at()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection_and_is_counted() {
    let friends = Friends::new().await;
    let authority = friends.site.authority();
    let intruder = Intruder::new(authority, authority, "c", PROTOCOL);
    let oversized = header(u32::MAX, 1, 1);
    let unknown = header(0, 99, 1);
    let ahead = header(0, 1, 5);
    let empty_ask = header(0, 2, 1);
    let mut answered = header(0, 0, 0);
    answered[16] = 9;
    let bad = [
        (oversized, "4294967295 bytes"),
        (unknown, "unknown kind"),
        (ahead, "came after"),
        (empty_ask, "malformed"),
        (answered, "taken in"),
    ];
    for (count, (frame, reason)) in bad.iter().enumerate() {
        let said = [greeting(), frame.clone()].concat();
        let why = intruder.say(friends.b.listens_at(), &said).await;
        assert!(why.to_string().contains(reason), "{why}");
        until(|| friends.b.connections().misbehaved > count as u64).await;
    }
    friends.are_unaffected().await;
}

#[tokio::test]
async fn half_a_greeting_costs_no_more_than_its_deadline() {
    let friends = Friends::new().await;
    let authority = friends.site.authority();
    let intruder = Intruder::new(authority, authority, "c", PROTOCOL);
    let why = intruder.say(friends.b.listens_at(), &greeting()[..7]).await;
    // Closed by the node, not by silence.
    assert!(
        matches!(why, quinn::ConnectionError::ApplicationClosed(_)),
        "{why}"
    );
    friends.are_unaffected().await;
}

#[tokio::test]
async fn many_at_once_do_not_keep_a_friend_out() {
    let friends = Friends::new().await;
    let authority = friends.site.authority();
    let intruder = Intruder::new(authority, authority, "c", PROTOCOL);
    let address = friends.b.listens_at();
    // They say nothing, and hold their places.
    let mut silent = Vec::new();
    for _ in 0..300 {
        if let Ok(connection) = intruder.connect(address).await {
            silent.push(connection);
        }
    }
    let counts = friends.b.connections();
    assert!(counts.validated > 0, "{counts:?}");
    assert!(counts.turned_away > 0, "{counts:?}");
    friends.are_unaffected().await;
    for connection in silent {
        connection.close(0_u32.into(), b"");
    }
    let friend = friends.site.node("d");
    let start = Instant::now();
    while friend.connect(address).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "kept out");
    }
}

#[tokio::test]
async fn certificates_are_rotated_without_a_break() {
    let friends = Friends::new().await;
    let successor = Site::new();
    // Everybody trusts both authorities while they change over.
    friends
        .b
        .rotate(&friends.site.identity_trusting("b", &successor))
        .unwrap();
    let newcomer = Node::builder(successor.identity_trusting("n", &friends.site));
    let newcomer = newcomer.start().unwrap();
    connect(&newcomer, &friends.b).await;
    friends.are_unaffected().await;
}

#[test]
fn what_is_no_identity_says_why() {
    let site = Site::new();
    let nonsense = Identity::from_pem(b"x", b"y", b"z").unwrap_err();
    assert!(
        matches!(nonsense, IdentityError::NotPem { .. }),
        "{nonsense}"
    );
    let ca = site.authority().certificate().as_bytes().to_vec();
    let key = site.authority().key();
    let nameless = Identity::from_pem(&ca, key.as_bytes(), &ca).unwrap_err();
    assert!(matches!(nameless, IdentityError::Nameless), "{nameless}");
    let (certificate, _) = site.pem("a", Role::Node);
    let other = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), &ca).unwrap_err();
    assert!(matches!(other, IdentityError::Tls(_)), "{other}");
}

#[tokio::test]
async fn a_port_in_use_and_a_seed_that_is_not_there_are_errors() {
    let site = Site::new();
    let b = site.node("b");
    let taken = site.builder("c").listen(b.listens_at()).start();
    let in_use = |error: &NodeError| {
        matches!(error, NodeError::Listen(ListenError::Bind { address, source })
            if *address == b.listens_at() && source.kind() == ErrorKind::AddrInUse)
    };
    assert!(taken.as_ref().is_err_and(in_use), "{taken:?}");
    let address = {
        let gone = site.node("d");
        let address = gone.listens_at();
        gone.shutdown(PATIENCE).unwrap();
        address
    };
    let refused = b.connect(address).await;
    assert!(matches!(
        refused,
        Err(ConnectError::Late(_) | ConnectError::Unreachable { .. })
    ));
    let nowhere = b.find::<Counter>("counter", "d").await;
    assert!(matches!(nowhere, Err(FindError::NotConnected(_))));
}
