//! Leases between real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ekya_actors::{Device, Grant, GrantError, JobHandle, LeaseError};
use ekya_sched::Share;

fn grant(job: &JobHandle, micro: u32) -> Grant {
    Grant {
        job: job.id(),
        share: Share::from_micro(micro),
        term: 0,
        sequence: 1,
        expires: None,
    }
}

/// Keeps a core busy.
fn spin(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn wait_until(what: impl Fn() -> bool) {
    while !what() {
        thread::yield_now();
    }
}

/// Runs always-busy jobs with these shares and minibatch lengths until `enough` minibatches are
/// done; returns the parts of the device's busy time.
fn parts(shares: &[(u32, u64)], enough: u64) -> Vec<f64> {
    let device = Device::new("cpu0", 1);
    let jobs: Vec<_> = shares
        .iter()
        .map(|_| Arc::new(device.job("busy")))
        .collect();
    let total = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = jobs
        .iter()
        .zip(shares)
        .map(|(job, &(_, micros))| {
            let (job, total) = (Arc::clone(job), Arc::clone(&total));
            thread::spawn(move || {
                let mut lease = job.lease().expect("the device is open");
                while total.fetch_add(1, Ordering::Relaxed) < enough {
                    spin(Duration::from_micros(micros));
                    lease = lease.renew().expect("the device is open");
                }
            })
        })
        .collect();
    let plan: Vec<_> = jobs
        .iter()
        .zip(shares)
        .map(|(job, &(share, _))| grant(job, share))
        .collect();
    device.grant_all(&plan).expect("the shares fit");
    // The threads end within a minibatch of each other.
    for thread in threads {
        thread.join().expect("the thread ends");
    }
    let busy: Vec<_> = device
        .usage()
        .iter()
        .map(|job| job.busy.as_secs_f64())
        .collect();
    let sum: f64 = busy.iter().sum();
    busy.into_iter().map(|busy| busy / sum).collect()
}

#[test]
fn busy_jobs_get_their_shares() {
    let parts = parts(&[(700_000, 2_000), (300_000, 2_000)], 600);
    assert!((parts[0] - 0.7).abs() < 0.05, "{parts:?}");
}

#[test]
fn shares_are_of_time_not_of_minibatches() {
    let parts = parts(&[(500_000, 500), (250_000, 5_000), (250_000, 2_000)], 900);
    assert!((parts[0] - 0.5).abs() < 0.06, "{parts:?}");
    assert!((parts[1] - 0.25).abs() < 0.06, "{parts:?}");
}

#[test]
fn a_paused_job_runs_after_a_grant() {
    let device = Device::new("cpu0", 1);
    let job = Arc::new(device.job("paused"));
    let ran = Arc::new(AtomicBool::new(false));
    let thread = {
        let (job, ran) = (Arc::clone(&job), Arc::clone(&ran));
        thread::spawn(move || {
            let lease = job.lease();
            ran.store(true, Ordering::SeqCst);
            lease.map(drop)
        })
    };
    let soon = Instant::now() + Duration::from_millis(20);
    assert_eq!(job.lease_by(soon).map(drop), Err(LeaseError::Deadline));
    assert!(!ran.load(Ordering::SeqCst), "a job without a share ran");
    device.grant(grant(&job, 1)).expect("the share fits");
    assert_eq!(thread.join().expect("the thread ends"), Ok(()));
    assert_eq!(job.usage().minibatches, 1);
    assert!(job.usage().waited > Duration::ZERO);
}

#[test]
fn closing_wakes_a_waiter() {
    let device = Device::new("cpu0", 1);
    let (first, second) = (device.job("first"), Arc::new(device.job("second")));
    device
        .grant_all(&[grant(&first, 1), grant(&second, 1)])
        .expect("the shares fit");
    let lease = first.lease().expect("the device is idle");
    let waiter = {
        let second = Arc::clone(&second);
        thread::spawn(move || second.lease().map(drop))
    };
    device.close();
    assert_eq!(
        waiter.join().expect("the thread ends"),
        Err(LeaseError::Closed)
    );
    assert_eq!(first.lease().map(drop), Err(LeaseError::Closed));
    drop(lease);
    assert_eq!(
        first.usage().minibatches,
        1,
        "a lease that is out is still charged"
    );
}

#[test]
fn stopping_a_job_wakes_its_waiters_only() {
    let device = Device::new("cpu0", 1);
    let (stopped, other) = (Arc::new(device.job("stopped")), device.job("other"));
    device
        .grant(grant(&other, 500_000))
        .expect("the share fits");
    let waiter = {
        let stopped = Arc::clone(&stopped);
        thread::spawn(move || stopped.lease().map(drop))
    };
    stopped.stop();
    assert_eq!(
        waiter.join().expect("the thread ends"),
        Err(LeaseError::Stopped)
    );
    assert_eq!(other.lease().map(drop), Ok(()));
}

#[test]
fn a_lapsed_grant_pauses_and_frees_its_share() {
    let device = Device::new("cpu0", 1);
    let (lapsing, other) = (device.job("lapsing"), device.job("other"));
    let expires = Instant::now() + Duration::from_millis(5);
    let whole = Grant {
        expires: Some(expires),
        ..grant(&lapsing, 1_000_000)
    };
    device.grant(whole).expect("the share fits");
    assert_eq!(lapsing.lease().map(drop), Ok(()));
    wait_until(|| Instant::now() >= expires);
    let soon = Instant::now() + Duration::from_millis(1);
    assert_eq!(lapsing.lease_by(soon).map(drop), Err(LeaseError::Deadline));
    assert_eq!(lapsing.usage().share, Share::ZERO);
    device
        .grant(grant(&other, 1_000_000))
        .expect("the share is free again");
    assert_eq!(device.grant(whole), Err(GrantError::Expired(lapsing.id())));
}

#[test]
fn grants_are_refused_whole() {
    let device = Device::new("cpu0", 1);
    let (first, second) = (device.job("first"), device.job("second"));
    let newer = |job: &JobHandle, micro| Grant {
        sequence: 7,
        ..grant(job, micro)
    };
    device
        .grant_all(&[newer(&first, 600_000), newer(&second, 400_000)])
        .expect("exactly one device");
    let refused = |plan: &[Grant]| {
        let before = device.usage();
        let error = device.grant_all(plan).expect_err("the plan cannot be");
        assert_eq!(device.usage(), before, "a refused plan changed something");
        error
    };
    let over = refused(&[newer(&first, 600_001)]);
    assert_eq!(
        over,
        GrantError::OverCapacity {
            total: 1_000_001,
            capacity: 1_000_000
        }
    );
    let stale = refused(&[newer(&second, 0), grant(&first, 0)]);
    assert_eq!(
        stale,
        GrantError::Stale {
            job: first.id(),
            sequence: 1,
            newest: 7
        }
    );
    // Capacity counts on the result, in whatever order the plan names the jobs.
    device
        .grant_all(&[newer(&first, 900_000), newer(&second, 100_000)])
        .expect("fits");
    let gone = second.id();
    drop(second);
    let unknown = refused(&[
        newer(&first, 0),
        Grant {
            job: gone,
            ..newer(&first, 1)
        },
    ]);
    assert_eq!(unknown, GrantError::UnknownJob(gone));
    device
        .grant(newer(&first, 1_000_000))
        .expect("a dropped job frees its share");
}

#[test]
fn a_leader_that_was_replaced_grants_nothing() {
    let device = Device::new("cpu0", 1);
    let (first, second) = (device.job("first"), device.job("second"));
    let of = |job: &JobHandle, term, sequence, micro| Grant {
        term,
        sequence,
        ..grant(job, micro)
    };
    device.grant(of(&first, 3, 9, 100_000)).expect("fits");
    // Term and sequence count in this order: a new leader begins its own sequence.
    device.grant(of(&first, 4, 1, 200_000)).expect("fits");
    let old = |job: &JobHandle| GrantError::OldTerm {
        job: job.id(),
        term: 3,
        newest: 4,
    };
    assert_eq!(device.grant(of(&first, 3, 10, 1)), Err(old(&first)));
    // Of the device, not of the job: it has heard of the new leader, whomever that granted.
    assert_eq!(device.grant(of(&second, 3, 1, 1)), Err(old(&second)));
    assert_eq!(
        old(&first).to_string(),
        format!(
            "the grant for {} is of term 3, and the device has seen term 4",
            first.id()
        )
    );
    // Also from a plan that it refuses.
    let over = device.grant(of(&second, 5, 1, 1_000_000));
    assert!(
        matches!(over, Err(GrantError::OverCapacity { .. })),
        "{over:?}"
    );
    let replaced = device.grant(of(&first, 4, 2, 1));
    assert!(
        matches!(replaced, Err(GrantError::OldTerm { newest: 5, .. })),
        "{replaced:?}"
    );
    assert_eq!(first.usage().share, Share::from_micro(200_000));
}

#[test]
fn of_a_job_named_twice_the_last_grant_counts_and_must_not_be_older() {
    let device = Device::new("cpu0", 1);
    let job = device.job("twice");
    let numbered = |sequence, micro| Grant {
        sequence,
        ..grant(&job, micro)
    };
    // Together more than the device, but they do not count together.
    device
        .grant_all(&[numbered(1, 900_000), numbered(2, 300_000)])
        .expect("the last one fits");
    assert_eq!(job.usage().share, Share::from_micro(300_000));
    let stale = GrantError::Stale {
        job: job.id(),
        sequence: 3,
        newest: 4,
    };
    let backwards = device.grant_all(&[numbered(4, 1), numbered(3, 2)]);
    assert_eq!(backwards, Err(stale));
    assert_eq!(job.usage().share, Share::from_micro(300_000));
}

#[test]
fn a_share_beyond_the_device_is_refused_and_one_of_zero_pauses() {
    let device = Device::new("cpu0", 1);
    let job = device.job("job");
    for micro in [1_000_001, u32::MAX] {
        let over = GrantError::OverCapacity {
            total: u64::from(micro),
            capacity: 1_000_000,
        };
        assert_eq!(device.grant(grant(&job, micro)), Err(over));
    }
    device.grant(grant(&job, 1_000_000)).expect("all of it");
    let lease = job.lease().expect("the device is idle");
    device.grant(grant(&job, 0)).expect("a pause");
    assert_eq!(device.free(), Share::WHOLE);
    drop(lease);
    assert_eq!(job.usage().minibatches, 1, "what runs is let run");
    let past = Instant::now();
    assert_eq!(job.lease_by(past).map(drop), Err(LeaseError::Deadline));
}

#[test]
fn a_grant_for_a_job_of_another_device_is_refused() {
    let (one, other) = (Device::new("gpu0", 1), Device::new("gpu1", 1));
    let (here, there) = (one.job("here"), other.job("there"));
    assert_eq!(
        one.grant(grant(&there, 1)),
        Err(GrantError::UnknownJob(there.id()))
    );
    assert_eq!(here.usage().share, Share::ZERO);
}

#[test]
fn what_one_leaves_unused_the_other_gets() {
    let device = Device::new("cpu0", 1);
    let (small, idle) = (device.job("small"), device.job("idle"));
    device
        .grant_all(&[grant(&small, 10_000), grant(&idle, 990_000)])
        .expect("the shares fit");
    let start = Instant::now();
    for _ in 0..50 {
        let lease = small.lease().expect("the device is open");
        spin(Duration::from_millis(1));
        drop(lease);
    }
    // Held to its share it would have taken 5 s.
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(small.usage().waited < Duration::from_secs(1));
}

#[test]
fn alone_a_lease_is_renewed_at_once_and_otherwise_goes_on() {
    let device = Device::new("cpu0", 1);
    let job = device.job("training");
    let other = Arc::new(device.job("inference"));
    let plan = [grant(&job, 500_000), grant(&other, 500_000)];
    device.grant_all(&plan).unwrap();
    let lease = job.lease().unwrap();
    let lease = lease.renew_alone().expect("nobody waits");
    assert_eq!(job.usage().minibatches, 1);

    let waiter = {
        let other = Arc::clone(&other);
        thread::spawn(move || other.lease().map(drop))
    };
    // Until the other waits.
    let (mut lease, mut renewals) = (lease, 1);
    let lease = loop {
        match lease.renew_alone() {
            Ok(next) => (lease, renewals) = (next, renewals + 1),
            Err(same) => break same,
        }
    };
    assert_eq!(job.usage().minibatches, renewals);
    assert_eq!(other.usage().minibatches, 0);
    drop(lease.renew().expect("after the other"));
    assert_eq!(waiter.join().expect("the thread ends"), Ok(()));

    let lease = job.lease().unwrap();
    device
        .grant(Grant {
            sequence: 2,
            ..grant(&job, 0)
        })
        .unwrap();
    drop(lease.renew_alone().expect_err("it is paused"));
}

#[test]
fn renewing_after_the_end_is_an_error_and_charges_the_minibatch() {
    let device = Device::new("cpu0", 1);
    let (ended, dropped) = (device.job("ended"), device.job("dropped"));
    device
        .grant_all(&[grant(&ended, 1), grant(&dropped, 1)])
        .expect("the shares fit");
    let lease = ended.lease().expect("the device is idle");
    ended.stop();
    assert_eq!(lease.renew().map(drop), Err(LeaseError::Stopped));
    assert_eq!(ended.usage().minibatches, 1);
    let lease = dropped.lease().expect("the device is idle");
    drop(dropped);
    assert_eq!(lease.renew().map(drop), Err(LeaseError::Stopped));
    device.grant(grant(&ended, 1_000_000)).expect("all is free");
}

#[test]
fn never_more_than_depth_at_a_time() {
    for depth in [1, 3] {
        let device = Device::new("cpu0", depth);
        let (inside, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let job = device.job("crowd");
                    device.grant(grant(&job, 100_000)).expect("six tenths fit");
                    for _ in 0..50 {
                        let lease = job.lease().expect("the device is open");
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        spin(Duration::from_micros(100));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lease);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= depth as u64);
        assert!(device.usage().is_empty(), "dropped handles leave nothing");
    }
}

/// A device of one slot and jobs with these shares that ask for their turns.
fn asking(shares: &[u32]) -> (Device, Vec<JobHandle>) {
    let device = Device::new("cpu0", 1);
    let jobs: Vec<_> = shares.iter().map(|_| device.job("asks")).collect();
    let plan: Vec<_> = jobs
        .iter()
        .zip(shares)
        .map(|(job, &share)| grant(job, share))
        .collect();
    device.grant_all(&plan).expect("the shares fit");
    (device, jobs)
}

#[test]
fn one_thread_takes_the_turns_of_several_jobs() {
    let (device, jobs) = asking(&[1, 1, 1, 1]);
    let busy = jobs[3].lease().expect("the device is idle");
    for job in &jobs[..2] {
        // However often it asks, it waits once.
        job.ask();
        job.ask();
    }
    drop(busy);
    let turn = || device.turn().map(|lease| lease.job());
    assert_eq!([turn(), turn()], [Ok(jobs[0].id()), Ok(jobs[1].id())]);
    jobs[2].ask();
    assert_eq!(turn(), Ok(jobs[2].id()), "nobody else has asked for more");
    let minibatches: Vec<_> = jobs.iter().map(|job| job.usage().minibatches).collect();
    assert_eq!(minibatches, [1, 1, 1, 1]);
}

#[test]
fn a_thread_that_waits_for_any_turn_is_woken_by_who_asks() {
    let (device, jobs) = asking(&[1, 0]);
    let first = jobs[0].lease().expect("the device is idle");
    let waiter = {
        let device = device.clone();
        thread::spawn(move || device.turn().map(|lease| lease.job()))
    };
    // Asked for while the device is taken and the job is paused.
    jobs[1].ask();
    drop(first);
    device.grant(grant(&jobs[1], 1)).expect("the share fits");
    assert_eq!(waiter.join().expect("the thread ends"), Ok(jobs[1].id()));
}

#[test]
fn jobs_of_one_thread_get_their_shares_beside_one_that_has_its_own() {
    let (device, jobs) = asking(&[500_000, 200_000, 300_000]);
    let [large, small, training] = [0, 1, 2].map(|job| &jobs[job]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut lease = training.lease();
            while let Ok(held) = lease {
                spin(Duration::from_millis(2));
                lease = held.renew();
            }
        });
        large.ask();
        small.ask();
        for _ in 0..1_000 {
            let lease = device.turn().expect("the device is open");
            let (job, time) = if lease.job() == large.id() {
                (large, Duration::from_micros(500))
            } else {
                (small, Duration::from_millis(1))
            };
            // Before the lease ends: another frame waits.
            job.ask();
            spin(time);
        }
        device.close();
    });
    let busy: Vec<_> = jobs
        .iter()
        .map(|job| job.usage().busy.as_secs_f64())
        .collect();
    let all: f64 = busy.iter().sum();
    for (busy, share) in busy.iter().zip([0.5, 0.2, 0.3]) {
        // In turns with the training they would have a quarter of the device together, not seven tenths.
        assert!((busy / all - share).abs() < 0.12, "{busy} s of {all}");
    }
}

#[test]
fn who_is_taken_along_pays_its_part() {
    let (device, jobs) = asking(&[300_000, 300_000, 300_000]);
    let [lead, along, paused] = [0, 1, 2].map(|job| &jobs[job]);
    device.grant(grant(paused, 0)).expect("a pause");
    for job in [lead, along, paused] {
        job.ask();
    }
    let mut lease = device.turn().expect("the device is open");
    assert_eq!(lease.job(), lead.id());
    assert_eq!(device.next_asking(), Some(along.id()));
    assert!(!lease.take_along(paused.id()), "it is not its turn");
    assert!(lease.take_along(along.id()));
    assert!(!lease.take_along(along.id()), "it has not asked again");
    assert_eq!(device.next_asking(), None);
    lease.set_parts(lead.id(), 3);
    assert_eq!(along.usage().minibatches, 0, "it still runs");
    spin(Duration::from_micros(10));
    drop(lease);
    let [three, one] = [lead, along].map(|job| job.usage().busy.as_nanos());
    assert!(three.abs_diff(3 * one) <= 3, "{three} and {one} ns");
    assert_eq!(along.usage().minibatches, 1);
    // The device is free again, and only once.
    lead.ask();
    along.ask();
    let lease = device.turn().expect("the device is open");
    assert!(device.next_asking().is_some());
    drop(lease);
}

#[test]
fn nobody_is_passed_over_for_who_is_taken_along() {
    let (device, jobs) = asking(&[1, 300_000, 300_000]);
    let [before, lead, behind] = [0, 1, 2].map(|job| &jobs[job]);
    lead.ask();
    let mut lease = device.turn().expect("the device is open");
    behind.ask();
    assert_eq!(device.next_asking(), Some(behind.id()));
    thread::scope(|scope| {
        let own = scope.spawn(|| before.lease().map(drop));
        // Of those that begin level, the one that was registered first comes first.
        wait_until(|| device.next_asking().is_none());
        assert!(!lease.take_along(behind.id()));
        drop(lease);
        assert_eq!(own.join().expect("the thread ends"), Ok(()));
    });
    assert_eq!(device.turn().map(|lease| lease.job()), Ok(behind.id()));
}

#[test]
fn what_is_asked_for_ends_with_its_job_and_with_the_device() {
    let (device, mut jobs) = asking(&[1, 1, 1]);
    for job in &jobs {
        job.ask();
    }
    // The first one's turn has come, and nobody has taken it yet.
    drop(jobs.remove(0));
    jobs[0].stop();
    assert_eq!(device.turn().map(|lease| lease.job()), Ok(jobs[1].id()));
    jobs[0].ask();
    assert_eq!(device.next_asking(), None, "a stopped job asks for nothing");
    let waiter = {
        let device = device.clone();
        thread::spawn(move || device.turn().map(drop))
    };
    device.close();
    assert_eq!(
        waiter.join().expect("the thread ends"),
        Err(LeaseError::Closed)
    );
    jobs[1].ask();
    assert_eq!(device.turn().map(drop), Err(LeaseError::Closed));
}
