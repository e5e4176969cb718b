//! Teachers of the program that runs a node: good ones, and such as a user's may be.
#![cfg(feature = "torch")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ekya::config::ValidConfig;
use ekya::node::{self, NodeError, OpenTeacher, RunOptions};
use ekya::record::RunRecord;
use ekya::source::StopFlag;
use ekya_models::{BBox, Image, ModelError, Object, Teacher};

const SCENE: &str = r#"
[run]
windows = 4
window_seconds = 1.0

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[learning]
samples = 6
burst = 2
last_labels_seconds = 0.5

[[stream]]
name = "gate"
teacher = { own = "people" }
source = { scene = { fps = 15.0 } }
student = { classifier = { weights = "scene" } }
"#;

/// Gives every region the class of that index.
struct Naming(usize);

impl Teacher for Naming {
    fn label(&self, _: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        let object = |bbox: &BBox| Object {
            class: self.0,
            score: 1.0,
            bbox: *bbox,
        };
        Ok(regions.iter().map(object).collect())
    }
}

/// Waits until the other end of its channel is gone, then answers like that.
struct Waiting(Receiver<()>, Naming);

impl Teacher for Waiting {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        // Nothing is ever sent: an error is the release.
        let _ = self.0.recv();
        self.1.label(image, regions)
    }
}

/// A teacher, made once, that waits until the sender is dropped.
fn waiting() -> (OpenTeacher, Sender<()>) {
    let (release, held) = channel();
    let teacher = Mutex::new(Some(Waiting(held, Naming(0))));
    let open: OpenTeacher = Box::new(move |_| {
        let teacher = teacher.lock().unwrap().take();
        Ok(Box::new(teacher.unwrap()))
    });
    (open, release)
}

fn run(
    config: &str,
    open: OpenTeacher,
    stop: StopFlag,
    on_window: impl Fn(usize) + Send + 'static,
) -> Result<RunRecord, NodeError> {
    let options = RunOptions::new()
        .stop(stop)
        .on_window(on_window)
        .teacher("people", open);
    node::run(&ValidConfig::parse(config).unwrap(), options)
}

fn run_to_its_end(open: OpenTeacher) -> RunRecord {
    let record = run(SCENE, open, StopFlag::default(), |_| {}).unwrap();
    assert!(record.complete && record.streams[0].frames.answered > 0);
    assert_eq!(record.windows.len(), 4);
    record
}

fn labelled(record: &RunRecord) -> usize {
    let windows = record.windows.iter();
    windows
        .map(|window| window.streams[0].labelled_frames)
        .sum()
}

#[test]
fn labels_of_ones_own_teacher_cost_no_device_time() {
    let open: OpenTeacher = Box::new(|classes| {
        let car = classes.iter().position(|class| class == "car").unwrap();
        Ok(Box::new(Naming(car)))
    });
    let record = run_to_its_end(open);
    assert!(labelled(&record) > 0);
    let busy = &record.devices[0].busy_seconds;
    let labelling = busy.iter().find(|(job, _)| job.starts_with("labelling/"));
    assert_eq!(labelling.unwrap().1, 0.0);
    for window in &record.windows {
        let entry = &window.streams[0];
        assert_eq!((entry.labelling_seconds, entry.not_labelled), (0.0, 0));
    }
}

#[test]
fn classes_that_the_stream_does_not_have_are_counted_and_never_trained_on() {
    let record = run_to_its_end(Box::new(|classes| Ok(Box::new(Naming(classes.len())))));
    let entries = || record.windows.iter().map(|window| &window.streams[0]);
    assert!(entries().map(|entry| entry.not_labelled).sum::<u64>() > 0);
    assert_eq!(labelled(&record), 0);
    assert!(entries().all(|entry| entry.retrainings.is_empty()));
}

#[test]
fn labels_may_come_late() {
    let (open, release) = waiting();
    let release = Mutex::new(Some(release));
    let on_window = move |_| drop(release.lock().unwrap().take());
    let record = run(SCENE, open, StopFlag::default(), on_window).unwrap();
    // Its samples were labelled when it was over.
    assert!(record.windows[0].streams[0].labelled_frames > 0);
}

#[test]
fn a_teacher_that_never_answers_holds_nothing_up() {
    let (open, release) = waiting();
    let begun = Instant::now();
    let record = run_to_its_end(open);
    // Four seconds and the half that last labels may take; without a bound it would be for ever.
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(labelled(&record), 0);
    let mut decisions = record.windows.iter().flat_map(|w| &w.streams[0].decisions);
    let too_slow = |text: &str| text.contains("the teacher is too slow");
    assert!(decisions.any(|decision| too_slow(&decision.text)));
    drop(release);
}

#[test]
fn a_run_under_a_teacher_that_never_answers_can_be_stopped() {
    let (open, release) = waiting();
    let endless = SCENE.replace("windows = 4", "windows = 0");
    let stop = StopFlag::default();
    let set = stop.clone();
    let record = run(&endless, open, stop, move |_| set.set()).unwrap();
    assert!(!record.complete);
    drop(release);
}

#[test]
fn a_teacher_that_the_program_does_not_have_is_refused() {
    let other = SCENE.replace("own = \"people\"", "own = \"persons\"");
    let open: OpenTeacher = Box::new(|_| Ok(Box::new(Naming(0))));
    let refused = run(&other, open, StopFlag::default(), |_| {}).unwrap_err();
    let expected = "stream[0].teacher.own: this program has no teacher 'persons'; it has people";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn a_teacher_that_cannot_be_opened_ends_the_run_before_it_begins() {
    let open: OpenTeacher = Box::new(|_| Err(ModelError::BadInput("no service".to_owned())));
    let refused = run(SCENE, open, StopFlag::default(), |_| {}).unwrap_err();
    assert!(matches!(refused, NodeError::Model { .. }), "{refused}");
}
