//! Labelled frames: what a stream trains on, what it is tested on, and what it remembers.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekya_models::{Example, Image, Object};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::source::Frame;
use crate::stream::{Answer, Metric, Sample};

/// A frame with the teacher's labels.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// The frame.
    pub frame: Frame,
    /// Seconds from the start of the run.
    pub at: f64,
    /// When it was taken (Unix seconds).
    pub taken_at: u64,
    /// The teacher's labels.
    pub labels: Vec<Object>,
    /// The answer in force at the frame's time.
    pub answer: Option<Arc<Answer>>,
    /// Whether it belongs to the burst of consecutive frames.
    pub burst: bool,
}

impl Labelled {
    /// A sample and its labels.
    #[must_use]
    pub fn new(sample: Sample, labels: Vec<Object>) -> Self {
        let Sample {
            frame,
            at,
            taken_at,
            answer,
            burst,
        } = sample;
        Self {
            frame,
            at,
            taken_at,
            labels,
            answer,
            burst,
        }
    }

    /// Score of the answer that was in force; `None` where there is nothing to score.
    #[must_use]
    pub fn live_score(&self, metric: Metric) -> Option<f64> {
        metric.score(
            &self.labels,
            self.answer.as_ref().map_or(&[], |answer| &answer.objects),
        )
    }

    fn example(&self) -> Example {
        Example {
            image: Arc::<Image>::clone(&self.frame.image),
            objects: self.labels.clone(),
        }
    }

    /// What of it may be kept.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept {
            example: self.example(),
            taken_at: self.taken_at,
        }
    }
}

/// A labelled picture that is kept, and when it was taken.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The picture and its labels.
    pub example: Example,
    /// When it was taken (Unix seconds).
    pub taken_at: u64,
}

/// The newest labelled frames, divided by time: students train on the earlier ones and are compared
/// on the later ones, which no student has been trained on yet.
#[derive(Debug, Clone, Default)]
pub struct Split {
    /// To train on.
    pub training: Vec<Labelled>,
    /// To compare students on; later than every frame of `training`.
    pub holdout: Vec<Labelled>,
    /// Consecutive frames to profile frame sampling on.
    pub burst: Vec<Labelled>,
    /// How many of `training`, the earliest, were there to train on before the last advance.
    seen: usize,
}

impl Split {
    /// Takes in newly labelled frames: what was held out may be trained on now, and the latest
    /// `held` are held out, but at most half of those not trained on yet. At most `recent` frames
    /// stay to train on; older ones are returned, for the [`Memory`]. A new burst replaces the one
    /// before.
    pub fn advance(
        &mut self,
        labelled: Vec<Labelled>,
        held: usize,
        recent: usize,
    ) -> Vec<Labelled> {
        let (burst, spread): (Vec<_>, Vec<_>) = labelled.into_iter().partition(|one| one.burst);
        if !burst.is_empty() {
            self.burst = last_run(burst);
        }
        let mut untrained = std::mem::take(&mut self.holdout);
        untrained.extend(spread);
        untrained.sort_by(|a, b| a.at.total_cmp(&b.at));
        self.holdout = untrained.split_off(untrained.len() - held.min(untrained.len() / 2));
        self.seen = self.training.len();
        self.training.append(&mut untrained);
        let old = self.training.len().saturating_sub(recent);
        self.seen = self.seen.saturating_sub(old);
        self.training.drain(..old).collect()
    }

    /// The latest `count` frames to compare students on, out of those held out and `newer` ones.
    #[must_use]
    pub fn newest(&self, newer: &[Labelled], count: usize) -> Vec<Labelled> {
        let spread = newer.iter().filter(|one| !one.burst);
        let mut all: Vec<Labelled> = self.holdout.iter().chain(spread).cloned().collect();
        all.sort_by(|a, b| a.at.total_cmp(&b.at));
        all.split_off(all.len().saturating_sub(count))
    }

    /// Drops frames taken before `time` (Unix seconds).
    pub fn forget_before(&mut self, time: u64) {
        let old = |one: &Labelled| one.taken_at < time;
        let seen = self.training[..self.seen].iter().filter(|one| old(one));
        self.seen -= seen.count();
        for frames in [&mut self.training, &mut self.holdout, &mut self.burst] {
            frames.retain(|one| !old(one));
        }
    }

    /// The frames that the serving student cannot have been trained on, earliest first.
    pub fn fresh(&self) -> impl Iterator<Item = &Labelled> {
        self.training[self.seen..].iter().chain(&self.holdout)
    }
}

/// The last run of consecutive frames: two windows' bursts may come together.
fn last_run(mut frames: Vec<Labelled>) -> Vec<Labelled> {
    frames.sort_by_key(|one| one.frame.index);
    let consecutive = |pair: &[Labelled]| pair[0].frame.index + 1 == pair[1].frame.index;
    let from = frames.windows(2).rposition(|pair| !consecutive(pair));
    frames.split_off(from.map_or(0, |gap| gap + 1))
}

/// Labelled frames of earlier times, kept for replay so that a student does not forget what a scene
/// looked like: iCaRL's exemplars (Rebuffi et al. 2017), chosen at random where iCaRL chooses those
/// nearest to their class's mean. Bounded; every class keeps about as many frames as the others.
#[derive(Debug)]
pub struct Memory {
    capacity: usize,
    kept: Vec<Kept>,
    rng: ChaCha8Rng,
}

impl Memory {
    /// Keeps at most `capacity` frames, and begins with those that were `kept` before, or with
    /// exemplars of what the student was first trained on.
    #[must_use]
    pub fn new(capacity: usize, kept: Vec<Kept>, seed: u64) -> Self {
        let mut memory = Self {
            capacity,
            kept,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        memory.forget();
        memory
    }

    /// What to train on: the recent frames and everything remembered.
    #[must_use]
    pub fn with(&self, split: &Split) -> Vec<Example> {
        split
            .training
            .iter()
            .map(Labelled::example)
            .chain(self.kept.iter().map(|kept| kept.example.clone()))
            .collect()
    }

    /// The frames remembered.
    #[must_use]
    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Drops frames taken before `time` (Unix seconds).
    pub fn forget_before(&mut self, time: u64) {
        self.kept.retain(|kept| kept.taken_at >= time);
    }

    /// Remembers frames that are no longer recent.
    pub fn remember(&mut self, frames: &[Labelled]) {
        self.kept.extend(frames.iter().map(Labelled::kept));
        self.forget();
    }

    /// Drops frames down to the capacity: keeps, one by one, a random frame that holds the class of
    /// which fewest are kept so far.
    fn forget(&mut self) {
        if self.kept.len() <= self.capacity {
            return;
        }
        let mut pool = std::mem::take(&mut self.kept);
        pool.shuffle(&mut self.rng);
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        while self.kept.len() < self.capacity {
            let rarest = |example: &Example| {
                let count = |object: &Object| counts.get(&object.class).copied().unwrap_or(0);
                example
                    .objects
                    .iter()
                    .map(count)
                    .min()
                    .unwrap_or(usize::MAX)
            };
            let Some(index) = (0..pool.len()).min_by_key(|index| rarest(&pool[*index].example))
            else {
                break;
            };
            let kept = pool.swap_remove(index);
            for object in &kept.example.objects {
                *counts.entry(object.class).or_default() += 1;
            }
            self.kept.push(kept);
        }
    }

    /// Frames remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn labelled(at: f64, burst: bool) -> Labelled {
        let image = Image::new(1, 1, vec![0; 3]).unwrap();
        let frame = Frame {
            index: 0,
            at: Duration::from_secs_f64(at),
            image: Arc::new(image),
            regions: vec![],
            truth: None,
        };
        Labelled {
            frame,
            at,
            taken_at: at as u64,
            labels: vec![],
            answer: None,
            burst,
        }
    }

    #[test]
    fn holdout_is_later_than_training() {
        let frames = [3.0, 1.0, 2.0, 4.0].map(|at| labelled(at, false)).to_vec();
        let mut split = Split::default();
        split.advance(frames, 1, 9);
        assert_eq!(split.holdout.len(), 1);
        assert!(
            split
                .training
                .iter()
                .all(|one| one.at < split.holdout[0].at)
        );
    }

    #[test]
    fn something_is_left_to_train_on() {
        let mut split = Split::default();
        split.advance(vec![labelled(0.0, false)], 9, 9);
        assert_eq!((split.training.len(), split.holdout.len()), (1, 0));
    }

    #[test]
    fn what_was_held_out_is_trained_on_next() {
        let frames = |times: &[f64]| times.iter().map(|at| labelled(*at, false)).collect();
        let times = |frames: &[Labelled]| frames.iter().map(|one| one.at).collect::<Vec<_>>();
        let mut split = Split::default();
        split.advance(frames(&[1.0, 2.0, 3.0, 4.0]), 2, 3);
        let old = split.advance(frames(&[5.0, 6.0]), 2, 3);
        assert_eq!(times(&old), [1.0]);
        assert_eq!(times(&split.training), [2.0, 3.0, 4.0]);
        let fresh: Vec<f64> = split.fresh().map(|one| one.at).collect();
        assert_eq!(fresh, [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(times(&split.holdout), [5.0, 6.0]);
    }

    #[test]
    fn students_are_compared_on_the_newest_frames() {
        let frames = |times: &[f64]| {
            times
                .iter()
                .map(|at| labelled(*at, false))
                .collect::<Vec<_>>()
        };
        let mut split = Split::default();
        split.advance(frames(&[1.0, 2.0, 3.0, 4.0]), 2, 9);
        let newest = split.newest(&frames(&[5.0]), 2);
        let times: Vec<f64> = newest.iter().map(|one| one.at).collect();
        assert_eq!(times, [4.0, 5.0]);
    }

    #[test]
    fn a_burst_stays_until_the_next() {
        let mut split = Split::default();
        split.advance(vec![labelled(1.0, true)], 2, 9);
        split.advance(vec![labelled(2.0, false)], 2, 9);
        assert_eq!((split.burst.len(), split.training.len()), (1, 1));
    }

    #[test]
    fn rare_classes_are_remembered() {
        let example = |class| {
            let bbox = ekya_models::BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 1.0,
                y2: 1.0,
            };
            let example = Example {
                image: Arc::new(Image::new(1, 1, vec![0; 3]).unwrap()),
                objects: vec![Object {
                    class,
                    score: 1.0,
                    bbox,
                }],
            };
            Kept {
                example,
                taken_at: 0,
            }
        };
        let examples = (0..100)
            .map(|i| example(usize::from(i % 25 == 0)))
            .collect();
        let memory = Memory::new(8, examples, 1);
        let rare = memory
            .with(&Split::default())
            .iter()
            .filter(|one| one.objects[0].class == 1)
            .count();
        assert_eq!((memory.len(), rare), (8, 4));
    }

    #[test]
    fn of_two_bursts_the_later_counts() {
        let frames = [1, 2, 3, 8, 9].map(|index| {
            let mut one = labelled(index as f64, true);
            one.frame.index = index;
            one
        });
        let mut split = Split::default();
        split.advance(frames.to_vec(), 2, 9);
        let burst: Vec<u64> = split.burst.iter().map(|one| one.frame.index).collect();
        assert_eq!(burst, [8, 9]);
    }

    #[test]
    fn what_is_too_old_is_forgotten_and_the_fresh_ones_stay_told_apart() {
        let frames = |times: &[f64]| times.iter().map(|at| labelled(*at, false)).collect();
        let mut split = Split::default();
        split.advance(frames(&[1.0, 2.0, 3.0, 4.0]), 2, 9);
        split.advance(frames(&[5.0, 6.0]), 2, 9);
        let fresh = |split: &Split| split.fresh().map(|one| one.taken_at).collect::<Vec<_>>();
        assert_eq!(fresh(&split), [3, 4, 5, 6]);
        split.forget_before(2);
        assert_eq!((split.training.len(), fresh(&split)), (3, vec![3, 4, 5, 6]));
        split.forget_before(4);
        assert_eq!((split.training.len(), fresh(&split)), (1, vec![4, 5, 6]));
        split.forget_before(6);
        assert_eq!(fresh(&split), [6]);

        let mut memory = Memory::new(9, vec![labelled(1.0, false).kept()], 1);
        memory.remember(&[labelled(3.0, false)]);
        memory.forget_before(2);
        assert_eq!(memory.kept()[0].taken_at, 3);
        memory.forget_before(4);
        assert!(memory.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::new(5, vec![], 1);
        for window in 0..4 {
            let frames: Vec<Labelled> = (0..8)
                .map(|i| labelled(f64::from(window * 8 + i), false))
                .collect();
            memory.remember(&frames);
            assert!(memory.len() <= 5);
        }
        assert_eq!(memory.len(), 5);
    }
}
