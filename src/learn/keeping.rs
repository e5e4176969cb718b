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
    /// has the disk follow the memory and the student keep none. Takes as long as the disk does, some
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
        self.student.forget_pictures();
    }
}

/// What a retraining trains on.
fn trained_on(split: &Split, memory: &Memory) -> Vec<Kept> {
    let recent = split.training.iter().map(Labelled::kept);
    recent.chain(memory.kept().iter().cloned()).collect()
}

#[cfg(test)]
#[cfg(feature = "torch")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ekya_models::{
        Architecture, BBox, Classifier, Example, Image, ModelError, Object, Placement, Student,
        Training, TrainingOptions,
    };
    use ekya_sched::RetrainingConfig;

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

    fn learner(student: Box<dyn Student>, kept: Vec<Kept>) -> Learner {
        let beginning = Beginning {
            stream: "gate".to_owned(),
            student,
            known_classes: 1,
            kept,
        };
        Learner::new(
            beginning,
            Metric::Accuracy,
            LearningConfig::default(),
            InferenceConfig::default(),
            Arc::default(),
            1,
        )
    }

    /// Counts how often it is to forget what it has been shown.
    struct Forgetful(Arc<AtomicUsize>);

    impl Student for Forgetful {
        fn infer(&self, _: &Image, _: &[BBox], _: f64) -> Result<Vec<Object>, ModelError> {
            Ok(Vec::new())
        }

        fn network(&self) -> String {
            "forgetful".to_owned()
        }

        fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
            Ok(Box::new(Self(self.0.clone())))
        }

        fn train_with(
            &self,
            _: &[Example],
            _: &RetrainingConfig,
            _: &TrainingOptions,
            _: u64,
        ) -> Result<Box<dyn Training>, ModelError> {
            Err(ModelError::NoExamples)
        }

        fn save(&self, _: &Path) -> Result<(), ModelError> {
            Ok(())
        }

        fn forget_pictures(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn when_frames_are_forgotten_the_student_forgets_them_too() {
        let forgot = Arc::<AtomicUsize>::default();
        let mut learner = learner(Box::new(Forgetful(forgot.clone())), Vec::new());
        learner.keep();
        assert_eq!(forgot.load(Ordering::Relaxed), 1);
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
        let mut learner = learner(Box::new(student), kept).kept_by(keeper(&kind));
        learner.keep();
        assert_eq!(keeper(&kind).frames(0, 9).len(), 2);
        learner.learning.retention_hours = Some(3.0);
        learner.keep();
        assert_eq!(learner.memory.kept().len(), 1);
        assert_eq!(keeper(&kind).frames(0, 9).len(), 1);
    }
}
