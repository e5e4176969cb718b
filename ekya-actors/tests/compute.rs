//! Compute threads: bounded, ordered, not ended by a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use ekya_actors::{Compute, ComputeError, SubmitError};

/// Long enough for anything on a busy machine, and never waited out by a test that passes.
const LONG: Duration = Duration::from_secs(20);

/// Occupies the thread; returns what lets it go when dropped.
fn block(compute: &Compute) -> Sender<()> {
    let (release, end): (_, Receiver<()>) = bounded(0);
    let (begin, begun) = bounded(1);
    let work = move || {
        begin.send(()).expect("the test waits");
        // Disconnected is the signal.
        let _ = end.recv();
    };
    compute.submit(work).expect("the queue has room");
    begun.recv_timeout(LONG).expect("the thread runs");
    release
}

#[test]
fn a_panic_is_an_error_with_its_text() {
    let compute = Compute::start("compute", 4).expect("a thread can be started");
    let (tell, results) = bounded(4);
    for number in 0..3 {
        let tell = tell.clone();
        let work = move || {
            assert!(number != 1, "number {number}");
            number
        };
        compute
            .run(work, move |result| drop(tell.send(result)))
            .expect("room");
    }
    let results: Vec<_> = results.iter().take(3).collect();
    let panicked = Err(ComputeError::Panicked("number 1".to_owned()));
    assert_eq!(results, [Ok(0), panicked, Ok(2)]);
}

#[test]
fn the_queue_is_bounded() {
    let compute = Compute::start("compute", 3).expect("a thread can be started");
    let release = block(&compute);
    let done = Arc::new(AtomicU32::new(0));
    let accepted = (0..10).filter(|_| {
        let done = Arc::clone(&done);
        compute
            .submit(move || {
                done.fetch_add(1, Ordering::SeqCst);
            })
            .is_ok()
    });
    assert_eq!(accepted.count(), 3);
    let full = SubmitError::Overloaded("compute".to_owned());
    assert_eq!(compute.submit(|| ()), Err(full));
    drop(release);
    drop(compute);
    assert_eq!(
        done.load(Ordering::SeqCst),
        3,
        "dropping waits for what is queued"
    );
}

#[test]
fn what_has_not_begun_at_the_deadline_is_abandoned() {
    let mut compute = Compute::start("compute", 3).expect("a thread can be started");
    let release = block(&compute);
    let (tell, result) = bounded(1);
    compute
        .run(|| 1, move |result| drop(tell.send(result)))
        .expect("the queue has room");
    assert!(!compute.stop(Duration::from_millis(5)));
    let stopped = SubmitError::Stopped("compute".to_owned());
    assert_eq!(compute.submit(|| ()), Err(stopped));
    drop(release);
    assert_eq!(result.recv_timeout(LONG), Ok(Err(ComputeError::Abandoned)));
    assert!(compute.stop(LONG));
}

#[test]
fn work_may_drop_its_own_thread() {
    let compute = Compute::start("compute", 3).expect("a thread can be started");
    let (hand, taken) = bounded::<Compute>(1);
    let (tell, done) = bounded(1);
    let own = move || {
        drop(taken.recv());
        tell.send(()).expect("the test waits");
    };
    compute.submit(own).expect("the queue has room");
    hand.send(compute).expect("the work waits");
    assert_eq!(done.recv_timeout(LONG), Ok(()));
}
