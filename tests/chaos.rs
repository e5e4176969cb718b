//! Random faults on a site of three nodes and six streams: whatever happens, afterwards one node leads, each
//! stream runs once and at home, and no device was granted beyond its capacity.
//!
//! Takes long, so that it is left out of the tests; `cargo xtask chaos --seed N --minutes M` runs it. The
//! seed repeats the schedule of faults, not what comes of it to the millisecond: processes are real.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod site;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ekya::cluster::{Survey, Surveyed};
use ekya::record::RunRecord;
use nix::sys::signal::Signal;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use site::{Site, answered};

const NODES: usize = 3;
const STREAMS_A_NODE: usize = 2;
/// Time in which all is well again when a fault is over.
const HEALED_WITHIN: Duration = Duration::from_secs(40);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// What may happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// Killed, and started again after a while.
    Kill,
    /// Stopped in its middle, and going on after a while.
    Stop,
    /// Cut off from the others.
    Cut,
    /// What goes to it and comes from it takes long.
    Delay,
    /// Some of that is lost.
    Loss,
    /// The disk of its state is full.
    FullDisk,
}

const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Cut,
    Fault::Delay,
    Fault::Loss,
    Fault::FullDisk,
];

/// A fault and what came of it.
#[derive(Debug, Serialize)]
struct Event {
    fault: Fault,
    node: String,
    led: bool,
    lasted_seconds: f64,
    /// Until the streams of a node that was killed ran elsewhere.
    adopted_seconds: Option<f64>,
    /// Until others followed another leader, where a leader was killed, stopped or cut off.
    led_again_seconds: Option<f64>,
    /// Until all was well again.
    healed_seconds: f64,
}

fn config(node: usize) -> String {
    let mut text = "[run]\nwindow_seconds = 5.0\n\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\n\
                    cores = 1\nisolation = \"inline\"\n\n[learning]\nsamples = 12\nburst = 4\n"
        .to_owned();
    for stream in 0..STREAMS_A_NODE {
        let seed = 10 * node + stream;
        text += &format!(
            "\n[[stream]]\nname = \"s{node}{stream}\"\nteacher = \"labels\"\n\
             source = {{ scene = {{ fps = 3.0, seed = {seed}, preset = \"storm\" }} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}\n"
        );
    }
    text
}

struct Chaos {
    site: Site,
    /// Where state folders lie on disks of their own that can be filled.
    disks: bool,
}

impl Chaos {
    fn start() -> Self {
        let mut site = Site::behind_a_network(NODES);
        let disks = (0..NODES).all(|node| mount(&site.folder_of(node).join("state")));
        if !disks {
            eprintln!("no disk is filled: mounting one needs root");
        }
        for node in 0..NODES {
            site.start(node, &config(node));
        }
        let chaos = Self { site, disks };
        let begin = Instant::now();
        while !chaos.is_well(0) {
            assert!(
                begin.elapsed() < 2 * HEALED_WITHIN,
                "never well: {}",
                chaos.logs()
            );
            thread::sleep(LOOK);
        }
        chaos
    }

    /// What the nodes say, asked from one that is there.
    fn survey(&self, from: usize) -> Option<Survey> {
        let survey = self.site.survey(from)?;
        for (name, surveyed) in &survey.nodes {
            let Surveyed::Answered(node) = surveyed else {
                continue;
            };
            for device in &node.devices {
                let granted: f64 = device.jobs.iter().map(|job| job.granted).sum();
                assert!(
                    granted < 1.0 + 1e-6,
                    "{name} has granted {granted}: {device:#?}"
                );
            }
        }
        Some(survey)
    }

    fn runs(survey: &Survey, node: &str) -> Vec<String> {
        answered(survey, node).map_or_else(Vec::new, |node| node.overview.runs.clone())
    }

    /// Whether one leads, and each stream runs at home and nowhere else.
    fn is_well(&self, from: usize) -> bool {
        let Some(survey) = self.survey(from) else {
            return false;
        };
        self.site.is_well(&survey, |node| {
            (0..STREAMS_A_NODE)
                .map(|stream| format!("s{node}{stream}"))
                .collect()
        })
    }

    fn leader(&self, from: usize) -> Option<(u64, String)> {
        let survey = self.survey(from)?;
        let own = answered(&survey, &self.site.nodes[from].name)?;
        let leader = own.overview.leader.as_ref()?;
        Some((leader.term, leader.name.clone()))
    }

    fn inflict(&mut self, fault: Fault, node: usize, lasts: Duration) -> Event {
        let name = self.site.nodes[node].name.clone();
        let other = (node + 1) % NODES;
        let before = self.leader(other);
        let led = before.as_ref().is_some_and(|(_, leader)| *leader == name);
        eprintln!(
            "{fault:?} on {name}{}",
            if led { ", which leads" } else { "" }
        );
        let begin = Instant::now();
        self.begin(fault, node);
        let (mut adopted, mut led_again) = (None::<Duration>, None);
        while begin.elapsed() < lasts {
            let silent = matches!(fault, Fault::Kill | Fault::Stop | Fault::Cut);
            if silent && led && led_again.is_none() {
                let leader = self.leader(other);
                if leader.is_some_and(|leader| Some(&leader) > before.as_ref()) {
                    led_again = Some(begin.elapsed());
                    eprintln!(
                        "  another leads after {:.1} s",
                        begin.elapsed().as_secs_f64()
                    );
                }
            }
            if fault == Fault::Kill && adopted.is_none() && self.are_adopted(node, other) {
                adopted = Some(begin.elapsed());
                eprintln!(
                    "  its streams run elsewhere after {:.1} s",
                    begin.elapsed().as_secs_f64()
                );
            }
            thread::sleep(LOOK);
        }
        self.end(fault, node);
        let over = Instant::now();
        while !self.is_well(other) {
            assert!(
                over.elapsed() < HEALED_WITHIN,
                "not well {HEALED_WITHIN:?} after {fault:?} on {name}: {:#?}\n{}",
                self.site.survey(other),
                self.logs()
            );
            thread::sleep(LOOK);
        }
        let healed_seconds = over.elapsed().as_secs_f64();
        eprintln!("  well again after {healed_seconds:.1} s");
        Event {
            fault,
            node: name,
            led,
            lasted_seconds: lasts.as_secs_f64(),
            adopted_seconds: adopted.map(|time| time.as_secs_f64()),
            led_again_seconds: led_again.map(|time: Duration| time.as_secs_f64()),
            healed_seconds,
        }
    }

    fn are_adopted(&self, node: usize, from: usize) -> bool {
        let Some(survey) = self.survey(from) else {
            return false;
        };
        let others = self
            .site
            .nodes
            .iter()
            .filter(|other| other.name != self.site.nodes[node].name);
        let runs: Vec<_> = others
            .flat_map(|other| Self::runs(&survey, &other.name))
            .collect();
        (0..STREAMS_A_NODE).all(|stream| runs.contains(&format!("s{node}{stream}")))
    }

    fn begin(&mut self, fault: Fault, node: usize) {
        let network = self.site.network.as_ref().unwrap();
        match fault {
            Fault::Kill => self.site.kill(node),
            Fault::Stop => self.site.signal(node, Signal::SIGSTOP),
            Fault::Cut => network.cut(node, true),
            Fault::Delay => network.delay(node, Duration::from_millis(150)),
            Fault::Loss => network.lose_each(node, 5),
            Fault::FullDisk => fill(&self.site.folder_of(node).join("state/filler")),
        }
    }

    fn end(&mut self, fault: Fault, node: usize) {
        let network = self.site.network.as_ref().unwrap();
        match fault {
            Fault::Kill => self.site.start_again(node),
            Fault::Stop => self.site.signal(node, Signal::SIGCONT),
            Fault::Cut => network.cut(node, false),
            Fault::Delay => network.delay(node, Duration::ZERO),
            Fault::Loss => network.lose_each(node, 0),
            Fault::FullDisk => {
                std::fs::remove_file(self.site.folder_of(node).join("state/filler")).unwrap();
            }
        }
    }

    fn logs(&self) -> String {
        let logs = (0..NODES).map(|node| self.site.log(node));
        logs.collect::<Vec<_>>().join("\n---\n")
    }

    /// Ends all nodes, and looks whether every frame that arrived has had a fate.
    fn finish(mut self) {
        for node in 0..NODES {
            self.site.end(node);
        }
        for node in 0..NODES {
            let json = std::fs::read(self.site.folder_of(node).join("out/run.json")).unwrap();
            let record: RunRecord = serde_json::from_slice(&json).unwrap();
            for stream in record.streams {
                let frames = stream.frames;
                let settled = frames.answered + frames.skipped + frames.dropped;
                assert_eq!(frames.arrived, settled, "{}", stream.name);
                assert_eq!(stream.failure, None, "{}", stream.name);
            }
        }
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        for node in 0..NODES {
            if self.disks {
                let state = self.site.folder_of(node).join("state");
                let _ = Command::new("umount").arg("--lazy").arg(state).status();
            }
        }
    }
}

/// A disk of 512 MB at this place, where that is allowed.
fn mount(place: &PathBuf) -> bool {
    std::fs::create_dir_all(place).unwrap();
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=512m", "tmpfs"])
        .arg(place);
    mount.status().is_ok_and(|status| status.success())
}

/// Fills the disk that a file lies on.
fn fill(file: &PathBuf) {
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let mut to = std::fs::File::create(file).unwrap();
    // Until there is no room.
    let _ = std::io::copy(&mut std::io::Read::take(zeros, 1 << 30), &mut to);
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
#[ignore = "takes minutes: cargo xtask chaos"]
fn random_faults() {
    let number = |name, otherwise| {
        set(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(otherwise)
    };
    let (seed, minutes) = (
        number("EKYA_CHAOS_SEED", 1),
        number("EKYA_CHAOS_MINUTES", 5),
    );
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut chaos = Chaos::start();
    let (begin, mut events) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs(60 * minutes) {
        // Drawn before anything is looked at, so that the seed alone decides.
        let fault = FAULTS[random.random_range(0..FAULTS.len())];
        let (node, lasts) = (random.random_range(0..NODES), random.random_range(4..30));
        if fault == Fault::FullDisk && !chaos.disks {
            continue;
        }
        events.push(chaos.inflict(fault, node, Duration::from_secs(lasts)));
    }
    chaos.finish();
    let mut worst: BTreeMap<Fault, f64> = BTreeMap::new();
    for event in &events {
        let seconds = worst.entry(event.fault).or_default();
        *seconds = seconds.max(event.healed_seconds);
    }
    eprintln!(
        "{} faults; longest until all was well again, in s: {worst:?}",
        events.len()
    );
    if let Some(file) = set("EKYA_CHAOS_JSON") {
        std::fs::write(file, serde_json::to_vec_pretty(&events).unwrap()).unwrap();
    }
}
