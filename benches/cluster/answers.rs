//! What the nodes of a site have answered, as their files of results say.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

use crate::site::Site;

/// A frame and what became of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Settled {
    /// In Unix seconds.
    pub(crate) known_at: f64,
    pub(crate) stream: String,
    pub(crate) fate: String,
    #[serde(skip)]
    pub(crate) node: usize,
}

/// All of all nodes, in order of time; of every start of a node, if [`put_aside`] was called in between.
pub(crate) fn settled(site: &Site) -> Vec<Settled> {
    let mut all = Vec::new();
    for node in 0..site.nodes.len() {
        let Ok(entries) = fs::read_dir(site.folder_of(node)) else {
            continue;
        };
        for entry in entries.flatten() {
            let text = fs::read_to_string(entry.path().join("results.jsonl")).unwrap_or_default();
            // The last line of a node that was killed may be a part of one.
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            all.extend(lines.map(|settled| Settled { node, ..settled }));
        }
    }
    all.sort_by(|a, b| a.known_at.total_cmp(&b.known_at));
    all
}

/// Keeps what a node has written from being replaced at its next start.
pub(crate) fn put_aside(site: &Site, node: usize) {
    let folder = site.folder_of(node);
    let starts = fs::read_dir(&folder).unwrap().count();
    fs::rename(folder.join("out"), folder.join(format!("out-{starts}"))).unwrap();
}

/// The longest time without an answer from `from` to `to`, by stream.
pub(crate) fn longest_gaps(settled: &[Settled], from: f64, to: f64) -> BTreeMap<String, f64> {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let streams = settled.iter().map(|one| one.stream.clone());
    for stream in streams {
        last.entry(stream).or_insert((from, 0.0));
    }
    let within = |one: &&Settled| (from..to).contains(&one.known_at) && one.fate == "answered";
    for one in settled.iter().filter(within) {
        let (before, gap) = last.entry(one.stream.clone()).or_insert((from, 0.0));
        *gap = gap.max(one.known_at - *before);
        *before = one.known_at;
    }
    last.into_iter()
        .map(|(stream, (before, gap))| (stream, gap.max(to - before)))
        .collect()
}
