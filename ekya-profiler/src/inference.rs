//! What frame sampling and resolution cost in accuracy, and what share they need.

use ekya_sched::{InferenceOption, Share, Throughput};

/// One inference configuration λ, measured on labelled consecutive frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Every how many frames one is answered, at least 1.
    pub sample_every: u32,
    /// Side of the network's input, relative to full, in (0, 1].
    pub resolution: f64,
    /// Accuracy over all frames, skipped ones with inherited answers; see [`inherited_accuracy`].
    pub accuracy: f64,
    /// Device seconds that one answered frame costs.
    pub seconds_per_answer: f64,
}

/// A measured configuration as the scheduler wants it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InferenceProfile {
    /// Every how many frames one is answered.
    pub sample_every: u32,
    /// Side of the network's input, relative to full.
    pub resolution: f64,
    /// Accuracy factor and share.
    pub option: InferenceOption,
}

/// Accuracy over `frames` consecutive frames when every `sample_every`-th is answered and the
/// others inherit the last answer. `score(answered, shown)` is the accuracy, in 0..=1, of the
/// answer given on frame `answered` when it is held against the label of frame `shown`.
///
/// All phases of the sampling are averaged, which makes the most of few frames: it is the mean
/// over the ages 0 … `sample_every − 1` of an answer. 0 when there is no frame.
pub fn inherited_accuracy(
    frames: usize,
    sample_every: u32,
    score: impl Fn(usize, usize) -> f64,
) -> f64 {
    let ages = (sample_every.max(1) as usize).min(frames);
    let of_age = |age: usize| {
        let sum: f64 = (age..frames).map(|shown| score(shown - age, shown)).sum();
        sum / (frames - age) as f64
    };
    match ages {
        0 => 0.0,
        _ => (0..ages).map(of_age).sum::<f64>() / ages as f64,
    }
}

/// The configurations that no other dominates, cheapest first.
///
/// A configuration needs the share under which inference is, by `throughput`, `frames_per_second /
/// sample_every × seconds_per_answer × headroom` times as fast as on a whole device; a `headroom` of
/// 1.2 leaves a sixth of that for jitter. Its factor is its accuracy over the best one's. Measurements that make no sense (no numbers, a share that is none) are
/// left out.
#[must_use]
pub fn profiles(
    measurements: &[Measurement],
    frames_per_second: f64,
    headroom: f64,
    throughput: &Throughput,
) -> Vec<InferenceProfile> {
    let usable: Vec<(&Measurement, Share)> = measurements
        .iter()
        .filter(|measurement| (0.0..=1.0).contains(&measurement.accuracy))
        .filter_map(|measurement| {
            let share = share(measurement, frames_per_second, headroom, throughput)?;
            Some((measurement, share))
        })
        .collect();
    let best = usable.iter().map(|(m, _)| m.accuracy).fold(0.0, f64::max);
    let mut profiles: Vec<InferenceProfile> = usable
        .iter()
        .map(|&(measurement, share)| InferenceProfile {
            sample_every: measurement.sample_every,
            resolution: measurement.resolution,
            option: InferenceOption {
                // A student that is never right loses nothing by skipping.
                accuracy_factor: if best > 0.0 {
                    measurement.accuracy / best
                } else {
                    1.0
                },
                share,
            },
        })
        .collect();
    keep_undominated(&mut profiles);
    profiles
}

fn share(
    measurement: &Measurement,
    frames_per_second: f64,
    headroom: f64,
    throughput: &Throughput,
) -> Option<Share> {
    if measurement.sample_every == 0 {
        return None;
    }
    let answers_per_second = frames_per_second / f64::from(measurement.sample_every);
    let speed = answers_per_second * measurement.seconds_per_answer * headroom;
    // What a whole device is too slow for needs several, or does its best.
    let several = || Share::try_from(speed).ok();
    throughput.share_for(speed).or_else(several)
}

fn keep_undominated(profiles: &mut Vec<InferenceProfile>) {
    profiles.sort_by(|a, b| {
        let (a, b) = (a.option, b.option);
        (a.share.cmp(&b.share)).then(b.accuracy_factor.total_cmp(&a.accuracy_factor))
    });
    let mut best = f64::NEG_INFINITY;
    profiles.retain(|profile| {
        let better = profile.option.accuracy_factor > best;
        best = best.max(profile.option.accuracy_factor);
        better
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measurement(sample_every: u32, accuracy: f64) -> Measurement {
        Measurement {
            sample_every,
            resolution: 1.0,
            accuracy,
            seconds_per_answer: 0.01,
        }
    }

    #[test]
    fn answers_age_until_the_next() {
        // The scene changes at frame 4; an answer is right for its own half only.
        let score = |answered: usize, shown: usize| f64::from((answered < 4) == (shown < 4));
        assert_eq!(inherited_accuracy(8, 1, score), 1.0);
        let half = inherited_accuracy(8, 2, score);
        assert!((half - (1.0 + 6.0 / 7.0) / 2.0).abs() < 1e-12, "{half}");
        assert_eq!(inherited_accuracy(0, 2, score), 0.0);
    }

    #[test]
    fn shares_and_factors_are_those_of_the_formula() {
        let profiles = profiles(
            &[measurement(1, 0.8), measurement(2, 0.6)],
            10.0,
            1.2,
            &Throughput::default(),
        );
        let [half, full] = profiles[..] else {
            panic!("{profiles:?}")
        };
        assert_eq!(full.option.share, Share::from_micro(120_000));
        assert_eq!(half.option.share, Share::from_micro(60_000));
        assert_eq!(full.option.accuracy_factor, 1.0);
        assert!((half.option.accuracy_factor - 0.75).abs() < 1e-12);
    }

    #[test]
    fn a_curve_says_which_share_is_fast_enough() -> Result<(), ekya_sched::ThroughputError> {
        // Two side by side, none slower for it: half a device is as fast as a whole one.
        let half = Share::from_micro(500_000);
        let curve = Throughput::measured(&[(half, 1.0), (Share::WHOLE, 1.0)])?;
        let measured = [
            measurement(1, 0.8),
            measurement(8, 0.6),
            measurement(16, 0.5),
        ];
        let profiles = profiles(&measured, 80.0, 1.2, &curve);
        let shares: Vec<u32> = profiles
            .iter()
            .map(|one| one.option.share.micro())
            .collect();
        assert_eq!(shares, [30_000, 60_000, 480_000]);
        let costly = super::profiles(&measured[..1], 200.0, 1.2, &curve);
        assert_eq!(
            costly[0].option.share,
            Share::from_micro(2_400_000),
            "more than there is"
        );
        Ok(())
    }

    #[test]
    fn dominated_and_senseless_ones_are_left_out() {
        let bad = Measurement {
            seconds_per_answer: f64::NAN,
            ..measurement(3, 0.9)
        };
        let measured = [
            measurement(1, 0.7),
            measurement(2, 0.7),
            measurement(0, 0.9),
            bad,
        ];
        let kept: Vec<u32> = profiles(&measured, 10.0, 1.0, &Throughput::default())
            .iter()
            .map(|p| p.sample_every)
            .collect();
        assert_eq!(kept, [2]);
    }

    proptest! {
        #[test]
        fn costlier_options_are_more_accurate(
            measured in prop::collection::vec((1_u32..30, 0.0..=1.0_f64, 0.0..0.1_f64), 0..20),
        ) {
            let measured: Vec<Measurement> = measured
                .into_iter()
                .map(|(every, accuracy, seconds_per_answer)| Measurement {
                    seconds_per_answer,
                    ..measurement(every, accuracy)
                })
                .collect();
            let profiles = profiles(&measured, 15.0, 1.2, &Throughput::default());
            prop_assert_eq!(profiles.is_empty(), measured.is_empty());
            for pair in profiles.windows(2) {
                prop_assert!(pair[0].option.share < pair[1].option.share);
                prop_assert!(pair[0].option.accuracy_factor < pair[1].option.accuracy_factor);
            }
        }
    }
}
