//! What nodes say to their leader is planned or refused, whatever the numbers in it.
#![no_main]

mod json;

use std::collections::BTreeMap;

use ekya::planning::{Situation, plan};
use ekya_sched::Thief;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

/// More would only be slow.
const NODES_MAX: usize = 4;
const STREAMS_MAX: usize = 24;
const DEVICES_MAX: usize = 8;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    json::mutate(data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    let Ok(nodes) = serde_json::from_slice::<BTreeMap<String, Situation>>(data) else {
        return;
    };
    let streams: usize = nodes.values().map(|node| node.streams.len()).sum();
    let devices: usize = nodes.values().map(|node| node.devices.len()).sum();
    if nodes.len() > NODES_MAX || streams > STREAMS_MAX || devices > DEVICES_MAX {
        return;
    }
    if let Ok(decisions) = plan(&nodes, &Thief::default(), 1) {
        assert!(decisions.keys().all(|node| nodes.contains_key(node)));
    }
});
