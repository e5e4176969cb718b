//! One device and its streams, prepared for the search; and what a sequence of retrainings is
//! worth on it.

use crate::pick::{Candidate, EPSILON, front, levels};
use crate::share::equal_parts;
use crate::throughput::Piece;
use crate::timeline::MOMENT;
use crate::{Problem, Share, StreamSpec, Throughput};

use super::fill::fill;
use super::ladder::{Ladder, Rung};

/// A device with its streams.
pub(super) struct Pool<'a> {
    /// In devices.
    pub(super) capacity: f64,
    /// The same, exact.
    pub(super) share: Share,
    /// Seconds left of the window.
    pub(super) length: f64,
    /// How many retrainings may run side by side.
    pub(super) slots: usize,
    /// Retrainings compute from the start and speed equals share, so that side by side is no
    /// better than one after another.
    pub(super) is_linear: bool,
    pub(super) streams: Vec<Stream<'a>>,
}

/// A stream of a pool.
pub(super) struct Stream<'a> {
    /// Inference of the serving student.
    pub(super) now: Ladder,
    /// Retrainings worth considering, by rising work.
    pub(super) choices: Vec<Choice>,
    /// Seconds until it may be retrained.
    pub(super) delay: f64,
    throughput: &'a Throughput,
    /// No share gives its retraining more speed than this width and slope say.
    pub(super) fastest: Piece,
}

/// A retraining.
pub(super) struct Choice {
    /// Index into the problem's options.
    pub(super) option: usize,
    /// GPU-seconds left to do.
    pub(super) work: f64,
    pub(super) startup: f64,
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

/// Retrainings in the order in which they start, so many of them side by side: when one ends, the
/// next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) jobs: Vec<Job>,
    pub(super) side_by_side: usize,
}

impl Sequence {
    /// No retraining.
    pub(super) const fn nothing() -> Self {
        Self {
            jobs: Vec::new(),
            side_by_side: 1,
        }
    }
}

/// A time in which the same retrainings run.
struct Phase {
    seconds: f64,
    /// Of all streams together, in this time.
    accuracy: f64,
    inference: Inference,
    /// Those that compute, with their shares.
    training: Vec<(Job, Share)>,
}

/// A phase in its place.
pub(super) struct Planned {
    /// Seconds from now.
    pub(super) from: f64,
    /// Seconds from now.
    pub(super) to: f64,
    /// Inference, by stream.
    pub(super) rungs: Vec<Rung>,
    training: Vec<(Job, Share)>,
}

impl Planned {
    /// What a stream's retraining gets.
    pub(super) fn training_share(&self, stream: usize) -> Share {
        let mine = self.training.iter().find(|(job, _)| job.stream == stream);
        mine.map_or(Share::ZERO, |&(_, share)| share)
    }
}

/// What inference gets in a phase.
enum Inference {
    /// What is worth its while at a price for a device, in accuracy.
    AtPrice(f64),
    Rungs(Vec<Rung>),
}

/// A retraining under way.
struct Turn {
    job: Job,
    /// Seconds until it computes.
    startup: f64,
    work: f64,
}

impl<'a> Pool<'a> {
    /// The streams of the only device of a problem. When it cannot keep all of them above a_MIN,
    /// none has to be. A window that is over is taken for a second in which nothing is retrained.
    pub(super) fn new(problem: &'a Problem) -> Self {
        let share = problem.capacity();
        let memory = problem.training_memory();
        let streams = |min_accuracy: f64| {
            let specs = problem.streams.iter();
            specs
                .map(|spec| Stream::new(problem, spec, min_accuracy, memory))
                .collect()
        };
        let mut pool = Self {
            capacity: share.as_f64(),
            share,
            length: problem.remaining.as_secs_f64(),
            slots: problem.training_slots(),
            is_linear: true,
            streams: streams(problem.min_accuracy),
        };
        if pool.fill(&pool.now()).is_none() {
            pool.streams = streams(0.0);
        }
        pool.is_linear = pool.streams.iter().all(|stream| {
            let no_startup = stream.choices.iter().all(|choice| choice.startup == 0.0);
            stream.choices.is_empty() || (no_startup && stream.throughput.is_linear_to(share))
        });
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

    /// Accuracy-seconds, summed over the streams, of a sequence; `None` when a job would not end
    /// in the window or makes nothing better.
    ///
    /// One after another and with linear speed, a job of `w` GPU-seconds that gets `R` devices
    /// keeps the final accuracy `V` away for `w/R` seconds, in which inference on the other `G - R`
    /// is worth `v(G - R)`; it costs `w · (V - v(G - R)) / R`. That quotient is least at a price
    /// (Dinkelbach's method) at which every stream decides for itself, and it does not depend on
    /// the other jobs of the sequence but through `V`: so the best shares of a given sequence are
    /// found exactly.
    pub(super) fn worth(&self, sequence: &Sequence) -> Option<f64> {
        let (mut worth, mut left) = (0.0, self.length);
        let last = self.walk(sequence, |phase, _| {
            worth += phase.accuracy * phase.seconds;
            left -= phase.seconds;
        })?;
        Some(worth + left * value(&last))
    }

    /// A sequence carried out, phase by phase; what is left of the window comes last. `None` where
    /// [`Pool::worth`] has none.
    pub(super) fn timeline(&self, sequence: &Sequence) -> Option<Vec<Planned>> {
        let mut planned: Vec<Planned> = Vec::with_capacity(sequence.jobs.len() + 1);
        let mut now = 0.0;
        let last = self.walk(sequence, |phase, serving| {
            let from = now;
            now += phase.seconds;
            planned.push(Planned {
                from,
                to: now,
                rungs: phase.rungs(serving),
                training: phase.training,
            });
        })?;
        planned.push(Planned {
            from: now,
            to: now.max(self.length),
            rungs: last,
            training: Vec::new(),
        });
        Some(planned)
    }

    /// Goes through a sequence, shows each phase with the inference that serves in it, and returns
    /// the inference after the last.
    fn walk(
        &self,
        sequence: &Sequence,
        mut show: impl FnMut(Phase, &[&Ladder]),
    ) -> Option<Vec<Rung>> {
        let mut serving = self.now();
        let mut at_end = serving.clone();
        for &job in &sequence.jobs {
            at_end[job.stream] = &self.choice(job).end;
        }
        let last = self.fill(&at_end)?;
        let at_end = value(&last);
        let (mut time, mut next) = (0.0, 0);
        let mut turns: Vec<Turn> = Vec::new();
        loop {
            while turns.len() < sequence.side_by_side && next < sequence.jobs.len() {
                turns.push(self.turn(sequence.jobs[next], time));
                next += 1;
            }
            if turns.is_empty() {
                return Some(last);
            }
            let phase = self.phase(&serving, at_end, &turns)?;
            time += phase.seconds;
            if time > self.length {
                return None;
            }
            for turn in &mut turns {
                self.pass(turn, &phase);
            }
            show(phase, &serving);
            turns.retain(|turn| {
                if turn.is_over() {
                    serving[turn.job.stream] = &self.choice(turn.job).end;
                }
                !turn.is_over()
            });
        }
    }

    /// A retraining whose turn comes at a time: it waits for labels, then it starts up.
    fn turn(&self, job: Job, time: f64) -> Turn {
        let choice = self.choice(job);
        let wait = (self.streams[job.stream].delay - time).max(0.0);
        Turn {
            job,
            startup: wait + choice.startup,
            work: choice.work,
        }
    }

    /// Takes off a turn what a phase does of it.
    fn pass(&self, turn: &mut Turn, phase: &Phase) {
        let computes = phase.training.iter().find(|(job, _)| *job == turn.job);
        match computes {
            Some(&(job, share)) => {
                turn.work -= self.streams[job.stream].throughput.speed(share) * phase.seconds;
            }
            None => turn.startup -= phase.seconds,
        }
    }

    /// What is best while these retrainings run, until the first ends or has loaded.
    fn phase(&self, serving: &[&Ladder], at_end: f64, turns: &[Turn]) -> Option<Phase> {
        let loaded: Vec<&Turn> = turns.iter().filter(|turn| turn.startup <= MOMENT).collect();
        let loading = turns
            .iter()
            .map(|turn| turn.startup)
            .filter(|&left| left > MOMENT);
        let until_loaded = loading.fold(f64::INFINITY, f64::min);
        if loaded.is_empty() {
            return Some(Phase::without_training(until_loaded, self.fill(serving)?));
        }
        let (inference, bought) = if self.is_linear && loaded.len() == 1 {
            self.best_beside_linear(serving, at_end)?
        } else {
            let (price, bought) = self.price_of(serving, at_end, &loaded)?;
            (Inference::AtPrice(price), bought)
        };
        let rest = self.share.checked_sub(bought.share)?;
        let shares = equal_parts(rest, loaded.len());
        let training: Vec<(Job, Share)> = loaded
            .iter()
            .zip(shares)
            .map(|(turn, part)| {
                let useful = self.streams[turn.job.stream].throughput.largest_useful();
                (turn.job, part.min(useful))
            })
            .collect();
        let ends = loaded.iter().zip(&training).map(|(turn, &(job, share))| {
            turn.work.max(0.0) / self.streams[job.stream].throughput.speed(share)
        });
        let seconds = ends.fold(until_loaded, f64::min);
        seconds.is_finite().then_some(Phase {
            seconds,
            accuracy: bought.accuracy,
            inference,
            training,
        })
    }

    /// The inference that loses least per GPU-second of one retraining whose speed is its share,
    /// against an accuracy of `at_end`.
    fn best_beside_linear(&self, serving: &[&Ladder], at_end: f64) -> Option<(Inference, Bought)> {
        let most = self.share.checked_sub(MIN_TRAINING)?;
        let loss = |bought: &Bought| (at_end - bought.accuracy) / (self.capacity - bought.devices);
        let mut inference = Inference::AtPrice(f64::INFINITY);
        let mut bought = Bought::of(serving.iter().map(|ladder| ladder.least()));
        if bought.share > most {
            return None;
        }
        loop {
            let price = loss(&bought);
            if price <= 0.0 {
                return None;
            }
            let mut better = Bought::of(serving.iter().map(|ladder| ladder.at_price(price)));
            let mut other = Inference::AtPrice(price);
            if better.share > most {
                // Not everybody's wish can be met.
                let rungs = fill(serving, most, price)?;
                better = Bought::of(rungs.iter().copied());
                other = Inference::Rungs(rungs);
            }
            if loss(&better) >= price * (1.0 - EPSILON) {
                return Some((inference, bought));
            }
            (inference, bought) = (other, better);
        }
    }

    /// The price of that inference for any speeds and several retrainings, which share equally: the
    /// best of [`PRICES`] prices between the steepest and the flattest step of any ladder.
    fn price_of(
        &self,
        serving: &[&Ladder],
        at_end: f64,
        loaded: &[&Turn],
    ) -> Option<(f64, Bought)> {
        let slopes = serving.iter().filter_map(|ladder| ladder.slopes());
        let range = slopes.reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)));
        let (steepest, flattest) = range.unwrap_or((1.0, 1.0));
        let flattest = flattest.max(steepest * 1e-6);
        let step = (flattest / steepest).powf(1.0 / f64::from(PRICES - 2));
        let prices = (0..PRICES - 1).map(|index| steepest * 1.001 * step.powi(index as i32));
        let mut best: Option<(f64, f64, Bought)> = None;
        for price in prices.chain([0.0]) {
            let bought = Bought::of(serving.iter().map(|ladder| ladder.at_price(price)));
            if bought.share.saturating_add(MIN_TRAINING) > self.share {
                break;
            }
            let training = (self.capacity - bought.devices) / loaded.len() as f64;
            let speed = |turn: &&Turn| self.streams[turn.job.stream].throughput.speed_at(training);
            let loss = (at_end - bought.accuracy) / loaded.iter().map(speed).sum::<f64>();
            if loss > 0.0 && best.as_ref().is_none_or(|best| loss < best.0) {
                best = Some((loss, price, bought));
            }
        }
        best.map(|(_, price, bought)| (price, bought))
    }

    /// The whole device for inference; `None` when it is too small for the least that all must
    /// have.
    fn fill(&self, ladders: &[&Ladder]) -> Option<Vec<Rung>> {
        fill(ladders, self.share, 0.0)
    }
}

/// A retraining gets at least this much.
const MIN_TRAINING: Share = Share::from_micro(1);
/// Prices tried for a phase whose best cannot be computed.
const PRICES: u32 = 24;

impl Phase {
    fn without_training(seconds: f64, rungs: Vec<Rung>) -> Self {
        Self {
            seconds,
            accuracy: value(&rungs),
            inference: Inference::Rungs(rungs),
            training: Vec::new(),
        }
    }

    fn rungs(&self, serving: &[&Ladder]) -> Vec<Rung> {
        match &self.inference {
            Inference::AtPrice(price) => serving.iter().map(|l| l.at_price(*price)).collect(),
            Inference::Rungs(rungs) => rungs.clone(),
        }
    }
}

impl Turn {
    fn is_over(&self) -> bool {
        self.startup <= MOMENT && self.work <= MOMENT
    }
}

/// Inference of all streams together.
struct Bought {
    share: Share,
    devices: f64,
    accuracy: f64,
}

impl Bought {
    fn of(rungs: impl Iterator<Item = Rung>) -> Self {
        let (mut share, mut accuracy) = (Share::ZERO, 0.0);
        for rung in rungs {
            share = share.saturating_add(rung.share);
            accuracy += rung.accuracy;
        }
        Self {
            share,
            devices: share.as_f64(),
            accuracy,
        }
    }
}

impl<'a> Stream<'a> {
    fn new(
        problem: &Problem,
        spec: &'a StreamSpec,
        min_accuracy: f64,
        training_memory: Option<u64>,
    ) -> Self {
        let capacity = problem.capacity();
        let mut levels = levels(spec);
        levels.retain(|level| level.share <= capacity);
        let ladder = |accuracy| Ladder::new(&levels, accuracy, min_accuracy, spec.weight);
        let choice = |candidate: &Candidate| Choice {
            option: candidate.option,
            work: candidate.work,
            startup: candidate.startup,
            end: ladder(candidate.end_accuracy),
        };
        let pieces = spec.throughput.pieces(capacity.as_f64());
        let slope = pieces.first().map_or(1.0, |piece| piece.slope);
        let speed: f64 = pieces.iter().map(|piece| piece.slope * piece.width).sum();
        Self {
            choices: front(spec, problem, training_memory)
                .iter()
                .map(choice)
                .collect(),
            now: ladder(spec.accuracy),
            delay: problem.delay_of(spec),
            throughput: &spec.throughput,
            fastest: Piece {
                width: speed / slope,
                slope,
            },
        }
    }
}

/// Sum of the accuracies.
fn value(rungs: &[Rung]) -> f64 {
    rungs.iter().map(|rung| rung.accuracy).sum()
}
