//! From starting a process whose students are on the disk to the first answers of all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::process::{Node, Settled};

const STREAMS: usize = 4;

/// A node is ended when each stream has a checkpoint, and started again.
pub(crate) fn measure() -> Value {
    eprintln!("restart");
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let arguments = ["--state", state.to_str().unwrap()];
    let mut node = Node::start(folder.path(), &config(), &arguments);
    node.wait("checkpoints of all", |_| {
        (0..STREAMS)
            .all(|stream| has_checkpoint(&state, stream))
            .then_some(())
    });
    node.end();
    let mut node = Node::start(folder.path(), &config(), &arguments);
    let seconds = node.wait("answers of all", |node| {
        let mut settled = node.settled();
        // The file may still be that of the first process.
        settled.retain(|one| one.known_at > node.started);
        let first = first_answers(&settled);
        (first.len() == STREAMS).then(|| first.into_values().fold(0.0, f64::max) - node.started)
    });
    node.end();
    json!({ "streams": STREAMS, "answered_seconds": seconds })
}

fn has_checkpoint(state: &Path, stream: usize) -> bool {
    let folder = state.join(format!("streams/s{stream}/checkpoints"));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.ends_with(".json"))
}

fn first_answers(settled: &[Settled]) -> BTreeMap<&str, f64> {
    let mut first = BTreeMap::new();
    for one in settled.iter().filter(|one| one.fate == "answered") {
        first.entry(one.stream.as_str()).or_insert(one.known_at);
    }
    first
}

fn config() -> String {
    let mut text = "[run]\nwindow_seconds = 10.0\n\n[[device]]\nname = \"cpu0\"\nkind = \"cpu\"\n\
                    cores = 1\n\n[learning]\nsamples = 20\nburst = 4\n"
        .to_owned();
    for stream in 0..STREAMS {
        text += &format!(
            "\n[[stream]]\nname = \"s{stream}\"\nteacher = \"labels\"\n\
             source = {{ scene = {{ fps = 5.0, seed = {stream}, preset = \"nightfall\" }} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}\n"
        );
    }
    text
}
