//! A student that shows what becomes of it: a retraining hands out a student only when it is
//! promoted, and the truth is wanted of the others, too.

use std::path::Path;
use std::sync::Arc;

use ekya_models::{
    BBox, Example, Image, ModelError, Object, Step, Student, Training, TrainingOptions,
};
use ekya_sched::RetrainingConfig;
use parking_lot::Mutex;

/// Where the newest student of a training is left.
pub(crate) type Seen = Arc<Mutex<Option<Box<dyn Student>>>>;

/// A serving student that is like `student` in all it does.
pub(crate) struct Witness {
    pub(crate) student: Box<dyn Student>,
    pub(crate) seen: Seen,
}

impl Student for Witness {
    fn infer(
        &self,
        image: &Image,
        regions: &[BBox],
        resolution: f64,
    ) -> Result<Vec<Object>, ModelError> {
        self.student.infer(image, regions, resolution)
    }

    fn network(&self) -> String {
        self.student.network()
    }

    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        self.student.fork()
    }

    fn train_with(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        options: &TrainingOptions,
        seed: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        Ok(Box::new(WitnessedTraining {
            training: self.student.train_with(examples, config, options, seed)?,
            seen: self.seen.clone(),
        }))
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        self.student.save(path)
    }

    fn hand_over(&self, path: &Path) -> Result<(), ModelError> {
        self.student.hand_over(path)
    }
}

struct WitnessedTraining {
    training: Box<dyn Training>,
    seen: Seen,
}

impl Training for WitnessedTraining {
    fn steps(&self) -> usize {
        self.training.steps()
    }

    fn steps_per_epoch(&self) -> usize {
        self.training.steps_per_epoch()
    }

    fn step(&mut self) -> Result<Step, ModelError> {
        self.training.step()
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        let student = self.training.student()?;
        *self.seen.lock() = Some(student.fork()?);
        Ok(student)
    }
}
