//! Properties of the fair queue, on virtual time.

use std::collections::BTreeMap;

use ekya_actors::JobId;
use ekya_actors::sfq::{Sfq, Ticket};
use ekya_sched::Share;
use proptest::prelude::*;

/// Highest cost of a request where costs are drawn, in nanoseconds.
const COST_MAX: u64 = 50_000_000;

/// What the queue takes for the cost of a job that it does not know, in nanoseconds.
const FIRST_ESTIMATE: u64 = 1_000_000;

/// A device in virtual time: `depth` servers, work measured exactly.
struct Rig {
    queue: Sfq,
    /// How many run along with each at most.
    along: usize,
    now: u64,
    running: BTreeMap<(u64, Ticket), (JobId, u64)>,
    served: BTreeMap<JobId, u64>,
    /// Requests of each job.
    asked: BTreeMap<JobId, usize>,
    order: Vec<JobId>,
    /// Highest cost of each job.
    longest: BTreeMap<JobId, u64>,
}

impl Rig {
    fn new(depth: usize) -> Self {
        Self {
            queue: Sfq::new(depth),
            along: 0,
            now: 0,
            running: BTreeMap::new(),
            served: BTreeMap::new(),
            asked: BTreeMap::new(),
            order: Vec::new(),
            longest: BTreeMap::new(),
        }
    }

    fn job(&mut self, weight: u32) -> JobId {
        let job = self.queue.add();
        self.queue.set_weight(job, Share::from_micro(weight));
        job
    }

    fn ask(&mut self, job: JobId) -> Ticket {
        *self.asked.entry(job).or_default() += 1;
        self.queue.enqueue(job).expect("a job of the rig")
    }

    fn ask_many(&mut self, job: JobId, times: usize) {
        for _ in 0..times {
            self.ask(job);
        }
    }

    /// Starts what may start and completes what ends first; `cost` prices a job's next request.
    /// Returns the job that completed.
    fn step(&mut self, mut cost: impl FnMut(JobId) -> u64) -> Option<JobId> {
        while let Some(lead) = self.queue.dispatch() {
            let along = std::iter::from_fn(|| self.queue.dispatch_along()).take(self.along);
            let together = std::iter::once(lead).chain(along);
            let together: Vec<_> = together
                .map(|(job, ticket)| (job, ticket, cost(job)))
                .collect();
            let end = self.now + together.iter().map(|(_, _, cost)| cost).sum::<u64>();
            for (job, ticket, cost) in together {
                self.order.push(job);
                self.running.insert((end, ticket), (job, cost));
            }
        }
        let ((end, ticket), (job, cost)) = self.running.pop_first()?;
        self.now = end;
        assert_eq!(self.queue.complete(ticket, cost), Some(job));
        *self.served.entry(job).or_default() += cost;
        let longest = self.longest.entry(job).or_default();
        *longest = cost.max(*longest);
        Some(job)
    }

    /// Whether a job may run and has requests waiting.
    fn waits(&self, job: JobId) -> bool {
        let started = self.order.iter().filter(|&&other| other == job).count();
        let asked = self.asked.get(&job).copied().unwrap_or(0);
        self.queue.weight(job) > Share::ZERO && asked > started
    }

    fn weigh(&mut self, job: JobId, weight: u32) {
        self.queue.set_weight(job, Share::from_micro(weight));
    }

    /// Service of a job over its weight, in nanoseconds of a whole device.
    fn normalised(&self, job: JobId, since: &BTreeMap<JobId, u64>) -> f64 {
        let served = |of: &BTreeMap<JobId, u64>| of.get(&job).copied().unwrap_or(0);
        (served(&self.served) - served(since)) as f64 / self.queue.weight(job).as_f64()
    }

    /// How far apart two jobs may be that both wait: the bound of Jin et al. (2004), which for a depth
    /// of 1 is a little wider than that of Goyal et al. (1996). What runs along makes the queue deeper.
    fn bound(&self, a: JobId, b: JobId) -> f64 {
        let slack = |job| {
            let longest = self.longest.get(&job).copied().unwrap_or(0);
            let cost = longest.max(FIRST_ESTIMATE) as f64;
            (self.queue.depth() * (self.along + 1) + 1) as f64 * cost
                / self.queue.weight(job).as_f64()
        };
        slack(a) + slack(b)
    }

    fn assert_fair(&self, jobs: &[JobId], since: &BTreeMap<JobId, u64>) {
        for (at, &a) in jobs.iter().enumerate() {
            for &b in &jobs[..at] {
                let gap = (self.normalised(a, since) - self.normalised(b, since)).abs();
                assert!(gap <= self.bound(a, b), "{a} and {b} are {gap} ns apart");
            }
        }
    }
}

/// Costs that repeat: the tests need variety, not randomness.
fn cost_of(costs: &[u64], turn: &mut usize) -> u64 {
    *turn += 1;
    costs[*turn % costs.len()]
}

proptest! {
    #[test]
    fn backlogged_jobs_get_their_shares(
        depth in 1_usize..5,
        weights in prop::collection::vec(1_000_u32..250_000, 2..5),
        costs in prop::collection::vec(1_u64..=COST_MAX, 1..40),
    ) {
        let mut rig = Rig::new(depth);
        let jobs: Vec<_> = weights.iter().map(|&weight| rig.job(weight)).collect();
        for &job in &jobs {
            // One more than can run, so that every job always waits.
            rig.ask_many(job, depth + 1);
        }
        let (start, mut turn) = (BTreeMap::new(), 0);
        for _ in 0..400 {
            let done = rig.step(|_| cost_of(&costs, &mut turn)).expect("work waits");
            rig.ask(done);
            rig.assert_fair(&jobs, &start);
        }
    }

    #[test]
    fn idling_earns_no_credit(
        depth in 1_usize..4,
        weights in (1_000_u32..500_000, 1_000_u32..500_000),
        costs in prop::collection::vec(1_u64..=COST_MAX, 1..40),
        idle in 1_usize..300,
    ) {
        let mut rig = Rig::new(depth);
        let (busy, idler) = (rig.job(weights.0), rig.job(weights.1));
        rig.ask_many(busy, depth + 1);
        let mut turn = 0;
        for _ in 0..idle {
            rig.step(|_| cost_of(&costs, &mut turn));
            rig.ask(busy);
        }
        rig.ask_many(idler, depth + 1);
        let woken = rig.served.clone();
        for _ in 0..200 {
            let done = rig.step(|_| cost_of(&costs, &mut turn)).expect("work waits");
            rig.ask(done);
            rig.assert_fair(&[busy, idler], &woken);
        }
    }

    #[test]
    fn a_job_that_wakes_waits_for_one_request_of_each_other_at_most(
        weights in prop::collection::vec(1_u32..200_000, 1..5),
        weight in 1_u32..200_000,
        costs in prop::collection::vec(1_u64..=COST_MAX, 1..40),
        before in 0_usize..100,
    ) {
        let mut rig = Rig::new(1);
        let others: Vec<_> = weights.iter().map(|&weight| rig.job(weight)).collect();
        for &job in &others {
            rig.ask_many(job, 2);
        }
        let mut turn = 0;
        for _ in 0..before {
            let done = rig.step(|_| cost_of(&costs, &mut turn)).expect("work waits");
            rig.ask(done);
        }
        let fresh = rig.job(weight);
        rig.ask(fresh);
        let from = rig.order.len();
        while !rig.order[from..].contains(&fresh) {
            let done = rig.step(|_| cost_of(&costs, &mut turn)).expect("work waits");
            rig.ask(done);
        }
        let waited = rig.order[from..].iter().take_while(|&&job| job != fresh).count();
        prop_assert!(waited <= others.len(), "{} others, waited for {}", others.len(), waited);
    }

    /// Jobs come and go, pause, are granted more and less, and cost what they like: over any interval
    /// in which two of them wait, at weights that do not change, they are served alike. With that, none
    /// starves, and a changed weight counts from the next request on.
    #[test]
    fn whatever_happens_waiting_jobs_are_served_alike(
        depth in 1_usize..5,
        along in prop_oneof![Just(0), 1_usize..4],
        weights in prop::collection::vec(weight(), 2..6),
        costs in prop::collection::vec(any_cost(), 1..40),
        events in prop::collection::vec(event(), 1..600),
    ) {
        let mut rig = Rig { along, ..Rig::new(depth) };
        let jobs: Vec<_> = weights.iter().map(|&weight| rig.job(weight)).collect();
        let (mut gaps, mut turn) = (Gaps::default(), 0);
        for event in events {
            match event {
                Event::Ask(number) => drop(rig.ask(jobs[number % jobs.len()])),
                Event::Weigh(number, weight) => {
                    let job = jobs[number % jobs.len()];
                    rig.weigh(job, weight);
                    gaps.forget(job);
                }
                Event::Step => drop(rig.step(|_| cost_of(&costs, &mut turn))),
            }
            gaps.check(&rig, &jobs);
        }
    }

    #[test]
    fn what_an_idle_job_leaves_reaches_the_others_in_proportion_within_two_requests(
        weights in prop::collection::vec(1_000_u32..250_000, 3..6),
        costs in prop::collection::vec(1_u64..=COST_MAX, 1..40),
        before in 0_usize..100,
    ) {
        let mut rig = Rig::new(1);
        let jobs: Vec<_> = weights.iter().map(|&weight| rig.job(weight)).collect();
        for &job in &jobs {
            rig.ask_many(job, 2);
        }
        let mut turn = 0;
        for _ in 0..before {
            let done = rig.step(|_| cost_of(&costs, &mut turn)).expect("work waits");
            rig.ask(done);
        }
        // It asks no more; what it has asked for already are two requests.
        let (&idle, busy) = jobs.split_last().expect("three jobs");
        let (start, since) = (rig.now, rig.served.clone());
        let asked_until = rig.order.len();
        for _ in 0..200 {
            let done = rig.step(|_| cost_of(&costs, &mut turn)).expect("work waits");
            if done != idle {
                rig.ask(done);
            }
            rig.assert_fair(busy, &since);
        }
        let idlers = rig.order[asked_until..].iter().filter(|&&job| job == idle).count();
        prop_assert!(idlers <= 2, "{} requests of an idle job", idlers);
        // The device was never idle, so that all the rest reached the others.
        let served = |of: &BTreeMap<JobId, u64>| of.values().sum::<u64>();
        prop_assert_eq!(served(&rig.served) - served(&since), rig.now - start);
    }

    #[test]
    fn every_sequence_of_calls_keeps_the_invariants(
        depth in 1_usize..4,
        calls in prop::collection::vec(call(), 1..300),
    ) {
        let mut model = Model::new(depth);
        for call in calls {
            model.apply(call);
            model.check();
        }
        model.drain();
    }
}

/// Nanoseconds of half a year.
const HALF_A_YEAR: u64 = 183 * 24 * HOUR;
const HOUR: u64 = 3_600_000_000_000;

#[test]
fn costs_of_nothing_and_of_an_hour_are_shared_out_over_half_a_year() {
    let mut rig = Rig::new(1);
    let jobs = [333_333, 142_857, 523_803, 7].map(|weight| rig.job(weight));
    for job in jobs {
        rig.ask_many(job, 2);
    }
    let (start, mut turn) = (BTreeMap::new(), 0);
    while rig.now < HALF_A_YEAR {
        let cost = |_| cost_of(&[HOUR, 0, HOUR - 1, 1], &mut turn);
        let done = rig.step(cost).expect("work waits");
        rig.ask(done);
        rig.assert_fair(&jobs, &start);
    }
}

#[test]
fn shares_are_exact_after_half_a_year() {
    let mut rig = Rig::new(1);
    // At the smallest weight, virtual time goes fastest.
    let smallest = rig.job(1);
    rig.ask(smallest);
    while rig.now < HALF_A_YEAR {
        rig.step(|_| HOUR).expect("work waits");
        rig.ask(smallest);
    }
    rig.queue.remove(smallest);
    // Minibatches as they are, and some that are nothing but rounding: no weight divides a tag's unit.
    for cost in [39_999_983, 1] {
        assert_exact(&mut rig, [333_333, 142_857, 523_803, 7], cost);
    }
}

/// Runs a million requests; however many they are, no job is farther from its share than two of them.
fn assert_exact(rig: &mut Rig, weights: [u32; 4], cost: u64) {
    let jobs = weights.map(|weight| rig.job(weight));
    for job in jobs {
        rig.ask_many(job, 2);
    }
    for _ in 0..1_000_000 {
        let done = rig.step(|_| cost).expect("work waits");
        rig.ask(done);
    }
    for (job, weight) in jobs.into_iter().zip(weights) {
        let due = cost as f64 * f64::from(weight);
        let got = rig.served[&job] as f64;
        assert!(
            (got - due).abs() <= 2.0 * cost as f64,
            "{job}: {got} of {due}"
        );
        rig.queue.remove(job);
    }
}

#[test]
fn what_costs_nothing_keeps_nobody_out() {
    let mut rig = Rig::new(1);
    let (free, other) = (rig.job(500_000), rig.job(500_000));
    for job in [free, other] {
        rig.ask_many(job, 2);
    }
    for _ in 0..10_000 {
        let cost = |job| if job == free { 0 } else { 1_000 };
        let done = rig.step(cost).expect("work waits");
        rig.ask(done);
    }
    assert!(rig.served[&other] >= 9 * 1_000, "{:?}", rig.served);
}

#[test]
fn a_raised_weight_counts_at_once() {
    let mut rig = Rig::new(1);
    let (starved, other) = (rig.job(1), rig.job(500_000));
    for job in [starved, other] {
        rig.ask_many(job, 2);
    }
    for _ in 0..10 {
        let done = rig.step(|_| 1_000_000).expect("work waits");
        rig.ask(done);
    }
    rig.queue.set_weight(starved, Share::from_micro(500_000));
    let from = rig.order.len();
    for _ in 0..10 {
        let done = rig.step(|_| 1_000_000).expect("work waits");
        rig.ask(done);
    }
    let turns = rig.order[from..]
        .iter()
        .filter(|&&job| job == starved)
        .count();
    assert!((4..=6).contains(&turns), "{turns} of 10");
}

#[test]
fn a_raised_weight_is_no_credit_for_what_was_overestimated() {
    let mut rig = Rig::new(2);
    let (raised, other, woken) = (rig.job(1_000), rig.job(500), rig.job(1));
    // 50 s of virtual time, and 40 s.
    let costs = |job| {
        if job == raised {
            50_000_000
        } else {
            20_000_000
        }
    };
    for job in [raised, other] {
        rig.ask(job);
        rig.step(costs);
    }
    rig.ask_many(raised, 2);
    rig.ask_many(other, 3);
    let (first, ticket) = rig.queue.dispatch().expect("room for two");
    assert_eq!(first, raised);
    // The other one moves virtual time by 40 s meanwhile.
    rig.step(costs);
    let (second, late) = rig.queue.dispatch().expect("room for one");
    assert_eq!(second, other);
    // The overestimated request ends: the next one's tag is those 40 s behind virtual time.
    rig.queue.complete(ticket, 1_000);
    rig.queue.complete(late, 20_000_000);
    rig.weigh(raised, 450_000);
    rig.weigh(woken, 450_000);
    rig.ask_many(raised, 2);
    rig.ask_many(woken, 3);
    let since = rig.served.clone();
    for _ in 0..100 {
        let done = rig.step(|_| 10_000_000).expect("work waits");
        rig.ask(done);
        rig.assert_fair(&[raised, woken], &since);
    }
}

#[test]
fn estimates_are_corrected_by_what_was_measured() {
    // Alternating costs: the average is always wrong, by the most when three requests overlap.
    let mut rig = Rig::new(3);
    let (erratic, steady) = (rig.job(500_000), rig.job(500_000));
    for job in [erratic, steady] {
        rig.ask_many(job, 4);
    }
    let mut turn = 0_u64;
    for _ in 0..2_000 {
        let cost = |job| match job {
            _ if job == steady => 10_000_000,
            _ => {
                turn += 1;
                1_000_000 + turn % 5 * 10_000_000
            }
        };
        let done = rig.step(cost).expect("work waits");
        rig.ask(done);
    }
    rig.assert_fair(&[erratic, steady], &BTreeMap::new());
}

/// What happens to a rig; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Event {
    Ask(usize),
    Weigh(usize, u32),
    Step,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => any::<usize>().prop_map(Event::Ask),
        1 => (any::<usize>(), weight()).prop_map(|(job, weight)| Event::Weigh(job, weight)),
        7 => Just(Event::Step),
    ]
}

/// From nothing to the whole device, the small ones as often as the large ones.
fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 3 => 1_u32..1_000, 3 => 1_000_u32..100_000, 3 => 100_000_u32..=1_000_000]
}

fn any_cost() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 3 => 1_u64..1_000_000, 3 => 1_000_000..=COST_MAX, 1 => Just(HOUR)]
}

/// How far jobs have been apart since both of them wait: for each pair the lowest and the highest
/// difference of their services over their weights.
#[derive(Default)]
struct Gaps(BTreeMap<(JobId, JobId), (f64, f64)>);

impl Gaps {
    /// A job's weight has changed.
    fn forget(&mut self, job: JobId) {
        self.0.retain(|&(a, b), _| a != job && b != job);
    }

    fn check(&mut self, rig: &Rig, jobs: &[JobId]) {
        let none = BTreeMap::new();
        for (at, &a) in jobs.iter().enumerate() {
            for &b in &jobs[..at] {
                if !rig.waits(a) || !rig.waits(b) {
                    self.0.remove(&(a, b));
                    continue;
                }
                let gap = rig.normalised(a, &none) - rig.normalised(b, &none);
                let (low, high) = self.0.entry((a, b)).or_insert((gap, gap));
                (*low, *high) = (low.min(gap), high.max(gap));
                let (apart, bound) = (*high - *low, rig.bound(a, b));
                // A millionth for the floating point of this test.
                assert!(
                    apart <= bound * 1.000_001,
                    "{a} and {b}: {apart} ns apart, {bound} are allowed"
                );
            }
        }
    }
}

/// A call on the queue; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Call {
    Add,
    Remove(usize),
    Weigh(usize, u32),
    Ask(usize),
    Cancel(usize),
    Dispatch,
    DispatchAlong,
    Complete(usize, u64),
}

fn call() -> impl Strategy<Value = Call> {
    let cost = prop_oneof![Just(0), 1..=COST_MAX, Just(u64::MAX)];
    let weight = prop_oneof![Just(0), 1_u32..1_000_000];
    prop_oneof![
        1 => Just(Call::Add),
        1 => any::<usize>().prop_map(Call::Remove),
        3 => (any::<usize>(), weight).prop_map(|(job, weight)| Call::Weigh(job, weight)),
        6 => any::<usize>().prop_map(Call::Ask),
        1 => any::<usize>().prop_map(Call::Cancel),
        6 => Just(Call::Dispatch),
        2 => Just(Call::DispatchAlong),
        4 => (any::<usize>(), cost).prop_map(|(ticket, cost)| Call::Complete(ticket, cost)),
    ]
}

/// What the queue should hold, kept the simplest way.
struct Model {
    queue: Sfq,
    jobs: Vec<(JobId, u32)>,
    waiting: Vec<(JobId, Ticket)>,
    running: Vec<(JobId, Ticket)>,
    along: Vec<(JobId, Ticket)>,
    virtual_time: i128,
}

impl Model {
    fn new(depth: usize) -> Self {
        Self {
            queue: Sfq::new(depth),
            jobs: Vec::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            along: Vec::new(),
            virtual_time: 0,
        }
    }

    fn apply(&mut self, call: Call) {
        let pick = |number: usize, of: usize| number.checked_rem(of);
        match call {
            Call::Add => self.jobs.push((self.queue.add(), 0)),
            Call::Dispatch => self.dispatch(),
            Call::DispatchAlong => self.dispatch_along(),
            Call::Remove(number) => {
                if let Some(at) = pick(number, self.jobs.len()) {
                    let (job, _) = self.jobs.remove(at);
                    self.queue.remove(job);
                    self.waiting.retain(|&(owner, _)| owner != job);
                    assert_eq!(self.queue.enqueue(job), None, "a removed job asks");
                }
            }
            Call::Weigh(number, weight) => {
                if let Some(at) = pick(number, self.jobs.len()) {
                    self.jobs[at].1 = weight;
                    self.queue
                        .set_weight(self.jobs[at].0, Share::from_micro(weight));
                }
            }
            Call::Ask(number) => {
                if let Some(at) = pick(number, self.jobs.len()) {
                    let job = self.jobs[at].0;
                    let ticket = self.queue.enqueue(job).expect("a registered job");
                    self.waiting.push((job, ticket));
                }
            }
            Call::Cancel(number) => {
                if let Some(at) = pick(number, self.waiting.len()) {
                    let (_, ticket) = self.waiting.remove(at);
                    assert!(self.queue.cancel(ticket));
                    assert!(!self.queue.cancel(ticket), "cancelled twice");
                }
            }
            Call::Complete(number, cost) => {
                let running = if number.is_multiple_of(2) {
                    &mut self.running
                } else {
                    &mut self.along
                };
                if let Some(at) = pick(number, running.len()) {
                    let (_, ticket) = running.remove(at);
                    self.queue.complete(ticket, cost);
                    assert_eq!(self.queue.complete(ticket, cost), None, "completed twice");
                }
            }
        }
    }

    fn may_run(&self, job: JobId) -> bool {
        self.jobs
            .iter()
            .any(|&(id, weight)| id == job && weight > 0)
    }

    fn dispatch(&mut self) {
        let room = self.running.len() < self.queue.depth();
        let able = self.waiting.iter().any(|&(job, _)| self.may_run(job));
        let first = self.queue.first();
        let dispatched = self.queue.dispatch();
        assert_eq!(dispatched.is_some(), room && able, "work conservation");
        if let Some((job, ticket)) = dispatched {
            assert_eq!(first, Some(job));
            self.leaves(job, ticket);
            self.running.push((job, ticket));
        }
    }

    fn dispatch_along(&mut self) {
        let first = self.queue.first();
        let dispatched = self.queue.dispatch_along();
        assert_eq!(dispatched.map(|(job, _)| job), first);
        if let Some((job, ticket)) = dispatched {
            self.leaves(job, ticket);
            self.along.push((job, ticket));
        }
    }

    fn leaves(&mut self, job: JobId, ticket: Ticket) {
        assert!(self.may_run(job), "a paused job runs");
        let first = self.waiting.iter().position(|&(owner, _)| owner == job);
        let (_, oldest) = self.waiting.remove(first.expect("it waited"));
        assert_eq!(oldest, ticket, "requests of a job keep their order");
    }

    fn check(&mut self) {
        assert!(
            self.queue.virtual_time() >= self.virtual_time,
            "virtual time goes back"
        );
        self.virtual_time = self.queue.virtual_time();
        assert_eq!(self.queue.in_flight(), self.running.len());
        assert!(self.running.len() <= self.queue.depth());
        assert!(
            self.running
                .iter()
                .chain(&self.along)
                .all(|&(_, ticket)| self.queue.is_in_flight(ticket))
        );
    }

    /// Everything that may run does, and then nothing is left of it.
    fn drain(&mut self) {
        loop {
            self.dispatch();
            if let Some((_, ticket)) = self.along.pop().or_else(|| self.running.pop()) {
                self.queue.complete(ticket, 1);
            } else {
                break;
            }
        }
        assert!(self.waiting.iter().all(|&(job, _)| !self.may_run(job)));
        assert_eq!(self.queue.in_flight(), 0);
    }
}
