//! Measures a kind of student on a device, with real minibatches in real leases.

use std::sync::Arc;

use ekya_models::{BBox, Example, Image, ModelError, Object, Student, TrainingOptions};
use ekya_sched::{RetrainingConfig, Share, Throughput};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::contest::{Contest, ContestError, Effort, Minibatch};
use super::curves::Curves;
use crate::learn::{LearnError, Turn};

/// Shares of a device, in thousandths, under which a job is measured. The curve jumps at its end
/// where the others slow the job down: at nine tenths they still do.
const SHARES: [u32; 4] = [250, 500, 900, 1000];
/// Examples of a training step: as many as a retraining takes when nothing is known yet.
const EXAMPLES: usize = 8;
/// Side in pixels of the pictures. What a minibatch costs does not depend on what they show, and
/// networks see them in their own size.
const SIDE: usize = 96;

/// Makes a student that computes in a turn.
pub type Trained<'a> = dyn Fn(&Arc<Turn>) -> Result<Box<dyn Student>, ModelError> + 'a;

/// A kind of student, and how it comes to compute.
pub struct Subject<'a> {
    /// A student of that kind, which knows at least one class.
    pub student: &'a dyn Student,
    /// The same student where a stream's training would compute, in that turn.
    pub trained: &'a Trained<'a>,
    /// Threads of a minibatch.
    pub threads: usize,
}

/// Measures one kind of student on a device of that depth; takes some two seconds, or where students
/// are slow about fifty of their minibatches.
///
/// # Errors
/// [`ContestError`].
pub fn measure(subject: &Subject<'_>, depth: usize) -> Result<Curves, ContestError> {
    Ok(Curves {
        steps_per_second: (1..=depth)
            .map(|jobs| training_rate(subject, depth, jobs, Effort::START))
            .collect::<Result<_, _>>()?,
        training: curve(subject, depth, training)?,
        inference: curve(subject, depth, inference)?,
    })
}

/// Training steps a second of so many jobs together, with even shares of a device of that depth.
///
/// # Errors
/// [`ContestError`].
pub fn training_rate(
    subject: &Subject<'_>,
    depth: usize,
    jobs: usize,
    effort: Effort,
) -> Result<f64, ContestError> {
    let mut contest = Contest::new(depth);
    for _ in 0..jobs {
        contest
            .enter(subject.threads, |turn| training(subject, turn))
            .map_err(LearnError::from)?;
    }
    let rates = contest.rates(&even(Share::WHOLE, jobs), 0, effort)?;
    Ok(rates.iter().sum())
}

type Make = fn(&Subject<'_>, &Arc<Turn>) -> Result<Minibatch, ModelError>;

/// Speed of one job under rising shares, beside as many others as fill the device.
fn curve(subject: &Subject<'_>, depth: usize, make: Make) -> Result<Throughput, ContestError> {
    let mut contest = Contest::new(depth);
    let enter = |contest: &mut Contest, make: Make| {
        let entered = contest.enter(subject.threads, |turn| make(subject, turn));
        entered.map_err(LearnError::from)
    };
    enter(&mut contest, make)?;
    for _ in 0..depth {
        enter(&mut contest, training)?;
    }
    let mut points = Vec::new();
    for thousandths in SHARES {
        let share = Share::from_micro(thousandths * 1000);
        let mut shares = vec![share];
        shares.extend(even(Share::WHOLE.saturating_sub(share), depth));
        let rate = contest.rates(&shares, 0, Effort::START)?[0];
        points.push((share, 1.0 / rate));
    }
    // Nothing is faster than a job alone; what seems so is noise.
    let alone = points.last().map_or(0.0, |(_, seconds)| *seconds);
    points
        .iter_mut()
        .for_each(|(_, seconds)| *seconds = seconds.max(alone));
    Ok(Throughput::measured(&points)?)
}

fn even(whole: Share, parts: usize) -> Vec<Share> {
    let parts_micro = u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
    vec![Share::from_micro(whole.micro() / parts_micro); parts]
}

fn training(subject: &Subject<'_>, turn: &Arc<Turn>) -> Result<Minibatch, ModelError> {
    let student = (subject.trained)(turn)?;
    let config = RetrainingConfig {
        // It does not end by itself.
        epochs: 100_000,
        batch_size: EXAMPLES,
        // A curve knows nothing of configurations; the whole network trains.
        layers_frozen: 0,
        ..RetrainingConfig::default()
    };
    let options = TrainingOptions::default();
    let mut training = student.train_with(&examples(EXAMPLES, 1), &config, &options, 1)?;
    Ok(Box::new(move || {
        // What it trains from lives as long.
        let _alive = &student;
        training.step().map(drop)
    }))
}

fn inference(subject: &Subject<'_>, _: &Arc<Turn>) -> Result<Minibatch, ModelError> {
    let student = subject.student.fork()?;
    let example = examples(1, 1).remove(0);
    Ok(Box::new(move || {
        let answers = student.infer(&example.image, &example.regions(), 1.0);
        answers.map(drop)
    }))
}

/// So many random pictures of one object each, of each class by turns: a synthetic input for who wants
/// to know what a minibatch costs, and not what it teaches.
#[must_use]
pub fn examples(count: usize, classes: usize) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let bbox = BBox {
        x1: 8.0,
        y1: 8.0,
        x2: 88.0,
        y2: 88.0,
    };
    let mut picture = || {
        let mut rgb = vec![0; SIDE * SIDE * 3];
        rng.fill(&mut rgb[..]);
        Image::new(SIDE, SIDE, rgb).ok()
    };
    let example = |index: usize| {
        Some(Example {
            image: Arc::new(picture()?),
            objects: vec![Object {
                class: index % classes.max(1),
                score: 1.0,
                bbox,
            }],
        })
    };
    (0..count).filter_map(example).collect()
}

#[cfg(test)]
#[cfg(feature = "torch")]
mod tests {
    use ekya_models::{Architecture, Classifier, Placement};

    use super::*;

    #[test]
    fn a_student_is_measured_at_every_share_and_depth() -> Result<(), ContestError> {
        let student = Classifier::new(Architecture::Small, 2, 8, Placement::Cpu, 1);
        let student = student.map_err(LearnError::from)?;
        let subject = Subject {
            student: &student,
            trained: &|_| student.fork(),
            threads: 1,
        };
        let curves = measure(&subject, 2)?;
        assert_eq!(curves.steps_per_second.len(), 2);
        assert!(curves.steps_per_second.iter().all(|rate| *rate > 0.0));
        for curve in [&curves.training, &curves.inference] {
            assert_eq!(curve.speed(Share::WHOLE), 1.0);
            assert_eq!(curve.largest_useful(), Share::WHOLE);
        }
        Ok(())
    }
}
