//! What streams with equal students know together about their retrainings.

use ekya_profiler::History;
use ekya_sched::RetrainingConfig;
use parking_lot::{Mutex, MutexGuard};

/// A [`History`] for several streams.
#[derive(Debug, Default)]
pub struct Experience {
    history: Mutex<History>,
    measuring: Mutex<()>,
}

impl Experience {
    /// Begins with what is known.
    #[must_use]
    pub const fn new(history: History) -> Self {
        Self {
            history: Mutex::new(history),
            measuring: Mutex::new(()),
        }
    }

    /// To read or add to it.
    pub fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    /// What is known now. Where nobody knows what one of the configurations costs, whoever asks first gets a
    /// guard, to be held while it measures that; all others wait for it, since on a device that serves many
    /// streams the same measurements for each would take the time of many retrainings.
    pub(super) fn known<'a>(
        &self,
        configurations: impl Iterator<Item = &'a RetrainingConfig> + Clone,
    ) -> (History, Option<MutexGuard<'_, ()>>) {
        let is_known = |history: &History| {
            let mut all = configurations.clone();
            all.all(|one| history.costs().expect(one, 1).is_some())
        };
        let history = self.lock().clone();
        if is_known(&history) {
            return (history, None);
        }
        let alone = self.measuring.lock();
        let history = self.lock().clone();
        let alone = (!is_known(&history)).then_some(alone);
        (history, alone)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_is_not_known_is_measured_by_one_and_known_to_those_who_waited() {
        let experience = Experience::default();
        let config = RetrainingConfig::default();
        let (_, alone) = experience.known([&config].into_iter());
        assert!(alone.is_some());
        let (begun, begins) = channel();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                begun.send(()).unwrap();
                let (history, alone) = experience.known([&config].into_iter());
                (history.costs().expect(&config, 10), alone.is_some())
            });
            begins.recv().unwrap();
            let mut history = experience.lock();
            history.costs_mut().record_profiled(&config, 0.1, 0.0);
            drop(history);
            drop(alone);
            let (cost, alone) = waits.join().unwrap();
            assert!(cost.is_some() && !alone);
        });
        assert!(experience.known([&config].into_iter()).1.is_none());
    }

    #[test]
    fn who_could_not_measure_leaves_it_to_the_next() {
        let experience = Experience::default();
        let config = RetrainingConfig::default();
        drop(experience.known([&config].into_iter()));
        assert!(experience.known([&config].into_iter()).1.is_some());
    }
}
