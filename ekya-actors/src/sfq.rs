//! Start-time fair queueing with several requests in flight, SFQ(D): a pure state machine.
//!
//! No clock, no thread and no device is in here: the caller says when a request arrives, when one
//! may start and what one has cost. That is what lets the property tests below, and any simulator,
//! drive it on virtual time.
//!
//! # Algorithm
//! Every job has a weight φ. The k-th request of a job gets a start tag
//! `S = max(v, F)` and moves the job's finish tag to `F = S + cost / φ`; the request with the
//! lowest start tag runs next, and virtual time v is the start tag of the one dispatched last
//! (Goyal et al. 1996; D requests at a time: Jin et al. 2004).
//!
//! | paper | here |
//! |---|---|
//! | v(t) | [`Sfq::virtual_time`] |
//! | S of the waiting request | `Job::start` |
//! | F of the request before it | `Job::finish` |
//! | φ | `Job::rate`, in micro-devices |
//!
//! What is added to the papers, and why:
//! - The cost of a minibatch is known only afterwards. `F` is moved at dispatch by an estimate (the
//!   moving average of the job's costs) and corrected by the measured cost at completion, which also
//!   moves the start tag of the job's next request if that waits already.
//! - A weight of zero pauses a job: its requests stay, and none is dispatched.
//! - A changed weight rescales what lies ahead of virtual time, `F - v`, to the new weight. With the
//!   papers' rule alone a job that ran one minibatch at a hundredth of the device would wait for a
//!   hundred of them after it is granted the whole device.
//!
//! # Invariants
//! - Virtual time never goes back.
//! - At most `depth` requests are in flight; a waiting request of a job whose weight is above zero
//!   is dispatched whenever fewer are (work conservation).
//! - A job without requests gains nothing: its next start tag is at least virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use ekya_sched::Share;

/// A job of one queue. No two jobs of a process have the same id, whatever their queues: a grant that
/// is sent to the wrong device finds nobody there, rather than somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u64);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job {}", self.0)
    }
}

/// One request of a job, from [`Sfq::enqueue`] to [`Sfq::complete`] or [`Sfq::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Position in virtual time: nanoseconds of a whole device, shifted left by [`FRACTION_BITS`].
///
/// 2^128 of them are 10^15 hours of the smallest weight, so that neither overflow nor rebasing need
/// be thought of; each tag is rounded down by less than 2^-16 nanoseconds.
type Tag = u128;

/// Binary places of a [`Tag`] after the nanosecond.
const FRACTION_BITS: u32 = 16;

/// Cost that is assumed for a job that has not completed a request yet, in nanoseconds.
const FIRST_ESTIMATE: u64 = 1_000_000;

/// The moving average of the costs gives the newest one a weight of 1 / 2^this.
const AVERAGE_SHIFT: u32 = 2;

/// Costs count up to this many nanoseconds (an hour): a suspended machine must not ban a job.
const COST_MAX: u64 = 3_600_000_000_000;

/// Jobs that this process has ever had.
static JOBS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Job {
    /// Weight granted now; zero while paused.
    weight: Share,
    /// Weight that `finish` is expressed in: the last one above zero.
    rate: Share,
    /// Where the request after those dispatched may start at the earliest.
    finish: Tag,
    /// Virtual time at which the job became able to run: the other lower bound of its start tag.
    woke: Tag,
    /// Start tag under which the job stands in [`Sfq::ready`], if it does.
    start: Option<Tag>,
    waiting: VecDeque<Ticket>,
    in_flight: usize,
    average_cost: Option<u64>,
    /// Removed, but still charged for what is in flight.
    leaving: bool,
}

impl Job {
    fn new(woke: Tag) -> Self {
        Self {
            weight: Share::ZERO,
            rate: Share::WHOLE,
            finish: 0,
            woke,
            start: None,
            waiting: VecDeque::new(),
            in_flight: 0,
            average_cost: None,
            leaving: false,
        }
    }

    fn runnable(&self) -> bool {
        self.weight > Share::ZERO && !self.waiting.is_empty()
    }

    /// Virtual time that a cost in nanoseconds takes at the job's weight.
    fn span(&self, cost: u64) -> Tag {
        let scaled =
            (Tag::from(cost.min(COST_MAX)) * Tag::from(Share::WHOLE.micro())) << FRACTION_BITS;
        scaled / Tag::from(self.rate.micro().max(1))
    }

    fn estimate(&self) -> u64 {
        self.average_cost.unwrap_or(FIRST_ESTIMATE)
    }

    fn learn(&mut self, cost: u64) {
        let cost = cost.min(COST_MAX);
        self.average_cost = Some(match self.average_cost {
            None => cost,
            Some(old) => old - (old >> AVERAGE_SHIFT) + (cost >> AVERAGE_SHIFT),
        });
    }

    /// Puts what lies ahead of `now` in terms of a new weight above zero.
    fn rescale(&mut self, now: Tag, weight: Share) {
        let ahead = self.finish.saturating_sub(now);
        if ahead > 0 {
            // `ahead` is at most a few spans (2^78 each): the product stays far below 2^128.
            self.finish =
                now + ahead * Tag::from(self.rate.micro()) / Tag::from(weight.micro().max(1));
        }
        self.rate = weight;
    }
}

#[derive(Debug)]
struct InFlight {
    job: JobId,
    estimate: u64,
}

/// The queue of one device.
///
/// Call [`enqueue`](Self::enqueue) when a job wants to run, then [`dispatch`](Self::dispatch) until
/// it returns nothing, and again after every [`complete`](Self::complete), [`cancel`](Self::cancel)
/// and [`set_weight`](Self::set_weight).
#[derive(Debug)]
pub struct Sfq {
    depth: usize,
    virtual_time: Tag,
    /// Highest finish tag of any completed request: where virtual time goes when all is idle.
    last_finish: Tag,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs that can run, by the start tag of their next request.
    ready: BTreeSet<(Tag, JobId)>,
    in_flight: BTreeMap<Ticket, InFlight>,
    next_ticket: u64,
}

impl Sfq {
    /// A queue that lets `depth` requests run at a time; zero is taken for one.
    #[must_use]
    pub fn new(depth: usize) -> Self {
        Self {
            depth: depth.max(1),
            virtual_time: 0,
            last_finish: 0,
            jobs: BTreeMap::new(),
            ready: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    /// A new job, with weight zero.
    pub fn add(&mut self) -> JobId {
        let id = JobId(JOBS.fetch_add(1, Ordering::Relaxed));
        self.jobs.insert(id, Job::new(self.virtual_time));
        id
    }

    /// Removes a job and its waiting requests. Those in flight go on to occupy the device and are
    /// still to be [completed](Self::complete).
    pub fn remove(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.leaving = true;
        job.waiting.clear();
        self.settle(id);
    }

    /// Sets a job's weight, from its next tag on; zero pauses it.
    pub fn set_weight(&mut self, id: JobId, weight: Share) {
        let now = self.virtual_time;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.weight == weight {
            return;
        }
        if job.weight == Share::ZERO {
            job.woke = now;
        }
        if weight > Share::ZERO {
            job.rescale(now, weight);
        }
        job.weight = weight;
        self.settle(id);
    }

    /// A job's weight; zero for one that does not exist.
    #[must_use]
    pub fn weight(&self, id: JobId) -> Share {
        self.jobs.get(&id).map_or(Share::ZERO, |job| job.weight)
    }

    /// One more request of a job, behind those it has waiting; `None` if there is no such job.
    pub fn enqueue(&mut self, id: JobId) -> Option<Ticket> {
        let now = self.virtual_time;
        let job = self.jobs.get_mut(&id).filter(|job| !job.leaving)?;
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        if job.waiting.is_empty() {
            job.woke = now;
        }
        job.waiting.push_back(ticket);
        self.settle(id);
        Some(ticket)
    }

    /// Takes back a request that still waits; false when it does not.
    pub fn cancel(&mut self, id: JobId, ticket: Ticket) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        let before = job.waiting.len();
        job.waiting.retain(|&waiting| waiting != ticket);
        let found = job.waiting.len() < before;
        self.settle(id);
        found
    }

    /// The request that runs next, if the device has room and somebody may run.
    pub fn dispatch(&mut self) -> Option<(JobId, Ticket)> {
        if self.in_flight.len() >= self.depth {
            return None;
        }
        let (start, id) = self.ready.pop_first()?;
        let job = self.jobs.get_mut(&id)?;
        job.start = None;
        let ticket = job.waiting.pop_front()?;
        let estimate = job.estimate();
        job.finish = start + job.span(estimate);
        job.in_flight += 1;
        self.in_flight
            .insert(ticket, InFlight { job: id, estimate });
        self.virtual_time = self.virtual_time.max(start);
        self.settle(id);
        Some((id, ticket))
    }

    /// Ends a request in flight and charges what it has really cost, in nanoseconds of the device.
    /// Returns its job, or `None` when the ticket is not in flight.
    pub fn complete(&mut self, ticket: Ticket, cost: u64) -> Option<JobId> {
        let InFlight { job: id, estimate } = self.in_flight.remove(&ticket)?;
        let job = self.jobs.get_mut(&id)?;
        job.in_flight -= 1;
        job.finish = (job.finish + job.span(cost)).saturating_sub(job.span(estimate));
        job.learn(cost);
        self.last_finish = self.last_finish.max(job.finish);
        self.settle(id);
        self.rest();
        Some(id)
    }

    /// Whether a request is running.
    #[must_use]
    pub fn is_in_flight(&self, ticket: Ticket) -> bool {
        self.in_flight.contains_key(&ticket)
    }

    /// How many requests are running.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// How many requests may run at a time.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Virtual time v, in 2^-16 nanoseconds of service at the weight of a whole device.
    #[must_use]
    pub const fn virtual_time(&self) -> u128 {
        self.virtual_time
    }

    /// Brings a job's place among the ready ones in line with its state, and forgets it when it has
    /// left and nothing of it runs.
    fn settle(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let start = job.runnable().then(|| job.finish.max(job.woke));
        if start != job.start {
            if let Some(old) = job.start {
                self.ready.remove(&(old, id));
            }
            if let Some(new) = start {
                self.ready.insert((new, id));
            }
            job.start = start;
        }
        if job.leaving && job.in_flight == 0 {
            self.jobs.remove(&id);
        }
    }

    /// Ends a busy period: whoever comes next starts level.
    fn rest(&mut self) {
        if self.in_flight.is_empty() && self.ready.is_empty() {
            self.virtual_time = self.virtual_time.max(self.last_finish);
        }
    }
}
