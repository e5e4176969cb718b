//! Problems of any size, made up from a seed: no measurement of anybody's cameras.
//!
//! Their numbers are in the range of the paper's (NSDI 2022): what an option of retraining costs is
//! what its simulator assumes, and what a skipped frame costs is what it saw of Cityscapes. What
//! a retraining gives is a curve with some noise. Equal sizes give equal problems.

use std::time::Duration;

use ekya_sched::{DeviceSpec, InferenceOption, Problem, RetrainingOption, Share, StreamSpec};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::points::{Devices, Size};

const SEED: u64 = 2022;
/// The paper's retraining window.
const WINDOW: Duration = Duration::from_secs(200);
/// Retraining configurations of the paper: kinds of head, parts of the data, epochs.
const PAPER: usize = 18;
/// Parts of the window's data that are trained on.
const FRACTIONS: [f64; 3] = [0.1, 0.5, 1.0];
/// Seconds an epoch takes on a whole GPU, by the kind of head and the part of the data.
const EPOCH_SECONDS: [[f64; 3]; 2] = [[0.58, 2.59, 5.12], [1.08, 5.25, 10.45]];
const EPOCHS: [f64; 3] = [5.0, 15.0, 30.0];
/// Part of what there is to gain that a kind of head can gain.
const REACH: [f64; 2] = [0.75, 1.0];
/// Every how many frames are answered, and what is then left of the accuracy.
const SKIPS: [(u32, f64); 12] = [
    (1, 1.0),
    (2, 0.78),
    (3, 0.64),
    (4, 0.6),
    (5, 0.44),
    (6, 0.42),
    (7, 0.41),
    (8, 0.33),
    (9, 0.28),
    (10, 0.15),
    (15, 0.12),
    (20, 0.04),
];
/// What a student needs to answer every frame.
const EVERY_FRAME: u32 = 250_000;

/// A problem of this size.
pub fn problem(size: Size, devices: Devices) -> Problem {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let streams = (0..size.streams).map(|index| stream(index, size.configurations, &mut random));
    let whole = Share::WHOLE.micro();
    let gpus = u32::try_from(size.gpus).unwrap();
    Problem {
        devices: match devices {
            Devices::Pooled => vec![DeviceSpec::new(Share::from_micro(gpus * whole))],
            Devices::Separate => vec![DeviceSpec::new(Share::WHOLE); size.gpus],
        },
        streams: streams.collect(),
        ..Problem::new(WINDOW)
    }
}

fn stream(index: usize, configurations: usize, random: &mut ChaCha8Rng) -> StreamSpec {
    let accuracy = random.random_range(0.3..0.9);
    let best = f64::max(accuracy, random.random_range(0.7..0.95));
    let inference = SKIPS.map(|(every, accuracy_factor)| InferenceOption {
        accuracy_factor,
        share: Share::from_micro(EVERY_FRAME / every),
    });
    StreamSpec {
        name: format!("stream {index}"),
        accuracy,
        inference: inference.into(),
        retraining: (0..configurations)
            .map(|option| retraining(option, configurations, accuracy, best, random))
            .collect(),
        ..StreamSpec::default()
    }
}

/// One of so many options: the paper's, if there are 18; else a part of them, evenly chosen, or
/// between them as many more.
fn retraining(
    option: usize,
    of: usize,
    accuracy: f64,
    best: f64,
    random: &mut ChaCha8Rng,
) -> RetrainingOption {
    let place = option * PAPER / of;
    let (head, fraction, epochs) = (place / 9, place / 3 % 3, place % 3);
    let between = if of > PAPER {
        random.random_range(0.7..1.4)
    } else {
        1.0
    };
    let epochs = EPOCHS[epochs] * between;
    let learnt = REACH[head] * FRACTIONS[fraction].powf(0.2) * (1.0 - (-epochs / 8.0).exp());
    let noise = random.random_range(-0.03..0.03);
    let end_accuracy = (accuracy + (best - accuracy) * learnt + noise).clamp(0.0, 1.0);
    RetrainingOption::new(end_accuracy, EPOCH_SECONDS[head][fraction] * epochs)
}
