use std::path::Path;
use std::time::Duration;

use ekya_actors::JobHandle;
use ekya_models::{BBox, Example, Image, ModelError, Student, Training, TrainingOptions};
use ekya_sched::{RetrainingConfig, Share};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::super::log::StreamLog;
use super::super::sampler::{Sample, SampleSchedule};
use super::super::score::Metric;
use super::*;
use crate::source::Frame;

/// Pictures of each pass, by what they show.
type Passes = Arc<Mutex<Vec<Vec<Shown>>>>;

/// What a picture shows: its stream, its number, and what is to happen.
type Shown = [u8; 3];

/// Pictures of a pass.
const PASS_MAX: usize = 4;

const FINE: u8 = 0;
const ERROR: u8 = 1;
const PANIC: u8 = 2;

/// Sees in a picture what it shows.
#[derive(Clone, Default)]
struct Seer(Passes);

impl Seer {
    fn see(picture: &Image) -> Result<Vec<Object>, ModelError> {
        let [stream, number, fate] = shown(picture);
        assert_ne!(fate, PANIC, "as it was told");
        if fate == ERROR {
            return Err(ModelError::BadInput("as it was told".to_owned()));
        }
        Ok(vec![Object {
            class: stream.into(),
            score: number.into(),
            bbox: BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 1.0,
                y2: 1.0,
            },
        }])
    }
}

fn shown(picture: &Image) -> Shown {
    [0, 1, 2].map(|byte| picture.rgb()[byte])
}

impl Student for Seer {
    fn infer(&self, _: &Image, _: &[BBox], _: f64) -> Result<Vec<Object>, ModelError> {
        unreachable!("the server asks about all at once")
    }

    fn infer_all(&self, pictures: &[Picture<'_>], _: f64) -> Result<Vec<Vec<Object>>, ModelError> {
        let all = pictures.iter().map(|picture| shown(picture.image));
        self.0.lock().push(all.collect());
        pictures.iter().map(|one| Self::see(one.image)).collect()
    }

    fn pass_max(&self) -> usize {
        PASS_MAX
    }

    fn network(&self) -> String {
        "seer".to_owned()
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        Ok(Box::new(self.clone()))
    }

    fn train_with(
        &self,
        _: &[Example],
        _: &RetrainingConfig,
        _: &TrainingOptions,
        _: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        Err(ModelError::NoExamples)
    }

    fn save(&self, _: &Path) -> Result<(), ModelError> {
        Ok(())
    }
}

/// A device, its server, and streams on it.
struct Rig {
    device: Device,
    server: InferenceServer,
    /// Which keeps the others from the device.
    busy: JobHandle,
    streams: Vec<Arc<Intake>>,
    actors: Vec<InferenceActor>,
}

const DEADLINE: Duration = Duration::from_secs(60);

impl Rig {
    fn new(depth: usize) -> Self {
        let device = Device::new("cpu0", depth);
        let busy = device.job_with("busy", SHARE).unwrap();
        Self {
            server: InferenceServer::start(&device, 1).unwrap(),
            device,
            busy,
            streams: Vec::new(),
            actors: Vec::new(),
        }
    }

    fn share(&self, student: &Seer) -> Arc<SharedStudent> {
        self.server.share(Box::new(student.clone())).unwrap()
    }

    fn add(&mut self, student: &Arc<SharedStudent>) {
        let mut log = StreamLog::new("stream", Metric::Accuracy, None);
        // Of all frames: a burst is of consecutive ones.
        let _ = log.resample(SampleSchedule::new(0.0, 1.0, 200, 200, true, 0));
        let job = self.device.job_with("stream", SHARE).unwrap();
        let intake = Arc::new(Intake::new(log, Arc::new(job), DEADLINE));
        self.actors
            .push(self.server.serve(intake.clone(), Arc::clone(student)));
        self.streams.push(intake);
    }

    fn push(&self, stream: usize, number: u8, fate: u8) {
        push(&self.streams[stream], stream, number, fate);
    }

    fn settled(&self) {
        for stream in &self.streams {
            wait_until(|| {
                let counts = stream.counts();
                counts.arrived == counts.answered + counts.skipped + counts.dropped
            });
        }
    }

    fn answered(&self) -> Vec<u64> {
        let counts = self.streams.iter().map(|stream| stream.counts());
        counts.map(|counts| counts.answered).collect()
    }
}

/// Of all jobs.
const SHARE: Share = Share::from_micro(50_000);

fn push(intake: &Intake, stream: usize, number: u8, fate: u8) {
    intake.push(frame(stream, number, fate), f64::from(number) / 1000.0);
}

fn frame(stream: usize, number: u8, fate: u8) -> Frame {
    let image = Image::new(1, 1, vec![stream as u8, number, fate]).unwrap();
    Frame {
        index: number.into(),
        at: Duration::ZERO,
        image: Arc::new(image),
        regions: Vec::new(),
        truth: None,
    }
}

fn wait_until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::yield_now();
    }
}

#[test]
fn frames_that_wait_are_answered_together_and_nobody_is_passed_over() {
    let mut rig = Rig::new(1);
    let seers = [Seer::default(), Seer(Passes::default())];
    let [ours, other] = seers.each_ref().map(|seer| rig.share(seer));
    for student in [&ours, &ours, &other, &ours, &ours] {
        rig.add(student);
    }
    rig.actors[4].stream.set_resolution(0.5);
    let lease = rig.busy.lease().unwrap();
    for stream in 0..5 {
        rig.push(stream, 0, FINE);
    }
    drop(lease);
    rig.settled();
    let of = |stream| [stream, 0, FINE];
    // In the order of their turns, and only with those that come next.
    let together: Vec<Vec<Shown>> = vec![vec![of(0), of(1)], vec![of(3)], vec![of(4)]];
    assert_eq!(*seers[0].0.lock(), together);
    assert_eq!(*seers[1].0.lock(), [vec![of(2)]]);
    assert_eq!(rig.answered(), [1; 5]);
    // The lease ends before its frames are settled.
    let usage = rig.device.usage();
    assert!(usage.iter().all(|job| job.minibatches == 1), "{usage:?}");
}

#[test]
fn a_pass_is_bounded() {
    let mut rig = Rig::new(1);
    let seer = Seer::default();
    let student = rig.share(&seer);
    for _ in 0..=PASS_MAX {
        rig.add(&student);
    }
    let lease = rig.busy.lease().unwrap();
    for stream in 0..rig.streams.len() {
        rig.push(stream, 0, FINE);
        rig.push(stream, 1, FINE);
    }
    drop(lease);
    rig.settled();
    let passes: Vec<usize> = seer.0.lock().iter().map(Vec::len).collect();
    assert_eq!(passes[0], PASS_MAX);
    assert_eq!(passes.iter().sum::<usize>(), 2 * rig.streams.len());
    assert_eq!(rig.answered(), [2; PASS_MAX + 1]);
}

#[test]
fn a_frame_on_which_the_student_fails_costs_nobody_else_an_answer() {
    for fate in [ERROR, PANIC] {
        let mut rig = Rig::new(1);
        let student = rig.share(&Seer::default());
        rig.add(&student);
        rig.add(&student);
        let lease = rig.busy.lease().unwrap();
        rig.push(0, 0, fate);
        rig.push(1, 0, FINE);
        drop(lease);
        rig.settled();
        rig.push(0, 1, FINE);
        rig.settled();
        assert_eq!(rig.answered(), [1, 1]);
        assert_eq!(rig.streams[0].counts().dropped, 1);
        assert!(rig.server.end(), "the thread lives");
    }
}

#[test]
fn a_frame_past_its_deadline_is_dropped_when_its_turn_comes() {
    let mut rig = Rig::new(1);
    let seer = Seer::default();
    let student = rig.share(&seer);
    rig.add(&student);
    let long_ago = Instant::now().checked_sub(DEADLINE).unwrap();
    rig.streams[0].push_at(frame(0, 0, FINE), 0.0, long_ago);
    rig.settled();
    let counts = rig.streams[0].counts();
    assert_eq!((counts.dropped, counts.late), (1, 1));
    rig.push(0, 1, FINE);
    rig.settled();
    assert_eq!(*seer.0.lock(), [vec![[0, 1, FINE]]]);
}

#[test]
fn a_promoted_student_answers_the_next_frame_of_its_stream_alone() {
    let mut rig = Rig::new(1);
    let [old, new] = [Seer::default(), Seer::default()];
    let student = rig.share(&old);
    rig.add(&student);
    rig.add(&student);
    for stream in [0, 1] {
        rig.push(stream, 0, FINE);
    }
    rig.settled();
    rig.actors[0].stream.serve_by(rig.share(&new));
    for stream in [0, 1] {
        rig.push(stream, 1, FINE);
    }
    rig.settled();
    assert_eq!(*new.0.lock(), [vec![[0, 1, FINE]]]);
    let numbers = |stream: usize| -> Vec<u64> {
        let samples = rig.streams[stream].resample(SampleSchedule::new(0.0, 1.0, 1, 1, true, 0));
        let answers = samples.into_iter().filter_map(|sample| sample.answer);
        answers.map(|answer| answer.student).collect()
    };
    assert_eq!([numbers(0), numbers(1)], [vec![0, 1], vec![0, 0]]);
}

#[test]
fn nothing_is_answered_once_the_device_is_closed() {
    let mut rig = Rig::new(2);
    let seer = Seer::default();
    let student = rig.share(&seer);
    rig.add(&student);
    assert!(rig.server.end());
    rig.push(0, 0, FINE);
    rig.streams[0].close();
    rig.settled();
    assert_eq!(rig.streams[0].counts().dropped, 1);
    assert!(seer.0.lock().is_empty());
}

/// Every frame that arrived is settled once, in order, and an answer is about a frame of its own stream,
/// the same or an earlier one.
fn check(stream: usize, arrived: u8, intake: &Intake) {
    let samples = intake.resample(SampleSchedule::new(0.0, 1.0, 1, 1, true, 0));
    let settled: Vec<u64> = samples.iter().map(|sample| sample.frame.index).collect();
    assert_eq!(settled, (0..u64::from(arrived)).collect::<Vec<_>>());
    let about = |sample: &Sample| {
        let object = &sample.answer.as_ref()?.objects[0];
        assert_eq!(object.class, stream);
        assert!(object.score as u64 <= sample.frame.index);
        Some(object.score as u64)
    };
    let mut about: Vec<u64> = samples.iter().filter_map(about).collect();
    assert!(about.is_sorted());
    about.dedup();
    let counts = intake.counts();
    assert_eq!(counts.answered, about.len() as u64);
    assert_eq!(counts.arrived, u64::from(arrived));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sources push as they like, from threads of their own.
    #[test]
    fn no_frame_is_lost_or_answered_twice(
        depth in 1_usize..4,
        streams in prop::collection::vec(
            (0..2_usize, 1_u32..4, prop::collection::vec((0..8_u8, any::<bool>()), 0..120)),
            1..6,
        ),
    ) {
        let mut rig = Rig::new(depth);
        let students = [(), ()].map(|()| rig.share(&Seer::default()));
        for (student, every, _) in &streams {
            rig.add(&students[*student]);
            rig.streams[rig.streams.len() - 1].set_sample_every(*every);
        }
        std::thread::scope(|scope| {
            for (stream, (_, _, frames)) in streams.iter().enumerate() {
                let intake = &rig.streams[stream];
                scope.spawn(move || {
                    for (number, &(fate, waits)) in (0..).zip(frames) {
                        // One in eight is an error. Panics have a test of their own.
                        push(intake, stream, number, if fate == ERROR { ERROR } else { FINE });
                        if waits {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        rig.settled();
        assert!(rig.server.end());
        for (stream, (_, _, frames)) in streams.iter().enumerate() {
            check(stream, frames.len() as u8, &rig.streams[stream]);
        }
    }
}
