//! A store of checkpoints survives crashes and finds damage.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ekya_models::{
    Architecture, CheckpointStore, Classifier, FastestDet, Image, ModelError, Placement,
    Provenance, Seen, Student, TrainedOn, seal,
};
use ekya_sched::RetrainingConfig;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// A student whose weights are drawn from `seed`.
fn student(seed: u64) -> Classifier {
    Classifier::new(Architecture::Small, 4, 8, Placement::Cpu, seed).unwrap()
}

fn provenance(seed: u64) -> Provenance {
    Provenance {
        stream: "gate".to_owned(),
        network: "small".to_owned(),
        classes: ["car", "bus", "truck", "bicycle"]
            .map(str::to_owned)
            .to_vec(),
        parent: None,
        trained_on: TrainedOn {
            frames: 3,
            from: 1_700_000_000,
            to: 1_700_000_060,
            objects: BTreeMap::from([("car".to_owned(), 5)]),
        },
        seen: Seen::default(),
        config: RetrainingConfig::default(),
        seed,
        accuracy: 0.75,
        held_out: 15,
        written_at: 1_700_000_100,
    }
}

fn load(path: &Path) -> Result<Box<dyn Student>, ModelError> {
    Ok(Box::new(Classifier::load(path, Placement::Cpu)?))
}

/// A store that keeps `keep` and holds checkpoints 1 to `count`, with the seeds of their numbers.
fn store(keep: usize, count: u64) -> (TempDir, CheckpointStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(folder.path(), keep).unwrap();
    for seed in 1..=count {
        store.save(&student(seed), provenance(seed)).unwrap();
    }
    (folder, store)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn numbers(store: &CheckpointStore) -> Vec<u64> {
    let checkpoints = store.list().unwrap().checkpoints;
    checkpoints
        .iter()
        .map(|one| one.manifest.sequence)
        .collect()
}

/// The number of the newest checkpoint that is whole, and how many newer ones are not.
fn newest(store: &CheckpointStore) -> (Option<u64>, usize) {
    let (newest, unusable) = store.newest().unwrap();
    (newest.map(|one| one.manifest.sequence), unusable.len())
}

fn weights(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:06}.safetensors"))
}

fn manifest(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:06}.json"))
}

#[test]
fn what_was_saved_is_loaded() {
    let (folder, store) = store(3, 2);
    let (newest, unusable) = store.newest().unwrap();
    let newest = newest.unwrap();
    assert!(unusable.is_empty());
    assert_eq!(newest.manifest.provenance, provenance(2));
    let loaded = store.load(&newest, load).unwrap();
    let again = folder.path().join("again");
    loaded.save(&again).unwrap();
    let expected = folder.path().join("expected");
    student(2).save(&expected).unwrap();
    assert_eq!(
        Classifier::load(&again, Placement::Cpu).unwrap().classes(),
        4
    );
    // Weights follow a header whose keys may stand in any order.
    let tail = |path: &Path| std::fs::read(path).unwrap().split_off(4096);
    assert_eq!(tail(&again), tail(&expected));
}

#[test]
fn the_last_ones_are_kept() {
    let (folder, store) = store(2, 4);
    assert_eq!(numbers(&store), [4, 3]);
    let expected = [
        "000003.json",
        "000003.safetensors",
        "000004.json",
        "000004.safetensors",
    ];
    assert_eq!(names(folder.path()), expected);
    let reopened = CheckpointStore::open(folder.path(), 2).unwrap();
    let saved = reopened.save(&student(5), provenance(5)).unwrap();
    assert_eq!(saved.manifest.sequence, 5);
}

/// Every state in which a crash may leave a save or a removal.
#[test]
fn a_crash_at_any_point_leaves_the_checkpoint_before() {
    let whole = std::fs::read(weights(store(3, 1).0.path(), 1)).unwrap();
    let pid = std::process::id();
    let partial = |of: &str| format!(".{of}.{pid}-0.partial");
    let half = &whole[..whole.len() / 2];
    type Left<'a> = Vec<(String, &'a [u8])>;
    let states: [Left<'_>; 4] = [
        vec![(partial("000003.safetensors"), half)],
        vec![("000003.safetensors".to_owned(), &whole)],
        vec![
            ("000003.safetensors".to_owned(), &whole),
            (partial("000003.json"), b"{\"sha"),
        ],
        // A removal that got as far as the manifest.
        vec![("000001.safetensors".to_owned(), &whole)],
    ];
    for (state, left) in states.iter().enumerate() {
        let (folder, store) = store(3, 2);
        if state == 3 {
            std::fs::remove_file(manifest(folder.path(), 1)).unwrap();
        }
        for (name, bytes) in left {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        assert_eq!(newest(&store), (Some(2), 0), "state {state}");
        store.save(&student(9), provenance(9)).unwrap();
        let (found, _) = store.newest().unwrap();
        assert_eq!(found.unwrap().manifest.provenance.seed, 9, "state {state}");
        let expected = 2 * numbers(&store).len();
        assert_eq!(names(folder.path()).len(), expected, "state {state}: swept");
    }
}

/// In a container every process may have the same id, and with it the same temporary names.
#[test]
fn partial_files_of_a_process_of_the_same_id_do_no_harm() {
    let (folder, store) = store(3, 1);
    for count in 0..500 {
        let name = format!(".000002.safetensors.{}-{count}.partial", std::process::id());
        std::fs::write(folder.path().join(name), b"").unwrap();
    }
    store.save(&student(2), provenance(2)).unwrap();
    assert_eq!(
        (newest(&store), names(folder.path()).len()),
        ((Some(2), 0), 4)
    );
}

#[test]
fn a_save_that_fails_leaves_the_checkpoint_before() {
    let (folder, store) = store(1, 1);
    std::fs::create_dir_all(weights(folder.path(), 2).join("in the way")).unwrap();
    assert!(matches!(
        store.save(&student(2), provenance(2)),
        Err(ModelError::Io { .. })
    ));
    assert_eq!(newest(&store), (Some(1), 0));
    let nothing = Provenance {
        accuracy: f64::NAN,
        ..provenance(2)
    };
    std::fs::remove_dir_all(weights(folder.path(), 2)).unwrap();
    assert!(matches!(
        store.save(&student(2), nothing),
        Err(ModelError::BadInput(_))
    ));
    assert_eq!(newest(&store), (Some(1), 0));
}

#[test]
fn a_manifest_of_a_newer_version_is_refused() {
    let (folder, store) = store(3, 1);
    let newer = seal(2, &"what version 2 holds").unwrap();
    std::fs::write(manifest(folder.path(), 2), newer).unwrap();
    std::fs::copy(weights(folder.path(), 1), weights(folder.path(), 2)).unwrap();
    let (found, unusable) = store.newest().unwrap();
    assert_eq!(found.unwrap().manifest.sequence, 1);
    assert!(unusable[0].reason.contains("newer than 1"), "{unusable:?}");
}

#[test]
fn weights_of_another_network_are_refused() {
    let (_folder, store) = store(3, 0);
    let claimed = Provenance {
        network: "resnet18".to_owned(),
        ..provenance(1)
    };
    let saved = store.save(&student(1), claimed).unwrap();
    let refused = store.load(&saved, load).err().unwrap().to_string();
    assert!(
        refused.contains("network small, its manifest says resnet18"),
        "{refused}"
    );
}

/// Needs the weights in the folder that `EKYA_DATA` names.
#[test]
fn a_detector_comes_back_and_is_no_classifier() {
    let Some(data) = std::env::var_os("EKYA_DATA") else {
        eprintln!("skipped: EKYA_DATA does not name the folder of real data");
        return;
    };
    let published = Path::new(&data).join("models/FastestDet_AP05_0.253.safetensors");
    let classes = ["person", "car"].map(str::to_owned);
    let load_detector = |path: &Path| -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(FastestDet::load(path, &classes, Placement::Cpu)?))
    };
    let (_folder, store) = store(3, 0);
    let origin = Provenance {
        network: "fastestdet".to_owned(),
        ..provenance(1)
    };
    let student = load_detector(&published).unwrap();
    let saved = store.save(&*student, origin).unwrap();
    let loaded = store.load(&saved, load_detector).unwrap();
    let rgb = (0..64 * 48 * 3)
        .map(|at: usize| (at * at % 251) as u8)
        .collect();
    let picture = Image::new(64, 48, rgb).unwrap();
    let answers = |student: &dyn Student| student.infer(&picture, &[], 1.0).unwrap();
    assert_eq!(answers(&*loaded), answers(&*student));
    assert!(store.load(&saved, load).is_err());
}

#[test]
fn a_checkpoint_is_removed_whole() {
    let (folder, store) = store(3, 2);
    store.remove(2).unwrap();
    assert_eq!(numbers(&store), [1]);
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn what_is_damaged_is_removed_once_it_is_too_old() {
    let (folder, store) = store(2, 2);
    std::fs::write(manifest(folder.path(), 1), b"not a manifest").unwrap();
    store.save(&student(3), provenance(3)).unwrap();
    assert_eq!(numbers(&store), [3, 2]);
    assert_eq!(names(folder.path()).len(), 4);
}

/// Changes one file at random, and says what was done.
fn damage(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) -> &'static str {
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..4) {
        0 => {
            bytes[at] ^= 1 << rng.random_range(0..8);
            "a bit flipped"
        }
        1 => {
            bytes.truncate(at);
            "cut"
        }
        2 => {
            let more = rng.random_range(1..4096);
            bytes.extend((0..more).map(|_| rng.random::<u8>()));
            "grown"
        }
        _ => {
            let end = (at + rng.random_range(1..4096)).min(bytes.len());
            bytes[at..end].fill(0);
            "a range zeroed"
        }
    }
}

#[test]
fn every_damage_is_found_and_the_checkpoint_before_is_used() {
    let (folder, store) = store(3, 2);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut done, mut tried) = ([0; 2], 0);
    while done.iter().sum::<usize>() < 200 {
        tried += 1;
        assert!(tried < 400, "most damages change something");
        let file = rng.random_range(0..2);
        let path = [weights, manifest][file](folder.path(), 2);
        let good = std::fs::read(&path).unwrap();
        let mut bytes = good.clone();
        let what = damage(&mut bytes, &mut rng);
        if bytes == good {
            continue;
        }
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(newest(&store), (Some(1), 1), "{}: {what}", path.display());
        std::fs::write(&path, &good).unwrap();
        done[file] += 1;
    }
    assert!(done.iter().all(|count| *count > 50), "{done:?}");
    assert_eq!(newest(&store), (Some(2), 0));
}

#[test]
fn swapped_and_missing_files_are_found() {
    type Of = fn(&Path, u64) -> PathBuf;
    let swap = |folder: &Path, of: Of| {
        let aside = folder.join("aside");
        std::fs::rename(of(folder, 1), &aside).unwrap();
        std::fs::rename(of(folder, 2), of(folder, 1)).unwrap();
        std::fs::rename(aside, of(folder, 2)).unwrap();
    };
    let (folder, store) = store(3, 2);
    for of in [weights as Of, manifest] {
        swap(folder.path(), of);
        assert_eq!(newest(&store), (None, 2));
        swap(folder.path(), of);
    }
    // Both swapped: whole, but each under the other's number.
    swap(folder.path(), weights);
    swap(folder.path(), manifest);
    assert_eq!(newest(&store), (None, 2));
    swap(folder.path(), weights);
    swap(folder.path(), manifest);
    std::fs::remove_file(weights(folder.path(), 2)).unwrap();
    assert_eq!(newest(&store), (Some(1), 1));
}

#[test]
fn other_files_are_left_alone() {
    let (folder, store) = store(1, 2);
    for name in [
        "1.json",
        "+00001.json",
        "000001.txt",
        "notes",
        "000001.json.old",
    ] {
        std::fs::write(folder.path().join(name), b"x").unwrap();
    }
    store.save(&student(3), provenance(3)).unwrap();
    assert_eq!(names(folder.path()).len(), 7);
    assert_eq!(newest(&store), (Some(3), 0));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let refused = CheckpointStore::open(&file.join("inside"), 3)
        .err()
        .unwrap();
    assert!(refused.to_string().contains("inside"), "{refused}");
}
