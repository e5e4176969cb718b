//! Start-time fair queueing with several requests in flight, SFQ(D): a pure state machine.
//!
//! No clock, no thread and no device is in here: the caller says when a request arrives, when one
//! may start and what one has cost. That is what lets the property tests, and any simulator, drive it
//! on virtual time.
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
//! # What is promised
//! While two jobs f and g both have requests waiting, the service W that they get in any interval
//! obeys (Jin et al. 2004)
//!
//! `|W_f / φ_f − W_g / φ_g| ≤ (D + 1) · (l_f / φ_f + l_g / φ_g)`
//!
//! where D is the depth and l a job's highest cost, at least a first estimate of 1 ms. It holds from
//! any change of weights on for the new ones.
//!
//! # What is added to the papers
//! - The cost of a minibatch is known only afterwards. `F` is moved at dispatch by an estimate (the
//!   moving average of the job's costs) and corrected by the measured cost at completion, which also
//!   moves the start tag of the job's next request if that waits already.
//! - A weight of zero pauses a job: its requests stay, and none is dispatched.
//! - A changed weight rescales the distance from virtual time, `F - v`, to the new weight, so that it
//!   stays the same service. With the papers' rule alone a job that ran one minibatch at a hundredth of
//!   the device would wait for a hundred of them after it is granted the whole device; and one whose tag
//!   had fallen back behind v, as its request cost less than estimated, would get a hundred times the
//!   difference.
//! - A request may run *along* with one that is in flight, as pictures of several streams do in one pass
//!   of a network: it takes no room of its own. Only the one that would be dispatched next may, so that
//!   nobody is passed over for it; D in the bound above is then the depth and as many as run along.
//! - A request counts at least a nanosecond, or a job that costs nothing would keep its tag, and with
//!   it its turn, for ever; and at most an hour.
//!
//! # Arithmetic
//! A job's finish tag is not moved by one rounded step after another: it is worked out from what the
//! job was charged since its tags were last set against virtual time, a sum of whole nanoseconds. So
//! each tag is less than a nanosecond of virtual time too low, after any number of requests. What stays
//! for good is what is rounded where a weight changes, each time less than two nanoseconds of the device.
//! Virtual time grows by at most 10^6 nanoseconds for one of service; the products that a changed weight
//! makes of it stay within 128 bits for a million years.
//!
//! # Costs
//! With n jobs, every call takes O(log n); only [`Sfq::cancel`] and [`Sfq::remove`] take time
//! proportional to what their job has waiting. None allocates once the queue has held as many jobs, and
//! each job as many requests, as it holds at most.
//!
//! # Invariants
//! - Virtual time never goes back.
//! - At most `depth` requests are in flight, those that run along not counted; a waiting request of a job
//!   whose weight is above zero is dispatched whenever fewer are (work conservation).
//! - A job without requests gains nothing: its next start tag is at least virtual time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use ekya_sched::Share;

use crate::ranking::Ranking;
use crate::slots::{Key, Slots};

/// A job of one queue. No two jobs of a process have the same id, whatever their queues: a grant that
/// is sent to the wrong device finds nobody there, rather than somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(crate) Key);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job {}", self.0.number)
    }
}

/// One request of a job, from [`Sfq::enqueue`] to [`Sfq::complete`] or [`Sfq::cancel`]. A queue never
/// gives the same one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(Key);

/// Position in virtual time: nanoseconds of a whole device.
type Tag = i128;

/// Cost that is assumed for a job that has not completed a request yet, in nanoseconds.
const FIRST_ESTIMATE: u64 = 1_000_000;

/// The moving average of the costs gives the newest one a weight of 1 / 2^this.
const AVERAGE_SHIFT: u32 = 2;

/// Costs count at least this many nanoseconds: no request is free.
const COST_MIN: u64 = 1;

/// Costs count up to this many nanoseconds (an hour): a suspended machine must not ban a job.
const COST_MAX: u64 = 3_600_000_000_000;

/// Jobs that this process has ever had.
static JOBS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Job {
    /// Weight granted now; zero while paused.
    weight: Share,
    /// Weight that tags are worked out with: the last one above zero.
    rate: Share,
    /// Virtual time from which `charged` counts.
    base: Tag,
    /// Nanoseconds charged since then: measured for what has ended, estimated for what runs. Below zero
    /// where what ran at `base` cost less than was estimated.
    charged: Tag,
    /// Virtual time at which the job became able to run: the other lower bound of its start tag.
    woke: Tag,
    waiting: VecDeque<Ticket>,
    in_flight: usize,
    average_cost: Option<u64>,
    /// Removed, but still charged for what is in flight.
    leaving: bool,
}

impl Job {
    const fn new(woke: Tag) -> Self {
        Self {
            weight: Share::ZERO,
            rate: Share::WHOLE,
            base: 0,
            charged: 0,
            woke,
            waiting: VecDeque::new(),
            in_flight: 0,
            average_cost: None,
            leaving: false,
        }
    }

    fn runnable(&self) -> bool {
        self.weight > Share::ZERO && !self.waiting.is_empty()
    }

    /// Where the request after those dispatched may start at the earliest, as far as the job's own
    /// requests go.
    fn finish(&self) -> Tag {
        let scaled = self.charged * Tag::from(Share::WHOLE.micro());
        self.base + scaled.div_euclid(Tag::from(self.rate.micro()))
    }

    /// Start tag of the next request.
    fn start(&self) -> Tag {
        self.finish().max(self.woke)
    }

    /// Counts from a tag on what is charged from now on.
    const fn rebase(&mut self, base: Tag) {
        self.base = base;
        self.charged = 0;
    }

    fn estimate(&self) -> u64 {
        self.average_cost.unwrap_or(FIRST_ESTIMATE)
    }

    fn learn(&mut self, cost: u64) {
        self.average_cost = Some(match self.average_cost {
            None => cost,
            Some(old) => old - (old >> AVERAGE_SHIFT) + (cost >> AVERAGE_SHIFT),
        });
    }

    /// Puts the tags in terms of a new weight above zero: what they are ahead of `now`, or behind it,
    /// stays the same service.
    fn rescale(&mut self, now: Tag, weight: Share) {
        let (old, new) = (Tag::from(self.rate.micro()), Tag::from(weight.micro()));
        // The farthest behind is who has been idle, by all that virtual time has gone since: see the
        // module's description for how long the product fits.
        let rescaled = |tag: Tag| now + ((tag - now) * old).div_euclid(new);
        self.woke = rescaled(self.woke);
        self.rebase(rescaled(self.finish()));
        self.rate = weight;
    }
}

#[derive(Debug)]
struct Request {
    job: JobId,
    /// Cost in nanoseconds that was charged when it was dispatched; none while it waits.
    estimate: Option<u64>,
    /// It runs along with another one, whose room is enough for both.
    along: bool,
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
    jobs: Slots<Job>,
    /// Jobs that can run, by the start tag of their next request.
    ready: Ranking<Tag>,
    requests: Slots<Request>,
    /// Those that take room.
    in_flight: usize,
    /// Number of the next ticket.
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
            jobs: Slots::new(),
            ready: Ranking::new(),
            requests: Slots::new(),
            in_flight: 0,
            next_ticket: 0,
        }
    }

    /// A new job, with weight zero.
    pub fn add(&mut self) -> JobId {
        let number = JOBS.fetch_add(1, Ordering::Relaxed);
        JobId(self.jobs.insert(number, Job::new(self.virtual_time)))
    }

    /// Removes a job and its waiting requests. Those in flight go on to occupy the device and are
    /// still to be [completed](Self::complete).
    pub fn remove(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id.0) else {
            return;
        };
        job.leaving = true;
        for ticket in job.waiting.drain(..) {
            self.requests.remove(ticket.0);
        }
        self.settle(id);
    }

    /// Sets a job's weight, from its next tag on; zero pauses it.
    pub fn set_weight(&mut self, id: JobId, weight: Share) {
        let now = self.virtual_time;
        let Some(job) = self.jobs.get_mut(id.0) else {
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
        self.jobs.get(id.0).map_or(Share::ZERO, |job| job.weight)
    }

    /// One more request of a job, behind those it has waiting; `None` if there is no such job.
    pub fn enqueue(&mut self, id: JobId) -> Option<Ticket> {
        let now = self.virtual_time;
        let job = self.jobs.get_mut(id.0).filter(|job| !job.leaving)?;
        let request = Request {
            job: id,
            estimate: None,
            along: false,
        };
        let ticket = Ticket(self.requests.insert(self.next_ticket, request));
        self.next_ticket += 1;
        if job.waiting.is_empty() {
            job.woke = now;
        }
        job.waiting.push_back(ticket);
        self.settle(id);
        Some(ticket)
    }

    /// Takes back a request that still waits; false when it does not.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(&Request {
            job: id, estimate, ..
        }) = self.requests.get(ticket.0)
        else {
            return false;
        };
        let job = self.jobs.get_mut(id.0);
        let (None, Some(job)) = (estimate, job) else {
            return false;
        };
        self.requests.remove(ticket.0);
        job.waiting.retain(|&waiting| waiting != ticket);
        self.settle(id);
        true
    }

    /// The request that runs next, if the device has room and somebody may run.
    pub fn dispatch(&mut self) -> Option<(JobId, Ticket)> {
        if self.in_flight >= self.depth {
            return None;
        }
        let (id, ticket) = self.begin()?;
        self.in_flight += 1;
        Some((id, ticket))
    }

    /// The job whose request is dispatched next, when there is room.
    #[must_use]
    pub fn first(&self) -> Option<JobId> {
        self.ready.first().map(|(_, key)| JobId(key))
    }

    /// Dispatches the request that comes next along with one that is in flight: it takes no room, and is
    /// to be [completed](Self::complete) as any other.
    pub fn dispatch_along(&mut self) -> Option<(JobId, Ticket)> {
        let (id, ticket) = self.begin()?;
        self.requests.get_mut(ticket.0)?.along = true;
        Some((id, ticket))
    }

    fn begin(&mut self) -> Option<(JobId, Ticket)> {
        let (start, key) = self.ready.first()?;
        let job = self.jobs.get_mut(key)?;
        let ticket = job.waiting.pop_front()?;
        let estimate = job.estimate();
        if start > job.finish() {
            job.rebase(start);
        }
        job.charged += Tag::from(estimate);
        job.in_flight += 1;
        self.requests.get_mut(ticket.0)?.estimate = Some(estimate);
        self.virtual_time = self.virtual_time.max(start);
        self.settle(JobId(key));
        Some((JobId(key), ticket))
    }

    /// Ends a request in flight and charges what it has really cost, in nanoseconds of the device.
    /// Returns its job, or `None` when the ticket is not in flight.
    pub fn complete(&mut self, ticket: Ticket, cost: u64) -> Option<JobId> {
        let &Request {
            job: id,
            estimate,
            along,
        } = self.requests.get(ticket.0)?;
        let estimate = estimate?;
        self.requests.remove(ticket.0);
        self.in_flight -= usize::from(!along);
        let job = self.jobs.get_mut(id.0)?;
        job.in_flight -= 1;
        let cost = cost.clamp(COST_MIN, COST_MAX);
        job.charged += Tag::from(cost) - Tag::from(estimate);
        job.learn(cost);
        self.last_finish = self.last_finish.max(job.finish());
        self.settle(id);
        self.rest();
        Some(id)
    }

    /// Whether a request is running.
    #[must_use]
    pub fn is_in_flight(&self, ticket: Ticket) -> bool {
        let request = self.requests.get(ticket.0);
        request.is_some_and(|request| request.estimate.is_some())
    }

    /// How many requests are running, those that run along not counted.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many requests may run at a time.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Virtual time v, in nanoseconds of service at the weight of a whole device.
    #[must_use]
    pub const fn virtual_time(&self) -> i128 {
        self.virtual_time
    }

    /// Brings a job's place among the ready ones in line with its state, and forgets it when it has
    /// left and nothing of it runs.
    fn settle(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(id.0) else {
            return;
        };
        if job.runnable() {
            self.ready.put(id.0, job.start());
        } else {
            self.ready.remove(id.0);
        }
        if job.leaving && job.in_flight == 0 {
            self.jobs.remove(id.0);
        }
    }

    /// Ends a busy period: whoever comes next starts level.
    fn rest(&mut self) {
        if self.in_flight == 0 && self.ready.first().is_none() {
            self.virtual_time = self.virtual_time.max(self.last_finish);
        }
    }
}
