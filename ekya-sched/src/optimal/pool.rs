//! One device and its streams, prepared for the search; and what a sequence of retrainings is
//! worth on it.

use crate::pick::{Candidate, EPSILON, front, levels};
use crate::{Problem, Share};

use super::ladder::{Ladder, Rung};

/// A device with its streams.
pub(super) struct Pool {
    /// In devices.
    pub(super) capacity: f64,
    /// The same, exact.
    pub(super) share: Share,
    /// Seconds left of the window.
    pub(super) length: f64,
    pub(super) streams: Vec<Stream>,
}

/// A stream of a pool.
pub(super) struct Stream {
    /// Inference of the serving student.
    pub(super) now: Ladder,
    /// Retrainings worth considering, by rising cost and rising accuracy.
    pub(super) choices: Vec<Choice>,
}

/// A retraining.
pub(super) struct Choice {
    /// Index into the problem's options.
    pub(super) option: usize,
    pub(super) gpu_seconds: f64,
    /// Inference of the retrained student.
    pub(super) end: Ladder,
}

/// A retraining in a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Job {
    /// Index into [`Pool::streams`].
    pub(super) stream: usize,
    /// Index into [`Stream::choices`].
    pub(super) choice: usize,
}

/// Inference between two completions.
pub(super) struct Span {
    pub(super) seconds: f64,
    /// By stream.
    pub(super) rungs: Vec<Rung>,
}

/// What is worth most while one retraining runs.
#[derive(Debug, Clone, Copy)]
struct Phase {
    /// Loss, in accuracy, of a GPU-second of training: accuracies are summed over the streams.
    price: f64,
    /// How long it takes.
    seconds: f64,
}

impl Pool {
    /// The streams of a device. When it cannot keep all of them above a_MIN, none has to be. A
    /// window that is over is taken for a second in which nothing is retrained.
    pub(super) fn new(problem: &Problem, device: usize, streams: &[usize]) -> Self {
        let share = problem.devices[device].capacity;
        let with_floor = |min_accuracy: f64| Self {
            capacity: share.as_f64(),
            share,
            length: problem.remaining.as_secs_f64(),
            streams: streams
                .iter()
                .map(|&stream| Stream::new(problem, stream, min_accuracy))
                .collect(),
        };
        let mut pool = with_floor(problem.min_accuracy);
        if pool.fill(&pool.now()).is_none() {
            pool = with_floor(0.0);
        }
        if problem.remaining.is_zero() {
            pool.length = 1.0;
            pool.streams
                .iter_mut()
                .for_each(|stream| stream.choices.clear());
        }
        pool
    }

    /// Inference of every stream before any retraining.
    pub(super) fn now(&self) -> Vec<&Ladder> {
        self.streams.iter().map(|stream| &stream.now).collect()
    }

    pub(super) fn choice(&self, job: Job) -> &Choice {
        &self.streams[job.stream].choices[job.choice]
    }

    /// Accuracy-seconds, summed over the streams, when the jobs are served one after another, each
    /// with all that inference leaves at its best; `None` when a job would not end in the window
    /// or makes nothing better.
    ///
    /// A job of `w` GPU-seconds that gets `R` devices keeps the final accuracy `V` away for `w/R`
    /// seconds, in which inference on the other `G - R` is worth `v(G - R)`; it costs
    /// `w · (V - v(G - R)) / R`. That quotient is least at a price (Dinkelbach's method) at which
    /// every stream decides for itself, and it does not depend on the other jobs of the sequence
    /// but through `V`: so the best shares of a given sequence are found exactly.
    pub(super) fn worth(&self, jobs: &[Job]) -> Option<f64> {
        let mut loss = 0.0;
        let last = self.walk(jobs, |job, phase, _| {
            loss += self.choice(job).gpu_seconds * phase.price;
        })?;
        Some(self.length * value(&last) - loss)
    }

    /// A sequence carried out: one phase a job, and what is left of the window after them; `None`
    /// where [`Pool::worth`] has none.
    pub(super) fn timeline(&self, jobs: &[Job]) -> Option<Vec<Span>> {
        let mut spans = Vec::with_capacity(jobs.len() + 1);
        let mut left = self.length;
        let last = self.walk(jobs, |_, phase, serving| {
            left -= phase.seconds;
            let rungs = serving.iter().map(|ladder| ladder.at_price(phase.price));
            spans.push(Span {
                seconds: phase.seconds,
                rungs: rungs.collect(),
            });
        })?;
        spans.push(Span {
            seconds: left.max(0.0),
            rungs: last,
        });
        Some(spans)
    }

    /// Goes through a sequence, shows each phase with the inference that serves in it, and returns
    /// the inference after the last.
    fn walk(
        &self,
        jobs: &[Job],
        mut show: impl FnMut(Job, Phase, &[&Ladder]),
    ) -> Option<Vec<Rung>> {
        let mut serving = self.now();
        let mut at_end = serving.clone();
        for &job in jobs {
            at_end[job.stream] = &self.choice(job).end;
        }
        let last = self.fill(&at_end)?;
        let at_end = value(&last);
        let mut time = 0.0;
        for &job in jobs {
            let choice = self.choice(job);
            let phase = self.phase(&serving, at_end, choice.gpu_seconds)?;
            time += phase.seconds;
            if time > self.length {
                return None;
            }
            show(job, phase, &serving);
            serving[job.stream] = &choice.end;
        }
        Some(last)
    }

    /// The inference that loses least per GPU-second of training, against an accuracy of `at_end`.
    fn phase(&self, serving: &[&Ladder], at_end: f64, gpu_seconds: f64) -> Option<Phase> {
        let mut bought = Bought::of(serving.iter().map(|ladder| ladder.least()));
        loop {
            let training = self.capacity - bought.devices;
            let price = (at_end - bought.accuracy) / training;
            if training < MIN_TRAINING || price <= 0.0 {
                return None;
            }
            let better = Bought::of(serving.iter().map(|ladder| ladder.at_price(price)));
            if better.devices <= bought.devices + EPSILON {
                let seconds = gpu_seconds / training;
                return Some(Phase { price, seconds });
            }
            bought = better;
        }
    }

    /// Shares out the whole device to inference: the steepest steps first, then whatever still fits;
    /// `None` when it is too small for the least that all must have.
    fn fill(&self, ladders: &[&Ladder]) -> Option<Vec<Rung>> {
        let mut rungs: Vec<Rung> = ladders.iter().map(|ladder| ladder.least()).collect();
        let mut left = rungs
            .iter()
            .try_fold(self.share, |left, rung| left.checked_sub(rung.share))?;
        for (stream, rung) in steps(ladders) {
            let more = rung.share.saturating_sub(rungs[stream].share);
            if more <= left {
                left = left.saturating_sub(more);
                rungs[stream] = rung;
            }
        }
        while let Some((stream, rung)) = most_helpful(ladders, &rungs, left) {
            let more = rung.share.saturating_sub(rungs[stream].share);
            left = left.saturating_sub(more);
            rungs[stream] = rung;
        }
        Some(rungs)
    }
}

/// A retraining gets at least this many devices.
const MIN_TRAINING: f64 = 1e-6;

/// Inference of all streams together.
struct Bought {
    devices: f64,
    accuracy: f64,
}

impl Bought {
    fn of(rungs: impl Iterator<Item = Rung>) -> Self {
        let (mut devices, mut accuracy) = (0.0, 0.0);
        for rung in rungs {
            devices += rung.devices;
            accuracy += rung.accuracy;
        }
        Self { devices, accuracy }
    }
}

impl Stream {
    fn new(problem: &Problem, stream: usize, min_accuracy: f64) -> Self {
        let spec = &problem.streams[stream];
        let mut levels = levels(spec);
        levels.retain(|level| level.share <= problem.capacity_of(spec));
        let choice = |candidate: &Candidate| Choice {
            option: candidate.option,
            gpu_seconds: candidate.gpu_seconds,
            end: Ladder::new(&levels, candidate.end_accuracy, min_accuracy),
        };
        Self {
            choices: front(spec).iter().map(choice).collect(),
            now: Ladder::new(&levels, spec.accuracy, min_accuracy),
        }
    }
}

/// Sum of the accuracies.
fn value(rungs: &[Rung]) -> f64 {
    rungs.iter().map(|rung| rung.accuracy).sum()
}

/// Accuracy of one stream, averaged over a timeline; of an empty one, that at its start.
pub(super) fn mean_over(timeline: &[Span], stream: usize) -> f64 {
    let seconds: f64 = timeline.iter().map(|span| span.seconds).sum();
    if seconds <= 0.0 {
        return timeline
            .first()
            .map_or(0.0, |span| span.rungs[stream].accuracy);
    }
    let area = |span: &Span| span.seconds * span.rungs[stream].accuracy;
    timeline.iter().map(area).sum::<f64>() / seconds
}

/// All steps of all ladders as (stream, corner reached), the steepest first.
fn steps(ladders: &[&Ladder]) -> Vec<(usize, Rung)> {
    let mut steps: Vec<(f64, usize, Rung)> = Vec::new();
    for (stream, ladder) in ladders.iter().enumerate() {
        let ladder_steps = (0..).map_while(|index| ladder.step_after(index));
        steps.extend(ladder_steps.map(|(slope, rung)| (slope, stream, rung)));
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0));
    steps
        .into_iter()
        .map(|(_, stream, rung)| (stream, rung))
        .collect()
}

/// The stream that gains most from what is left.
fn most_helpful(ladders: &[&Ladder], rungs: &[Rung], left: Share) -> Option<(usize, Rung)> {
    let better = |(stream, (ladder, rung)): (usize, (&&Ladder, &Rung))| {
        let within = ladder.within(rung.share.saturating_add(left));
        (within.accuracy > rung.accuracy + EPSILON).then_some((
            within.accuracy - rung.accuracy,
            stream,
            within,
        ))
    };
    let all = ladders.iter().zip(rungs).enumerate().filter_map(better);
    let best = all.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    Some((best.1, best.2))
}
