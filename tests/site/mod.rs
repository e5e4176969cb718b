//! A site of `ekya run` processes on the loopback, with certificates of one authority, for tests.
#![allow(dead_code, reason = "each test uses a part")]

mod network;
#[path = "../../examples/cluster/quota.rs"]
mod quota;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ekya::cluster::{Answered, Survey, Surveyed, survey};
use ekya_actors::security::authority::Authority;
use ekya_actors::security::{Identity, Role, Who};
use network::Network;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quota::Quota;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what the nodes say.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) struct Site {
    folder: tempfile::TempDir,
    authority: Authority,
    pub(crate) nodes: Vec<SiteNode>,
    /// What lies between the nodes, where that is not the loopback alone.
    pub(crate) network: Option<Network>,
    /// What nodes log.
    pub(crate) logs: &'static str,
    /// Addresses that nodes dial beside those of each other.
    pub(crate) strangers: Vec<String>,
}

pub(crate) struct SiteNode {
    pub(crate) name: String,
    pub(crate) address: String,
    process: Option<Child>,
    /// What it may take of the machine with all that it starts, where that is limited.
    quota: Option<Quota>,
}

impl Site {
    /// So many nodes, none of which runs yet. Each has a port that was free a moment ago.
    pub(crate) fn new(nodes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(1).unwrap();
        let mut site = Self {
            folder,
            authority,
            nodes: Vec::new(),
            network: None,
            logs: "warn,ekya=info,ekya_actors=info",
            strangers: Vec::new(),
        };
        fs::create_dir(site.certs()).unwrap();
        fs::write(site.certs().join("ca.pem"), site.authority.certificate()).unwrap();
        site.issue("observer", Role::Observer);
        site.issue("operator", Role::Client);
        // All at once, so that no port comes twice.
        let sockets = (0..nodes).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let addresses: Vec<_> = sockets.map(|one| one.local_addr().unwrap()).collect();
        for (index, address) in addresses.into_iter().enumerate() {
            let name = format!("edge-{}", index + 1);
            site.issue(&name, Role::Node);
            site.nodes.push(SiteNode {
                name,
                address: address.to_string(),
                process: None,
                quota: None,
            });
        }
        site
    }

    /// The same behind a network that can be spoilt.
    pub(crate) fn behind_a_network(nodes: usize) -> Self {
        let mut site = Self::new(nodes);
        let addresses = site.nodes.iter().map(|node| node.address.parse().unwrap());
        site.network = Some(Network::new(&addresses.collect::<Vec<_>>()));
        site
    }

    /// Confines each node to so many cores, where that is allowed; whether it is.
    pub(crate) fn confine(&mut self, cores: f64) -> bool {
        for node in &mut self.nodes {
            let name = format!("ekya-{}-{}", std::process::id(), node.name);
            node.quota = Quota::new(&name, cores);
        }
        self.nodes.iter().all(|node| node.quota.is_some())
    }

    /// Where others dial a node.
    fn dialled(&self, node: usize) -> String {
        let network = self.network.as_ref();
        network.map_or_else(
            || self.nodes[node].address.clone(),
            |network| network.fronts[node].to_string(),
        )
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn certs(&self) -> PathBuf {
        self.path().join("certs")
    }

    fn issue(&self, name: &str, role: Role) {
        let issued = self
            .authority
            .issue(&Who::new(name, role).unwrap(), 1)
            .unwrap();
        let file = |kind: &str| self.certs().join(format!("{name}.{kind}"));
        fs::write(file("pem"), issued.certificate).unwrap();
        fs::write(file("key"), issued.key).unwrap();
    }

    /// What a node leaves behind, and its log.
    pub(crate) fn folder_of(&self, node: usize) -> PathBuf {
        self.path().join(&self.nodes[node].name)
    }

    /// Starts a node with these lines of configuration, in which `[cluster]` is added.
    pub(crate) fn start(&mut self, node: usize, config: &str) {
        let folder = self.folder_of(node);
        fs::create_dir_all(&folder).unwrap();
        let SiteNode { name, address, .. } = &self.nodes[node];
        let mut text = config.to_owned();
        let others = (0..self.nodes.len()).filter(|&other| other != node);
        let seeds = others.map(|other| self.dialled(other));
        let seeds: Vec<_> = seeds.chain(self.strangers.iter().cloned()).collect();
        let advertised = self.dialled(node);
        write!(
            text,
            "\n[cluster]\nname = \"{name}\"\ncerts = \"../certs\"\nlisten = \"{address}\"\nadvertise = \"{advertised}\"\nseeds = {seeds:?}\n"
        )
        .unwrap();
        fs::write(folder.join("site.toml"), text).unwrap();
        self.start_again(node);
    }

    /// Starts a node as it was started before.
    pub(crate) fn start_again(&mut self, node: usize) {
        let folder = self.folder_of(node);
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"));
        let log = log.unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_ekya"))
            .args(["run", "--config"])
            .arg(folder.join("site.toml"))
            .arg("--state")
            .arg(folder.join("state"))
            .arg("--out")
            .arg(folder.join("out"))
            .env("EKYA_LOG", self.logs)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = process.unwrap();
        if let Some(quota) = &self.nodes[node].quota {
            quota.take(process.id()).unwrap();
        }
        self.nodes[node].process = Some(process);
    }

    pub(crate) fn pid(&self, node: usize) -> Pid {
        let process = self.nodes[node].process.as_ref().unwrap();
        Pid::from_raw(process.id() as i32)
    }

    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        kill(self.pid(node), signal).unwrap();
    }

    /// Kills a node and waits for its end.
    pub(crate) fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks a node to end, and waits until it has.
    pub(crate) fn end(&mut self, node: usize) {
        self.signal(node, Signal::SIGINT);
        let process = self.nodes[node].process.take();
        let status = process.unwrap().wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log(node));
    }

    pub(crate) fn log(&self, node: usize) -> String {
        fs::read_to_string(self.folder_of(node).join("log")).unwrap_or_default()
    }

    /// What the nodes say, asked from this one.
    pub(crate) fn survey(&self, from: usize) -> Option<Survey> {
        let identity = Identity::load(&self.certs(), "observer").unwrap();
        survey(identity, &self.nodes[from].address).ok()
    }

    /// Whether all nodes follow one, and each runs those streams and no other, in the order of their names.
    pub(crate) fn is_well(
        &self,
        survey: &Survey,
        streams_of: impl Fn(usize) -> Vec<String>,
    ) -> bool {
        let names: Vec<&str> = self.nodes.iter().map(|node| &*node.name).collect();
        let at_home = |(index, name): (usize, &&str)| {
            answered(survey, name).is_some_and(|node| {
                let mut runs = node.overview.runs.clone();
                runs.sort();
                runs == streams_of(index)
            })
        };
        names.iter().enumerate().all(at_home) && one_leader(survey, &names).is_some()
    }

    /// Waits until what the nodes say, asked from this one, is as wanted.
    pub(crate) fn wait_for<R>(
        &self,
        from: usize,
        what: &str,
        wanted: impl Fn(&Survey) -> Option<R>,
    ) -> R {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < PATIENCE {
            last = self.survey(from).or(last);
            if let Some(result) = last.as_ref().and_then(&wanted) {
                return result;
            }
            thread::sleep(LOOK);
        }
        let logs: Vec<_> = (0..self.nodes.len()).map(|node| self.log(node)).collect();
        panic!(
            "not within {PATIENCE:?}: {what}\n{last:#?}\n{}",
            logs.join("\n---\n")
        );
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

/// What a node has answered.
pub(crate) fn answered<'a>(survey: &'a Survey, name: &str) -> Option<&'a Answered> {
    match survey.nodes.get(name)? {
        Surveyed::Answered(node) => Some(node),
        Surveyed::Silent { .. } => None,
    }
}

/// Whom these nodes follow, when all follow one: its term and name.
pub(crate) fn one_leader(survey: &Survey, nodes: &[&str]) -> Option<(u64, String)> {
    let leaders = nodes.iter().map(|name| {
        let leader = answered(survey, name)?.overview.leader.as_ref()?;
        Some((leader.term, leader.name.clone()))
    });
    let mut leaders = leaders.collect::<Option<Vec<_>>>()?;
    leaders.dedup();
    (leaders.len() == 1).then(|| leaders.remove(0))
}
