//! How an epoch is divided into minibatches, and those into the parts that one training step
//! computes on.

use std::ops::Range;

/// One epoch's division. Pieces are as equal as can be: a last minibatch of a few examples would
/// pull as hard as the others, and have statistics of its own.
#[derive(Debug)]
pub(crate) struct Division {
    parts: Vec<Part>,
    minibatches: usize,
}

/// What one training step computes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Places in the epoch's order.
    pub(crate) examples: Range<usize>,
    /// Its minibatch, from 0 in each epoch.
    pub(crate) minibatch: usize,
    /// Examples of the whole minibatch.
    pub(crate) of: usize,
    /// Whether it is the minibatch's first part.
    pub(crate) first: bool,
    /// Whether it is the minibatch's last part, after which the weights move.
    pub(crate) last: bool,
}

impl Part {
    /// What its mean loss counts in that of the minibatch.
    pub(crate) fn weight(&self) -> f64 {
        self.examples.len() as f64 / self.of as f64
    }
}

impl Division {
    /// Divides `examples` into minibatches of at most `batch_size`, and those into parts of at most
    /// `micro_batch`; both are at least 1.
    pub(crate) fn new(examples: usize, batch_size: usize, micro_batch: usize) -> Self {
        let minibatches = examples.div_ceil(batch_size);
        let mut parts = Vec::with_capacity(minibatches);
        for minibatch in 0..minibatches {
            let whole = piece(&(0..examples), minibatches, minibatch);
            let count = whole.len().div_ceil(micro_batch);
            parts.extend((0..count).map(|index| Part {
                examples: piece(&whole, count, index),
                minibatch,
                of: whole.len(),
                first: index == 0,
                last: index + 1 == count,
            }));
        }
        Self { parts, minibatches }
    }

    /// Steps an epoch.
    pub(crate) fn steps(&self) -> usize {
        self.parts.len()
    }

    /// The part that comes after `done` steps, and how many minibatches lie before its own.
    pub(crate) fn after(&self, done: usize) -> (Part, usize) {
        let (epoch, within) = (done / self.parts.len(), done % self.parts.len());
        let part = self.parts[within].clone();
        let before = epoch * self.minibatches + part.minibatch;
        (part, before)
    }

    /// Minibatches an epoch.
    pub(crate) fn minibatches(&self) -> usize {
        self.minibatches
    }
}

/// The piece of that index when `whole` is divided evenly into `pieces`.
fn piece(whole: &Range<usize>, pieces: usize, index: usize) -> Range<usize> {
    let at = |index: usize| whole.start + index * whole.len() / pieces;
    at(index)..at(index + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_example_is_in_one_part_of_one_minibatch(
            examples in 1usize..400,
            batch_size in 1usize..70,
            micro_batch in 1usize..70,
        ) {
            let division = Division::new(examples, batch_size, micro_batch);
            let mut next = 0;
            let mut in_minibatch = 0;
            for step in 0..division.steps() {
                let (part, before) = division.after(step);
                prop_assert_eq!(part.first, in_minibatch == 0);
                prop_assert_eq!((part.examples.start, before), (next, part.minibatch));
                prop_assert!((1..=micro_batch).contains(&part.examples.len()));
                prop_assert!((1..=batch_size).contains(&part.of));
                next = part.examples.end;
                in_minibatch += part.examples.len();
                prop_assert_eq!(part.last, in_minibatch == part.of);
                if part.last {
                    in_minibatch = 0;
                }
            }
            prop_assert_eq!(next, examples);
            prop_assert_eq!(division.minibatches(), examples.div_ceil(batch_size));
            prop_assert_eq!(division.after(division.steps()).1, division.minibatches());
        }
    }
}
