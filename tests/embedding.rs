//! A node in a program that brings models and a scheduler of its own along: with libtorch and without.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ekya::models::{Example, Step, Training, TrainingOptions};
use ekya::node::{self, NodeError};
use ekya::record::RunRecord;
use ekya::sched::{Plan, Problem, RetrainingConfig, ScheduleError, Thief};
use ekya::{
    BBox, FramePusher, FrameResult, Image, ModelError, Object, Results, RunOptions, RunningNode,
    Scheduler, StopFlag, Student, ValidConfig,
};

const SCENE: &str = r#"
run = { windows = 3, window_seconds = 2.0 }

[[device]]
name = "cpu0"
kind = "cpu"
cores = 1

[[stream]]
name = "gate"
source.scene = { fps = 15.0 }
student.own = { name = "same" }
teacher = "labels"
"#;

/// Sees the same class everywhere; learns which is the most frequent one.
#[derive(Clone)]
struct Same(usize);

impl Student for Same {
    fn infer(&self, _: &Image, regions: &[BBox], _: f64) -> Result<Vec<Object>, ModelError> {
        let object = |bbox: &BBox| Object {
            class: self.0,
            score: 1.0,
            bbox: *bbox,
        };
        Ok(regions.iter().map(object).collect())
    }

    fn network(&self) -> String {
        "same".to_owned()
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(self.clone()))
    }

    fn train_with(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        _: &TrainingOptions,
        _: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        let count = |class| {
            let objects = examples.iter().flat_map(|example| &example.objects);
            objects.filter(|object| object.class == class).count()
        };
        let most = (0..8).max_by_key(|class| count(*class)).unwrap();
        Ok(Box::new(Counted {
            epochs: config.epochs,
            done: 0,
            most,
        }))
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        std::fs::write(path, self.0.to_string()).unwrap();
        Ok(())
    }
}

struct Counted {
    epochs: usize,
    done: usize,
    most: usize,
}

impl Training for Counted {
    fn steps(&self) -> usize {
        self.epochs
    }

    fn steps_per_epoch(&self) -> usize {
        1
    }

    fn step(&mut self) -> Result<Step, ModelError> {
        self.done += 1;
        Ok(Step {
            loss: 0.0,
            done: self.done,
            examples: 1,
        })
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(Same(self.most)))
    }
}

/// Files that a student was opened from.
type Opened = Arc<Mutex<Vec<PathBuf>>>;

/// With the student `same`, which begins with the rarest class.
fn options(opened: &Opened) -> RunOptions {
    let opened = Arc::clone(opened);
    RunOptions::new().student("same", move |classes, saved| {
        let class = match saved {
            None => classes.len() - 1,
            Some(path) => {
                opened.lock().unwrap().push(path.to_owned());
                std::fs::read_to_string(path).unwrap().parse().unwrap()
            }
        };
        Ok(Box::new(Same(class)))
    })
}

fn config(change: impl FnOnce(&mut ekya::config::Config)) -> ValidConfig {
    ValidConfig::parse(SCENE).unwrap().with(change).unwrap()
}

fn promoted(record: &RunRecord) -> usize {
    let entries = record.windows.iter().map(|window| &window.streams[0]);
    let retrainings = entries.flat_map(|entry| &entry.retrainings);
    retrainings.filter(|retraining| retraining.promoted).count()
}

/// What a program holds may be moved to the thread or task where it is needed.
#[test]
fn handles_can_be_sent() {
    fn is_send<T: Send + 'static>() {}
    is_send::<RunOptions>();
    is_send::<RunningNode>();
    is_send::<Results>();
    is_send::<FrameResult>();
    is_send::<FramePusher>();
    is_send::<StopFlag>();
    is_send::<ValidConfig>();
    is_send::<RunRecord>();
    is_send::<NodeError>();
}

#[test]
fn a_student_of_ones_own_learns_is_kept_and_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let config = config(|config| config.run.state = Some(state.path().to_owned()));
    let opened = Opened::default();
    let first = node::run(&config, options(&opened)).unwrap();
    let decisions = first
        .windows
        .iter()
        .flat_map(|one| &one.streams[0].decisions);
    let decisions: Vec<_> = decisions.map(|one| &one.text).collect();
    assert!(promoted(&first) > 0, "{decisions:#?}");
    assert!(opened.lock().unwrap().is_empty());
    // From where it was, in the next process.
    let second = node::run(&config, options(&opened)).unwrap();
    assert!(second.streams[0].continued_from.is_some());
    assert_eq!(opened.lock().unwrap().len(), 1);
}

#[test]
fn a_student_that_the_program_does_not_have_is_refused() {
    let refused = node::start(&config(|_| ()), RunOptions::new()).unwrap_err();
    let expected =
        "stream[0].student.own.name: this program has no student 'same'; it has none of its own";
    assert_eq!(refused.to_string(), expected);
}

/// Plans as the thief does, and says how often.
struct Counting(Arc<Mutex<usize>>);

impl Scheduler for Counting {
    fn name(&self) -> String {
        "counting".to_owned()
    }

    fn plan(&self, problem: &Problem) -> Result<Plan, ScheduleError> {
        *self.0.lock().unwrap() += 1;
        Thief::default().plan(problem)
    }
}

#[test]
fn a_scheduler_of_ones_own_decides() {
    let plans = Arc::<Mutex<usize>>::default();
    let options = options(&Opened::default()).scheduler(Counting(Arc::clone(&plans)));
    let record = node::run(&config(|_| ()), options).unwrap();
    assert_eq!(record.scheduler, "counting");
    assert!(*plans.lock().unwrap() >= record.windows.len());
    // It is told of retrainings as the built-in one is.
    assert!(promoted(&record) > 0);
}

fn endless() -> ValidConfig {
    config(|config| config.run.windows = 0)
}

#[test]
fn a_node_that_was_started_can_be_ended() {
    let mut options = options(&Opened::default());
    let mut results = options.subscribe("gate", 10);
    let node = node::start(&endless(), options).unwrap();
    assert!(results.next_timeout(Duration::MAX).is_some() && !node.is_over());
    let record = node.stop().unwrap();
    assert!(!record.complete && record.streams[0].frames.answered > 0);
    while results.next_timeout(Duration::MAX).is_some() {}
    assert!(results.is_over());
}

#[test]
fn a_node_whose_handle_is_dropped_ends() {
    let mut options = options(&Opened::default());
    let mut results = options.subscribe("gate", 10);
    drop(node::start(&endless(), options).unwrap());
    while results.next_timeout(Duration::MAX).is_some() {}
    assert!(results.is_over());
}

#[test]
fn a_node_follows_another_configuration() {
    let mut options = options(&Opened::default());
    let mut results = options.subscribe("yard", 10);
    let node = node::start(&endless(), options).unwrap();
    let two = endless().with(|config| {
        let mut yard = config.streams[0].clone();
        yard.name = "yard".to_owned();
        config.streams.push(yard);
    });
    node.reload(two.unwrap());
    assert!(results.next_timeout(Duration::MAX).is_some());
    let record = node.stop().unwrap();
    assert_eq!(record.streams.len(), 2);
}

#[test]
fn frames_are_pushed_until_the_node_has_ended() {
    let text = SCENE.replace(
        "source.scene = { fps = 15.0 }",
        "source.own = { name = \"camera\", fps = 10.0, classes = [\"a\", \"b\"] }",
    );
    let mut options = options(&Opened::default());
    let camera = options.push("camera", 1);
    let mut results = options.subscribe("gate", 10);
    let node = node::start(&ValidConfig::parse(&text).unwrap(), options).unwrap();
    let picture = Image::new(2, 2, vec![0; 12]).unwrap();
    camera.push(picture.clone(), Vec::new()).unwrap();
    assert_eq!(results.next_timeout(Duration::MAX).unwrap().frame, 0);
    node.stop().unwrap();
    assert!(camera.push(picture, Vec::new()).is_err());
}
