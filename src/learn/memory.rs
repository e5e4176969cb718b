//! Labelled frames of earlier times, kept for replay so that a student does not forget what a scene
//! looked like: the exemplars of iCaRL (Rebuffi et al. 2017).
//!
//! It knows neither files nor clocks: frames carry when they were taken.

use ekya_models::Example;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::herd::{Herd, Seen};
use super::split::{Labelled, Split};
use crate::config::LearningConfig;

/// A labelled frame that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The frame and its labels.
    pub example: Example,
    /// When it was taken, in Unix seconds.
    pub taken_at: u64,
}

impl Kept {
    /// Memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let Example { image, objects } = &self.example;
        (size_of::<Self>() + image.rgb().len() + size_of_val(objects.as_slice())) as u64
    }
}

/// How much is kept at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Frames: all of them are replayed in each retraining, which takes time.
    pub frames: usize,
    /// Bytes of all frames together.
    pub bytes: u64,
}

impl Limits {
    /// Those of a configuration.
    #[must_use]
    pub fn of(learning: &LearningConfig) -> Self {
        Self {
            frames: learning.memory,
            bytes: learning.memory_bytes,
        }
    }
}

/// The features of an example's objects, in order; `None` where there are none to choose by.
pub type Features = Option<Vec<Vec<f32>>>;

/// Frames to replay, within limits. What is too much is forgotten such that about as many objects of
/// each class are left, chosen by herding where features are known, else at random.
#[derive(Debug)]
pub struct Memory {
    limits: Limits,
    kept: Vec<Kept>,
    rng: ChaCha8Rng,
}

impl Memory {
    /// Begins with `kept`, a random part of it where that is too much.
    #[must_use]
    pub fn new(limits: Limits, kept: Vec<Kept>, seed: u64) -> Self {
        let mut memory = Self {
            limits,
            kept,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        if !memory.fits() {
            memory.forget(Vec::new());
        }
        memory
    }

    /// At most so many of the remembered frames, evenly from the oldest to the newest.
    #[must_use]
    pub fn some(&self, count: usize) -> Vec<Example> {
        let (all, count) = (self.kept.len(), count.min(self.kept.len()));
        let kept = (0..count).map(|i| &self.kept[i * all / count]);
        kept.map(|one| one.example.clone()).collect()
    }

    /// What to train on: the recent frames and everything remembered.
    #[must_use]
    pub fn with(&self, split: &Split) -> Vec<Example> {
        let recent = split.training.iter().map(Labelled::example);
        let old = self.kept.iter().map(|one| one.example.clone());
        recent.chain(old).collect()
    }

    /// Remembers frames that are no longer recent. When that is too much, `features` is asked for
    /// those of every frame, to choose by.
    ///
    /// # Errors
    /// That of `features`; a random choice is kept then.
    pub fn remember<E>(
        &mut self,
        frames: impl IntoIterator<Item = Kept>,
        features: impl FnMut(&Example) -> Result<Features, E>,
    ) -> Result<(), E> {
        self.kept.extend(frames);
        if self.fits() {
            return Ok(());
        }
        let examples = self.kept.iter().map(|one| &one.example);
        let features = examples.map(features).collect();
        let (features, result) = match features {
            Ok(features) => (features, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        self.forget(features);
        result
    }

    /// Forgets every frame taken before `time`, in Unix seconds.
    pub fn forget_before(&mut self, time: u64) {
        self.kept.retain(|one| one.taken_at >= time);
    }

    /// Everything remembered.
    #[must_use]
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    fn fits(&self) -> bool {
        let bytes: u64 = self.kept.iter().map(Kept::bytes).sum();
        self.kept.len() <= self.limits.frames && bytes <= self.limits.bytes
    }

    /// Keeps, one by one, the frame that [`Herd::next`] chooses, as long as there is room. `features`
    /// are those of each frame; beyond its end there are none.
    fn forget(&mut self, features: Vec<Features>) {
        let frames = std::mem::take(&mut self.kept);
        let features = features.into_iter().chain(std::iter::repeat(None));
        let mut pool: Vec<(Kept, Vec<Seen>)> = frames
            .into_iter()
            .zip(features)
            .map(|(frame, features)| {
                let seen = Seen::all(&frame.example.objects, features);
                (frame, seen)
            })
            .collect();
        // Where nothing else decides, the first is taken.
        pool.shuffle(&mut self.rng);
        let mut herd = Herd::new(pool.iter().flat_map(|(_, seen)| seen));
        let mut room = self.limits.bytes;
        while self.kept.len() < self.limits.frames {
            let Some(index) = herd.next(pool.iter().map(|(_, seen)| seen.as_slice())) else {
                break;
            };
            let (frame, seen) = pool.swap_remove(index);
            if let Some(left) = room.checked_sub(frame.bytes()) {
                room = left;
                herd.add(&seen);
                self.kept.push(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use ekya_models::{BBox, Image, Object};
    use proptest::prelude::*;

    use super::*;

    const BBOX: BBox = BBox {
        x1: 0.0,
        y1: 0.0,
        x2: 1.0,
        y2: 1.0,
    };

    fn frame(classes: &[usize], side: usize, taken_at: u64) -> Kept {
        let object = |class: &usize| Object {
            class: *class,
            score: 1.0,
            bbox: BBOX,
        };
        Kept {
            example: Example {
                image: Arc::new(Image::new(side, side, vec![0; 3 * side * side]).unwrap()),
                objects: classes.iter().map(object).collect(),
            },
            taken_at,
        }
    }

    fn limits(frames: usize) -> Limits {
        Limits {
            frames,
            bytes: u64::MAX,
        }
    }

    fn unknown(_: &Example) -> Result<Features, Infallible> {
        Ok(None)
    }

    fn times(memory: &Memory) -> Vec<u64> {
        let mut times: Vec<u64> = memory.kept().iter().map(|one| one.taken_at).collect();
        times.sort_unstable();
        times
    }

    #[test]
    fn rare_classes_are_remembered() {
        let frames = (0..100).map(|i| frame(&[usize::from(i % 25 == 0)], 1, i));
        let memory = Memory::new(limits(8), frames.collect(), 1);
        let rare = |one: &&Kept| one.example.objects[0].class == 1;
        let rare = memory.kept().iter().filter(rare).count();
        assert_eq!((memory.kept().len(), rare), (8, 4));
    }

    #[test]
    fn frames_near_the_mean_of_their_class_are_remembered_first() {
        let mut memory = Memory::new(limits(2), Vec::new(), 1);
        let frames = (0..5).map(|i| frame(&[0], 1, i));
        // Directions spread about that of the frame taken third.
        let mut angles = [-1.0f32, -0.5, 0.1, 0.5, 1.0].into_iter();
        let features = |_: &Example| -> Result<Features, Infallible> {
            Ok(angles
                .next()
                .map(|angle| vec![vec![angle.cos(), angle.sin()]]))
        };
        memory.remember(frames, features).unwrap();
        // The third, and of the others that which draws the mean of both nearest to that of all.
        assert_eq!(times(&memory), [1, 2]);
    }

    #[test]
    fn features_are_not_asked_for_as_long_as_there_is_room() {
        let mut memory = Memory::new(limits(3), Vec::new(), 1);
        let refuse = |_: &Example| Err("asked");
        assert_eq!(
            memory.remember((0..3).map(|i| frame(&[0], 1, i)), refuse),
            Ok(())
        );
        let result = memory.remember([frame(&[1], 1, 3)], refuse);
        assert_eq!((result, memory.kept().len()), (Err("asked"), 3));
    }

    #[test]
    fn what_is_older_than_a_time_is_forgotten() {
        let mut memory = Memory::new(limits(9), (0..6).map(|i| frame(&[0], 1, i)).collect(), 1);
        memory.forget_before(4);
        assert_eq!(times(&memory), [4, 5]);
        memory.forget_before(u64::MAX);
        assert!(memory.kept().is_empty());
    }

    #[test]
    fn a_frame_too_large_does_not_keep_smaller_ones_out() {
        let small = frame(&[0], 2, 1);
        let limits = Limits {
            frames: 9,
            bytes: small.bytes(),
        };
        let memory = Memory::new(limits, vec![frame(&[1], 50, 0), small], 1);
        assert_eq!(times(&memory), [1]);
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_repeats_itself(
            rounds in prop::collection::vec(
                prop::collection::vec((prop::collection::vec(0usize..4, 0..4), 1usize..6), 0..9),
                1..5,
            ),
            frames in 0usize..7,
            bytes in 0u64..2_000,
            seed: u64,
        ) {
            let limits = Limits { frames, bytes };
            let run = || {
                let mut memory = Memory::new(limits, Vec::new(), seed);
                for (at, round) in rounds.iter().enumerate() {
                    let new = round.iter().map(|(classes, side)| frame(classes, *side, at as u64));
                    memory.remember(new, unknown).unwrap();
                    let size: u64 = memory.kept().iter().map(Kept::bytes).sum();
                    assert!(memory.kept().len() <= frames && size <= bytes);
                }
                times(&memory)
            };
            prop_assert_eq!(run(), run());
        }
    }
}
