//! A node that is killed (SIGKILL) at random moments, again and again: it comes back with the newest
//! student of every stream, and with nothing half-written.
//!
//! `EKYA_KILLS` says how often, `EKYA_SEED` at which moments; `cargo xtask soak kill` does it 200 times.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod shown;

use std::path::Path;
use std::time::Duration;

use ekya::keep::StreamFolder;
use ekya_models::CheckpointStore;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use shown::{SCENES, Shown};

const STREAMS: [&str; 2] = ["gate", "north / harbour"];
/// Within so long after its streams answer again, a node is killed.
const WITHIN: Duration = Duration::from_secs(6);

fn of_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Number of the newest whole checkpoint of each stream, and whether there is anything but whole ones.
fn kept(state: &Path) -> Vec<(Option<u64>, bool)> {
    let of = |stream: &str| {
        let folder = StreamFolder::of(state, stream).checkpoints;
        if !folder.is_dir() {
            return (None, false);
        }
        let store = CheckpointStore::open(&folder, usize::MAX).unwrap();
        let (newest, unusable) = store.newest().unwrap();
        let number = newest.map(|one| one.manifest.sequence);
        (number, !unusable.is_empty())
    };
    STREAMS.iter().map(|stream| of(stream)).collect()
}

#[test]
fn every_stream_comes_back_with_its_newest_student() {
    let (kills, seed) = (
        of_environment("EKYA_KILLS", 10),
        of_environment("EKYA_SEED", 1),
    );
    let mut moments = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let config = SCENES.replace(
        "window_seconds = 2.0",
        &format!("window_seconds = 1.0\nstate = {state:?}"),
    );
    assert!(config.contains("state ="));
    let (mut newest, mut promoted) = (vec![None; STREAMS.len()], 0);
    for kill in 0..kills {
        let before = kept(&state);
        let node = Shown::run(&config);
        let snapshot = node.until("answering", |snapshot| {
            let streams = snapshot["streams"].as_array().unwrap();
            streams
                .iter()
                .all(|one| one["frames"]["answered"].as_u64() > Some(0))
        });
        let streams = snapshot["streams"].as_array().unwrap();
        for ((stream, (number, _)), known) in streams.iter().zip(&before).zip(&mut newest) {
            let name = &stream["name"];
            assert_eq!(
                stream["checkpoint"].as_u64(),
                *number,
                "kill {kill}, {name}"
            );
            assert!(
                number >= known,
                "kill {kill}, {name}: {number:?}, and {known:?} was there"
            );
            promoted += u64::from(number > known);
            *known = *number;
        }
        // What the kill before has left is swept away by now.
        assert!(
            kept(&state).iter().all(|(_, damaged)| !damaged),
            "kill {kill}"
        );
        // The moment is what is tried here; nothing is waited for.
        std::thread::sleep(WITHIN.mul_f64(moments.random()));
        drop(node);
    }
    eprintln!("{kills} kills, {promoted} new students found after them");
    assert!(kills < 10 || promoted > 0, "no student was ever promoted");
}
