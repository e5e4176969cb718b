//! The gate between training and serving: two students on the same held-out frames.
//!
//! The statistics are `ekya_profiler::comparison`'s; here are the answers.

use ekya_models::{Example, Object, Student, is_matched};
use ekya_profiler::comparison::{Comparison, Graded};

use super::evaluate::{LearnError, Work};
use super::split::Labelled;
use crate::stream::Metric;

/// Has both students answer `frames`, in order of time, at full resolution.
///
/// # Errors
/// See [`Work::minibatch`].
pub(super) fn compare<'a>(
    serving: &dyn Student,
    candidate: &dyn Student,
    frames: impl IntoIterator<Item = &'a Labelled>,
    metric: Metric,
    work: &mut Work,
) -> Result<Comparison, LearnError> {
    let mut comparison = Comparison::default();
    for labelled in frames {
        let frame = &labelled.frame;
        let mut answer = |student: &dyn Student| {
            work.minibatch(|| student.infer(&frame.image, &frame.regions, 1.0))
        };
        let (before, after) = (answer(serving)?, answer(candidate)?);
        let graded = |answers: &[Object]| {
            Some(Graded {
                score: metric.score(&labelled.labels, answers)?,
                credit: metric.credit(&labelled.labels, answers)?,
            })
        };
        if let Some((before, after)) = graded(&before).zip(graded(&after)) {
            comparison.add(before, after);
        }
        for object in &labelled.labels {
            let right = [&before, &after].map(|answers| is_matched(object, answers));
            comparison.add_object(object.class, right[0], right[1]);
        }
    }
    Ok(comparison)
}

/// Has students answer what they were trained on before, object by object. The serving one is asked
/// only where the candidate is not right throughout: where it is, no class is unlearnt.
///
/// # Errors
/// See [`Work::minibatch`].
pub(super) fn recall(
    serving: &dyn Student,
    candidate: &dyn Student,
    remembered: &[Example],
    work: &mut Work,
) -> Result<Comparison, LearnError> {
    let mut comparison = Comparison::default();
    for example in remembered {
        let regions = example.regions();
        let mut answer =
            |student: &dyn Student| work.minibatch(|| student.infer(&example.image, &regions, 1.0));
        let after = answer(candidate)?;
        let is_right = |object: &Object| is_matched(object, &after);
        let before = if example.objects.iter().all(is_right) {
            after.clone()
        } else {
            answer(serving)?
        };
        for object in &example.objects {
            comparison.add_object(object.class, is_matched(object, &before), is_right(object));
        }
    }
    Ok(comparison)
}
