//! Three real nodes with six streams, each confined to 0.6 core with its workers where that is allowed
//! (it needs root): killed, cut off, stopped and restarted one by one, as an operator and bad luck would.
//!
//! Limits: a dead node is suspected and given up by the membership in some five seconds, a new leader
//! begins two seconds after nobody leads, and a student is loaded in some tenths of a second. A plan is a
//! message to each node.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ekya::clock::unix_time;
use ekya_models::CheckpointStore;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::answers::{Settled, longest_gaps, put_aside, settled};
use crate::logs;
use crate::site::{Site, one_leader};

const NODES: usize = 3;
const STREAMS_A_NODE: usize = 2;
/// Cores that a node may take.
const CORES: f64 = 0.6;
/// Nothing here takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(200);

/// Has a site suffer something, and says how it went.
type Fault = fn(&mut Bench) -> Value;

/// Everything, one after the other, or only the fault of this name.
pub(crate) fn measure(only: Option<&str>) -> Value {
    let mut bench = Bench::start();
    let is_wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut measured = serde_json::Map::new();
    let faults: [(&str, Fault); 5] = [
        ("follower_killed", |bench| bench.killed(false)),
        ("leader_killed", |bench| bench.killed(true)),
        ("partition", |bench| bench.cut_off(Duration::from_secs(60))),
        ("stopped", |bench| bench.stopped(Duration::from_secs(30))),
        ("restarts", Bench::restarted_one_by_one),
    ];
    for (name, fault) in faults.into_iter().filter(|(name, _)| is_wanted(name)) {
        measured.insert(name.to_owned(), fault(&mut bench));
    }
    measured.insert("confined".to_owned(), bench.confined.into());
    measured.insert("plans".to_owned(), bench.plans());
    Value::Object(measured)
}

struct Bench {
    site: Site,
    confined: bool,
}

fn streams_of(node: usize) -> Vec<String> {
    let streams = 0..STREAMS_A_NODE;
    streams.map(|stream| format!("s{node}{stream}")).collect()
}

fn config(node: usize) -> String {
    let mut text = "[run]\nwindow_seconds = 10.0\n\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\n\
                    cores = 1\n\n[learning]\nsamples = 20\nburst = 4\n"
        .to_owned();
    for (index, stream) in streams_of(node).into_iter().enumerate() {
        let seed = 10 * node + index;
        text += &format!(
            "\n[[stream]]\nname = \"{stream}\"\nteacher = \"labels\"\n\
             source = {{ scene = {{ fps = 5.0, seed = {seed}, preset = \"nightfall\" }} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}\n"
        );
    }
    text
}

impl Bench {
    fn start() -> Self {
        let mut site = Site::behind_a_network(NODES);
        site.logs = "warn,ekya=info,ekya::cluster=debug,ekya_actors=info";
        let confined = site.confine(CORES);
        if !confined {
            eprintln!(
                "the nodes are not confined to {CORES} core each: that needs root and cgroups"
            );
        }
        for node in 0..NODES {
            site.start(node, &config(node));
        }
        let bench = Self { site, confined };
        bench.wait_until_well(0);
        bench
    }

    /// Waits until one leads and each stream runs at home and nowhere else; seconds that it took.
    fn wait_until_well(&self, from: usize) -> f64 {
        let begin = Instant::now();
        self.wait("all is well", || {
            let survey = self.site.survey(from)?;
            self.site.is_well(&survey, streams_of).then_some(())
        });
        begin.elapsed().as_secs_f64()
    }

    fn wait<R>(&self, what: &str, look: impl Fn() -> Option<R>) -> R {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if begin.elapsed() > PATIENCE {
                let tail = |node| {
                    let log = self.site.log(node);
                    let lines: Vec<&str> = log.lines().rev().take(20).collect();
                    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
                };
                let logs: Vec<_> = (0..NODES).map(tail).collect();
                panic!("not within {PATIENCE:?}: {what}\n{}", logs.join("\n---\n"));
            }
            thread::sleep(LOOK);
        }
    }

    fn leader(&self) -> usize {
        let names: Vec<&str> = self.site.nodes.iter().map(|node| &*node.name).collect();
        let name = self.wait("one leader", || one_leader(&self.site.survey(0)?, &names));
        names.iter().position(|node| *node == name.1).unwrap()
    }

    /// Kills a node, and has it back when its streams run elsewhere.
    fn killed(&mut self, leads: bool) -> Value {
        let leader = self.leader();
        let node = if leads { leader } else { (leader + 1) % NODES };
        let other = (node + 1) % NODES;
        eprintln!(
            "{} is killed; it leads: {leads}",
            self.site.nodes[node].name
        );
        let kept: Vec<_> = streams_of(node)
            .iter()
            .map(|stream| (stream.clone(), newest(&self.site, node, stream)))
            .collect();
        let term = logs::lines(&self.site).iter().map(|line| line.term).max();
        let at = unix_time();
        self.site.kill(node);
        let elsewhere = self.wait("its streams are answered elsewhere", || {
            let all = settled(&self.site);
            let first = |stream: &String| {
                let mut after = all.iter().filter(|one| one.known_at > at);
                after
                    .find(|one| one.node != node && one.stream == *stream && one.fate == "answered")
            };
            let firsts: Option<Vec<_>> = streams_of(node).iter().map(first).collect();
            Some(
                firsts?
                    .iter()
                    .map(|one| one.known_at - at)
                    .fold(0.0, f64::max),
            )
        });
        let lost = kept.iter().filter(|(stream, digest)| {
            let others = (0..NODES).filter(|other| *other != node);
            let known = |other| digests(&self.site, other, stream);
            digest.is_some() && !others.flat_map(known).any(|known| Some(known) == *digest)
        });
        let lost = lost.count();
        let planned = leads.then(|| {
            self.wait("a plan of another leader", || {
                let lines = logs::lines(&self.site);
                let mut later = lines
                    .iter()
                    .filter(|line| !line.made && Some(line.term) > term);
                later.next().map(|line| line.at - at)
            })
        });
        put_aside(&self.site, node);
        self.site.start_again(node);
        let healed = self.wait_until_well(other);
        let streams = (0..NODES)
            .filter(|other| *other != node)
            .flat_map(streams_of);
        let dropped = dropped(&settled(&self.site), &streams.collect::<Vec<_>>(), at);
        json!({
            "answered_elsewhere_seconds": elsewhere,
            "checkpoints_lost": lost,
            "next_plan_seconds": planned,
            "dropped_elsewhere": dropped,
            "home_again_seconds": healed,
        })
    }

    /// Cuts the leader off for a while.
    fn cut_off(&mut self, lasts: Duration) -> Value {
        let node = self.leader();
        let other = (node + 1) % NODES;
        eprintln!("{} is cut off for {lasts:?}", self.site.nodes[node].name);
        let from = unix_time();
        let network = self.site.network.as_ref().unwrap();
        network.cut(node, true);
        thread::sleep(lasts);
        network.cut(node, false);
        let healed = self.wait_until_well(other);
        let all = settled(&self.site);
        let to = from + lasts.as_secs_f64();
        let gap = longest_gaps(&all, from, to).into_values();
        let planned = |inside: bool| {
            let lines = logs::lines(&self.site);
            let during = lines.into_iter().filter(|line| {
                !line.made && (line.node == node) == inside && (from + 20.0..to).contains(&line.at)
            });
            during.count()
        };
        json!({
            "longest_without_answers_seconds": gap.fold(0.0, f64::max),
            "decisions_inside": planned(true),
            "decisions_outside": planned(false),
            "healed_seconds": healed,
        })
    }

    /// Stops the leader in its middle for a while.
    fn stopped(&mut self, lasts: Duration) -> Value {
        let node = self.leader();
        let other = (node + 1) % NODES;
        eprintln!("{} is stopped for {lasts:?}", self.site.nodes[node].name);
        self.site.signal(node, Signal::SIGSTOP);
        thread::sleep(lasts);
        self.site.signal(node, Signal::SIGCONT);
        json!({ "healed_seconds": self.wait_until_well(other) })
    }

    /// Drains, ends and starts each node.
    fn restarted_one_by_one(&mut self) -> Value {
        let from = unix_time();
        for node in 0..NODES {
            let other = (node + 1) % NODES;
            eprintln!("{} is restarted", self.site.nodes[node].name);
            self.drain(node, other);
            self.site.end(node);
            put_aside(&self.site, node);
            self.site.start_again(node);
            self.wait_until_well(other);
        }
        let to = unix_time();
        json!({
            "longest_without_answers_seconds": longest_gaps(&settled(&self.site), from, to),
            "seconds": to - from,
        })
    }

    /// How plans have spread until now.
    fn plans(&self) -> Value {
        let lines = logs::lines(&self.site);
        let mut seconds = logs::seconds_to_all(&lines, NODES);
        seconds.sort_by(f64::total_cmp);
        let quantile = |q: f64| {
            let last = seconds.len().checked_sub(1)?;
            seconds.get((last as f64 * q).round() as usize)
        };
        json!({
            "count": seconds.len(),
            "to_all_p50_seconds": quantile(0.5),
            "to_all_p99_seconds": quantile(0.99),
            "to_all_longest_seconds": seconds.last(),
            "older_terms_heeded": logs::steps_back(&lines),
        })
    }

    fn drain(&self, node: usize, by: usize) {
        let output = Command::new(env!("CARGO_BIN_EXE_ekya"))
            .args(["drain", &self.site.nodes[node].name])
            .args(["--node", &self.site.nodes[by].address, "--certs"])
            .arg(self.site.certs())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// Frames of these streams that were dropped in the 15 seconds from then on.
fn dropped(all: &[Settled], streams: &[String], from: f64) -> usize {
    let within = |one: &&Settled| (from..from + 15.0).contains(&one.known_at);
    let dropped = all.iter().filter(within);
    dropped
        .filter(|one| one.fate == "dropped" && streams.contains(&one.stream))
        .count()
}

/// Digest of the student of a stream that a node would go on with.
fn newest(site: &Site, node: usize, stream: &str) -> Option<String> {
    let folder = site.folder_of(node).join("state/streams").join(stream);
    let store = CheckpointStore::open(&folder.join("checkpoints"), 1).ok()?;
    let (newest, _) = store.newest().ok()?;
    newest.map(|newest| newest.manifest.weights_sha256)
}

/// Digests of all students of a stream that a node has, of its own and as copies.
fn digests(site: &Site, node: usize, stream: &str) -> Vec<String> {
    let state = site.folder_of(node).join("state");
    let folders = [state.join("streams"), state.join("copies/streams")];
    let manifests = folders.iter().flat_map(|folder| {
        let entries = std::fs::read_dir(folder.join(stream).join("checkpoints"));
        entries.into_iter().flatten().flatten()
    });
    let digest = |entry: std::fs::DirEntry| {
        let json = std::fs::read(entry.path()).ok()?;
        let manifest: Value = serde_json::from_slice(&json).ok()?;
        Some(manifest.get("weights_sha256")?.as_str()?.to_owned())
    };
    manifests.filter_map(digest).collect()
}
