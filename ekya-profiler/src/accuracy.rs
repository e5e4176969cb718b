//! Accuracy with its uncertainty, set right for a teacher that errs.
//!
//! A student is scored against the teacher's labels, of which there are many, so its measured
//! accuracy is wrong by whatever the teacher is wrong by. Where people have labelled a few of the
//! same frames, *prediction-powered inference* (Angelopoulos et al., Science 2023) takes the
//! difference between both scores on those off the mean of all: right in the mean however wrong the
//! teacher is, and surer than the few alone where it is mostly right. How far the teacher is to be
//! followed is chosen so that the variance is least (PPI++, Angelopoulos et al. 2023).

use crate::Estimate;
use crate::comparison::mean_of_series;

/// Scores of a frame that a person has labelled, too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Audited {
    /// Score of the student's answer against the person's labels, in 0..=1.
    pub human: f64,
    /// Its score against the teacher's.
    pub teacher: f64,
}

/// Accuracy of a student from its scores against the teacher's labels, in order of time, and from
/// frames that people have labelled, too, which are a random part of all frames. `None` of neither.
///
/// With audited frames `i` and all others `j`, the estimate is
/// `mean_i(human − λ · teacher) + λ · mean_j(teacher)`, where `λ` in 0..=1 makes its variance least.
/// Fewer than [`AUDITED_MIN`] audited frames correct nothing.
#[must_use]
pub fn accuracy(teacher: &[f64], audited: &[Audited]) -> Option<Estimate> {
    if audited.len() < AUDITED_MIN {
        return mean_of_series(teacher);
    }
    let human: Vec<f64> = audited.iter().map(|one| one.human).collect();
    let Some(all) = mean_of_series(teacher) else {
        return mean_of_series(&human);
    };
    let trust = trust(audited, teacher.len());
    let corrected: Vec<f64> = audited
        .iter()
        .map(|one| one.human - trust * one.teacher)
        .collect();
    let own = mean_of_series(&corrected)?;
    Some(Estimate {
        mean: (own.mean + trust * all.mean).clamp(0.0, 1.0),
        sd: own.sd.hypot(trust * all.sd),
    })
}

/// Audited frames below which their variance is not known well enough to weigh them.
pub const AUDITED_MIN: usize = 8;

/// λ of PPI++: cov(human, teacher) / ((1 + n/N) · var(teacher)), in 0..=1.
fn trust(audited: &[Audited], others: usize) -> f64 {
    let n = audited.len() as f64;
    let mean = |of: fn(&Audited) -> f64| audited.iter().map(of).sum::<f64>() / n;
    let (human, teacher) = (mean(|one| one.human), mean(|one| one.teacher));
    let (mut common, mut own) = (0.0, 0.0);
    for one in audited {
        common += (one.human - human) * (one.teacher - teacher);
        own += (one.teacher - teacher).powi(2);
    }
    let scale = (1.0 + n / others.max(1) as f64) * own;
    if scale > 0.0 {
        (common / scale).clamp(0.0, 1.0)
    } else {
        // All the teacher's scores are equal, so following them costs nothing.
        1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A student that is right on `right` of ten frames, a teacher that denies every third of these.
    fn frames(count: usize, right: usize) -> Vec<Audited> {
        (0..count)
            .map(|i| {
                let human = f64::from(u8::from(i * 7 % 10 < right));
                let teacher = if i % 3 == 0 { 0.0 } else { human };
                Audited { human, teacher }
            })
            .collect()
    }

    #[test]
    fn the_teachers_errors_are_taken_off() {
        let all = frames(900, 9);
        let teacher: Vec<f64> = all[60..].iter().map(|one| one.teacher).collect();
        let alone = accuracy(&teacher, &[]).unwrap();
        assert!((alone.mean - 0.6).abs() < 0.01);
        let corrected = accuracy(&teacher, &all[..60]).unwrap();
        assert!((corrected.mean - 0.9).abs() < 0.05, "{corrected:?}");
    }

    #[test]
    fn a_good_teacher_makes_a_few_human_labels_go_further() {
        let mut all = frames(900, 7);
        for one in &mut all {
            one.teacher = one.human;
        }
        let teacher: Vec<f64> = all[60..].iter().map(|one| one.teacher).collect();
        let few: Vec<f64> = all[..60].iter().map(|one| one.human).collect();
        let with = accuracy(&teacher, &all[..60]).unwrap();
        assert!(with.sd < mean_of_series(&few).unwrap().sd);
    }

    #[test]
    fn too_few_human_labels_correct_nothing() {
        let few = frames(AUDITED_MIN - 1, 9);
        assert_eq!(accuracy(&[1.0, 0.0], &few), mean_of_series(&[1.0, 0.0]));
        assert_eq!(accuracy(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn is_an_accuracy(
            teacher in prop::collection::vec(0.0..=1.0_f64, 0..30),
            audited in prop::collection::vec((0.0..=1.0_f64, 0.0..=1.0_f64), 0..30),
        ) {
            let audited: Vec<Audited> = audited
                .into_iter()
                .map(|(human, teacher)| Audited { human, teacher })
                .collect();
            if let Some(estimate) = accuracy(&teacher, &audited) {
                prop_assert!((0.0..=1.0).contains(&estimate.mean) && estimate.sd > 0.0);
            }
        }
    }
}
