//! A node among others.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::flaw::Flaws;
use super::{Config, StreamConfig};

/// Weights that a stream may have.
const WEIGHTS: std::ops::RangeInclusive<f64> = 1e-3..=1e3;

/// How a node finds the others of its site, and what it does for them. It needs a state folder.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Name of this node, as in its certificate. It must not be left out.
    pub name: String,
    /// Folder with `ca.pem`, and the node's certificate and key, as `ekya certs` makes them.
    #[schemars(extend("format" = "path"))]
    pub certs: PathBuf,
    /// IP address and UDP port that it listens at.
    pub listen: String,
    /// `host:port` that others dial, where it is not the one listened at.
    pub advertise: Option<String>,
    /// `host:port` of nodes of the site, one of which has to be there; its own does no harm. None at all:
    /// others name this one.
    pub seeds: Vec<String>,
    /// Whether students of other nodes may be retrained on its devices.
    pub lend: bool,
    /// What the link to other nodes carries, in megabits a second, 0.01 to 1000000: plans count
    /// with it.
    pub link_megabits: f64,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            certs: PathBuf::from("certs"),
            listen: "127.0.0.1:7443".to_owned(),
            advertise: None,
            seeds: Vec::new(),
            lend: true,
            link_megabits: 100.0,
        }
    }
}

/// Checks what concerns several nodes.
pub(super) fn check(config: &Config, flaws: &mut Flaws) {
    for (index, StreamConfig { weight, .. }) in config.streams.iter().enumerate() {
        flaws.require(
            WEIGHTS.contains(weight),
            &format!("stream.{index}.weight"),
            format!("a stream counts from a thousandth to a thousand, got {weight}"),
        );
    }
    let Some(cluster) = &config.cluster else {
        return;
    };
    flaws.require(
        !cluster.name.is_empty(),
        "cluster.name",
        "a node of a cluster needs the name in its certificate",
    );
    flaws.require(
        cluster.listen.parse::<std::net::SocketAddr>().is_ok(),
        "cluster.listen",
        format!(
            "an IP address and a port, such as 0.0.0.0:7443, got '{}'",
            cluster.listen
        ),
    );
    for (index, seed) in cluster.seeds.iter().enumerate() {
        has_port(seed, &format!("cluster.seeds.{index}"), flaws);
    }
    if let Some(advertised) = &cluster.advertise {
        has_port(advertised, "cluster.advertise", flaws);
    }
    let link = cluster.link_megabits;
    flaws.require(
        link.is_finite() && (0.01..=1e6).contains(&link),
        "cluster.link_megabits",
        format!("a link carries 0.01 to 1000000 megabits a second, got {link}"),
    );
}

fn has_port(address: &str, key: &str, flaws: &mut Flaws) {
    let port = address.rsplit_once(':');
    let port = port.filter(|(host, _)| !host.is_empty());
    flaws.require(
        port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)),
        key,
        format!("a host and a port, such as edge-2:7443, got '{address}'"),
    );
}
