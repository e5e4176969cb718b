//! The source thread of a stream: takes frames from the source, at their times, into the intake.

use std::time::{Duration, Instant};

use crate::source::{Source, StopFlag};
use crate::stream::Intake;

/// A source that begins so soon after the run has begun with it.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How often waiting for a frame's time looks at the stop flag.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Feeds `intake` until the source ends or `stop` is set. Recorded frames are handed over when
/// `start + at * slowdown` has come, where `at` counts from when the feeding began, live ones when they
/// come. Frames from before `age`, in the source's own time, are left out. Returns why the source failed.
pub(super) fn feed(
    source: &mut dyn Source,
    slowdown: f64,
    intake: &Intake,
    start: Instant,
    age: Duration,
    stop: &StopFlag,
) -> Option<String> {
    if let Err(error) = source.skip_to(age, stop) {
        return Some(error.to_string());
    }
    // What is there from the beginning goes by the run's own seconds, so that equal runs are equal.
    let begun = start.elapsed();
    let begun = if begun < AT_ONCE {
        Duration::ZERO
    } else {
        begun
    };
    while !stop.is_set() {
        match source.next_frame() {
            Ok(Some(frame)) => {
                let at = if source.is_live() {
                    start.elapsed()
                } else {
                    // By its own time, so that equal runs sample equal frames.
                    let at = begun + frame.at.saturating_sub(age).mul_f64(slowdown);
                    wait_until(start + at, stop);
                    at
                };
                intake.push(frame, at.as_secs_f64());
            }
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

fn wait_until(due: Instant, stop: &StopFlag) {
    while !stop.is_set() {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(STOP_CHECK));
    }
}
