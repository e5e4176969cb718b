//! What a node knows of the streams that were given to it, or taken from it: kept in a file, so that
//! after a start it runs what it ran before, and not what has been moved elsewhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::homes::Entry;
use crate::clock::unix_seconds;
use crate::config::StreamConfig;
use crate::write::{WriteError, write_privately};

/// Version of the file.
const VERSION: u32 = 1;

/// The streams and the file.
#[derive(Debug)]
pub(super) struct Assignments {
    path: PathBuf,
    streams: BTreeMap<String, Assignment>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Assignment {
    /// Counts its moves.
    pub(super) epoch: u64,
    /// The node that it was given to; nobody's name for one that was ended for good.
    pub(super) home: String,
    /// Whether this node runs it.
    pub(super) runs: bool,
    /// When it was first run, on any node (Unix seconds): a source that is no camera goes on from there.
    pub(super) began: u64,
    /// How it is configured.
    pub(super) config: StreamConfig,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    streams: BTreeMap<String, Assignment>,
}

impl Assignment {
    /// How long it has been since it was first run.
    pub(super) fn age(&self) -> Duration {
        Duration::from_secs(unix_seconds().saturating_sub(self.began))
    }
}

impl Assignments {
    /// Those in `folder`. A file that cannot be used counts as none, with a warning: then the node runs
    /// what its configuration names, and the others set that right.
    pub(super) fn read(folder: &Path) -> Self {
        let path = folder.join("assignments.json");
        let streams = match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<Content>(&bytes) {
                Ok(content) if content.version == VERSION => content.streams,
                Ok(content) => useless(&path, &format!("version {} of the file", content.version)),
                Err(error) => useless(&path, &error.to_string()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => useless(&path, &error.to_string()),
        };
        Self { path, streams }
    }

    pub(super) fn get(&self, stream: &str) -> Option<&Assignment> {
        self.streams.get(stream)
    }

    /// What the node runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&String, &Assignment)> {
        self.streams.iter().filter(|(_, one)| one.runs)
    }

    /// The configured streams that `me` is to run when it starts: those that were not given to another
    /// node. Whatever else it [ran](Self::runs) last was given to it.
    pub(super) fn begin(&mut self, me: &str, configured: &[StreamConfig]) -> Vec<StreamConfig> {
        for config in configured {
            let known = self.streams.entry(config.name.clone());
            let known = known.or_insert_with(|| Assignment {
                epoch: 0,
                home: me.to_owned(),
                runs: true,
                began: unix_seconds(),
                config: config.clone(),
            });
            known.runs |= known.home == me;
            known.config = config.clone();
        }
        let here = |config: &&StreamConfig| self.get(&config.name).is_some_and(|one| one.runs);
        configured.iter().filter(here).cloned().collect()
    }

    /// Sets one, and keeps it.
    ///
    /// # Errors
    /// [`WriteError`]; it is set all the same.
    pub(super) fn set(&mut self, stream: &str, assignment: Assignment) -> Result<(), WriteError> {
        self.streams.insert(stream.to_owned(), assignment);
        let content = Content {
            version: VERSION,
            streams: self.streams.clone(),
        };
        // Strings and finite numbers: always JSON. A camera's URL may hold its password.
        write_privately(
            &self.path,
            &serde_json::to_vec_pretty(&content).unwrap_or_default(),
        )
    }

    /// What the node runs, for whoever leads.
    pub(super) fn running(&self) -> Vec<Entry> {
        self.runs().map(entry).collect()
    }

    /// What was ended for good on this node.
    pub(super) fn ended(&self) -> Vec<Entry> {
        let ended = self.streams.iter().filter(|(_, one)| one.home.is_empty());
        ended.map(entry).collect()
    }
}

fn entry((stream, one): (&String, &Assignment)) -> Entry {
    Entry {
        stream: stream.clone(),
        epoch: one.epoch,
        home: one.home.clone(),
        revision: 0,
        nodes: one.config.may_run_on(&one.home),
    }
}

fn useless(path: &Path, reason: &str) -> BTreeMap<String, Assignment> {
    let path = path.display();
    tracing::warn!(%path, reason, "what was given to this node is not known; it runs what is configured");
    BTreeMap::new()
}
