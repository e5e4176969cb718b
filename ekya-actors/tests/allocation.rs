//! What runs at every minibatch allocates nothing, once it has run for a while.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use ekya_actors::sfq::Sfq;
use ekya_actors::{Device, Grant, JobHandle};
use ekya_sched::Share;
use parking_lot::{Condvar, Mutex};

thread_local! {
    /// Allocations of this thread: what other tests and the harness do is no matter.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

// The trait is unsafe to implement; every call is the system allocator's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn the_queue_allocates_nothing() {
    let mut queue = Sfq::new(4);
    let jobs: Vec<_> = (0..100).map(|_| queue.add()).collect();
    for (number, &job) in (0..).zip(&jobs) {
        queue.set_weight(job, Share::from_micro(1_000 + number));
        queue.enqueue(job);
    }
    let mut run = |turns: u64| {
        for turn in 0..turns {
            let (job, ticket) = queue.dispatch().expect("all of them wait");
            queue.enqueue(job);
            queue.complete(ticket, 1_000_000 + turn * 7919 % 1_000_003);
            // Jobs pause and change, and requests are taken back.
            let other = jobs[turn as usize % jobs.len()];
            let weight = turn as u32 % 3 * 1_000;
            queue.set_weight(other, Share::from_micro(weight));
            let taken_back = queue.enqueue(other).expect("a job of the queue");
            assert!(queue.cancel(taken_back));
        }
    };
    run(1_000);
    assert_eq!(allocations(|| run(10_000)), 0);
}

/// A device on which many are registered, all of whose grants lapse some day.
fn device() -> (Device, Vec<JobHandle>) {
    let device = Device::new("cpu0", 2);
    let jobs: Vec<_> = (0..100).map(|_| device.job("job")).collect();
    for job in &jobs {
        let grant = Grant {
            job: job.id(),
            share: Share::from_micro(10_000),
            term: 0,
            sequence: 0,
            expires: Some(Instant::now() + Duration::from_secs(3600)),
        };
        device.grant(grant).expect("a hundredth each");
    }
    (device, jobs)
}

#[test]
fn leases_allocate_nothing() {
    let (_device, jobs) = device();
    let run = |turns: usize| {
        let mut lease = jobs[0].lease().expect("the device is open");
        for turn in 0..turns {
            lease = lease.renew().expect("the device is open");
            let other = &jobs[1 + turn % (jobs.len() - 1)];
            drop(other.lease().expect("there is room for two"));
        }
    };
    run(1_000);
    assert_eq!(allocations(|| run(10_000)), 0);
}

#[test]
fn turns_of_many_jobs_allocate_nothing() {
    let (device, jobs) = device();
    let run = |turns: usize| {
        for turn in 0..turns {
            for job in 0..4 {
                jobs[(turn + job) % jobs.len()].ask();
            }
            for _ in 0..2 {
                let mut lease = device.turn().expect("the device is open");
                if let Some(next) = device.next_asking() {
                    lease.set_parts(lease.job(), 3);
                    assert!(lease.take_along(next));
                }
            }
        }
    };
    run(1_000);
    assert_eq!(allocations(|| run(10_000)), 0);
}

#[test]
fn waiting_for_a_turn_allocates_nothing() {
    let (_device, jobs) = device();
    let run = |job: &JobHandle, turns: usize| {
        let mut lease = job.lease().expect("the device is open");
        for _ in 0..turns {
            lease = lease.renew().expect("the device is open");
        }
    };
    // Three threads on a device that has room for two.
    std::thread::scope(|scope| {
        for job in &jobs[..3] {
            scope.spawn(|| {
                // What a thread's first wait makes, for itself and for good, whoever it is that waits.
                let first = Mutex::new(());
                Condvar::new().wait_until(&mut first.lock(), Instant::now());
                run(job, 1_000);
                assert_eq!(allocations(|| run(job, 1_000)), 0);
            });
        }
    });
}
