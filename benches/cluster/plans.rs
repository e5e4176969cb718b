//! What a cluster costs as nodes are added: how long the leader plans, and how much each node says and
//! hears. The state machines that nodes run, on made-up situations of ten streams a node; no sockets.
//!
//! Limits: the leader reads one situation a node, some 1.5 kB a stream, and writes one decision a stream,
//! so what a node says and hears should not depend on how many others there are; a plan is as much work as
//! there are streams, and moves of retrainings between nodes, of which the scheduler tries a fixed number.

use std::collections::BTreeMap;
use std::time::Instant;

use ekya::cluster::{Claim, Entry, Order, Present, Roll, keeper, orders};
use ekya::planning::{Decisions, DeviceSituation, Part, Situation, StreamSituation, plan};
use ekya_actors::codec::to_bytes;
use ekya_sched::{InferenceOption, RetrainingOption, Share, StreamSpec, Thief};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};

const STREAMS_A_NODE: usize = 10;
/// Plans that are timed; the median counts.
const PLANS: usize = 5;

/// By the number of nodes.
pub(crate) fn measure() -> Value {
    let sizes = [3, 10, 30, 100];
    let measured = sizes.map(|nodes| (format!("of_{nodes}"), measure_of(nodes)));
    measured
        .into_iter()
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn measure_of(nodes: usize) -> Value {
    eprintln!("{nodes} nodes");
    let situations = site(nodes);
    let scheduler = Thief::default();
    let mut seconds: Vec<f64> = (0..PLANS)
        .map(|_| {
            let begin = Instant::now();
            plan(&situations, &scheduler, 1).unwrap();
            begin.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let decisions = plan(&situations, &scheduler, 1).unwrap();
    let lent: usize = decisions.values().map(|node| node.guests.len()).sum();
    let said = situations
        .values()
        .map(|situation| bytes(situation.clone()));
    let heard = decisions
        .values()
        .map(|decisions: &Decisions| bytes(decisions.clone()));
    json!({
        "plan_seconds": seconds[PLANS / 2],
        "lent": lent,
        "report_bytes": mean(said),
        "decision_bytes": mean(heard),
        "failover": failover(nodes),
    })
}

/// What a node sends of something, in all its parts.
fn bytes<P: ekya::planning::Parts + Serialize>(whole: P) -> f64 {
    Part::all(whole)
        .map(|part| to_bytes(&part).unwrap().len() as f64)
        .sum()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// Nodes of which every third has more to do than its device can, and every third nearly nothing.
fn site(nodes: usize) -> BTreeMap<String, Situation> {
    let mut random = ChaCha8Rng::seed_from_u64(nodes as u64);
    let node = |index: usize| {
        let loaded = [1.6, 0.7, 0.1][index % 3];
        let mut stream = |number: usize| {
            let share = 0.4 * loaded / STREAMS_A_NODE as f64;
            let needed = |part: f64| Share::from_micro((1e6 * share * part) as u32);
            let options = (1..=18).map(|option| {
                let gain = random.random_range(0.0..0.02) * f64::from(option);
                RetrainingOption::new(0.6 + gain, f64::from(option) * loaded)
            });
            StreamSituation {
                spec: StreamSpec {
                    name: format!("camera-{index}-{number}"),
                    device: Some(0),
                    accuracy: 0.6,
                    inference: (1..=6)
                        .map(|every| InferenceOption {
                            accuracy_factor: 1.0 - 0.05 * f64::from(every - 1),
                            share: needed(1.0 / f64::from(every)),
                        })
                        .collect(),
                    retraining: options.collect(),
                    transfer_seconds: Some(1.0),
                    ..StreamSpec::default()
                },
                version: 1,
                kind: "small".to_owned(),
                trained_on: None,
            }
        };
        Situation {
            number: 1,
            horizon: 60.0,
            quantum: Share::from_micro(100_000),
            min_accuracy: 0.0,
            streams: (0..STREAMS_A_NODE).map(&mut stream).collect(),
            devices: vec![DeviceSituation {
                name: "gpu0".to_owned(),
                capacity: Share::from_micro(900_000),
                memory: None,
                lends: true,
                speeds: vec![("small".to_owned(), 10.0 * (1 + index % 2) as f64)],
            }],
        }
    };
    (0..nodes)
        .map(node)
        .enumerate()
        .map(|(index, situation)| (name(index), situation))
        .collect()
}

fn name(node: usize) -> String {
    format!("edge-{node:03}")
}

/// One node dies: how many orders each of the others gets, and how long they take to find.
fn failover(nodes: usize) -> Value {
    let mut rolls: BTreeMap<String, Roll> = (0..nodes)
        .map(|node| (name(node), Roll::default()))
        .collect();
    for node in 0..nodes {
        for stream in 0..STREAMS_A_NODE {
            let entry = Entry {
                stream: format!("camera-{node}-{stream}"),
                epoch: 0,
                home: name(node),
                revision: 1,
                nodes: Vec::new(),
            };
            let others: Vec<_> = (0..nodes)
                .filter(|other| *other != node)
                .map(name)
                .collect();
            let keeps = keeper(&entry.stream, others.iter().map(String::as_str)).unwrap();
            rolls.get_mut(keeps).unwrap().copies.push(entry.clone());
            rolls.get_mut(&name(node)).unwrap().runs.push(entry);
        }
    }
    let dead = name(nodes / 2);
    let gone = rolls.remove(&dead).unwrap();
    // Copies that lay on the dead node are made anew elsewhere; they are not missed here.
    let present = rolls.iter().map(|(name, roll)| {
        let claim = Claim::default();
        (
            name.clone(),
            Present {
                claim,
                roll,
                load: 0.5,
            },
        )
    });
    let present = present.collect();
    let begin = Instant::now();
    let orders = orders(&present);
    let seconds = begin.elapsed().as_secs_f64();
    let adopted = orders
        .iter()
        .filter(|(_, order)| matches!(order, Order::Adopt { .. }));
    assert_eq!(
        adopted.count(),
        gone.runs.len(),
        "every stream of the dead node is adopted"
    );
    let mut by_node: BTreeMap<&String, usize> = BTreeMap::new();
    for (node, _) in &orders {
        *by_node.entry(node).or_default() += 1;
    }
    let roll_bytes = rolls
        .values()
        .map(|roll| to_bytes(roll).unwrap().len() as f64);
    json!({
        "orders_of_a_node_at_most": by_node.values().max(),
        "seconds": seconds,
        "roll_bytes": mean(roll_bytes),
    })
}
