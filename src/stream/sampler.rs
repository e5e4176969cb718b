//! Which frames of a window the teacher will label: evenly spread ones, and one burst of
//! consecutive frames on which frame sampling can be profiled.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::intake::Answer;
use crate::source::Frame;

/// A frame picked for labelling, with the answer that was in force at its time.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The frame.
    pub frame: Frame,
    /// Seconds from the start of the run.
    pub at: f64,
    /// When it was taken (Unix seconds), for as long as it is kept.
    pub taken_at: u64,
    /// The answer in force; none before the first.
    pub answer: Option<Arc<Answer>>,
    /// Whether it belongs to the burst of consecutive frames.
    pub burst: bool,
}

/// The times of one window's samples. Time is an argument: the schedule has no clock.
#[derive(Debug, Clone)]
pub struct SampleSchedule {
    spread: Vec<f64>,
    next_spread: usize,
    burst_from: f64,
    burst_left: usize,
}

impl SampleSchedule {
    /// Plans `samples` frames for the window from `from` to `to` seconds, `burst` of them
    /// consecutive: at the very start of the window when `burst_first`, else somewhere in it.
    #[must_use]
    pub fn new(
        from: f64,
        to: f64,
        samples: usize,
        burst: usize,
        burst_first: bool,
        seed: u64,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let spread_count = samples.saturating_sub(burst).max(1);
        let step = (to - from) / spread_count as f64;
        // One a slot, anywhere in it: spread evenly, yet in step with nothing periodic in the scene.
        let spread = (0..spread_count)
            .map(|slot| from + step * (slot as f64 + rng.random::<f64>()))
            .collect();
        let burst_from = if burst_first {
            from
        } else {
            from + (to - from) * rng.random_range(0.2..0.8)
        };
        Self {
            spread,
            next_spread: 0,
            burst_from,
            burst_left: burst,
        }
    }

    /// Whether the frame at `at` seconds is to be kept: `Some(true)` as part of the burst. Call
    /// once a frame, in order.
    pub fn pick(&mut self, at: f64) -> Option<bool> {
        let mut due = false;
        while self
            .spread
            .get(self.next_spread)
            .is_some_and(|time| *time <= at)
        {
            self.next_spread += 1;
            due = true;
        }
        if self.burst_left > 0 && at >= self.burst_from {
            self.burst_left -= 1;
            return Some(true);
        }
        due.then_some(false)
    }

    /// Whether the burst is complete.
    #[must_use]
    pub fn burst_done(&self) -> bool {
        self.burst_left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(schedule: &mut SampleSchedule, fps: f64, seconds: f64) -> Vec<(usize, bool)> {
        (0..(fps * seconds) as usize)
            .filter_map(|i| schedule.pick(i as f64 / fps).map(|burst| (i, burst)))
            .collect()
    }

    #[test]
    fn burst_is_consecutive_and_the_rest_is_spread() {
        let mut schedule = SampleSchedule::new(0.0, 10.0, 30, 10, false, 7);
        let picked = picks(&mut schedule, 30.0, 10.0);
        let burst: Vec<usize> = picked
            .iter()
            .filter(|pick| pick.1)
            .map(|pick| pick.0)
            .collect();
        assert_eq!(burst.len(), 10);
        assert_eq!(burst[9] - burst[0], 9);
        assert!(schedule.burst_done());
        let spread = picked.len() - burst.len();
        assert!((17..=20).contains(&spread), "{spread} spread samples");
        assert!(picked.iter().any(|pick| pick.0 < 30) && picked.iter().any(|pick| pick.0 > 270));
    }

    #[test]
    fn a_slow_stream_is_not_picked_twice() {
        let mut schedule = SampleSchedule::new(0.0, 10.0, 40, 4, true, 7);
        assert_eq!(picks(&mut schedule, 1.0, 10.0).len(), 10);
    }
}
