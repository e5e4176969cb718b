//! Which stream is to leave a node that has more inference than its devices can do: without I/O and clock.
//!
//! Retraining is lent from node to node; inference is not, so a node whose devices answer all frames of
//! its streams only by skipping some gives a stream to one that has room.

use std::collections::BTreeMap;

use super::homes::{Order, admits};

/// Devices' worth of inference, for a node's devices, above which there is too little left for the rest.
const FULL: f64 = 0.85;
/// What a move must at least take off the busier of its two nodes, so that none is undone by the next.
const GAIN: f64 = 0.1;

/// What a node has to do.
#[derive(Debug, Clone, Default)]
pub(super) struct Burden<'a> {
    /// Devices that it has.
    pub(super) devices: usize,
    /// Its streams.
    pub(super) streams: Vec<Carried<'a>>,
    /// Whether it may be given more.
    pub(super) takes: bool,
}

/// A stream of a node.
#[derive(Debug, Clone)]
pub(super) struct Carried<'a> {
    pub(super) stream: &'a str,
    /// Devices' worth of its inference where every frame is answered.
    pub(super) load: f64,
    /// How much it counts: what counts less moves first.
    pub(super) weight: f64,
    /// Nodes that may run it; empty for all.
    pub(super) nodes: &'a [String],
}

impl Burden<'_> {
    fn with(&self, more: f64) -> f64 {
        let all: f64 = self.streams.iter().map(|carried| carried.load).sum();
        (all + more) / self.devices.max(1) as f64
    }
}

/// The move that takes most off the busiest node, when that one is full and a move takes enough off.
pub(super) fn relief(nodes: &BTreeMap<&str, Burden<'_>>) -> Option<(String, Order)> {
    let busiest = nodes
        .iter()
        .max_by(|(_, a), (_, b)| a.with(0.0).total_cmp(&b.with(0.0)));
    let (from, burden) = busiest.filter(|(_, burden)| burden.with(0.0) > FULL)?;
    let before = burden.with(0.0);
    let moves = burden.streams.iter().flat_map(|carried| {
        let others = nodes.iter().filter(move |(node, other)| {
            *node != from && other.takes && admits(carried.nodes, node)
        });
        others.map(move |(node, other)| {
            let after = burden.with(-carried.load).max(other.with(carried.load));
            (carried, *node, after)
        })
    });
    let enough = moves.filter(|(_, _, after)| *after <= before - GAIN);
    let best = enough.min_by(|(a, _, a_after), (b, _, b_after)| {
        let by_weight = a.weight.total_cmp(&b.weight);
        by_weight.then(a_after.total_cmp(b_after))
    });
    best.map(|(carried, to, _)| {
        let (stream, to) = (carried.stream.to_owned(), to.to_owned());
        ((*from).to_owned(), Order::Move { stream, to })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn carried(stream: &str, load: f64) -> Carried<'_> {
        Carried {
            stream,
            load,
            weight: 1.0,
            nodes: &[],
        }
    }

    fn burden<'a>(streams: &[Carried<'a>]) -> Burden<'a> {
        Burden {
            devices: 1,
            streams: streams.to_vec(),
            takes: true,
        }
    }

    fn moved(nodes: &[(&'static str, Burden<'_>)]) -> Option<(String, String, String)> {
        match relief(&nodes.iter().cloned().collect())? {
            (from, Order::Move { stream, to }) => Some((from, stream, to)),
            other => panic!("{other:?}"),
        }
    }

    fn is(from: &str, stream: &str, to: &str) -> Option<(String, String, String)> {
        Some((from.to_owned(), stream.to_owned(), to.to_owned()))
    }

    #[test]
    fn a_full_node_gives_a_stream_to_the_one_with_most_room() {
        let full = burden(&[carried("gate", 0.5), carried("yard", 0.5)]);
        let nodes = [
            ("a", full),
            ("b", burden(&[carried("road", 0.3)])),
            ("c", burden(&[carried("door", 0.1)])),
        ];
        assert_eq!(moved(&nodes), is("a", "gate", "c"));
    }

    #[test]
    fn what_counts_least_moves_first() {
        let mut important = carried("gate", 0.5);
        important.weight = 2.0;
        let nodes = [
            ("a", burden(&[important, carried("yard", 0.4)])),
            ("b", burden(&[])),
        ];
        assert_eq!(moved(&nodes), is("a", "yard", "b"));
    }

    #[test]
    fn nothing_moves_where_there_is_room_or_nowhere_to_go() {
        let half = burden(&[carried("gate", 0.4), carried("yard", 0.4)]);
        assert_eq!(moved(&[("a", half), ("b", burden(&[]))]), None);
        let full = burden(&[carried("gate", 0.5), carried("yard", 0.5)]);
        let also = burden(&[carried("road", 0.5)]);
        assert_eq!(moved(&[("a", full.clone()), ("b", also)]), None);
        let mut leaves = burden(&[]);
        leaves.takes = false;
        assert_eq!(moved(&[("a", full.clone()), ("b", leaves)]), None);
        assert_eq!(moved(&[("a", full)]), None);
        assert_eq!(moved(&[]), None);
    }

    #[test]
    fn a_stream_goes_only_where_its_camera_is_reached() {
        let only = ["c".to_owned()];
        let bound = |stream| Carried {
            nodes: &only,
            ..carried(stream, 0.5)
        };
        let nodes = [
            ("a", burden(&[bound("gate"), bound("yard")])),
            ("b", burden(&[])),
            ("c", burden(&[carried("door", 0.1)])),
        ];
        assert_eq!(moved(&nodes), is("a", "gate", "c"));
    }

    proptest! {
        /// Carried out again and again, moves come to an end.
        #[test]
        fn moves_come_to_an_end(
            loads in prop::collection::vec(prop::collection::vec(0.01..1.0_f64, 0..6), 1..5),
        ) {
            let names: Vec<Vec<String>> = loads
                .iter()
                .enumerate()
                .map(|(node, streams)| (0..streams.len()).map(|s| format!("{node}-{s}")).collect())
                .collect();
            let nodes = ["a", "b", "c", "d"];
            let mut site: BTreeMap<&str, Burden<'_>> = nodes
                .into_iter()
                .zip(loads.iter().zip(&names))
                .map(|(node, (loads, names))| {
                    let streams: Vec<_> = names.iter().zip(loads).map(|(name, load)| carried(name, *load)).collect();
                    (node, burden(&streams))
                })
                .collect();
            for _ in 0..100 {
                let Some((from, Order::Move { stream, to })) = relief(&site) else {
                    return Ok(());
                };
                let streams = &mut site.get_mut(from.as_str()).unwrap().streams;
                let place = streams.iter().position(|carried| carried.stream == stream).unwrap();
                let moved = streams.remove(place);
                site.get_mut(to.as_str()).unwrap().streams.push(moved);
            }
            prop_assert!(false, "moves without an end");
        }
    }
}
