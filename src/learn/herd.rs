//! Which frames stand for a class: *herding* (Welling 2009), as iCaRL chooses its exemplars.
//!
//! Each next one is that which draws the mean of the features chosen so far nearest to the mean of all
//! (of unit length). Unlike in iCaRL, whose pictures show one object, a frame brings all its objects
//! along, of whatever class; the next frame is one of the class of which fewest objects were chosen.
//! And means are those of what is there to choose from, features those of today's student: iCaRL
//! chooses once, when a class is new, while a stream's classes change their looks.

use std::collections::BTreeMap;

use ekya_models::Object;

/// An object to choose by: its class, and its features where they are known.
#[derive(Debug)]
pub(super) struct Seen {
    class: usize,
    features: Option<Vec<f32>>,
}

impl Seen {
    /// The objects of a frame. Features that are not one for each object are left out.
    pub(super) fn all(objects: &[Object], features: Option<Vec<Vec<f32>>>) -> Vec<Self> {
        let features = features.filter(|features| features.len() == objects.len());
        let mut features = features.unwrap_or_default().into_iter().map(unit);
        let seen = |object: &Object| Self {
            class: object.class,
            features: features.next(),
        };
        objects.iter().map(seen).collect()
    }
}

/// A class.
#[derive(Debug, Default)]
struct Class {
    /// Objects chosen.
    chosen: usize,
    /// Features of those, summed up.
    sum: Vec<f32>,
    /// Mean of the features of all there are.
    mean: Vec<f32>,
}

impl Class {
    /// How far from the mean of all the mean of the chosen would be with these, squared; 0 where there
    /// is nothing to tell by.
    fn distance(&self, more: &[Seen], class: usize) -> f32 {
        let more = || more.iter().filter(|one| one.class == class);
        let added = more().filter_map(|one| one.features.as_deref());
        let sum = added.fold(self.sum.clone(), plus);
        let count = (self.chosen + more().count()) as f32;
        let apart = sum.iter().zip(&self.mean).map(|(a, b)| a / count - b);
        apart.map(|difference| difference * difference).sum()
    }
}

/// What is chosen so far, class by class.
#[derive(Debug)]
pub(super) struct Herd(BTreeMap<usize, Class>);

impl Herd {
    /// Nothing chosen yet, out of `all`.
    pub(super) fn new<'a>(all: impl Iterator<Item = &'a Seen>) -> Self {
        let mut classes: BTreeMap<usize, (Class, usize)> = BTreeMap::new();
        for seen in all {
            let (class, count) = classes.entry(seen.class).or_default();
            class.mean = plus(
                std::mem::take(&mut class.mean),
                seen.features.as_deref().unwrap_or_default(),
            );
            *count += 1;
        }
        let mean = |(name, (mut class, count)): (usize, (Class, usize))| {
            class.mean.iter_mut().for_each(|sum| *sum /= count as f32);
            (name, class)
        };
        Self(classes.into_iter().map(mean).collect())
    }

    /// The frame to choose next: one of the class of which fewest objects were chosen, that which
    /// herding says, the first among equals. A frame without objects only when there are no others;
    /// `None` when there is no frame at all.
    pub(super) fn next<'a>(
        &self,
        frames: impl Iterator<Item = &'a [Seen]> + Clone,
    ) -> Option<usize> {
        let classes = frames.clone().flatten().map(|seen| seen.class);
        let Some(rarest) = classes.min_by_key(|class| (self.chosen(*class), *class)) else {
            return frames.clone().next().map(|_| 0);
        };
        let class = self.0.get(&rarest)?;
        let of_class = frames
            .enumerate()
            .filter(|(_, seen)| seen.iter().any(|one| one.class == rarest));
        let distances = of_class.map(|(index, seen)| (index, class.distance(seen, rarest)));
        let nearest = distances.min_by(|(_, a), (_, b)| a.total_cmp(b));
        nearest.map(|(index, _)| index)
    }

    fn chosen(&self, class: usize) -> usize {
        self.0.get(&class).map_or(0, |class| class.chosen)
    }

    /// Chooses a frame.
    pub(super) fn add(&mut self, frame: &[Seen]) {
        for seen in frame {
            let class = self.0.entry(seen.class).or_default();
            class.chosen += 1;
            let features = seen.features.as_deref().unwrap_or_default();
            class.sum = plus(std::mem::take(&mut class.sum), features);
        }
    }
}

/// The sum of two vectors; one that is empty is all zeros.
fn plus(mut sum: Vec<f32>, more: &[f32]) -> Vec<f32> {
    if sum.is_empty() {
        return more.to_vec();
    }
    sum.iter_mut().zip(more).for_each(|(a, b)| *a += b);
    sum
}

/// A vector scaled to length 1; zeros stay.
fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}
