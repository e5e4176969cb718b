//! What nodes gain from each other: three of them, one with eight new cameras whose students begin with
//! random weights, two with one such camera each; first each node by itself, then as one cluster, in which
//! the others retrain students of the loaded one. Each node is a process, which is this program again, with
//! one core as its device.
//!
//! ```console
//! $ cargo run --example cluster
//! ```
//!
//! takes four minutes, prints a table, and writes charts to `out/cluster/report.html` and what every node
//! recorded and logged below `out/cluster`. Cameras are procedural scenes, and labels the scenes' own. On two
//! cores three nodes get in each other's way; give it four. Everything was fixed on seed 101.

mod quota;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, stdin};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use ekya::config::ValidConfig;
use ekya::node::{self, RunOptions};
use ekya::record::RunRecord;
use ekya::report::Report;
use ekya::report::statistics::{Estimate, mean};
use ekya::source::StopFlag;
use ekya::write::write_privately;
use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Role, Who};
use quota::Quota;

/// Name of each node, and its cameras with how they drift.
const NODES: [(&str, &[(&str, &str)]); 3] = [
    (
        "edge-1",
        &[
            ("gate", "nightfall"),
            ("park", "nightfall"),
            ("harbour", "storm"),
            ("bridge", "storm"),
            ("station", "fleet"),
            ("mall", "fleet"),
            ("school", "rush"),
            ("market", "rush"),
        ],
    ),
    ("edge-2", &[("door", "steady")]),
    ("edge-3", &[("hall", "steady")]),
];

/// Three nodes, apart and together.
#[derive(Parser)]
struct Arguments {
    /// Where everything is written, in the place of what another run left.
    #[arg(long, default_value = "out/cluster")]
    out: PathBuf,
    /// How many seeds, from the first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Windows of a run.
    #[arg(long, default_value_t = 6)]
    windows: usize,
    /// Seconds of a window.
    #[arg(long, default_value_t = 20.0)]
    window_seconds: f64,
    /// Cores that each node may take with its workers, where the system allows that to be bounded (as root).
    #[arg(long)]
    cores: Option<f64>,
    /// Run one of the nodes: the one of this folder.
    #[arg(long, hide = true)]
    node: Option<PathBuf>,
}

fn main() -> Result<()> {
    // Students train in processes that are this program again.
    ekya::worker::serve_if_asked();
    let arguments = Arguments::parse();
    match &arguments.node {
        Some(folder) => run_node(folder),
        None => compare(&arguments),
    }
}

/// Runs every seed apart and together.
fn compare(arguments: &Arguments) -> Result<()> {
    let out = &arguments.out;
    issue_certificates(&out.join("certs"))?;
    let mut pairs = Vec::new();
    let seeds = arguments.first_seed..arguments.first_seed + arguments.seeds;
    for seed in seeds {
        let [apart, together] = ["apart", "together"].map(|how| {
            let folder = out.join(format!("seed{seed}-{how}"));
            eprintln!("seed {seed}, {how}: {}", folder.display());
            run_site(arguments, seed, how, &folder)
        });
        pairs.push([apart?, together?]);
    }
    print_table(&pairs);
    let records = pairs.into_iter().flatten().map(|record| (None, record));
    Report {
        records: records.collect(),
    }
    .write(out)?;
    println!("report: {}", out.join("report.html").display());
    Ok(())
}

/// An authority, and a certificate for each node.
fn issue_certificates(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let authority = Authority::create(1)?;
    fs::write(folder.join("ca.pem"), authority.certificate())?;
    for (name, _) in NODES {
        let issued = authority.issue(&Who::new(name, Role::Node)?, 1)?;
        fs::write(folder.join(format!("{name}.pem")), issued.certificate)?;
        write_privately(&folder.join(format!("{name}.key")), issued.key.as_bytes())?;
    }
    Ok(())
}

/// Runs all nodes at the same time, and puts their records together to one of the site.
fn run_site(arguments: &Arguments, seed: u64, how: &str, folder: &Path) -> Result<RunRecord> {
    // All at once, so that no port comes twice.
    let sockets = NODES.map(|_| UdpSocket::bind("127.0.0.1:0"));
    let mut addresses = Vec::new();
    for socket in sockets {
        addresses.push(socket?.local_addr()?.to_string());
    }
    let (mut children, mut quotas) = (Vec::new(), Vec::new());
    for (index, (name, _)) in NODES.iter().enumerate() {
        let mut config = configuration(arguments, index, seed);
        if how == "together" {
            // The others find the first one, and each other through it.
            let seeds = &addresses[..index.min(1)];
            write!(
                config,
                "\n[cluster]\nname = \"{name}\"\ncerts = \"../../certs\"\nlisten = \"{}\"\n\
                 seeds = {seeds:?}\n",
                addresses[index]
            )?;
        }
        let child = start_node(&folder.join(name), &config)?;
        let group = format!("ekya-{}-{name}", std::process::id());
        let quota = arguments.cores.and_then(|cores| Quota::new(&group, cores));
        if let Some(quota) = &quota {
            quota.take(child.id())?;
        }
        quotas.push(quota);
        children.push(child);
    }
    let mut records = Vec::new();
    // Held until all have ended: a node ends when its input does.
    let _inputs: Vec<_> = children
        .iter_mut()
        .map(|child| child.stdin.take())
        .collect();
    for (mut child, (name, _)) in children.into_iter().zip(NODES) {
        let status = child.wait()?;
        let folder = folder.join(name);
        ensure!(
            status.success(),
            "{name} ended with {status}: see {}",
            folder.join("log").display()
        );
        let record: RunRecord = serde_json::from_slice(&fs::read(folder.join("run.json"))?)?;
        ensure!(record.complete, "{name} was interrupted");
        records.push(record);
    }
    Ok(of_the_site(records, how))
}

fn configuration(arguments: &Arguments, node: usize, seed: u64) -> String {
    let Arguments {
        windows,
        window_seconds,
        ..
    } = arguments;
    let mut text = format!(
        "[run]\nwindows = {windows}\nwindow_seconds = {window_seconds:?}\nseed = {seed}\n\
         state = \"state\"\n\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\ncores = 1\n\n\
         [learning]\nsamples = 40\nburst = 4\nprofile_fraction = 0.1\nprofile_epochs = 2\n"
    );
    for (camera, (name, drift)) in NODES[node].1.iter().enumerate() {
        let seed = seed * 100 + (node * 10 + camera) as u64;
        // Text of a known shape: writing to it does not fail.
        let _ = write!(
            text,
            "\n[[stream]]\nname = \"{name}\"\nteacher = \"labels\"\n\
             student = {{ classifier = {{ architecture = \"teacher\" }} }}\n\
             source = {{ scene = {{ fps = 2.0, seed = {seed}, preset = \"{drift}\", \
             drift_seconds = 400.0, pace = 4.0, busyness = 2.5 }} }}\n"
        );
    }
    text
}

/// Starts this program again as a node. It ends when its input does, so that none is left behind.
fn start_node(folder: &Path, config: &str) -> Result<Child> {
    // What a node of another run has learnt does not count.
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("site.toml"), config)?;
    Command::new(std::env::current_exe()?)
        .arg("--node")
        .arg(folder)
        .stdin(Stdio::piped())
        .stderr(File::create(folder.join("log"))?)
        .spawn()
        .context("cannot start a node")
}

/// Is a node, until its windows are over or its input ends.
fn run_node(folder: &Path) -> Result<()> {
    let stop = StopFlag::default();
    let ended = stop.clone();
    std::thread::spawn(move || {
        let _ = stdin().read(&mut [0]);
        ended.set();
    });
    tracing_subscriber::fmt()
        .with_env_filter("warn,ekya=info")
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let config = ValidConfig::load(&folder.join("site.toml"))?;
    let options = RunOptions::new().out(folder).stop(stop);
    node::run(&config, options)?;
    Ok(())
}

/// One record of all nodes, whose windows are as long and began at the same time.
fn of_the_site(records: Vec<RunRecord>, how: &str) -> RunRecord {
    let name = |index: usize| NODES[index].0;
    let mut site = None::<RunRecord>;
    for (index, mut record) in records.into_iter().enumerate() {
        // What a node has taken over from another one that ended a moment earlier does not count.
        let own = NODES[index].1.len();
        record.streams.truncate(own);
        for window in &mut record.windows {
            window.streams.truncate(own);
        }
        for device in &mut record.devices {
            device.name = format!("{} of {}", device.name, name(index));
        }
        match &mut site {
            None => site = Some(record),
            Some(site) => {
                site.devices.append(&mut record.devices);
                site.streams.append(&mut record.streams);
                for (window, other) in site.windows.iter_mut().zip(&mut record.windows) {
                    window.streams.append(&mut other.streams);
                }
            }
        }
    }
    let mut site = site.expect("there are nodes");
    how.clone_into(&mut site.scheduler);
    site
}

fn print_table(pairs: &[[RunRecord; 2]]) {
    let accuracies = |record: &RunRecord| -> BTreeMap<String, f64> {
        let known = record.streams.iter();
        known
            .filter_map(|stream| Some((stream.name.clone(), stream.true_accuracy?)))
            .collect()
    };
    println!("\naccuracy in %         apart  together  gain");
    for (name, cameras) in NODES {
        for (camera, drift) in cameras {
            let of = |how: usize| {
                let all = pairs.iter().map(|pair| accuracies(&pair[how])[*camera]);
                100.0 * mean(&all.collect::<Vec<_>>()).unwrap_or(f64::NAN)
            };
            let (apart, together) = (of(0), of(1));
            let gain = together - apart;
            println!("{name} {camera:8}{drift:9} {apart:5.1}     {together:5.1} {gain:+5.1}");
        }
    }
    let site = |record: &RunRecord| {
        let all: Vec<_> = accuracies(record).into_values().collect();
        100.0 * mean(&all).unwrap_or(f64::NAN)
    };
    let gains: Vec<_> = pairs
        .iter()
        .map(|[apart, together]| site(together) - site(apart))
        .collect();
    let of = |how: usize| {
        let all: Vec<_> = pairs.iter().map(|pair| site(&pair[how])).collect();
        mean(&all).unwrap_or(f64::NAN)
    };
    if let Some(Estimate {
        mean, half_width, ..
    }) = Estimate::of(&gains)
    {
        let interval = half_width.map_or_else(String::new, |half| format!(" ± {half:.1}"));
        println!(
            "mean                  {:5.1}     {:5.1} {mean:+5.1}{interval}",
            of(0),
            of(1)
        );
    }
}
