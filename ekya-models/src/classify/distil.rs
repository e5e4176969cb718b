//! The answers of the network before training, as something to learn from (Hinton et al. 2015; Li and
//! Hoiem 2016).

use tch::{Kind, Reduction, TchError, Tensor};

use super::classifier::Classifier;
use super::network::Network;
use crate::{Distillation, ModelError};

/// The network as it was before training, and how much its answers count.
pub(super) struct OldAnswers {
    old: Classifier,
    how: Distillation,
}

impl OldAnswers {
    /// # Errors
    /// [`ModelError::BadInput`] when `serving` has fewer classes than are to be distilled;
    /// [`ModelError::Torch`] when it cannot be copied.
    pub(super) fn new(serving: &Classifier, how: Distillation) -> Result<Self, ModelError> {
        if how.classes > serving.classes() {
            return Err(ModelError::BadInput(format!(
                "distillation of {} classes from a classifier of {}",
                how.classes,
                serving.classes()
            )));
        }
        let old = serving.copy(0, 0)?;
        Ok(Self { old, how })
    }

    /// The network of that time.
    pub(super) fn network(&self) -> &Network {
        &self.old.network
    }

    /// How far `logits` have moved from those of the old network, both `[n, classes]`.
    pub(super) fn loss(&self, old: &Tensor, logits: &Tensor) -> Result<Tensor, TchError> {
        divergence(&self.how, old, logits)
    }
}

/// The mean Kullback-Leibler divergence between old and new answers about the old classes alone, times
/// the weight; and times the square of the temperature, by which gradients shrink otherwise.
fn divergence(how: &Distillation, old: &Tensor, new: &Tensor) -> Result<Tensor, TchError> {
    let softened = |logits: &Tensor| {
        let known = logits.f_narrow(1, 0, how.classes as i64)?;
        known
            .f_div_scalar(how.temperature)?
            .f_log_softmax(-1, Kind::Float)
    };
    let divergence = softened(new)?.f_kl_div(&softened(old)?, Reduction::Sum, true)?;
    let scale = how.weight * how.temperature.powi(2) / new.size()[0] as f64;
    divergence.f_mul_scalar(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(old: &[[f32; 3]], new: &[[f32; 3]], temperature: f64) -> f64 {
        let how = Distillation {
            classes: 2,
            weight: 0.5,
            temperature,
        };
        let logits = |rows: &[[f32; 3]]| {
            let flat = Tensor::f_from_slice(rows.as_flattened()).unwrap();
            flat.f_reshape([-1, 3]).unwrap()
        };
        let loss = divergence(&how, &logits(old), &logits(new)).unwrap();
        loss.f_double_value(&[]).unwrap()
    }

    #[test]
    fn only_answers_about_old_classes_count() {
        let old = [[1.0, 2.0, 0.0], [0.0, -1.0, 0.0]];
        let more_of_the_new = [[1.0, 2.0, 9.0], [0.0, -1.0, -9.0]];
        assert!(between(&old, &more_of_the_new, 2.0).abs() < 1e-6);
        // The same added to every old class is no other answer about them.
        let shifted = [[4.0, 5.0, 0.0], [0.0, -1.0, 0.0]];
        assert!(between(&old, &shifted, 2.0).abs() < 1e-6);
    }

    #[test]
    fn it_is_the_divergence_on_paper() {
        let (old, new) = ([[0.0, 0.0, 0.0]], [[2.0, 0.0, 0.0]]);
        for temperature in [1.0f64, 4.0] {
            let chance = 1.0 / (1.0 + (-2.0 / temperature).exp());
            let divergence = 0.5 * ((0.5 / chance).ln() + (0.5 / (1.0 - chance)).ln());
            let expected = 0.5 * temperature.powi(2) * divergence;
            let found = between(&old, &new, temperature);
            assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
            // Twice the same picture: the mean stays.
            let twice = between(&[old[0]; 2], &[new[0]; 2], temperature);
            assert!((twice - expected).abs() < 1e-5, "{twice}, {expected}");
        }
    }
}
