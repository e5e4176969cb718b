//! What of a learner outlives the process, and what must not be kept any longer.

use super::learner::Learner;
use super::memory::{Kept, Memory};
use super::split::{Labelled, Split};
use crate::clock::unix_seconds;
use crate::keep::Keeper;

impl Learner {
    /// Has `keeper` keep what is learnt from here on.
    #[must_use]
    pub fn kept_by(mut self, keeper: Keeper) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// The student promoted last serves no more: it is not to be continued from.
    pub(super) fn withdraw(&mut self) {
        let is_on_disk = self.unsaved.take().is_none();
        if let Some(keeper) = self.keeper.as_mut().filter(|_| is_on_disk) {
            keeper.withdraw();
        }
    }

    /// Saves the student that was promoted last, forgets frames that are older than may be kept, and
    /// has the disk follow the memory. Takes as long as the disk does, some
    /// ten milliseconds a new frame: call it when nothing waits.
    pub(super) fn keep(&mut self) {
        let now = unix_seconds();
        if let (Some(keeper), Some(retrained)) = (&mut self.keeper, self.unsaved.take()) {
            let examples = trained_on(&self.split, &self.memory);
            keeper.save(&*self.student, retrained, &examples, now);
        }
        let oldest = self.learning.oldest_kept(now);
        self.memory.forget_before(oldest);
        self.split.forget_before(oldest);
        if let Some(keeper) = &mut self.keeper {
            let mut wanted = trained_on(&self.split, &self.memory);
            wanted.extend(self.split.holdout.iter().map(Labelled::kept));
            keeper.sync(&wanted);
        }
    }
}

/// What a retraining trains on.
fn trained_on(split: &Split, memory: &Memory) -> Vec<Kept> {
    let recent = split.training.iter().map(Labelled::kept);
    recent.chain(memory.kept().iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ekya_models::{Architecture, Classifier, Example, Image, Placement};
    use ekya_profiler::History;

    use super::*;
    use crate::config::{InferenceConfig, LearningConfig};
    use crate::keep::{Kind, StateFolder};
    use crate::learn::Beginning;
    use crate::stream::Metric;

    fn frame(level: u8, hours_ago: u64) -> Kept {
        let image = Image::new(1, 1, vec![level; 3]).unwrap();
        let example = Example {
            image: Arc::new(image),
            objects: vec![],
        };
        Kept {
            example,
            taken_at: unix_seconds() - hours_ago * 3600,
        }
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_erased_though_no_order_comes() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::make(folder.path()).unwrap();
        let student = Classifier::new(Architecture::Small, 1, 8, Placement::Cpu, 1).unwrap();
        let kind = Kind {
            stream: "gate".to_owned(),
            network: "small".to_owned(),
            classes: vec!["car".to_owned()],
        };
        let keeper = |kind: &Kind| Keeper::open(&state, kind.clone(), 1).unwrap();
        let kept = vec![frame(1, 5), frame(2, 1)];
        keeper(&kind).sync(&kept);
        let beginning = Beginning {
            stream: kind.stream.clone(),
            student: Box::new(student),
            known_classes: 1,
            kept,
        };
        let mut learner = Learner::new(
            beginning,
            Metric::Accuracy,
            LearningConfig::default(),
            InferenceConfig::default(),
            Arc::new(parking_lot::Mutex::new(History::default())),
            1,
        )
        .kept_by(keeper(&kind));
        learner.keep();
        assert_eq!(keeper(&kind).frames(0, 9).len(), 2);
        learner.learning.retention_hours = Some(3.0);
        learner.keep();
        assert_eq!(learner.memory.kept().len(), 1);
        assert_eq!(keeper(&kind).frames(0, 9).len(), 1);
    }
}
