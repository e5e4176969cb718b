//! What is kept of a stream comes back as it was, and what is damaged does not come back.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ekya::keep::{FrameStore, Keeper, Kind, Retrained, StateFolder, StreamFolder, Verdict, erase};
use ekya::learn::Kept;
use ekya_models::{
    Architecture, BBox, Classifier, Example, FrameId, Image, ModelError, Object, Placement, Student,
};
use ekya_sched::RetrainingConfig;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

fn classes() -> Vec<String> {
    ["car", "bus"].map(str::to_owned).to_vec()
}

/// A noisy picture with an object of either class, taken at `taken_at`.
fn frame(seed: u64, taken_at: u64) -> Kept {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rgb = (0..24 * 16 * 3).map(|_| rng.random()).collect();
    let object = |class| Object {
        class,
        score: rng.random(),
        bbox: BBox {
            x1: rng.random::<f32>(),
            y1: 0.1,
            x2: 12.5,
            y2: 1e-7,
        },
    };
    let example = Example {
        image: Arc::new(Image::new(24, 16, rgb).unwrap()),
        objects: [0, 1].map(object).to_vec(),
    };
    Kept { example, taken_at }
}

fn named(frames: &[Kept]) -> Vec<(FrameId, &Kept)> {
    let name = |kept| -> (FrameId, &Kept) { (id(kept), kept) };
    frames.iter().map(name).collect()
}

fn id(kept: &Kept) -> FrameId {
    FrameId::of(&kept.example.image)
}

fn ids(frames: &[Kept]) -> BTreeSet<FrameId> {
    frames.iter().map(id).collect()
}

/// A folder that holds these frames.
fn folder_of(frames: &[Kept]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FrameStore::open(folder.path(), classes()).unwrap();
    store.sync(named(frames)).unwrap();
    folder
}

/// What can be read from a folder, and how many frames cannot.
fn read(folder: &Path, classes: Vec<String>) -> (Vec<Kept>, usize) {
    let store = FrameStore::open(folder, classes).unwrap();
    let (whole, damaged): (Vec<_>, Vec<_>) = store.load().partition(Result::is_ok);
    (
        whole.into_iter().map(Result::unwrap).collect(),
        damaged.len(),
    )
}

#[test]
fn frames_come_back_to_the_last_bit_the_latest_first() {
    let frames = [frame(1, 30), frame(2, 10), frame(3, 20)];
    let folder = folder_of(&frames);
    let (read, damaged) = read(folder.path(), classes());
    assert_eq!(damaged, 0);
    for (read, kept) in read.iter().zip([&frames[0], &frames[2], &frames[1]]) {
        assert_eq!(read.taken_at, kept.taken_at);
        assert_eq!(read.example.image, kept.example.image);
        assert_eq!(read.example.objects, kept.example.objects);
    }
    assert_eq!(read.len(), 3);
}

#[test]
fn classes_are_known_by_name() {
    let folder = folder_of(&[frame(1, 10)]);
    let turned: Vec<String> = classes().into_iter().rev().collect();
    let (frames, _) = read(folder.path(), turned);
    let found: Vec<usize> = frames[0]
        .example
        .objects
        .iter()
        .map(|one| one.class)
        .collect();
    assert_eq!(found, [1, 0]);
    let (frames, unreadable) = read(folder.path(), vec!["car".to_owned()]);
    assert_eq!((frames.len(), unreadable), (0, 1));
}

#[test]
fn every_damaged_frame_is_left_out() {
    let frames = [frame(1, 10), frame(2, 20)];
    let folder = folder_of(&frames);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut done = 0;
    while done < 200 {
        let extension = ["png", "json"][rng.random_range(0..2)];
        let path = folder
            .path()
            .join(format!("{}.{extension}", id(&frames[0])));
        let good = std::fs::read(&path).unwrap();
        let mut bytes = good.clone();
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..3) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes.truncate(at),
            _ => bytes[at..].fill(0),
        }
        std::fs::write(&path, &bytes).unwrap();
        let (whole, _) = read(folder.path(), classes());
        // PNG has bits that no decoder looks at: what matters is that no other picture comes back.
        let first = whole.iter().find(|kept| kept.taken_at == 10);
        if let Some(first) = first {
            assert_eq!(extension, "png", "{path:?}");
            assert_eq!(first.example.image, frames[0].example.image);
        }
        assert!(whole.iter().any(|kept| kept.taken_at == 20));
        std::fs::write(&path, &good).unwrap();
        done += 1;
    }
}

#[test]
fn swapped_files_are_left_out() {
    let frames = [frame(1, 10), frame(2, 20)];
    for extension in ["png", "json"] {
        let folder = folder_of(&frames);
        let path = |kept| folder.path().join(format!("{}.{extension}", id(kept)));
        let (one, other) = (path(&frames[0]), path(&frames[1]));
        let aside = folder.path().join("aside");
        std::fs::rename(&one, &aside).unwrap();
        std::fs::rename(&other, &one).unwrap();
        std::fs::rename(&aside, &other).unwrap();
        let (whole, damaged) = read(folder.path(), classes());
        assert_eq!((whole.len(), damaged), (0, 2), "{extension}");
    }
}

#[test]
fn a_half_written_frame_is_no_news_and_goes_with_the_next_sync() {
    let frames = [frame(1, 10), frame(2, 20)];
    let folder = folder_of(&frames);
    std::fs::remove_file(folder.path().join(format!("{}.json", id(&frames[0])))).unwrap();
    let (whole, damaged) = read(folder.path(), classes());
    assert_eq!((ids(&whole), damaged), (ids(&frames[1..]), 0));
    let mut store = FrameStore::open(folder.path(), classes()).unwrap();
    store.sync(named(&frames[1..])).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_picture_that_is_taken_twice_counts_as_taken_last() {
    let [early, late] = [10, 20].map(|taken_at| frame(1, taken_at));
    let folder = folder_of(&[late.clone(), early.clone()]);
    let times = |folder: &Path| {
        read(folder, classes())
            .0
            .iter()
            .map(|one| one.taken_at)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(folder.path()), [20]);
    let folder = folder_of(&[early]);
    let mut store = FrameStore::open(folder.path(), classes()).unwrap();
    store.sync(named(&[late])).unwrap();
    assert_eq!(times(folder.path()), [20]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was there before, in the same process or in another.
    #[test]
    fn a_folder_holds_what_was_wanted_last(
        wanted in prop::collection::vec(prop::collection::btree_set(0..12u64, 0..8), 1..5),
        reopened: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FrameStore::open(folder.path(), classes()).unwrap();
        for seeds in wanted {
            let frames: Vec<Kept> = seeds.iter().map(|seed| frame(*seed, 100 + seed)).collect();
            if reopened {
                store = FrameStore::open(folder.path(), classes()).unwrap();
            }
            store.sync(named(&frames)).unwrap();
            let (whole, damaged) = read(folder.path(), classes());
            prop_assert_eq!((ids(&whole), damaged), (ids(&frames), 0));
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2 * frames.len());
        }
    }
}

fn student(seed: u64) -> Classifier {
    Classifier::new(Architecture::Small, 2, 8, Placement::Cpu, seed).unwrap()
}

fn load(path: &Path) -> Result<Box<dyn Student>, ModelError> {
    Ok(Box::new(Classifier::load(path, Placement::Cpu)?))
}

fn kind(stream: &str) -> Kind {
    Kind {
        stream: stream.to_owned(),
        network: "small".to_owned(),
        classes: classes(),
    }
}

fn keeper(state: &StateFolder, stream: &str) -> Keeper {
    Keeper::open(state, kind(stream), 3).unwrap()
}

fn retrained(seed: u64) -> Retrained {
    Retrained {
        config: RetrainingConfig::default(),
        seed,
        accuracy: 0.5,
        held_out: 8,
    }
}

fn state() -> (TempDir, StateFolder) {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::make(folder.path()).unwrap();
    (folder, state)
}

/// The number of the checkpoint that a stream of that kind continues from.
fn resumed(state: &StateFolder, kind: Kind) -> Option<u64> {
    let mut keeper = Keeper::open(state, kind, 3).unwrap();
    keeper.resume(load).map(|(_, number)| number)
}

#[test]
fn a_stream_continues_only_from_what_fits() {
    let (_folder, state) = state();
    assert_eq!(resumed(&state, kind("gate")), None);
    let mut keeper = keeper(&state, "gate");
    keeper.save(&student(1), retrained(1), &[frame(1, 10)], 50);
    keeper.save(&student(2), retrained(2), &[frame(2, 20)], 60);
    assert_eq!(resumed(&state, kind("gate")), Some(2));
    for other in [
        Kind {
            network: "resnet18".to_owned(),
            ..kind("gate")
        },
        Kind {
            classes: classes().into_iter().rev().collect(),
            ..kind("gate")
        },
    ] {
        assert_eq!(resumed(&state, other.clone()), None, "{other:?}");
    }
    let checkpoints = StreamFolder::of(state.path(), "gate").checkpoints;
    std::fs::write(checkpoints.join("000002.json"), b"{}").unwrap();
    assert_eq!(resumed(&state, kind("gate")), Some(1));
    // A whole folder of another stream, put in this one's place.
    let own = StreamFolder::of(state.path(), "harbour").checkpoints;
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    std::fs::rename(checkpoints, own).unwrap();
    assert_eq!(resumed(&state, kind("harbour")), None);
}

#[test]
fn a_checkpoint_names_its_parent_and_all_frames_that_it_has_seen() {
    let (_folder, state) = state();
    let first = [frame(1, 10), frame(2, 20)];
    keeper(&state, "gate").save(&student(1), retrained(1), &first, 50);
    // The next process goes on from there.
    let mut keeper = keeper(&state, "gate");
    assert!(keeper.resume(load).is_some());
    keeper.save(&student(2), retrained(2), &[frame(3, 30)], 60);
    let store =
        ekya_models::CheckpointStore::open(&StreamFolder::of(state.path(), "gate").checkpoints, 3);
    let listed = store.unwrap().list().unwrap().checkpoints;
    let [new, old] = &listed[..] else {
        panic!("{listed:?}")
    };
    let provenance = &new.manifest.provenance;
    assert_eq!(
        provenance.parent.as_ref(),
        Some(&old.manifest.weights_sha256)
    );
    assert_eq!(old.manifest.provenance.parent, None);
    let times: Vec<u64> = provenance
        .seen
        .frames()
        .map(|(taken_at, _)| taken_at)
        .collect();
    assert_eq!(times, [10, 20, 30]);
    assert_eq!(provenance.trained_on.frames, 1);
    assert_eq!(old.manifest.provenance.trained_on.objects["car"], 2);
    assert_eq!((provenance.written_at, provenance.held_out), (60, 8));
}

#[test]
fn a_disk_that_fails_is_counted_and_mended() {
    let (_folder, state) = state();
    let mut keeper = keeper(&state, "gate");
    let failures = keeper.failures();
    let folder = StreamFolder::of(state.path(), "gate");
    for path in [&folder.checkpoints, &folder.frames] {
        std::fs::remove_dir(path).unwrap();
        std::fs::write(path, b"in the way").unwrap();
    }
    keeper.save(&student(1), retrained(1), &[frame(1, 10)], 50);
    keeper.sync(&[frame(1, 10)]);
    assert_eq!(failures.load(Ordering::Relaxed), 2);
    for path in [&folder.checkpoints, &folder.frames] {
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
    }
    keeper.save(&student(2), retrained(2), &[frame(2, 20)], 60);
    keeper.sync(&[frame(1, 10), frame(2, 20)]);
    assert_eq!(failures.load(Ordering::Relaxed), 2);
    assert_eq!(resumed(&state, kind("gate")), Some(1));
    assert_eq!(keeper.frames(0, 9).len(), 2);
    assert_eq!(keeper.frames(15, 9).len(), 1);
    assert_eq!(keeper.frames(0, 1)[0].taken_at, 20);
}

#[test]
fn erasing_says_who_has_learnt_from_what_is_gone() {
    let (_folder, state) = state();
    let (shared, own, late) = (frame(1, 10), frame(2, 20), frame(3, 90));
    let mut gate = keeper(&state, "gate");
    gate.save(&student(1), retrained(1), std::slice::from_ref(&late), 95);
    gate.save(
        &student(2),
        retrained(2),
        &[shared.clone(), own.clone()],
        100,
    );
    gate.sync(&[shared.clone(), own, late]);
    let mut harbour = keeper(&state, "harbour");
    harbour.save(&student(3), retrained(3), &[frame(4, 12)], 100);
    harbour.save(&student(4), retrained(4), &[shared], 100);
    harbour.sync(&[frame(4, 12)]);

    let refused = erase(&state, "yard", None, false).unwrap_err().to_string();
    assert!(
        refused.contains("'yard'; there are: gate, harbour"),
        "{refused}"
    );
    let erasure = erase(&state, "gate", Some(50), false).unwrap();
    assert_eq!(erasure.frames, 2);
    assert!(erasure.bytes > 0);
    let saw: Vec<_> = erasure
        .saw
        .iter()
        .map(|one| (one.stream.as_str(), one.sequence, one.verdict))
        .collect();
    // The one of the harbour learnt from a picture that the gate took too.
    assert_eq!(
        saw,
        [
            ("gate", 2, Verdict::Frames(2)),
            ("harbour", 2, Verdict::Frames(1))
        ]
    );
    assert!(erasure.saw.iter().all(|one| one.weights.exists()));
    assert_eq!(keeper(&state, "gate").frames(0, 9).len(), 1);
    assert_eq!(keeper(&state, "harbour").frames(0, 9).len(), 1);

    // The frames are gone, the checkpoint that learnt from them is still found by their time.
    let again = erase(&state, "gate", Some(50), true).unwrap();
    assert_eq!((again.frames, again.saw.len()), (0, 1));
    assert!(!again.saw[0].weights.exists());
    assert_eq!(resumed(&state, kind("gate")), Some(1));
}

#[test]
fn what_cannot_be_read_is_erased_too() {
    let (_folder, state) = state();
    let mut gate = keeper(&state, "gate");
    gate.save(&student(1), retrained(1), &[], 95);
    gate.sync(&[frame(1, 10), frame(2, 20)]);
    let folder = StreamFolder::of(state.path(), "gate");
    std::fs::write(
        folder.frames.join(format!("{}.json", id(&frame(2, 20)))),
        b"{",
    )
    .unwrap();
    std::fs::write(folder.checkpoints.join("000001.json"), b"{").unwrap();
    std::fs::write(folder.checkpoints.join("000002.safetensors"), b"half").unwrap();
    let erasure = erase(&state, "gate", Some(5), false).unwrap();
    assert_eq!(
        (erasure.frames, erasure.saw[0].verdict),
        (1, Verdict::Unknown)
    );
    assert!(!folder.checkpoints.join("000002.safetensors").exists());
    assert_eq!(erase(&state, "gate", None, true).unwrap().frames, 1);
    assert_eq!(std::fs::read_dir(folder.frames).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(folder.checkpoints).unwrap().count(), 0);
}
