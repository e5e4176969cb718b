//! What trainings take of a GPU's memory, and what there is for them: a retraining that does not fit
//! beside those that run is not started. Main memory is not counted: workers are limited there.

use ekya_models::gpu::{self, GpuError, GpuMemory};
use ekya_models::{ModelError, Student, TrainingOptions};
use ekya_sched::RetrainingConfig;

use super::build::NodeDevice;
use crate::throughput::examples;

/// What a process takes of a GPU before it has any tensor, about: CUDA's context and its kernels.
const PROCESS: u64 = 512 << 20;

impl NodeDevice {
    /// Bytes that a training of such a student takes, with steps of at most so many examples: weights,
    /// gradients, the optimizer's moments and activations. Measured by training one step in this
    /// process. 0 where memory is not counted, and where it could not be measured, with a warning.
    pub(super) fn training_bytes(&self, student: &dyn Student, batch: usize) -> u64 {
        if self.is_cpu() {
            return 0;
        }
        measure(student, batch).unwrap_or_else(|error| {
            let device = self.device.name();
            tracing::warn!(device, %error, "the memory of trainings is not counted");
            0
        })
    }

    /// Bytes that trainings may take together, when everything else is loaded: what is free, but for
    /// the workers of so many streams. `None` where memory is not counted.
    pub(super) fn bytes_for_trainings(&self, streams: usize) -> Option<u64> {
        if self.is_cpu() {
            return None;
        }
        gpu::empty_cache();
        let free = GpuMemory::since_last().ok()?.free;
        let workers = if self.has_workers() {
            streams as u64
        } else {
            0
        };
        Some(free.saturating_sub(workers * PROCESS))
    }
}

fn measure(student: &dyn Student, batch: usize) -> Result<u64, ModelError> {
    let failed = |error: GpuError| ModelError::of_runtime(&error.to_string());
    gpu::finish().map_err(failed)?;
    let before = GpuMemory::since_last().map_err(failed)?.tensors;
    let config = RetrainingConfig {
        epochs: 1,
        batch_size: batch,
        layers_frozen: 0,
        ..RetrainingConfig::default()
    };
    let options = TrainingOptions::default();
    let mut training = student.train_with(&examples(batch, 1), &config, &options, 1)?;
    training.step()?;
    gpu::finish().map_err(failed)?;
    let peak = GpuMemory::since_last().map_err(failed)?.peak;
    Ok(peak.saturating_sub(before))
}

#[cfg(test)]
#[cfg(feature = "torch")]
mod tests {
    use ekya_models::{Architecture, Classifier, Placement};

    use super::*;

    #[test]
    fn without_a_gpu_there_is_nothing_to_measure() {
        let student = Classifier::new(Architecture::Small, 2, 8, Placement::Cpu, 1);
        let measured = measure(&student.expect("a student"), 8);
        assert!(
            matches!(measured, Err(ModelError::Torch(_))),
            "{measured:?}"
        );
    }
}
