//! Nodes on the loopback with certificates of one authority, for tests.
#![allow(dead_code, reason = "each test uses a part")]

use std::time::Duration;

use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Identity, Role, Who};
use ekya_actors::{Actor, Builder, Ctx, Handler, Message, Messages, Node, Remote, Wire};
use serde::{Deserialize, Serialize};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Site {
    authority: Authority,
}

impl Site {
    pub(crate) fn new() -> Self {
        let authority = Authority::create(1).unwrap();
        Self { authority }
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A certificate and its key.
    pub(crate) fn pem(&self, name: &str, role: Role) -> (String, String) {
        let who = Who::new(name, role).unwrap();
        let issued = self.authority.issue(&who, 1).unwrap();
        (issued.certificate, issued.key)
    }

    pub(crate) fn identity(&self, name: &str, role: Role) -> Identity {
        let (certificate, key) = self.pem(name, role);
        let authority = self.authority.certificate().as_bytes();
        Identity::from_pem(certificate.as_bytes(), key.as_bytes(), authority).unwrap()
    }

    /// A node's identity that has expired yesterday.
    pub(crate) fn expired(&self, name: &str) -> Identity {
        let who = Who::new(name, Role::Node).unwrap();
        let (certificate, key) = self.signed(vec!["peer.ekya".to_owned(), who.dns_name()], 1);
        let authority = self.authority.certificate().as_bytes();
        Identity::from_pem(certificate.as_bytes(), key.as_bytes(), authority).unwrap()
    }

    /// A certificate for these names and its key, signed two days ago and good until so many days ago.
    pub(crate) fn signed(&self, names: Vec<String>, until_days_ago: i64) -> (String, String) {
        let key = rcgen::KeyPair::from_pem(&self.authority.key()).unwrap();
        let mut issuer = rcgen::CertificateParams::default();
        issuer.distinguished_name = rcgen::DistinguishedName::new();
        let common_name = rcgen::DnType::CommonName;
        issuer.distinguished_name.push(common_name, "ekya site");
        let issuer = rcgen::Issuer::new(issuer, key);
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(2);
        params.not_after = now - time::Duration::days(until_days_ago);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }

    /// A node's identity of this site, which also trusts another one.
    pub(crate) fn identity_trusting(&self, name: &str, other: &Self) -> Identity {
        let (certificate, key) = self.pem(name, Role::Node);
        let both = [&self.authority, &other.authority].map(Authority::certificate);
        let both = both.concat();
        Identity::from_pem(certificate.as_bytes(), key.as_bytes(), both.as_bytes()).unwrap()
    }

    pub(crate) fn builder(&self, name: &str) -> Builder {
        Node::builder(self.identity(name, Role::Node))
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        self.builder(name).start().unwrap()
    }
}

/// Connects `from` to `to`.
pub(crate) async fn connect(from: &Node, to: &Node) {
    let who = from.connect(to.address().parse().unwrap()).await.unwrap();
    assert_eq!(&who, to.who());
}

#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) sum: u64,
}

impl Actor for Counter {}

impl Remote for Counter {
    const TYPE: &'static str = "counter";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Add>().add::<Fail>();
    }
}

/// Adds to the sum; the new sum.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add(pub(crate) u64);

impl Message for Add {
    type Reply = u64;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("counter/add", 1));
}

impl Handler<Add> for Counter {
    fn handle(&mut self, Add(n): Add, _: &mut Ctx<Self>) -> u64 {
        self.sum += n;
        self.sum
    }
}

/// Panics.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fail;

impl Message for Fail {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("counter/fail", 1));
}

impl Handler<Fail> for Counter {
    fn handle(&mut self, _: Fail, _: &mut Ctx<Self>) {
        panic!("on purpose")
    }
}

/// Never leaves its process.
#[derive(Debug)]
pub(crate) struct Local;

impl Message for Local {
    type Reply = ();
}

impl Handler<Local> for Counter {
    fn handle(&mut self, _: Local, _: &mut Ctx<Self>) {}
}

/// Waits until something is so.
pub(crate) async fn until(what: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "not in time");
        tokio::task::yield_now().await;
    }
}
