//! On tiny problems, exhaustive search and `Optimal` agree.
//!
//! The search here shares no code with the crate. It goes through all plans of one device whose
//! shares change only when a retraining ends: in every phase every combination of inference options
//! that leaves anything to train with, and what they leave to one retraining or halved between two,
//! each under way or yet to start, with every option. That includes one after another with all that
//! inference leaves, which is best where training is linear, so the two have to agree.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod random;

use std::time::Duration;

use ekya_sched::{
    DeviceSpec, InferenceOption, Optimal, Problem, RetrainingOption, Scheduler, Share, StreamSpec,
};
use proptest::prelude::*;

use random::Checked;

const STREAMS_MAX: usize = 3;
const OPTIONS_MAX: usize = 2;
/// Students that a stream may serve with: its own, and one an option.
const STUDENTS: usize = OPTIONS_MAX + 1;
/// GPU-seconds below which nothing is left to do.
const NOTHING: f64 = 1e-9;
/// How far two mean accuracies may be apart.
const TOLERANCE: f64 = 1e-6;

/// What has become of a stream's retraining.
#[derive(Clone, Copy)]
enum Job {
    Open,
    UnderWay { option: usize, work: f64 },
    Ended { option: usize },
}

/// The jobs of all streams; those beyond the last stream stay open and have no options.
type Jobs = [Job; STREAMS_MAX];

/// Inference options of all streams together.
#[derive(Clone, Copy)]
struct Serving {
    devices: f64,
    /// Summed over the streams, by their weights.
    accuracy: f64,
}

struct Search<'a> {
    streams: &'a [StreamSpec],
    capacity: f64,
    /// By who serves (`index_of`): what is worth considering, by rising devices and accuracy.
    servings: Vec<Vec<Serving>>,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem) -> Self {
        let mut search = Self {
            streams: &problem.streams,
            capacity: problem.devices[0].capacity.as_f64(),
            servings: Vec::new(),
        };
        let all = 0..STUDENTS.pow(STREAMS_MAX as u32);
        search.servings = all.map(|index| search.servings_of(index)).collect();
        search
    }

    /// The most accuracy-seconds, summed over the streams, that `left` seconds can hold.
    fn best(&self, jobs: &Jobs, left: f64) -> f64 {
        let servings = &self.servings[index_of(jobs)];
        let mut best = servings[servings.len() - 1].accuracy * left;
        self.for_each_team(jobs, |team| {
            for serving in servings {
                let share = (self.capacity - serving.devices) / team.len() as f64;
                let Some((seconds, after)) = train(jobs, team, share, left) else {
                    continue;
                };
                let worth = serving.accuracy * seconds + self.best(&after, left - seconds);
                best = best.max(worth);
            }
        });
        best
    }

    /// Shows every retraining, and every two of different streams, that could get a share.
    fn for_each_team(&self, jobs: &Jobs, mut show: impl FnMut(&[(usize, Job)])) {
        let trainable: Vec<(usize, Job)> = (0..self.streams.len())
            .flat_map(|stream| self.ways_to_go_on(stream, jobs[stream]))
            .collect();
        for (index, &one) in trainable.iter().enumerate() {
            show(&[one]);
            for &other in &trainable[index + 1..] {
                if other.0 != one.0 {
                    show(&[one, other]);
                }
            }
        }
    }

    /// What a stream's retraining could be once it has a share.
    fn ways_to_go_on(&self, stream: usize, job: Job) -> Vec<(usize, Job)> {
        let start = |(option, spec): (usize, &RetrainingOption)| {
            let work = spec.gpu_seconds;
            (stream, Job::UnderWay { option, work })
        };
        let options = self.streams[stream].retraining.iter().enumerate();
        match job {
            Job::Open => options.map(start).collect(),
            Job::UnderWay { .. } => vec![(stream, job)],
            Job::Ended { .. } => Vec::new(),
        }
    }

    /// All combinations of options that fit, without those that need as much as another and are no
    /// better: the last is the best for a device that trains nothing.
    fn servings_of(&self, index: usize) -> Vec<Serving> {
        let nothing = Serving {
            devices: 0.0,
            accuracy: 0.0,
        };
        let mut all = vec![nothing];
        for (stream, spec) in self.streams.iter().enumerate() {
            let accuracy = accuracy_of(spec, student_of(index, stream)) * spec.weight;
            let with = |serving: &Serving, option: &InferenceOption| Serving {
                devices: serving.devices + option.share.as_f64(),
                accuracy: serving.accuracy + option.accuracy_factor * accuracy,
            };
            let options = &spec.inference;
            let more = all
                .iter()
                .flat_map(|serving| options.iter().map(move |option| with(serving, option)));
            all = all
                .iter()
                .copied()
                .chain(more.collect::<Vec<_>>())
                .collect();
        }
        all.retain(|serving| serving.devices <= self.capacity + NOTHING);
        all.sort_by(|a, b| a.devices.total_cmp(&b.devices));
        let mut best = -1.0;
        all.retain(|serving| {
            let better = serving.accuracy > best;
            best = f64::max(best, serving.accuracy);
            better
        });
        all
    }
}

/// A number for which student serves each stream.
fn index_of(jobs: &Jobs) -> usize {
    let student = |job: &Job| match job {
        Job::Ended { option } => option + 1,
        Job::Open | Job::UnderWay { .. } => 0,
    };
    jobs.iter()
        .rev()
        .fold(0, |index, job| index * STUDENTS + student(job))
}

/// The student of a stream in such a number: 0 is its own, the others are of its options.
const fn student_of(index: usize, stream: usize) -> usize {
    index / STUDENTS.pow(stream as u32) % STUDENTS
}

/// A student that is worse than the serving one is not promoted.
fn accuracy_of(spec: &StreamSpec, student: usize) -> f64 {
    let option = student.checked_sub(1);
    let retrained = option.and_then(|option| spec.retraining.get(option));
    retrained
        .map_or(0.0, |option| option.end_accuracy)
        .max(spec.accuracy)
}

/// Trains a team until its first job ends; `None` when none does in the time left, for then its
/// share is wasted.
fn train(jobs: &Jobs, team: &[(usize, Job)], share: f64, left: f64) -> Option<(f64, Jobs)> {
    if share < NOTHING {
        return None;
    }
    let works = team.iter().map(|&(_, job)| work_of(job));
    let seconds = works.fold(f64::INFINITY, f64::min) / share;
    if seconds > left {
        return None;
    }
    let mut after = *jobs;
    for &(stream, job) in team {
        let Job::UnderWay { option, work } = job else {
            continue;
        };
        let work = work - share * seconds;
        after[stream] = if work <= NOTHING {
            Job::Ended { option }
        } else {
            Job::UnderWay { option, work }
        };
    }
    Some((seconds, after))
}

const fn work_of(job: Job) -> f64 {
    match job {
        Job::UnderWay { work, .. } => work,
        Job::Open | Job::Ended { .. } => f64::INFINITY,
    }
}

/// The best mean accuracy that exhaustive search finds.
fn exhaustive(problem: &Problem) -> f64 {
    let length = problem.remaining.as_secs_f64();
    let weight: f64 = problem.streams.iter().map(|spec| spec.weight).sum();
    let search = Search::new(problem);
    search.best(&[Job::Open; STREAMS_MAX], length) / (length * weight)
}

fn share(most_micro: u32) -> impl Strategy<Value = Share> {
    prop_oneof![
        (1..=most_micro).prop_map(Share::from_micro),
        (1..=most_micro / 100_000).prop_map(|tenths| Share::from_micro(tenths * 100_000)),
    ]
}

prop_compose! {
    fn stream()(
        accuracy in 0.0..=1.0_f64,
        weight in prop_oneof![3 => Just(1.0), 1 => 0.2..4.0_f64],
        inference in prop::collection::vec((0.0..=1.0_f64, share(900_000)), 1..=3),
        retraining in prop::collection::vec((0.0..=1.0_f64, 0.0..120.0_f64), 0..=OPTIONS_MAX),
    ) -> StreamSpec {
        let inference = inference.into_iter();
        let retraining = retraining.into_iter();
        StreamSpec {
            name: "s".into(),
            device: Some(0),
            weight,
            accuracy,
            inference: inference
                .map(|(accuracy_factor, share)| InferenceOption { accuracy_factor, share })
                .collect(),
            retraining: retraining
                .map(|(end_accuracy, gpu_seconds)| RetrainingOption::new(end_accuracy, gpu_seconds))
                .collect(),
            ..StreamSpec::default()
        }
    }
}

prop_compose! {
    fn tiny_problem()(
        millis in 1_000..200_000_u64,
        capacity in share(2_000_000),
        streams in prop::collection::vec(stream(), 1..=STREAMS_MAX),
    ) -> Problem {
        Problem {
            devices: vec![DeviceSpec::new(capacity)],
            streams,
            ..Problem::new(Duration::from_millis(millis))
        }
    }
}

/// How `Optimal` and exhaustive search disagree, if they do.
fn disagreement(problem: &Problem) -> Option<String> {
    let plan = Checked(&Optimal).plan(problem).unwrap();
    let (optimal, bound) = (plan.mean_accuracy, plan.upper_bound.unwrap());
    let best = exhaustive(problem);
    let agree = (optimal - best).abs() <= TOLERANCE && best.max(optimal) <= bound + TOLERANCE;
    (!agree).then(|| format!("optimal {optimal}, exhaustive {best}, bound {bound}"))
}

proptest! {
    // Fast, and what they find is rare: more than usual.
    #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]

    #[test]
    fn exhaustive_search_agrees_with_optimal(problem in tiny_problem()) {
        prop_assert_eq!(disagreement(&problem), None);
    }
}

fn stream_of(accuracy: f64, inference: (f64, u32), retraining: &[(f64, f64)]) -> StreamSpec {
    let (accuracy_factor, micro) = inference;
    let option = |&(end_accuracy, gpu_seconds): &(f64, f64)| {
        RetrainingOption::new(end_accuracy, gpu_seconds)
    };
    StreamSpec {
        name: "s".into(),
        accuracy,
        inference: vec![InferenceOption {
            accuracy_factor,
            share: Share::from_micro(micro),
        }],
        retraining: retraining.iter().map(option).collect(),
        ..StreamSpec::default()
    }
}

fn problem_of(seconds: u64, capacity: u32, streams: Vec<StreamSpec>) -> Problem {
    Problem {
        devices: vec![DeviceSpec::new(Share::from_micro(capacity))],
        streams,
        ..Problem::new(Duration::from_secs(seconds))
    }
}

/// Half of the device serves and the other half trains, for 40 s. If all trained, for 20 s, nothing
/// would be served in them, which is worse by 2.
#[test]
fn exhaustive_search_finds_what_is_found_by_hand() {
    // The second option does not end in the window with any share.
    let stream = stream_of(0.5, (1.0, 500_000), &[(0.9, 20.0), (1.0, 101.0)]);
    let problem = problem_of(100, 1_000_000, vec![stream]);
    let by_hand = (40.0 * 0.5 + 60.0 * 0.9) / 100.0;
    assert!((exhaustive(&problem) - by_hand).abs() < 1e-9);
    assert_eq!(disagreement(&problem), None);
}

/// At what a device is worth while one trains, the inference of both would be bought, and there is
/// no room for it: best is to serve the first and to train with the other half, for 20 s; then to
/// serve the second.
#[test]
fn inference_that_does_not_fit_is_not_given_up_altogether() {
    let streams = vec![
        stream_of(0.5, (1.0, 500_000), &[]),
        stream_of(0.5, (1.0, 600_000), &[(0.6, 10.0)]),
    ];
    let problem = problem_of(100, 1_000_000, streams);
    let by_hand = (20.0 * 0.5 + 80.0 * 0.6) / 200.0;
    assert!((exhaustive(&problem) - by_hand).abs() < 1e-9);
    assert_eq!(disagreement(&problem), None);
}

/// There is time for one retraining only, and the first that comes to mind is worth less.
#[test]
fn a_retraining_gives_way_to_a_better_one() {
    let streams = vec![
        stream_of(0.0, (0.6028, 507_396), &[(0.4684, 19.02)]),
        stream_of(0.4277, (0.6585, 100_000), &[(0.852, 35.67)]),
    ];
    let mut problem = problem_of(70, 607_395, streams);
    problem.remaining += Duration::from_millis(386);
    assert_eq!(disagreement(&problem), None);
}
