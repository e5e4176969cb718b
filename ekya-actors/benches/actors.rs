//! What the runtime adds to what it is built on, side by side in one process: asks beside actix's,
//! remote asks and payloads beside bare quinn connections with the same TLS on the same loopback.
//!
//! Physical limits: a local ask is two wake-ups of a thread, a remote one four, and two trips through
//! the loopback's sockets, each of which costs a system call for every packet; a payload is encrypted,
//! copied through the kernel and decrypted, each byte once.
//!
//! Prints one JSON document; progress goes to stderr. `cargo xtask bench actors` runs it and puts the
//! figures beside their targets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Identity, Role, Who};
use ekya_actors::{
    Actor, Ctx, Handler, Message, Messages, Node, Receive, Ref, Remote, Reply, System, Wire,
};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Runtime;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a ping, header of a bare one included.
const PING: usize = 64;
/// Pings in the air when they are pipelined.
const IN_FLIGHT: usize = 2048;
/// Times that a measurement is begun anew.
const ROUNDS: usize = 5;
/// Bytes of a payload: the weights of a ResNet18.
const PAYLOAD: usize = 44 << 20;

/// Measures the actors.
#[derive(Parser)]
struct Args {
    /// A tenth of it
    #[arg(long)]
    quick: bool,
    /// What `cargo bench` passes, and `cargo test` does not
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    if !args.bench {
        eprintln!("not run: this takes a minute; `cargo xtask bench actors` runs it");
        return;
    }
    let scale = if args.quick { 1 } else { 10 };
    let site = Site::new();
    let document = json!({
        "local": local(2000 * scale),
        "same_thread": same_thread(20_000 * scale),
        "spawning": spawning(10_000),
        "remote": remote(&site, 1000 * scale),
        "pipelined": pipelined(&site, 200_000 * scale),
        "payload": payload(&site, scale.min(5)),
    });
    println!("{document}");
}

fn workers() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn one_thread() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// The value that this part of them is at most, in microseconds.
fn quantile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let rank = (times.len() as f64 * part) as usize;
    times[rank.min(times.len() - 1)].as_secs_f64() * 1e6
}

fn quantiles(mut times: Vec<Duration>) -> serde_json::Value {
    json!({ "p50_us": quantile(&mut times, 0.5), "p99_us": quantile(&mut times, 0.99) })
}

/// Answers with what it gets.
#[derive(Default)]
struct Echo;

impl Actor for Echo {}

impl Remote for Echo {
    const TYPE: &'static str = "echo";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Ping>();
    }
}

/// 64 bytes with its header.
#[derive(Clone, Serialize, Deserialize)]
struct Ping([u64; 5]);

impl Message for Ping {
    type Reply = Self;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("echo/ping", 1));
}

impl Handler<Ping> for Echo {
    fn handle(&mut self, ping: Ping, _: &mut Ctx<Self>) -> Ping {
        ping
    }
}

/// The same in actix alone.
struct BareEcho;

impl actix::Actor for BareEcho {
    type Context = actix::Context<Self>;
}

struct BarePing([u64; 5]);

impl actix::Message for BarePing {
    type Result = [u64; 5];
}

impl actix::Handler<BarePing> for BareEcho {
    type Result = actix::MessageResult<BarePing>;

    fn handle(&mut self, ping: BarePing, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(ping.0)
    }
}

/// Asks from another runtime, one after another, ours and actix's by turns; on new threads every so
/// often, since on which cores they land decides more than anything here.
fn local(asks: usize) -> serde_json::Value {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let system = System::start().expect("the actors' thread");
        let echo = system.spawn("echo", Echo, 16).expect("an actor");
        let bare_echo = bare_echo(&bare_arbiter());
        workers().block_on(async {
            for _ in 0..asks / ROUNDS {
                let start = Instant::now();
                echo.ask(Ping([0; 5]), PATIENCE).await.expect("an answer");
                ours.push(start.elapsed());
                let start = Instant::now();
                let answer = bare_echo.send(BarePing([0; 5])).await;
                answer.expect("an answer");
                bare.push(start.elapsed());
            }
        });
    }
    eprintln!("local asks: done");
    json!({ "ours": quantiles(ours), "actix": quantiles(bare) })
}

fn bare_echo(arbiter: &actix::ArbiterHandle) -> actix::Addr<BareEcho> {
    let (sender, address) = std::sync::mpsc::channel();
    arbiter.spawn_fn(move || {
        sender
            .send(actix::Actor::start(BareEcho))
            .expect("the starter waits");
    });
    address.recv().expect("an address")
}

/// Asks another actor of its thread so often, one after another.
struct Asker(Ref<Echo>);

impl Actor for Asker {}

struct Start(usize);

impl Message for Start {
    type Reply = Duration;
}

/// The time that it took, and who waits for it.
struct Asked(Duration, Reply<Start>);

impl Message for Asked {
    type Reply = ();
}

impl Receive<Start> for Asker {
    fn receive(&mut self, Start(asks): Start, reply: Reply<Start>, ctx: &mut Ctx<Self>) {
        let echo = self.0.clone();
        let asking = async move {
            let start = Instant::now();
            for _ in 0..asks {
                echo.ask(Ping([0; 5]), PATIENCE).await.expect("an answer");
            }
            Asked(start.elapsed(), reply)
        };
        ctx.run(asking).expect("room for one future");
    }
}

impl Handler<Asked> for Asker {
    fn handle(&mut self, Asked(time, reply): Asked, _: &mut Ctx<Self>) {
        reply.send(time);
    }
}

/// Asks from the thread that the actor runs on, one after another, ours and actix's by turns.
fn same_thread(asks: usize) -> serde_json::Value {
    let system = System::start().expect("the actors' thread");
    let echo = system.spawn("echo", Echo, 16).expect("an actor");
    let asker = system.spawn("asker", Asker(echo), 16).expect("an actor");
    let arbiter = bare_arbiter();
    let bare_echo = bare_echo(&arbiter);
    let each = |time: Duration| time.div_f64((asks / ROUNDS) as f64);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let took = asker.ask_blocking(Start(asks / ROUNDS), PATIENCE);
        ours.push(each(took.expect("an answer")));
        let (sender, took) = std::sync::mpsc::channel();
        let bare_echo = bare_echo.clone();
        arbiter.spawn(async move {
            let start = Instant::now();
            for _ in 0..asks / ROUNDS {
                let answer = bare_echo.send(BarePing([0; 5])).await;
                answer.expect("an answer");
            }
            sender.send(start.elapsed()).expect("the starter waits");
        });
        bare.push(each(took.recv().expect("an answer")));
    }
    eprintln!("asks on one thread: done");
    json!({ "ours_us": quantile(&mut ours, 0.5), "actix_us": quantile(&mut bare, 0.5) })
}

/// An arbiter of actix's on a thread of its own.
fn bare_arbiter() -> actix::ArbiterHandle {
    let (sender, handle) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runner = actix::System::new();
        let arbiter = actix::System::current().arbiter().clone();
        sender.send(arbiter).expect("the starter waits");
        runner.run().expect("actix runs");
    });
    handle.recv().expect("an arbiter")
}

/// Time and memory of many actors.
fn spawning(actors: usize) -> serde_json::Value {
    let system = System::start().expect("the actors' thread");
    // What is allocated once is there before.
    let mut refs: Vec<Ref<Echo>> = Vec::with_capacity(actors);
    let names: Vec<String> = (0..actors).map(|i| format!("actor-{i}")).collect();
    let first = system.spawn("first", Echo, 16).expect("an actor");
    let answered = |echo: &Ref<Echo>| {
        echo.ask_blocking(Ping([0; 5]), PATIENCE)
            .expect("an answer")
    };
    answered(&first);
    let before = resident_bytes();
    let start = Instant::now();
    for name in &names {
        refs.push(system.spawn(name, Echo, 16).expect("an actor"));
    }
    let spawned = start.elapsed();
    // The last one has started when it answers.
    answered(&refs[actors - 1]);
    let started = start.elapsed();
    let after = resident_bytes();
    eprintln!("spawning: done");
    json!({
        "actors": actors,
        "spawned_ms": spawned.as_secs_f64() * 1e3,
        "started_ms": started.as_secs_f64() * 1e3,
        "bytes_each": after.saturating_sub(before) as f64 / actors as f64,
    })
}

/// Memory of this process that is really there.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Certificates of one authority.
struct Site {
    authority: Authority,
}

impl Site {
    fn new() -> Self {
        let authority = Authority::create(1).expect("an authority");
        Self { authority }
    }

    fn pem(&self, name: &str) -> (String, String, String) {
        let who = Who::new(name, Role::Node).expect("a name");
        let issued = self.authority.issue(&who, 1).expect("a certificate");
        let authority = self.authority.certificate().to_owned();
        (issued.certificate, issued.key, authority)
    }

    fn node(&self, name: &str) -> Node {
        let (certificate, key, authority) = self.pem(name);
        let pem = [certificate, key, authority].map(String::into_bytes);
        let identity = Identity::from_pem(&pem[0], &pem[1], &pem[2]).expect("an identity");
        Node::builder(identity).start().expect("a node")
    }

    /// Two nodes, connected, and an echo on the other one.
    fn pair(&self, runtime: &Runtime) -> (Node, Node, Ref<Echo>) {
        let (here, there) = (self.node("here"), self.node("there"));
        let echo = there
            .system()
            .spawn("echo", Echo, 1 << 16)
            .expect("an actor");
        there.publish(&echo);
        let far = runtime.block_on(async {
            here.connect(there.listens_at())
                .await
                .expect("a connection");
            here.find("echo", "there").await.expect("the echo")
        });
        (here, there, far)
    }
}

/// Bare quinn: two endpoints, each on a runtime of its own, one stream between them.
struct Bare {
    client: Runtime,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    /// Kept so that they live on.
    _rest: (quinn::Endpoint, quinn::Connection),
}

impl Bare {
    /// `answer` is what the other side does with its stream.
    fn new<F>(
        site: &Site,
        runtimes: fn() -> Runtime,
        answer: fn(quinn::SendStream, quinn::RecvStream) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (server, client) = (bare_server(site), runtimes());
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (sender, address) = std::sync::mpsc::channel();
        // A thread of its own, which also runs a runtime that has no others.
        std::thread::spawn(move || {
            runtimes().block_on(async {
                let endpoint = quinn::Endpoint::server(server, listen).expect("an endpoint");
                let local = endpoint.local_addr().expect("an address");
                sender.send(local).expect("the dialler waits");
                let serve = async move {
                    let incoming = endpoint.accept().await.expect("a dialler");
                    let connection = incoming.await.expect("TLS");
                    let (send, recv) = connection.accept_bi().await.expect("a stream");
                    answer(send, recv).await;
                    connection.closed().await;
                };
                tokio::spawn(serve).await.expect("a task");
            });
        });
        let address = address.recv().expect("an address");
        let entered = client.enter();
        let dialling = quinn::Endpoint::client(listen).expect("an endpoint");
        drop(entered);
        let (connection, send, recv) = client.block_on(async {
            let config = bare_client(site);
            let connecting = dialling.connect_with(config, address, "peer.ekya");
            let connection = connecting.expect("an address").await.expect("TLS");
            let (send, recv) = connection.open_bi().await.expect("a stream");
            (connection, send, recv)
        });
        let _rest = (dialling, connection);
        Self {
            client,
            send,
            recv,
            _rest,
        }
    }
}

fn bare_server(site: &Site) -> quinn::ServerConfig {
    let (chain, key, roots) = bare_identity(site, "there");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a certificate");
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).expect("QUIC")))
}

fn bare_client(site: &Site) -> quinn::ClientConfig {
    let (chain, key, roots) = bare_identity(site, "here");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a certificate");
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("QUIC")))
}

type BareIdentity = (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    rustls::pki_types::PrivateKeyDer<'static>,
    Arc<rustls::RootCertStore>,
);

fn bare_identity(site: &Site, name: &str) -> BareIdentity {
    use rustls::pki_types::pem::PemObject;
    let (certificate, key, authority) = site.pem(name);
    let parse = |pem: &str| {
        rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
    };
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(parse(&authority)).expect("an authority");
    (vec![parse(&certificate)], key, Arc::new(roots))
}

/// Sends back what comes.
async fn echo(mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
    while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
        if send.write_chunk(chunk.bytes).await.is_err() {
            return;
        }
    }
}

/// 64 bytes there and back, one after another.
fn remote(site: &Site, pings: usize) -> serde_json::Value {
    let runtime = workers();
    let (_here, _there, far) = site.pair(&runtime);
    let mut bare = Bare::new(site, workers, echo);
    let mut single = Bare::new(site, one_thread, echo);
    let (mut ours, mut two_workers, mut one_worker) = (Vec::new(), Vec::new(), Vec::new());
    // By turns, so that whatever else goes on disturbs all of them.
    for _ in 0..pings / 50 {
        runtime.block_on(async {
            for _ in 0..50 {
                let start = Instant::now();
                far.ask(Ping([0; 5]), PATIENCE).await.expect("an answer");
                ours.push(start.elapsed());
            }
        });
        bare.ping(50, &mut two_workers);
        single.ping(50, &mut one_worker);
    }
    eprintln!("remote asks: done");
    json!({
        "ours": quantiles(ours),
        "quinn_two_workers": quantiles(two_workers),
        "quinn_one_thread": quantiles(one_worker),
    })
}

impl Bare {
    fn ping(&mut self, pings: usize, times: &mut Vec<Duration>) {
        let Self {
            client, send, recv, ..
        } = self;
        client.block_on(async {
            let mut back = [0; PING];
            for _ in 0..pings {
                let start = Instant::now();
                send.write_all(&[7; PING]).await.expect("a stream");
                recv.read_exact(&mut back).await.expect("a stream");
                times.push(start.elapsed());
            }
        });
    }
}

/// Many asks in the air, by turns with as many bare frames.
fn pipelined(site: &Site, asks: usize) -> serde_json::Value {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(asks_per_second(site, asks / ROUNDS));
        let frames = Bare::new(site, workers, echo).frames_per_second(asks / ROUNDS);
        bare.push(frames);
    }
    eprintln!("pipelined asks: done");
    json!({ "ours_per_second": median(ours), "quinn_per_second": median(bare) })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn asks_per_second(site: &Site, asks: usize) -> f64 {
    let runtime = workers();
    let (_here, _there, far) = site.pair(&runtime);
    let start = Instant::now();
    runtime.block_on(async {
        let askers = (0..IN_FLIGHT).map(|_| {
            let far = far.clone();
            tokio::spawn(async move {
                for _ in 0..asks / IN_FLIGHT {
                    far.ask(Ping([0; 5]), PATIENCE).await.expect("an answer");
                }
            })
        });
        for asker in askers.collect::<Vec<_>>() {
            asker.await.expect("an asker");
        }
    });
    (asks / IN_FLIGHT * IN_FLIGHT) as f64 / start.elapsed().as_secs_f64()
}

impl Bare {
    /// Frames of 64 bytes there and back, each a write of its own, as many in the air as above.
    fn frames_per_second(self, frames: usize) -> f64 {
        let Self {
            client,
            mut send,
            mut recv,
            _rest,
        } = self;
        let places = Arc::new(tokio::sync::Semaphore::new(IN_FLIGHT));
        client.block_on(async {
            let start = Instant::now();
            let free = Arc::clone(&places);
            let writing = tokio::spawn(async move {
                for _ in 0..frames {
                    free.acquire().await.expect("open").forget();
                    send.write_all(&[7; PING]).await.expect("a stream");
                }
                send
            });
            let mut back = [0; PING];
            for _ in 0..frames {
                recv.read_exact(&mut back).await.expect("a stream");
                places.add_permits(1);
            }
            drop(writing.await);
            frames as f64 / start.elapsed().as_secs_f64()
        })
    }
}

/// A payload, by turns as one bare stream, and other asks meanwhile.
fn payload(site: &Site, times: usize) -> serde_json::Value {
    let runtime = workers();
    let (here, there, far) = site.pair(&runtime);
    let bytes = Bytes::from(vec![7; PAYLOAD]);
    let (mut ours, mut bare, mut idle, mut meanwhile) = (vec![], vec![], vec![], vec![]);
    for _ in 0..times {
        runtime.block_on(async {
            ping_until(&far, &mut idle, |pings| pings >= 200, || true).await;
            let payload = there.keep(bytes.clone(), PATIENCE).expect("room");
            let start = Instant::now();
            let fetched = here
                .fetch(&payload, PAYLOAD, PATIENCE)
                .await
                .expect("the payload");
            ours.push(start.elapsed());
            assert_eq!(fetched.len(), PAYLOAD);
            let fetching = {
                let (here, payload) = (here.clone(), payload.clone());
                tokio::spawn(async move { here.fetch(&payload, PAYLOAD, PATIENCE).await })
            };
            ping_until(&far, &mut meanwhile, |_| false, || !fetching.is_finished()).await;
            fetching.await.expect("a task").expect("the payload");
            there.drop_payload(&payload);
        });
        bare.push(Bare::new(site, workers, send_payload).receive_payload());
    }
    eprintln!("payloads: done");
    json!({
        "ours_ms": quantile(&mut ours, 0.5) / 1e3,
        "quinn_ms": quantile(&mut bare, 0.5) / 1e3,
        "idle": quantiles(idle),
        "meanwhile": quantiles(meanwhile),
    })
}

async fn ping_until(
    far: &Ref<Echo>,
    times: &mut Vec<Duration>,
    enough: impl Fn(usize) -> bool,
    go_on: impl Fn() -> bool,
) {
    let mut pings = 0;
    while go_on() && !enough(pings) {
        let start = Instant::now();
        far.ask(Ping([0; 5]), PATIENCE).await.expect("an answer");
        times.push(start.elapsed());
        pings += 1;
    }
}

async fn send_payload(mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
    let bytes = Bytes::from(vec![7; PAYLOAD]);
    recv.read_exact(&mut [0]).await.expect("a request");
    send.write_chunk(bytes).await.expect("a stream");
    send.finish().expect("a stream");
    // Until the other side has it.
    let _ = send.stopped().await;
}

impl Bare {
    fn receive_payload(self) -> Duration {
        let Self {
            client,
            mut send,
            mut recv,
            _rest,
        } = self;
        client.block_on(async {
            let start = Instant::now();
            send.write_all(&[1]).await.expect("a stream");
            let mut received = Vec::with_capacity(PAYLOAD);
            while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.expect("a stream") {
                received.extend_from_slice(&chunk.bytes);
            }
            assert_eq!(received.len(), PAYLOAD);
            start.elapsed()
        })
    }
}
