//! When a camera's decoder is started, given up and started again: a state machine without I/O and
//! clock. Time is what has passed since the source was opened, and enters as data.
//!
//! Calling order: [`Recovery::poll`] says what to do; whoever does it tells what came of it with a
//! `handle_*`, and polls again. It does not end: a camera is waited for as long as somebody asks.

use std::time::Duration;

use crate::pauses::{LONGEST_PAUSE, Pauses};

/// The restarts of one camera's decoder.
pub(super) struct Recovery {
    silence: Duration,
    pauses: Pauses,
    phase: Phase,
}

enum Phase {
    /// No decoder until then.
    Down { until: Duration },
    /// A decoder runs.
    Up {
        /// When its first frame came.
        first: Option<Duration>,
        /// The last frame, or since when one is waited for.
        heard: Duration,
    },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing for so long.
    Pause(Duration),
    /// Start a decoder; then [`Recovery::handle_start`] or [`Recovery::handle_loss`].
    Start,
    /// Wait for a frame for so long at most, never zero; then [`Recovery::handle_frame`], or
    /// [`Recovery::handle_loss`] when the decoder has ended.
    Listen(Duration),
    /// The decoder is silent for too long: end it; then [`Recovery::handle_loss`].
    GiveUp,
}

impl Recovery {
    /// For a camera that may be silent for `silence`; `seed` draws the pauses. The first start is at
    /// once.
    pub(super) fn new(silence: Duration, seed: u64) -> Self {
        Self {
            silence,
            pauses: Pauses::new(seed),
            phase: Phase::Down {
                until: Duration::ZERO,
            },
        }
    }

    /// What to do at `now`.
    pub(super) fn poll(&self, now: Duration) -> Step {
        match self.phase {
            Phase::Down { until } if now < until => Step::Pause(until - now),
            Phase::Down { .. } => Step::Start,
            Phase::Up { heard, .. } => match (heard + self.silence).checked_sub(now) {
                None | Some(Duration::ZERO) => Step::GiveUp,
                Some(left) => Step::Listen(left),
            },
        }
    }

    /// Somebody asks for a frame again: silence counts from here. A camera is not to blame for the time
    /// in which nobody listened.
    pub(super) fn handle_asked(&mut self, now: Duration) {
        if let Phase::Up { heard, .. } = &mut self.phase {
            *heard = now;
        }
    }

    /// A decoder was started.
    pub(super) fn handle_start(&mut self, now: Duration) {
        self.phase = Phase::Up {
            first: None,
            heard: now,
        };
    }

    /// A frame came. Whether it is the decoder's first.
    pub(super) fn handle_frame(&mut self, now: Duration) -> bool {
        let Phase::Up { first, heard } = &mut self.phase else {
            return false;
        };
        *heard = now;
        first.replace(first.unwrap_or(now)).is_none()
    }

    /// The decoder has ended or could not be started; the next one waits.
    pub(super) fn handle_loss(&mut self, now: Duration) -> Loss {
        // A camera that gave frames for longer than the longest pause was well: pauses start anew.
        let was_well = match self.phase {
            Phase::Up {
                first: Some(first),
                heard,
            } => heard - first > LONGEST_PAUSE,
            _ => false,
        };
        if was_well {
            self.pauses.reset();
        }
        let pause = self.pauses.next();
        self.phase = Phase::Down { until: now + pause };
        Loss { was_well, pause }
    }
}

/// What follows from a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// Whether frames had come for long enough to call this a new trouble, not the old one.
    pub(super) was_well: bool,
    /// How long the next decoder waits.
    pub(super) pause: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pauses::FIRST_PAUSE;

    const SILENCE: Duration = Duration::from_secs(10);

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A camera and its recovery in virtual time.
    struct Rig {
        recovery: Recovery,
        now: Duration,
        /// Whether a started decoder gives frames.
        camera: bool,
        starts: Vec<Duration>,
    }

    impl Rig {
        fn new(seed: u64) -> Self {
            Self {
                recovery: Recovery::new(SILENCE, seed),
                now: Duration::ZERO,
                camera: true,
                starts: Vec::new(),
            }
        }

        /// Does what is to be done next; a camera that is there gives a frame every 0.2 s.
        fn step(&mut self) -> Step {
            let step = self.recovery.poll(self.now);
            match step {
                Step::Pause(left) => self.now += left,
                Step::Start => {
                    self.starts.push(self.now);
                    self.recovery.handle_start(self.now);
                }
                Step::Listen(_) if self.camera => {
                    self.now += seconds(0.2);
                    self.recovery.handle_frame(self.now);
                }
                Step::Listen(left) => self.now += left,
                Step::GiveUp => drop(self.recovery.handle_loss(self.now)),
            }
            step
        }

        fn run(&mut self, length: Duration) {
            let until = self.now + length;
            while self.now < until {
                self.step();
            }
        }

        fn gaps(&self) -> Vec<Duration> {
            self.starts.windows(2).map(|two| two[1] - two[0]).collect()
        }
    }

    #[test]
    fn a_camera_that_is_well_is_left_alone() {
        let mut rig = Rig::new(1);
        rig.run(Duration::from_secs(3600));
        assert_eq!(rig.starts, [Duration::ZERO]);
    }

    #[test]
    fn pauses_double_up_to_a_limit_for_ever() {
        let mut rig = Rig::new(1);
        rig.camera = false;
        rig.run(Duration::from_secs(3600));
        let pauses = rig.gaps().into_iter().map(|gap| gap - SILENCE);
        let full = [1.0, 2.0, 4.0, 8.0, 16.0].into_iter();
        for (pause, full) in pauses.zip(full.chain(std::iter::repeat(30.0))) {
            let within = seconds(full * 0.74)..=seconds(full);
            assert!(within.contains(&pause), "{pause:?} of {full} s");
        }
        assert!(rig.starts.len() > 3600 / 41);
    }

    #[test]
    fn cameras_lost_together_do_not_come_back_in_step() {
        let gaps = |seed| {
            let mut rig = Rig::new(seed);
            rig.camera = false;
            rig.run(Duration::from_secs(60));
            rig.gaps()
        };
        assert_eq!(gaps(1), gaps(1));
        assert_ne!(gaps(1), gaps(2));
    }

    #[test]
    fn silence_is_given_up_after_its_limit_and_frames_put_it_off() {
        let mut recovery = Recovery::new(SILENCE, 1);
        recovery.handle_start(seconds(1.0));
        assert_eq!(recovery.poll(seconds(2.0)), Step::Listen(seconds(9.0)));
        assert!(recovery.handle_frame(seconds(5.0)));
        assert!(!recovery.handle_frame(seconds(6.0)));
        assert_eq!(recovery.poll(seconds(15.9)), Step::Listen(seconds(0.1)));
        assert_eq!(recovery.poll(seconds(16.0)), Step::GiveUp);
    }

    #[test]
    fn time_in_which_nobody_listened_is_no_silence() {
        let mut recovery = Recovery::new(SILENCE, 1);
        recovery.handle_start(Duration::ZERO);
        recovery.handle_frame(seconds(1.0));
        recovery.handle_asked(seconds(60.0));
        assert_eq!(recovery.poll(seconds(60.0)), Step::Listen(SILENCE));
    }

    #[test]
    fn a_camera_that_was_well_is_tried_again_soon_and_one_that_flaps_is_not() {
        for (minutes_well, was_well) in [(1.0, true), (0.1, false)] {
            let mut rig = Rig::new(1);
            rig.camera = false;
            rig.run(Duration::from_secs(300));
            rig.camera = true;
            while !matches!(rig.step(), Step::Listen(_)) {}
            rig.run(seconds(60.0 * minutes_well));
            let loss = rig.recovery.handle_loss(rig.now);
            assert_eq!(loss.was_well, was_well);
            assert_eq!(loss.pause <= FIRST_PAUSE, was_well, "{loss:?}");
        }
    }
}
