//! The worker's side: does what it is asked, one request after the other.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ekya_actors::codec::{self, CodecError};
use ekya_actors::{guarded, worker};
use ekya_models::{Example, Image, ModelError, Placement, Student, Teacher, Training, gpu};

use super::request::{Answer, Failure, Id, Picture, Request, Train};
use crate::node::{load_teacher, take_over};

/// Threads of a minibatch, from the node.
pub(super) const THREADS: &str = "EKYA_WORKER_THREADS";
/// Set where its models are to live on a GPU.
pub(super) const CUDA: &str = "EKYA_WORKER_CUDA";

/// Serves the node until that goes away.
pub(super) fn serve() -> ! {
    let threads = std::env::var(THREADS)
        .ok()
        .and_then(|text| text.parse().ok());
    if std::env::var_os(CUDA).is_some() {
        // Loads CUDA's half of libtorch, or what is asked for later fails and says why.
        let _ = Placement::best();
    }
    ekya_models::set_compute_threads(threads.unwrap_or(1));
    let mut bench = Bench::default();
    worker::serve(env!("CARGO_PKG_VERSION"), move |request: &[u8]| {
        // A panic leaves what it was about in an unknown state, so the node gives that up: it is an
        // error like any other there.
        let answer = guarded(|| bench.finished(codec::from_bytes(request).map_err(garbled)?));
        let answer = answer.unwrap_or_else(|panic| Err(ModelError::of_runtime(&panic)));
        if let Err(ModelError::OutOfMemory(_)) = answer {
            bench.make_room();
        }
        let answer = answer.unwrap_or_else(|error| Answer::Failed(Failure::from(error)));
        // An empty answer is none, and ends this process.
        codec::to_bytes(&answer).unwrap_or_default()
    })
}

/// What lives here.
#[derive(Default)]
struct Bench {
    students: HashMap<Id, Box<dyn Student>>,
    teachers: HashMap<Id, Box<dyn Teacher>>,
    trainings: HashMap<Id, Box<dyn Training>>,
    pictures: HashMap<Id, Arc<Image>>,
}

impl Bench {
    /// The answer, when what it took is over on a GPU as well.
    fn finished(&mut self, request: Request) -> Result<Answer, ModelError> {
        let answer = self.answer(request)?;
        gpu::finish().map_err(|error| ModelError::of_runtime(&error.to_string()))?;
        Ok(answer)
    }

    /// Lets go of what takes most memory: a training that has failed cannot be continued, and whoever
    /// began another one here hears that it is gone.
    fn make_room(&mut self) {
        self.trainings.clear();
        ekya_models::give_memory_back();
    }

    fn answer(&mut self, request: Request) -> Result<Answer, ModelError> {
        match request {
            Request::Show { file, pictures } => self.show(&file, pictures)?,
            Request::Open {
                student,
                config,
                weights,
                placement,
            } => {
                let opened = take_over(&config, &weights, placement)?;
                self.students.insert(student, opened);
            }
            Request::OpenTeacher {
                teacher,
                config,
                classes,
                placement,
            } => {
                let opened = load_teacher(&config, &classes, placement)?;
                self.teachers.insert(teacher, opened);
            }
            Request::Infer {
                student,
                picture,
                regions,
                resolution,
            } => {
                let picture = find(&self.pictures, picture, "picture")?;
                let student = find(&self.students, student, "student")?;
                return Ok(Answer::Objects(
                    student.infer(picture, &regions, resolution)?,
                ));
            }
            Request::Features {
                student,
                picture,
                regions,
            } => {
                let picture = find(&self.pictures, picture, "picture")?;
                let student = find(&self.students, student, "student")?;
                return Ok(Answer::Features(student.features(picture, &regions)?));
            }
            Request::Label {
                teacher,
                picture,
                regions,
            } => {
                let picture = find(&self.pictures, picture, "picture")?;
                let teacher = find(&self.teachers, teacher, "teacher")?;
                return Ok(Answer::Objects(teacher.label(picture, &regions)?));
            }
            Request::Train(order) => return self.train(order),
            Request::Steps {
                training,
                time,
                at_most,
            } => {
                let training = self.trainings.get_mut(&training);
                let training = training.ok_or_else(|| missing("training"))?;
                return Ok(Answer::Steps(training.steps_within(time, at_most)?));
            }
            Request::Take { training, student } => {
                let taken = find(&self.trainings, training, "training")?.student()?;
                self.students.insert(student, taken);
            }
            Request::HandOver { student, path } => {
                find(&self.students, student, "student")?.hand_over(&path)?;
            }
            Request::Drop(ids) => ids.iter().for_each(|id| self.forget(*id)),
            Request::DropPictures(ids) => {
                for id in ids {
                    self.pictures.remove(&id);
                }
            }
        }
        Ok(Answer::Done)
    }

    fn train(&mut self, order: Train) -> Result<Answer, ModelError> {
        let Train {
            training,
            student,
            examples,
            config,
            options,
            seed,
        } = order;
        let examples = examples.into_iter().map(|(picture, objects)| {
            let image = Arc::clone(find(&self.pictures, picture, "picture")?);
            Ok(Example { image, objects })
        });
        let examples: Vec<Example> = examples.collect::<Result<_, ModelError>>()?;
        let student = find(&self.students, student, "student")?;
        let begun = student.train_with(&examples, &config, &options, seed)?;
        let answer = Answer::Training {
            steps: begun.steps(),
            steps_per_epoch: begun.steps_per_epoch(),
        };
        self.trainings.insert(training, begun);
        Ok(answer)
    }

    fn show(&mut self, path: &Path, pictures: Vec<Picture>) -> Result<(), ModelError> {
        let failed = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        // Nobody else knows it, and whoever dies next leaves nothing behind.
        std::fs::remove_file(path).map_err(failed)?;
        for Picture { id, width, height } in pictures {
            let mut rgb = vec![0; width * height * 3];
            file.read_exact(&mut rgb).map_err(failed)?;
            let image = Image::new(width, height, rgb);
            let image = image.map_err(|error| ModelError::BadInput(error.to_string()))?;
            self.pictures.insert(id, Arc::new(image));
        }
        Ok(())
    }

    fn forget(&mut self, id: Id) {
        self.students.remove(&id);
        self.teachers.remove(&id);
        if self.trainings.remove(&id).is_some() {
            // Another process may start a training with what this one needed.
            ekya_models::give_memory_back();
        }
    }
}

fn find<'a, T>(all: &'a HashMap<Id, T>, id: Id, what: &str) -> Result<&'a T, ModelError> {
    all.get(&id).ok_or_else(|| missing(what))
}

fn garbled(error: CodecError) -> ModelError {
    ModelError::BadInput(format!("no request: {error}"))
}

/// A mistake of the node's.
fn missing(what: &str) -> ModelError {
    ModelError::BadInput(format!("the worker has no such {what}"))
}
