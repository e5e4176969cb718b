//! Which node runs which stream: what the leader orders, without I/O and clock.
//!
//! A stream has a home, the node that it was given to. It runs there as long as that node is there and is
//! not about to be taken down, else on the node that keeps a copy of it. Every move gives a stream a higher
//! epoch, so that of two nodes that run it, or keep copies, the later one is known.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::leadership::Claim;

/// What a node runs and keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roll {
    /// Streams that it runs.
    pub runs: Vec<Entry>,
    /// Streams of other nodes of which it keeps a copy.
    pub copies: Vec<Entry>,
    /// Streams that were ended here for good: older copies of them are not to be run.
    pub ended: Vec<Entry>,
}

/// A stream that a node runs, or keeps a copy of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub stream: String,
    /// Counts its moves.
    pub epoch: u64,
    /// The node that it was given to.
    pub home: String,
    /// Of a copy: counts what was copied, so that the newest is known.
    pub revision: u64,
    /// Nodes that may run it; empty for all.
    pub nodes: Vec<String>,
}

/// Whether a node is among those that may run a stream; none are named where all may.
pub(super) fn admits(nodes: &[String], node: &str) -> bool {
    nodes.is_empty() || nodes.iter().any(|name| name == node)
}

/// What a node is ordered to do with a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Run it from the copy that it keeps.
    Adopt {
        /// The stream.
        stream: String,
        /// Its epoch from then on.
        epoch: u64,
    },
    /// Hand it to another node, which runs it from then on.
    Send {
        /// The stream.
        stream: String,
        /// The node.
        to: String,
    },
    /// Hand it to another node, whose it is from then on.
    Move {
        /// The stream.
        stream: String,
        /// The node.
        to: String,
    },
    /// End it: another node runs it, which is to be given the student if that is the better one.
    Yield {
        /// The stream.
        stream: String,
        /// The node.
        to: String,
    },
}

impl Order {
    /// The stream that it is about.
    #[must_use]
    pub fn stream(&self) -> &str {
        match self {
            Self::Adopt { stream, .. }
            | Self::Send { stream, .. }
            | Self::Move { stream, .. }
            | Self::Yield { stream, .. } => stream,
        }
    }
}

/// A node that is there.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// What it says to all.
    pub claim: Claim,
    /// What it runs and keeps.
    pub roll: &'a Roll,
    /// Devices' worth of work that it has, for its devices.
    pub load: f64,
}

/// What is to be done where nodes and streams are as they are. All nodes that are there must have said
/// what they run: one that has not may run what another would be ordered to adopt.
#[must_use]
pub fn orders(nodes: &BTreeMap<String, Present<'_>>) -> Vec<(String, Order)> {
    let mut loads: BTreeMap<&str, f64> = nodes.iter().map(|(n, p)| (n.as_str(), p.load)).collect();
    let rolls = nodes.values().map(|present| present.roll);
    let entries = rolls.flat_map(|roll| roll.runs.iter().chain(&roll.copies));
    let streams: BTreeSet<&str> = entries.map(|entry| entry.stream.as_str()).collect();
    streams
        .into_iter()
        .flat_map(|stream| of_stream(stream, nodes, &mut loads))
        .collect()
}

fn of_stream(
    stream: &str,
    nodes: &BTreeMap<String, Present<'_>>,
    loads: &mut BTreeMap<&str, f64>,
) -> Vec<(String, Order)> {
    let runners = entries(stream, nodes, |roll| &roll.runs);
    let may_run = |node: &str| nodes.get(node).is_some_and(|present| !present.claim.drains);
    let Some(latest) = runners
        .iter()
        .max_by_key(|(node, entry)| (entry.epoch, *node))
    else {
        return adopt(stream, nodes);
    };
    let home = latest.1.home.as_str();
    if runners.len() > 1 {
        let runs_at_home = runners.iter().any(|(node, _)| *node == home) && may_run(home);
        let keeps = if runs_at_home { home } else { latest.0 };
        let others = runners.iter().filter(|(node, _)| *node != keeps);
        let order = |(node, _): &(&str, &Entry)| {
            let (stream, to) = (stream.to_owned(), keeps.to_owned());
            ((*node).to_owned(), Order::Yield { stream, to })
        };
        return others.map(order).collect();
    }
    let runner = latest.0;
    let to = if runner != home && may_run(home) {
        Some(home.to_owned())
    } else if may_run(runner) {
        None
    } else {
        least_loaded(runner, latest.1, nodes, loads)
    };
    let send = to.map(|to| {
        let stream = stream.to_owned();
        (runner.to_owned(), Order::Send { stream, to })
    });
    send.into_iter().collect()
}

fn entries<'a>(
    stream: &str,
    nodes: &'a BTreeMap<String, Present<'_>>,
    list: impl Fn(&Roll) -> &Vec<Entry>,
) -> Vec<(&'a str, &'a Entry)> {
    let of = |(node, present): (&'a String, &'a Present<'_>)| {
        let entry = list(present.roll)
            .iter()
            .find(|entry| entry.stream == stream);
        entry.map(|entry| (node.as_str(), entry))
    };
    nodes.iter().filter_map(of).collect()
}

/// The node with the newest copy is to run it.
fn adopt(stream: &str, nodes: &BTreeMap<String, Present<'_>>) -> Vec<(String, Order)> {
    let copies = entries(stream, nodes, |roll| &roll.copies);
    let copies = copies
        .into_iter()
        .filter(|(node, copy)| !nodes[*node].claim.drains && admits(&copy.nodes, node));
    let ended = entries(stream, nodes, |roll| &roll.ended);
    let ended = ended.iter().map(|(_, entry)| entry.epoch).max();
    let copies = copies.filter(|(_, entry)| ended.is_none_or(|ended| entry.epoch >= ended));
    let newest = copies.max_by_key(|(node, entry)| (entry.revision, entry.epoch, *node));
    let adopt = newest.map(|(node, entry)| {
        let (stream, epoch) = (stream.to_owned(), entry.epoch + 1);
        (node.to_owned(), Order::Adopt { stream, epoch })
    });
    adopt.into_iter().collect()
}

/// The node that has least to do for its devices, of those that may run the stream; it then has a little
/// more.
fn least_loaded(
    but: &str,
    entry: &Entry,
    nodes: &BTreeMap<String, Present<'_>>,
    loads: &mut BTreeMap<&str, f64>,
) -> Option<String> {
    let may = |(node, present): &(&String, &Present<'_>)| {
        **node != *but && !present.claim.drains && admits(&entry.nodes, node)
    };
    let load = |node: &str| loads.get(node).copied().unwrap_or(0.0);
    let candidates = nodes.iter().filter(may).map(|(node, _)| node);
    let least = candidates
        .min_by(|a, b| load(a).total_cmp(&load(b)))?
        .clone();
    if let Some(load) = loads.get_mut(least.as_str()) {
        *load += A_STREAM;
    }
    Some(least)
}

/// What a stream is taken to need of a node's devices, so that several that move at once go to different
/// nodes.
const A_STREAM: f64 = 0.1;

/// The node of `others` that is to keep a copy of a stream: with any number of nodes each keeps about as
/// many, and few copies move when one comes or goes.
#[must_use]
pub fn keeper<'a>(stream: &str, others: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let rank = |node: &&str| crc32fast::hash(format!("{stream}\n{node}").as_bytes());
    others.into_iter().max_by_key(rank)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(stream: &str, epoch: u64, home: &str) -> Entry {
        Entry {
            stream: stream.to_owned(),
            epoch,
            home: home.to_owned(),
            revision: 0,
            nodes: Vec::new(),
        }
    }

    fn runs(entries: &[Entry]) -> Roll {
        Roll {
            runs: entries.to_vec(),
            ..Roll::default()
        }
    }

    fn keeps(entries: &[Entry]) -> Roll {
        Roll {
            copies: entries.to_vec(),
            ..Roll::default()
        }
    }

    fn ordered(nodes: &[(&str, &Roll)], draining: &[&str]) -> Vec<(String, Order)> {
        let mut present = BTreeMap::new();
        for &(name, roll) in nodes {
            let claim = Claim {
                drains: draining.contains(&name),
                ..Claim::default()
            };
            let load = 0.0;
            present.insert(name.to_owned(), Present { claim, roll, load });
        }
        orders(&present)
    }

    fn sent(from: &str, stream: &str, to: &str) -> (String, Order) {
        let (stream, to) = (stream.to_owned(), to.to_owned());
        (from.to_owned(), Order::Send { stream, to })
    }

    fn yielded(from: &str, stream: &str, to: &str) -> (String, Order) {
        let (stream, to) = (stream.to_owned(), to.to_owned());
        (from.to_owned(), Order::Yield { stream, to })
    }

    #[test]
    fn a_stream_that_runs_where_it_belongs_stays() {
        let (a, b) = (
            runs(&[entry("gate", 0, "a")]),
            keeps(&[entry("gate", 0, "a")]),
        );
        assert_eq!(ordered(&[("a", &a), ("b", &b)], &[]), []);
        // Its node may be the only one.
        assert_eq!(ordered(&[("a", &a)], &["a"]), []);
    }

    #[test]
    fn the_newest_copy_runs_when_its_node_is_gone() {
        let mut newer = entry("gate", 2, "a");
        newer.revision = 7;
        let (b, c) = (keeps(&[entry("gate", 2, "a")]), keeps(&[newer]));
        let adopt = Order::Adopt {
            stream: "gate".to_owned(),
            epoch: 3,
        };
        assert_eq!(
            ordered(&[("b", &b), ("c", &c)], &[]),
            [("c".to_owned(), adopt)]
        );
        assert_eq!(ordered(&[("b", &b), ("c", &c)], &["b", "c"]), []);
    }

    #[test]
    fn a_stream_that_was_ended_is_not_run_from_an_older_copy() {
        let (b, c) = (
            keeps(&[entry("gate", 2, "a")]),
            keeps(&[entry("gate", 3, "a")]),
        );
        let ended = Roll {
            ended: vec![entry("gate", 3, "")],
            ..Roll::default()
        };
        assert_eq!(ordered(&[("a", &ended), ("b", &b)], &[]), []);
        // It was added again since.
        assert_eq!(ordered(&[("a", &ended), ("c", &c)], &[]).len(), 1);
    }

    #[test]
    fn when_its_home_is_there_again_it_goes_back() {
        let b = runs(&[entry("gate", 1, "a")]);
        assert_eq!(
            ordered(&[("a", &Roll::default()), ("b", &b)], &[]),
            [sent("b", "gate", "a")]
        );
        // Its home runs it already, from what it had.
        let a = runs(&[entry("gate", 0, "a")]);
        assert_eq!(
            ordered(&[("a", &a), ("b", &b)], &[]),
            [yielded("b", "gate", "a")]
        );
    }

    #[test]
    fn of_two_that_are_not_its_home_the_later_keeps_it() {
        let (b, c) = (
            runs(&[entry("gate", 1, "a")]),
            runs(&[entry("gate", 2, "a")]),
        );
        assert_eq!(
            ordered(&[("b", &b), ("c", &c)], &[]),
            [yielded("b", "gate", "c")]
        );
    }

    #[test]
    fn a_home_that_was_moved_gives_way_to_the_new_one() {
        let (a, b) = (
            runs(&[entry("gate", 0, "a")]),
            runs(&[entry("gate", 1, "b")]),
        );
        assert_eq!(
            ordered(&[("a", &a), ("b", &b)], &[]),
            [yielded("a", "gate", "b")]
        );
    }

    #[test]
    fn a_node_that_drains_sends_its_streams_to_different_nodes() {
        let a = runs(&[entry("gate", 0, "a"), entry("yard", 0, "a")]);
        let none = Roll::default();
        let orders = ordered(&[("a", &a), ("b", &none), ("c", &none)], &["a"]);
        assert_eq!(orders, [sent("a", "gate", "b"), sent("a", "yard", "c")]);
    }

    #[test]
    fn a_stream_runs_only_where_its_camera_is_reached() {
        let mut bound = entry("gate", 0, "a");
        bound.nodes = vec!["a".to_owned(), "c".to_owned()];
        let (a, none) = (runs(&[bound.clone()]), Roll::default());
        let nodes = [("a", &a), ("b", &none), ("c", &none)];
        assert_eq!(ordered(&nodes, &["a"]), [sent("a", "gate", "c")]);
        // Nobody else may: it stays to the last.
        assert_eq!(ordered(&nodes[..2], &["a"]), []);
        let b = keeps(&[bound]);
        assert_eq!(ordered(&[("b", &b), ("c", &none)], &[]), []);
    }

    proptest! {
        /// Orders carried out one by one, in any order, come to an end, after which each stream runs
        /// once, at home where that is possible.
        #[test]
        fn in_the_end_each_stream_runs_once(
            runs in prop::collection::vec(prop::collection::vec((0..4_usize, 0..4_u64, 0..5_usize), 0..4), 1..5),
            copies in prop::collection::vec((0..4_usize, 0..5_usize), 0..6),
            drains in prop::collection::vec(any::<bool>(), 5),
        ) {
            let name = |node: usize| format!("n{node}");
            let count = runs.len();
            let mut rolls = vec![Roll::default(); count];
            for (node, streams) in runs.iter().enumerate() {
                for &(stream, epoch, home) in streams {
                    let stream = format!("s{stream}");
                    if rolls[node].runs.iter().all(|entry| entry.stream != stream) {
                        rolls[node].runs.push(entry(&stream, epoch, &name(home)));
                    }
                }
            }
            for (stream, node) in copies {
                let stream = format!("s{stream}");
                rolls[node % count].copies.push(entry(&stream, 0, &name(node)));
            }
            for _ in 0..64 {
                let nodes = rolls.iter().enumerate().map(|(node, roll)| {
                    let claim = Claim { drains: drains[node], ..Claim::default() };
                    (name(node), Present { claim, roll, load: 0.0 })
                });
                let Some((node, order)) = orders(&nodes.collect()).pop() else {
                    let running = rolls.iter().flat_map(|roll| &roll.runs);
                    let mut names: Vec<_> = running.map(|entry| &entry.stream).collect();
                    let all = names.len();
                    names.sort();
                    names.dedup();
                    prop_assert_eq!(names.len(), all, "each runs once");
                    return Ok(());
                };
                let index = |node: &str| node[1..].parse::<usize>().unwrap_or(usize::MAX);
                let at = index(&node);
                let stream = order.stream();
                let place = rolls[at].runs.iter().position(|entry| entry.stream == stream);
                match (&order, place) {
                    (Order::Yield { .. }, Some(place)) => drop(rolls[at].runs.remove(place)),
                    (Order::Send { to, .. }, Some(place)) => {
                        let mut moved = rolls[at].runs.remove(place);
                        moved.epoch += 1;
                        rolls[index(to)].runs.push(moved);
                    }
                    (Order::Adopt { epoch, .. }, None) => {
                        let copy = rolls[at].copies.iter().find(|copy| copy.stream == stream);
                        let mut adopted = copy.cloned().ok_or_else(|| TestCaseError::fail("no copy"))?;
                        adopted.epoch = *epoch;
                        rolls[at].runs.push(adopted);
                    }
                    _ => prop_assert!(false, "{order:?} cannot be carried out"),
                }
            }
            prop_assert!(false, "orders without an end");
        }

        #[test]
        fn copies_are_spread_and_stay_when_another_node_goes(streams in 1..40_usize) {
            let nodes = ["a", "b", "c", "d"];
            for stream in 0..streams {
                let stream = stream.to_string();
                let before = keeper(&stream, nodes);
                let after = keeper(&stream, nodes.into_iter().filter(|node| Some(*node) != before));
                let other = nodes.into_iter().find(|node| Some(*node) != before && Some(*node) != after);
                let without = nodes.into_iter().filter(|node| Some(*node) != other);
                prop_assert_eq!(keeper(&stream, without), before);
            }
        }
    }
}
