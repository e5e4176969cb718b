//! Features that stay as they are, because every block before the head is frozen.

use tch::{TchError, Tensor};

use super::batch::LabelledCrops;
use super::classifier::Classifier;

/// Features of crops, computed when first asked for.
pub(super) struct KnownFeatures {
    /// `[crops, features]`.
    values: Tensor,
    known: Vec<bool>,
}

impl KnownFeatures {
    /// Room for the features of `crops` crops.
    pub(super) fn none(student: &Classifier, crops: usize) -> Result<Self, TchError> {
        Ok(Self {
            values: student.network.no_features(crops, student.device())?,
            known: vec![false; crops],
        })
    }

    /// Features of a batch: `[n, features]`.
    pub(super) fn of(
        &mut self,
        batch: &[usize],
        crops: &LabelledCrops,
        student: &Classifier,
    ) -> Result<Tensor, TchError> {
        let _no_grad = tch::no_grad_guard();
        let device = student.device();
        let indices = |batch: &[usize]| {
            let indices: Vec<i64> = batch.iter().map(|&index| index as i64).collect();
            Tensor::f_from_slice(&indices)?.f_to_device(device)
        };
        let mut new: Vec<usize> = batch.iter().copied().filter(|i| !self.known[*i]).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let crops = crops.plain(&new, device)?;
            let features = student.network.features(&crops, usize::MAX, false)?;
            let _ = self.values.f_index_copy_(0, &indices(&new)?, &features)?;
            new.into_iter().for_each(|index| self.known[index] = true);
        }
        self.values.f_index_select(0, &indices(batch)?)
    }
}
