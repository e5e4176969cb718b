//! A teacher that lives in a worker.

use std::sync::Arc;

use ekya_models::{BBox, Image, ModelError, Object, Teacher};
use parking_lot::Mutex;

use super::host::{Host, Process};
use super::request::{Answer, Id, Request, unexpected};
use crate::config::TeacherConfig;

/// A teacher of a worker. It survives its process, having learnt nothing.
#[derive(Debug)]
pub struct HostedTeacher {
    host: Arc<Host>,
    id: Id,
    config: TeacherConfig,
    classes: Vec<String>,
    /// The process in which it lives; 0 before it does in any.
    process: Mutex<u64>,
}

impl HostedTeacher {
    /// Loads the teacher that `config` says into the worker.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(
        host: &Arc<Host>,
        config: &TeacherConfig,
        classes: &[String],
    ) -> Result<Self, ModelError> {
        let teacher = Self {
            host: Arc::clone(host),
            id: host.new_id(),
            config: config.clone(),
            classes: classes.to_vec(),
            process: Mutex::new(0),
        };
        teacher.loaded()?;
        Ok(teacher)
    }

    fn loaded(&self) -> Result<Process<'_>, ModelError> {
        let mut process = self.host.process()?;
        let mut own = self.process.lock();
        if *own != process.number() {
            process.ask(&Request::OpenTeacher {
                teacher: self.id,
                config: self.config.clone(),
                classes: self.classes.clone(),
                placement: self.host.placement(),
            })?;
            *own = process.number();
        }
        drop(own);
        Ok(process)
    }
}

impl Teacher for HostedTeacher {
    fn label(&self, image: &Image, regions: &[BBox]) -> Result<Vec<Object>, ModelError> {
        let mut process = self.loaded()?;
        process.show([image])?;
        let answer = process.ask(&Request::Label {
            teacher: self.id,
            picture: image.serial(),
            regions: regions.to_vec(),
        });
        // Nobody asks about it again.
        process.forget_pictures();
        match answer? {
            Answer::Objects(objects) => Ok(objects),
            _ => Err(unexpected()),
        }
    }
}

impl Drop for HostedTeacher {
    fn drop(&mut self) {
        self.host.forget(self.id);
    }
}
