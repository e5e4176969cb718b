//! The workload that every framework gets, and the two processes that it runs in.
//!
//! A program of this package measures one framework: it starts itself again as the process with the
//! actors, connects to it over the loopback, and prints one JSON document. `ray_rival.py` does the same
//! for Ray.

use std::collections::BTreeMap;
use std::future::Future;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// What is asked, and answered.
pub type Ping = [u64; 8];

/// A ping whose bytes no format shortens.
pub const PING: Ping = [u64::MAX; 8];

/// Bytes of a payload: the weights of a ResNet18.
pub const PAYLOAD: usize = 44 << 20;

/// Longer than an ask should take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than a measure should take.
const LIMIT: Duration = Duration::from_secs(120);

/// Asks in the air when they are pipelined.
const IN_FLIGHT: usize = 2048;

/// Actors that are asked at the same time once they have started.
const AT_ONCE: usize = 256;

/// How the process with the actors is called.
const SERVE: &str = "--serve";

/// A framework, with its actors in another process.
pub trait Rival: Clone + Send + Sync + Sized + 'static {
    /// The package whose version is told.
    const PACKAGE: &'static str;
    /// What the two processes speak.
    const TRANSPORT: &'static str;
    /// What a process is given at its start.
    type Given: Serialize + DeserializeOwned + Send;
    /// Where that process is to be found.
    type Address: Serialize + DeserializeOwned + Send;
    /// What must live on in it.
    type Served;

    /// What is given to the process that asks, and to the one with the actors.
    fn prepare() -> Result<(Self::Given, Self::Given)>;

    /// Runs an actor that [asks](Self::ask), [payloads](Self::payload) and [starts](Self::start) go to.
    fn serve(given: Self::Given) -> impl Future<Output = Result<(Self::Address, Self::Served)>>;

    /// Connects to that actor.
    fn connect(given: Self::Given, address: Self::Address) -> impl Future<Output = Result<Self>>;

    /// One ping there and back.
    fn ask(&self) -> impl Future<Output = Result<()>> + Send;

    /// Gets [`PAYLOAD`] bytes from the actor; how many came.
    fn payload(&self) -> impl Future<Output = Result<usize>> + Send;

    /// Starts so many actors where the first one is, and asks each of them once.
    fn start(&self, actors: usize) -> impl Future<Output = Result<()>> + Send;
}

/// What a program does, either of its processes.
///
/// # Errors
/// When the framework does not start or connect; a measure that fails is told in the document.
pub fn run<R: Rival>() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        if has(SERVE) {
            serve::<R>().await
        } else {
            measure::<R>(if has("--quick") { 1 } else { 10 }).await
        }
    });
    // Threads of the framework may never end.
    runtime.shutdown_background();
    done
}

/// Serves until the process that measures has gone.
async fn serve<R: Rival>() -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let given = lines.next_line().await?.context("nothing is given")?;
    let (address, _served) = R::serve(serde_json::from_str(&given)?).await?;
    println!("{}", serde_json::to_string(&address)?);
    while lines.next_line().await?.is_some() {}
    Ok(())
}

async fn measure<R: Rival>(scale: usize) -> Result<()> {
    let (here, there) = R::prepare()?;
    let (_server, address) = start_server::<R>(&there).await?;
    let connecting = tokio::time::timeout(LIMIT, R::connect(here, address));
    let rival = connecting.await.context("no connection")??;
    let mut document = Document::new::<R>();
    document.asks(&rival, 1000 * scale).await;
    let pipelined = pipelined(&rival, Duration::from_millis(300 * scale as u64));
    document.measure("asks_per_second", pipelined).await;
    for actors in [20, 100, 10_000] {
        let name = format!("start_{actors}_ms");
        document.measure(&name, starting(&rival, actors)).await;
    }
    let payload = payload(&rival, scale.max(3));
    document.measure("payload_ms", payload).await;
    println!("{}", serde_json::to_string(&document)?);
    Ok(())
}

/// This program again, as the process with the actors, which ends with this one.
async fn start_server<R: Rival>(given: &R::Given) -> Result<(Child, R::Address)> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg(SERVE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let given = serde_json::to_string(given)? + "\n";
    let stdin = server.stdin.as_mut().context("no stdin")?;
    stdin.write_all(given.as_bytes()).await?;
    let stdout = server.stdout.take().context("no stdout")?;
    let line = BufReader::new(stdout).lines().next_line().await?;
    let address = line.context("the process with the actors has ended")?;
    Ok((server, serde_json::from_str(&address)?))
}

/// What was measured.
#[derive(Serialize)]
struct Document {
    version: &'static str,
    transport: &'static str,
    figures: BTreeMap<String, f64>,
    /// Why there is no figure.
    failed: BTreeMap<String, String>,
}

impl Document {
    fn new<R: Rival>() -> Self {
        Self {
            version: version(R::PACKAGE),
            transport: R::TRANSPORT,
            figures: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    async fn measure(&mut self, name: &str, measure: impl Future<Output = Result<f64>>) {
        match within_limit(measure).await {
            Ok(figure) => drop(self.figures.insert(name.to_owned(), figure)),
            Err(error) => drop(self.failed.insert(name.to_owned(), format!("{error:#}"))),
        }
        eprintln!("{name}: done");
    }

    async fn asks<R: Rival>(&mut self, rival: &R, asks: usize) {
        let names = [("ask_p50_us", 0.5), ("ask_p99_us", 0.99)];
        match within_limit(ask_times(rival, asks)).await {
            Ok(mut times) => self.figures.extend(names.map(|(name, part)| {
                let figure = quantile(&mut times, part).as_secs_f64() * 1e6;
                (name.to_owned(), figure)
            })),
            Err(error) => self
                .failed
                .extend(names.map(|(name, _)| (name.to_owned(), format!("{error:#}")))),
        }
        eprintln!("asks: done");
    }
}

async fn within_limit<T>(measure: impl Future<Output = Result<T>>) -> Result<T> {
    let measured = tokio::time::timeout(LIMIT, measure).await;
    measured.with_context(|| format!("not done within {LIMIT:?}"))?
}

/// The version of a package that this one is locked to.
fn version(package: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|&line| line != name).skip(1);
    let version = lines.next().and_then(|line| line.split('"').nth(1));
    version.unwrap_or_default()
}

/// One ask after another; the first tenth warms up.
async fn ask_times<R: Rival>(rival: &R, asks: usize) -> Result<Vec<Duration>> {
    let warm_up = asks / 10;
    let mut times = Vec::with_capacity(asks + warm_up);
    for _ in 0..asks + warm_up {
        let start = Instant::now();
        rival.ask().await?;
        times.push(start.elapsed());
    }
    Ok(times.split_off(warm_up))
}

/// Asks per second with [`IN_FLIGHT`] in the air for so long, after one of each asker that warms up.
async fn pipelined<R: Rival>(rival: &R, time: Duration) -> Result<f64> {
    ask_in_flight(rival, Duration::ZERO).await?;
    let start = Instant::now();
    let asks = ask_in_flight(rival, time).await?;
    Ok(asks as f64 / start.elapsed().as_secs_f64())
}

/// Each asker asks once, and goes on for so long; how many asks were answered.
async fn ask_in_flight<R: Rival>(rival: &R, time: Duration) -> Result<usize> {
    let start = Instant::now();
    // Of which none is left when one fails.
    let mut askers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let rival = rival.clone();
        askers.spawn(async move {
            let mut asks = 0;
            loop {
                rival.ask().await?;
                asks += 1;
                if start.elapsed() >= time {
                    return anyhow::Ok(asks);
                }
            }
        });
    }
    let mut all = 0;
    while let Some(asks) = askers.join_next().await {
        all += asks??;
    }
    Ok(all)
}

/// Milliseconds until so many actors have started and answered: the median of three times.
async fn starting<R: Rival>(rival: &R, actors: usize) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        rival.start(actors).await?;
        times.push(start.elapsed());
    }
    Ok(quantile(&mut times, 0.5).as_secs_f64() * 1e3)
}

/// Milliseconds until the payload has come: the median of so many times, after one that warms up.
async fn payload<R: Rival>(rival: &R, times: usize) -> Result<f64> {
    let mut took = Vec::new();
    for _ in 0..=times {
        let start = Instant::now();
        let came = rival.payload().await?;
        took.push(start.elapsed());
        ensure!(came == PAYLOAD, "{came} bytes came instead of {PAYLOAD}");
    }
    let mut took = took.split_off(1);
    Ok(quantile(&mut took, 0.5).as_secs_f64() * 1e3)
}

/// The value that this part of them is at most.
fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let rank = (times.len() as f64 * part) as usize;
    times[rank.min(times.len() - 1)]
}

/// Asks all actors that have started, [many at a time](AT_ONCE).
///
/// # Errors
/// The first of an ask.
pub async fn ask_each<A, F>(actors: impl IntoIterator<Item = A>, ask: impl Fn(A) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let asks = stream::iter(actors).map(ask).buffer_unordered(AT_ONCE);
    asks.try_collect().await
}
