//! A student that lives in a worker.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ekya_actors::worker::Parcel;
use ekya_models::{
    BBox, Example, Image, ModelError, Object, Step, Student, Training, TrainingOptions,
};
use ekya_sched::RetrainingConfig;
use parking_lot::Mutex;

use super::host::{Host, Process};
use super::request::{Answer, Id, Request, Train, unexpected};
use crate::config::StudentConfig;
use crate::node::take_over;

/// A student of a worker. It survives its process once its weights have been outside: one that was
/// [put there](Self::new), or [forked](Student::fork).
#[derive(Debug)]
pub struct HostedStudent {
    model: Model,
    id: Id,
    place: Mutex<Place>,
}

/// What tells students of one kind from others, and where they live.
#[derive(Debug, Clone)]
struct Model {
    host: Arc<Host>,
    config: Arc<StudentConfig>,
    network: Arc<str>,
    /// Of a file of its weights, about.
    bytes: u64,
}

#[derive(Debug)]
struct Place {
    /// The process in which it lives; 0 before it does in any.
    process: u64,
    /// Its weights, outside of any process.
    weights: Option<Parcel>,
}

impl HostedStudent {
    /// Puts a copy of `student`, which is of the kind that `config` says, into the worker; it is
    /// loaded there when it is first asked something.
    ///
    /// # Errors
    /// [`ModelError`] when its weights cannot be written.
    pub fn new(
        host: &Arc<Host>,
        config: &StudentConfig,
        student: &dyn Student,
    ) -> Result<Self, ModelError> {
        let weights = host.put(0, |path| student.hand_over(path))?;
        let bytes = std::fs::metadata(&weights).map_or(0, |file| file.len());
        let model = Model {
            bytes,
            host: Arc::clone(host),
            config: Arc::new(config.clone()),
            network: student.network().into(),
        };
        Ok(Self {
            id: host.new_id(),
            model,
            place: Mutex::new(Place {
                process: 0,
                weights: Some(weights),
            }),
        })
    }

    /// Loads it now, so that what it is asked first does not wait for that.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn load(&self) -> Result<(), ModelError> {
        self.loaded().map(drop)
    }

    /// Has the worker put the weights outside, where they have not been before.
    fn bring_out(&self) -> Result<(), ModelError> {
        if self.place.lock().weights.is_none() {
            let Model { host, bytes, .. } = &self.model;
            let weights = host.put(*bytes, |path| self.hand_over(path))?;
            self.place.lock().weights = Some(weights);
        }
        Ok(())
    }

    /// The process, with the student in it.
    fn loaded(&self) -> Result<Process<'_>, ModelError> {
        let mut process = self.model.host.process()?;
        let mut place = self.place.lock();
        if place.process != process.number() {
            let weights = place.weights.as_ref().ok_or_else(gone)?;
            process.ask(&Request::Open {
                student: self.id,
                config: (*self.model.config).clone(),
                weights: weights.to_path_buf(),
                placement: self.model.host.placement(),
            })?;
            place.process = process.number();
        }
        drop(place);
        Ok(process)
    }
}

impl Student for HostedStudent {
    fn infer(
        &self,
        image: &Image,
        regions: &[BBox],
        resolution: f64,
    ) -> Result<Vec<Object>, ModelError> {
        let mut process = self.loaded()?;
        process.show([image])?;
        let answer = process.ask(&Request::Infer {
            student: self.id,
            picture: image.serial(),
            regions: regions.to_vec(),
            resolution,
        })?;
        match answer {
            Answer::Objects(objects) => Ok(objects),
            _ => Err(unexpected()),
        }
    }

    fn network(&self) -> String {
        self.model.network.to_string()
    }

    /// A copy in the node's own process.
    fn fork(&self) -> Result<Box<dyn Student>, ModelError> {
        self.bring_out()?;
        let place = self.place.lock();
        let weights = place.weights.as_ref().ok_or_else(gone)?;
        take_over(&self.model.config, weights, self.model.host.placement())
    }

    fn features(
        &self,
        image: &Image,
        regions: &[BBox],
    ) -> Result<Option<Vec<Vec<f32>>>, ModelError> {
        let mut process = self.loaded()?;
        process.show([image])?;
        let answer = process.ask(&Request::Features {
            student: self.id,
            picture: image.serial(),
            regions: regions.to_vec(),
        })?;
        match answer {
            Answer::Features(features) => Ok(features),
            _ => Err(unexpected()),
        }
    }

    fn train_with(
        &self,
        examples: &[Example],
        config: &RetrainingConfig,
        options: &TrainingOptions,
        seed: u64,
    ) -> Result<Box<dyn Training>, ModelError> {
        let mut process = self.loaded()?;
        process.show(examples.iter().map(|example| &*example.image))?;
        let training = self.model.host.new_id();
        let examples = examples.iter();
        let answer = process.ask(&Request::Train(Train {
            training,
            student: self.id,
            examples: examples
                .map(|example| (example.image.serial(), example.objects.clone()))
                .collect(),
            config: config.clone(),
            options: options.clone(),
            seed,
        }))?;
        let Answer::Training {
            steps,
            steps_per_epoch,
        } = answer
        else {
            return Err(unexpected());
        };
        Ok(Box::new(HostedTraining {
            model: self.model.clone(),
            id: training,
            process: process.number(),
            steps,
            steps_per_epoch,
        }))
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        // Here, not there: a worker that died meanwhile would leave a part of the file behind.
        self.fork()?.save(path)
    }

    fn hand_over(&self, path: &Path) -> Result<(), ModelError> {
        let path = std::path::absolute(path).map_err(|source| ModelError::Io {
            path: path.to_owned(),
            source,
        })?;
        let student = self.id;
        self.loaded()?.ask(&Request::HandOver { student, path })?;
        Ok(())
    }

    fn forget_pictures(&self) {
        self.model.host.forget_pictures();
    }
}

impl Drop for HostedStudent {
    fn drop(&mut self) {
        self.model.host.forget(self.id);
    }
}

/// A training that goes on in a worker, and ends with its process.
struct HostedTraining {
    model: Model,
    id: Id,
    process: u64,
    steps: usize,
    steps_per_epoch: usize,
}

impl HostedTraining {
    fn process(&self) -> Result<Process<'_>, ModelError> {
        self.model.host.process_of(self.process).ok_or_else(gone)
    }
}

impl Training for HostedTraining {
    fn steps(&self) -> usize {
        self.steps
    }

    fn steps_per_epoch(&self) -> usize {
        self.steps_per_epoch
    }

    fn step(&mut self) -> Result<Step, ModelError> {
        let mut steps = self.steps_within(Duration::ZERO, 1)?;
        steps.pop().ok_or_else(unexpected)
    }

    fn steps_within(&mut self, time: Duration, at_most: usize) -> Result<Vec<Step>, ModelError> {
        let answer = self.process()?.ask(&Request::Steps {
            training: self.id,
            time,
            at_most,
        })?;
        match answer {
            Answer::Steps(steps) => Ok(steps),
            _ => Err(unexpected()),
        }
    }

    fn student(&self) -> Result<Box<dyn Student>, ModelError> {
        let student = self.model.host.new_id();
        let training = self.id;
        self.process()?.ask(&Request::Take { training, student })?;
        Ok(Box::new(HostedStudent {
            model: self.model.clone(),
            id: student,
            place: Mutex::new(Place {
                process: self.process,
                weights: None,
            }),
        }))
    }
}

impl Drop for HostedTraining {
    fn drop(&mut self) {
        self.model.host.forget(self.id);
    }
}

fn gone() -> ModelError {
    ModelError::Process("it was lost with its worker".to_owned())
}
