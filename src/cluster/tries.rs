//! When something that could not be done with a stream is tried again, and when no longer. Without a clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::messages::Refusal;

/// After a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// So often that time is doubled.
const LONGEST_PAUSE: u32 = 4;
/// A stream whose other node is busy with it is offered again after half to all of this. Two that are busy
/// with offering it to each other would refuse each other for ever, if both waited equally long.
const RETRY_BUSY: Duration = Duration::from_secs(1);
/// A stream that runs elsewhere, too, is kept so long for what it has learnt.
const YIELD_WITHIN: Duration = Duration::from_secs(8);

/// What is done with a stream. When one of them fails, the other need not wait: what could not be copied
/// can be given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
    /// A copy of it is made, or taken.
    Copy,
    /// It begins or ends here.
    Move,
}

/// What has failed.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failed: BTreeMap<(String, Activity), Failed>,
    /// Streams that are to be given up, since when.
    yields: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Failed {
    times: u32,
    again: Instant,
}

impl Tries {
    /// Whether it may be tried now.
    pub(super) fn is_due(&self, stream: &str, activity: Activity, now: Instant) -> bool {
        let failed = self.failed.get(&(stream.to_owned(), activity));
        failed.is_none_or(|failed| failed.again <= now)
    }

    /// It was done.
    pub(super) fn succeeded(&mut self, stream: &str, activity: Activity) {
        self.failed.remove(&(stream.to_owned(), activity));
    }

    /// It was not done; when it is tried again. `chance` is a random number from 0 to 1.
    pub(super) fn failed(
        &mut self,
        (stream, activity): (&str, Activity),
        why: &Refusal,
        now: Instant,
        chance: f64,
    ) -> Duration {
        let key = (stream.to_owned(), activity);
        let times = self.failed.get(&key).map_or(0, |failed| failed.times);
        let (times, pause) = match (why, activity) {
            (Refusal::Busy, Activity::Move) => (times, RETRY_BUSY.mul_f64(0.5 + 0.5 * chance)),
            // Nobody waits for a copy, and whoever makes one is busy.
            (Refusal::Busy, Activity::Copy) => (times, RETRY),
            (Refusal::Failed(_), _) => (times + 1, RETRY * 2_u32.pow(times.min(LONGEST_PAUSE))),
        };
        let again = now + pause;
        self.failed.insert(key, Failed { times, again });
        pause
    }

    /// A stream is to be given up that runs elsewhere, too; whether that is to be done in any case now,
    /// with or without what it has learnt here.
    pub(super) fn yields_in_any_case(&mut self, stream: &str, now: Instant) -> bool {
        let since = *self.yields.entry(stream.to_owned()).or_insert(now);
        now.duration_since(since) >= YIELD_WITHIN
    }

    /// It was given up.
    pub(super) fn yielded(&mut self, stream: &str) {
        self.yields.remove(stream);
    }

    /// Another one leads, who may order something else.
    pub(super) fn forget_yields(&mut self) {
        self.yields.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Refusal {
        Refusal::Failed("the disk is full".to_owned())
    }

    const COPY: (&str, Activity) = ("gate", Activity::Copy);

    #[test]
    fn pauses_double_and_end_with_success() {
        let (mut tries, mut now) = (Tries::default(), Instant::now());
        for seconds in [5, 10, 20, 40, 80, 80] {
            assert!(tries.is_due("gate", Activity::Copy, now));
            let pause = tries.failed(COPY, &failed(), now, 0.5);
            assert_eq!(pause, Duration::from_secs(seconds));
            assert!(!tries.is_due("gate", Activity::Copy, now));
            now += pause;
        }
        tries.succeeded("gate", Activity::Copy);
        assert_eq!(tries.failed(COPY, &failed(), now, 0.5), RETRY);
    }

    #[test]
    fn a_busy_node_is_asked_again_soon_and_not_at_the_same_time() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let moved = ("gate", Activity::Move);
        for chance in [0.0, 1.0, 0.0] {
            let pause = tries.failed(moved, &Refusal::Busy, now, chance);
            assert_eq!(pause, RETRY_BUSY.mul_f64(0.5 + 0.5 * chance));
            assert_eq!(tries.failed(COPY, &Refusal::Busy, now, chance), RETRY);
        }
        // It is no failure.
        assert_eq!(tries.failed(moved, &failed(), now, 0.0), RETRY);
    }

    #[test]
    fn what_could_not_be_copied_can_be_moved() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        tries.failed(COPY, &failed(), now, 0.0);
        assert!(!tries.is_due("gate", Activity::Copy, now));
        assert!(tries.is_due("gate", Activity::Move, now));
        assert!(tries.is_due("yard", Activity::Copy, now));
    }

    #[test]
    fn what_runs_elsewhere_is_given_up_in_the_end() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        assert!(!tries.yields_in_any_case("gate", now));
        let just_before = now + YIELD_WITHIN - Duration::from_millis(1);
        assert!(!tries.yields_in_any_case("gate", just_before));
        assert!(tries.yields_in_any_case("gate", now + YIELD_WITHIN));
        tries.yielded("gate");
        assert!(!tries.yields_in_any_case("gate", now + YIELD_WITHIN));
        tries.forget_yields();
        assert!(!tries.yields_in_any_case("gate", now + 2 * YIELD_WITHIN));
    }
}
