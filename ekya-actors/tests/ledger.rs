//! Properties of a device's books, on virtual time: whatever is called in whatever order, they say what
//! the simplest books would say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ekya_actors::ledger::Ledger;
use ekya_actors::sfq::Ticket;
use ekya_actors::{Grant, GrantError, JobId};
use ekya_sched::Share;
use proptest::prelude::*;

/// A call on the books; numbers of jobs and requests are taken modulo what there is.
#[derive(Debug, Clone)]
enum Call {
    Register,
    Remove(usize),
    /// Several grants together.
    Grant(Vec<Wish>),
    Request(usize),
    Withdraw(usize),
    Start,
    /// Along with one that runs.
    StartAlong(usize),
    Parts(usize, u32),
    End(usize),
    Pass(u64),
}

/// A grant to be.
#[derive(Debug, Clone)]
struct Wish {
    job: usize,
    micro: u32,
    term: u64,
    sequence: u64,
    /// In milliseconds from now on; a lapsed one at zero.
    lasts: Option<u64>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let micro =
        prop_oneof![2 => Just(0), 8 => 1_u32..500_000, 1 => Just(1_000_000), 1 => Just(u32::MAX)];
    let term = prop_oneof![20 => Just(0_u64), 1 => 0_u64..4];
    let lasts = prop::option::of(0_u64..200);
    (any::<usize>(), micro, term, 0_u64..3, lasts).prop_map(
        |(job, micro, term, sequence, lasts)| Wish {
            job,
            micro,
            term,
            sequence,
            lasts,
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        2 => Just(Call::Register),
        1 => any::<usize>().prop_map(Call::Remove),
        6 => prop::collection::vec(wish(), 1..4).prop_map(Call::Grant),
        6 => any::<usize>().prop_map(Call::Request),
        1 => any::<usize>().prop_map(Call::Withdraw),
        8 => Just(Call::Start),
        3 => any::<usize>().prop_map(Call::StartAlong),
        2 => (any::<usize>(), prop_oneof![0_u32..5, Just(u32::MAX)])
            .prop_map(|(number, parts)| Call::Parts(number, parts)),
        6 => any::<usize>().prop_map(Call::End),
        3 => (0_u64..100).prop_map(Call::Pass),
    ]
}

/// A job in the simplest books.
#[derive(Debug, Clone, Default)]
struct Job {
    micro: u32,
    newest: (u64, u64),
    expires: Option<Instant>,
    busy: Duration,
}

struct Model {
    ledger: Ledger,
    depth: usize,
    now: Instant,
    term: u64,
    /// Grows by every grant, so that most of them are newer than the last.
    sequence: u64,
    jobs: BTreeMap<JobId, Job>,
    waiting: Vec<(JobId, Ticket)>,
    running: Vec<Pass>,
}

/// What runs together: the first one leads.
struct Pass {
    since: Instant,
    of: Vec<(JobId, Ticket, u32)>,
}

impl Model {
    fn new(depth: usize) -> Self {
        Self {
            ledger: Ledger::new(depth),
            depth,
            now: Instant::now(),
            term: 0,
            sequence: 0,
            jobs: BTreeMap::new(),
            waiting: Vec::new(),
            running: Vec::new(),
        }
    }

    fn job(&self, number: usize) -> Option<JobId> {
        let place = number.checked_rem(self.jobs.len())?;
        self.jobs.keys().nth(place).copied()
    }

    /// A job's share now.
    fn micro(&self, job: JobId) -> u32 {
        let job = self.jobs.get(&job).cloned().unwrap_or_default();
        let lapsed = job.expires.is_some_and(|expires| expires <= self.now);
        if lapsed { 0 } else { job.micro }
    }

    fn apply(&mut self, call: Call) {
        match call {
            Call::Register => {
                let job = self.ledger.register("job");
                assert!(
                    self.jobs.insert(job, Job::default()).is_none(),
                    "{job} twice"
                );
            }
            Call::Remove(number) => {
                if let Some(job) = self.job(number) {
                    self.jobs.remove(&job);
                    self.waiting.retain(|&(owner, _)| owner != job);
                    self.ledger.remove(job);
                    assert_eq!(self.ledger.request(job), None, "a removed job asks");
                }
            }
            Call::Grant(wishes) => self.grant(&wishes),
            Call::Request(number) => {
                if let Some(job) = self.job(number) {
                    let ticket = self.ledger.request(job).expect("a registered job");
                    self.waiting.push((job, ticket));
                }
            }
            Call::Withdraw(number) => {
                if let Some(place) = number.checked_rem(self.waiting.len()) {
                    self.ledger.withdraw(self.waiting.remove(place).1);
                }
            }
            Call::Start => self.start(),
            Call::StartAlong(number) => {
                if let Some(place) = number.checked_rem(self.running.len()) {
                    self.start_along(place);
                }
            }
            Call::Parts(number, parts) => {
                if let Some(place) = number.checked_rem(self.running.len()) {
                    self.set_parts(place, number, parts);
                }
            }
            Call::End(number) => {
                if let Some(place) = number.checked_rem(self.running.len()) {
                    self.end(place);
                }
            }
            Call::Pass(ms) => self.now += Duration::from_millis(ms),
        }
    }

    fn grant(&mut self, wishes: &[Wish]) {
        let grants: Vec<Grant> = wishes.iter().filter_map(|wish| self.wished(wish)).collect();
        let outcome = self.ledger.grant(&grants, self.now);
        assert_eq!(outcome, self.outcome(&grants), "{grants:?}");
    }

    fn wished(&mut self, wish: &Wish) -> Option<Grant> {
        self.sequence += 1;
        Some(Grant {
            job: self.job(wish.job)?,
            share: Share::from_micro(wish.micro),
            term: (self.term + wish.term).saturating_sub(1),
            sequence: (self.sequence + wish.sequence).saturating_sub(2),
            expires: wish.lasts.map(|ms| self.now + Duration::from_millis(ms)),
        })
    }

    /// What is to come of grants; takes them over if they are in force.
    fn outcome(&mut self, grants: &[Grant]) -> Result<(), GrantError> {
        let mut jobs = self.jobs.clone();
        for &Grant {
            job,
            share,
            term,
            sequence,
            expires,
        } in grants
        {
            let newest = self.term;
            if term < newest {
                return Err(GrantError::OldTerm { job, term, newest });
            }
            self.term = term;
            let known = jobs.get_mut(&job).expect("a registered job");
            let newest = known.newest.1;
            if (term, sequence) < known.newest {
                return Err(GrantError::Stale {
                    job,
                    sequence,
                    newest,
                });
            }
            if expires.is_some_and(|expires| expires <= self.now) {
                return Err(GrantError::Expired(job));
            }
            let (micro, newest, busy) = (share.micro(), (term, sequence), known.busy);
            *known = Job {
                micro,
                newest,
                expires,
                busy,
            };
        }
        let before = std::mem::replace(&mut self.jobs, jobs);
        let shares = self.jobs.keys().map(|&job| u64::from(self.micro(job)));
        let (total, capacity) = (shares.sum(), 1_000_000);
        if total > capacity {
            self.jobs = before;
            return Err(GrantError::OverCapacity { total, capacity });
        }
        Ok(())
    }

    /// Something starts if and only if there is room and somebody may run, and only who may.
    fn start(&mut self) {
        let room = self.running.len() < self.depth;
        let able = self.waiting.iter().any(|&(job, _)| self.micro(job) > 0);
        let started = self.ledger.start(self.now);
        assert_eq!(started.is_some(), room && able, "work conservation");
        if let Some((job, ticket)) = started {
            assert!(self.micro(job) > 0, "{job} runs without a grant in force");
            self.waiting.retain(|&(_, waiting)| waiting != ticket);
            let (since, of) = (self.now, vec![(job, ticket, 1)]);
            self.running.push(Pass { since, of });
        }
    }

    /// Whoever is next may run along, whether there is room or not.
    fn start_along(&mut self, place: usize) {
        let able = self.waiting.iter().any(|&(job, _)| self.micro(job) > 0);
        let next = self.ledger.first(self.now);
        let (_, lead, _) = self.running[place].of[0];
        let started = self.ledger.start_along(lead, self.now);
        assert_eq!(started.map(|(job, _)| job), next);
        assert_eq!(started.is_some(), able);
        if let Some((job, ticket)) = started {
            assert!(self.micro(job) > 0, "{job} runs without a grant in force");
            self.waiting.retain(|&(_, waiting)| waiting != ticket);
            self.running[place].of.push((job, ticket, 1));
        }
    }

    fn set_parts(&mut self, place: usize, number: usize, parts: u32) {
        let pass = &mut self.running[place].of;
        let (job, lead) = (pass[number % pass.len()].0, pass[0].1);
        self.ledger.set_parts(lead, job, parts);
        if let Some(last) = pass.iter_mut().rev().find(|one| one.0 == job) {
            last.2 = parts;
        }
    }

    /// Each job is charged its part of the time, to a nanosecond for each that it shares it with, and
    /// together they are charged all of it.
    fn end(&mut self, place: usize) {
        let Pass { since, of } = self.running.remove(place);
        let busy = |ledger: &mut Ledger, job| ledger.usage_of(job, self.now).busy;
        let before: Vec<_> = of
            .iter()
            .map(|&(job, ..)| busy(&mut self.ledger, job))
            .collect();
        for &(_, along, _) in &of[1..] {
            self.ledger.end(along, self.now);
        }
        let after_none = of.iter().map(|&(job, ..)| busy(&mut self.ledger, job));
        assert!(after_none.eq(before), "what runs along ends by itself");
        self.ledger.end(of[0].1, self.now);
        let took = self.now - since;
        let all: f64 = of.iter().map(|&(.., parts)| f64::from(parts)).sum();
        let mut charged = BTreeMap::new();
        for &(job, _, parts) in &of {
            *charged.entry(job).or_insert(0.0) += f64::from(parts) / all * took.as_secs_f64();
        }
        let mut total = Duration::ZERO;
        for (job, expected) in charged {
            // A job that was removed is charged nothing.
            let Some(known) = self.jobs.get_mut(&job) else {
                continue;
            };
            let now_busy = self.ledger.usage_of(job, self.now).busy;
            let part = now_busy - known.busy;
            known.busy = now_busy;
            total += part;
            let off = (part.as_secs_f64() - expected).abs();
            assert!(
                all == 0.0 || off < 1e-9 * (of.len() + 1) as f64,
                "{off} s off"
            );
        }
        let gone = of.iter().any(|(job, ..)| !self.jobs.contains_key(job));
        assert!(gone || total == took, "{total:?} of {took:?} charged");
    }

    fn check(&mut self) {
        let usage = self.ledger.usage(self.now);
        let jobs: Vec<JobId> = usage.iter().map(|job| job.job).collect();
        assert_eq!(jobs, self.jobs.keys().copied().collect::<Vec<_>>());
        let mut granted = 0;
        for job in usage {
            assert_eq!(job.share.micro(), self.micro(job.job), "{}", job.job);
            assert_eq!(job.busy, self.jobs[&job.job].busy, "{}", job.job);
            granted += u64::from(job.share.micro());
        }
        let free = self.ledger.free(self.now).micro();
        assert_eq!(granted + u64::from(free), 1_000_000, "capacity");
        for pass in &self.running {
            for &(_, ticket, _) in &pass.of {
                assert_eq!(self.ledger.running_since(ticket), Some(pass.since));
            }
        }
    }

    /// Everything ends, and then nothing is left.
    fn balance(&mut self) {
        while !self.running.is_empty() {
            self.end(0);
        }
        while let Some(job) = self.job(0) {
            self.jobs.remove(&job);
            self.ledger.remove(job);
        }
        assert_eq!(self.ledger.free(self.now), Share::WHOLE);
        assert_eq!(self.ledger.start(self.now), None);
        assert!(self.ledger.usage(self.now).is_empty());
    }
}

proptest! {
    #[test]
    fn the_books_balance(
        depth in 1_usize..4,
        calls in prop::collection::vec(call(), 1..300),
        looks in 1_usize..10,
    ) {
        let mut model = Model::new(depth);
        for (number, call) in calls.into_iter().enumerate() {
            model.apply(call);
            // Not always: nobody need look for a grant to lapse.
            if number % looks == 0 {
                model.check();
            }
        }
        model.check();
        model.balance();
    }
}

#[test]
fn a_grant_that_lapses_while_nobody_calls_starts_nothing_more() {
    let mut ledger = Ledger::new(1);
    let now = Instant::now();
    let at = |ms| now + Duration::from_millis(ms);
    let (lapsing, other) = (ledger.register("lapsing"), ledger.register("other"));
    let grant = |job, expires| Grant {
        job,
        share: Share::from_micro(500_000),
        term: 0,
        sequence: 0,
        expires,
    };
    ledger
        .grant(&[grant(lapsing, Some(at(10))), grant(other, None)], now)
        .expect("both fit");
    let (running, waiting) = (ledger.request(lapsing), ledger.request(lapsing));
    assert_eq!(ledger.start(now).map(|(_, ticket)| ticket), running);
    // Its grant lapses while it runs: it is let run, and charged.
    let behind = ledger.request(other).expect("it is registered");
    ledger.end(running.expect("it is registered"), at(15));
    assert_eq!(
        ledger.usage_of(lapsing, at(15)).busy,
        Duration::from_millis(15)
    );
    // What it has waiting stays, behind everybody, until it is granted something again.
    assert_eq!(ledger.start(at(15)), Some((other, behind)));
    ledger.end(behind, at(20));
    assert_eq!(ledger.start(at(20)), None);
    ledger
        .grant(&[grant(lapsing, Some(at(30)))], at(20))
        .expect("it is free");
    assert_eq!(ledger.start(at(29)).map(|(_, ticket)| ticket), waiting);
}
