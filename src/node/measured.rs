//! What a device's throughput is for a stream's kind of student: as kept, or measured now.

use ekya_models::Student;

use super::build::NodeDevice;
use crate::config::{LearningConfig, StreamConfig, StudentConfig};
use crate::throughput::{Curves, Key, Store, Subject, measure};

impl NodeDevice {
    /// The curves of a stream's kind of student. Where they cannot be measured, speed equals share.
    pub(super) fn curves(
        &mut self,
        student: &dyn Student,
        stream: &StreamConfig,
        store: &Store,
        learning: &LearningConfig,
    ) -> Curves {
        if !self.measure_throughput {
            return Curves::default();
        }
        let key = self.key(kind(student, &stream.student));
        let known = self.measured.iter().find(|(of, _)| *of == key);
        if let Some((_, curves)) = known {
            return curves.clone();
        }
        let kept = store.find(&key);
        let curves = kept.unwrap_or_else(|| {
            let curves = self.measure(student, stream, &key.student, learning);
            curves.map_or_else(Curves::default, |curves| {
                store.keep(key.clone(), curves.clone());
                curves
            })
        });
        self.measured.push((key, curves.clone()));
        curves
    }

    fn measure(
        &self,
        student: &dyn Student,
        stream: &StreamConfig,
        kind: &str,
        learning: &LearningConfig,
    ) -> Option<Curves> {
        let device = self.device.name();
        tracing::info!(device, kind, "measuring throughput, once for this machine");
        let subject = Subject {
            student,
            trained: &|turn| self.twin(student, stream, turn, learning),
            threads: self.threads,
        };
        let curves = measure(&subject, self.depth).inspect_err(|error| {
            tracing::warn!(device, kind, %error, "throughput is taken to be a straight line");
        });
        let curves = curves.ok()?;
        let (depth, best) = (self.depth, curves.best_depth());
        if best < depth {
            tracing::warn!(
                device,
                kind,
                depth,
                best,
                "fewer minibatches side by side train as much"
            );
        }
        Some(curves)
    }

    /// Training steps a second by kind of student, as far as they were measured.
    pub(super) fn speeds(&self) -> Vec<(String, f64)> {
        let speed = |(key, curves): &(Key, Curves)| {
            let best = curves.steps_per_second.iter().copied().reduce(f64::max)?;
            Some((key.student.clone(), best))
        };
        self.measured.iter().filter_map(speed).collect()
    }

    fn key(&self, student: String) -> Key {
        Key {
            device: self.describe(),
            depth: self.depth,
            workers: self.has_workers(),
            student,
            ekya: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Students that cost the same: of one network, with inputs of one size.
pub(super) fn kind(student: &dyn Student, config: &StudentConfig) -> String {
    let side = match config {
        StudentConfig::Classifier(classifier) => classifier.input_side,
        StudentConfig::Own(own) => return format!("{} of the program's own", own.name),
        StudentConfig::FastestDet(detector)
        | StudentConfig::TinyYoloV3(detector)
        | StudentConfig::SsdLite(detector) => detector.input_side,
    };
    let side = side.map_or_else(|| "its own".to_owned(), |side| side.to_string());
    format!("{}, input side {side}", student.network())
}
