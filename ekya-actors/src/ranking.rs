//! Which of many comes first: a binary heap that knows where everything stands in it, so that what was
//! put in can be moved and taken out again, in O(log n) and without allocation once it has grown.

use crate::slots::Key;

/// Says that a slot stands nowhere.
const NOWHERE: usize = usize::MAX;

/// Values of [`Slots`](crate::slots::Slots) by rank; of equal ranks, the lower number comes first.
#[derive(Debug)]
pub(crate) struct Ranking<R> {
    /// A parent stands at half of its children's positions, counted from one, and before both.
    heap: Vec<(R, Key)>,
    /// Where in the heap each slot stands.
    places: Vec<usize>,
}

impl<R: Ord + Copy> Ranking<R> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: Vec::new(),
            places: Vec::new(),
        }
    }

    pub(crate) fn first(&self) -> Option<(R, Key)> {
        self.heap.first().copied()
    }

    /// Puts something in, or elsewhere if it is in already.
    pub(crate) fn put(&mut self, key: Key, rank: R) {
        let place = match self.place(key) {
            Some(place) if self.heap[place].0 == rank => return,
            Some(place) => place,
            None => {
                if self.places.len() <= key.slot {
                    self.places.resize(key.slot + 1, NOWHERE);
                }
                self.heap.push((rank, key));
                self.heap.len() - 1
            }
        };
        self.heap[place] = (rank, key);
        self.settle(place);
    }

    /// Takes something out, if it is in.
    pub(crate) fn remove(&mut self, key: Key) {
        let Some(place) = self.place(key) else {
            return;
        };
        self.heap.swap_remove(place);
        self.places[key.slot] = NOWHERE;
        if place < self.heap.len() {
            self.settle(place);
        }
    }

    fn place(&self, key: Key) -> Option<usize> {
        let place = *self.places.get(key.slot)?;
        let (_, there) = self.heap.get(place)?;
        (*there == key).then_some(place)
    }

    /// Moves what stands at a place to where it belongs: up past what comes after it, or down past
    /// what comes before it.
    fn settle(&mut self, mut place: usize) {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            let parent = (place - 1) / 2;
            self.swap(place, parent);
            place = parent;
        }
        while let Some(child) = self.first_child(place) {
            if self.heap[place] < self.heap[child] {
                break;
            }
            self.swap(place, child);
            place = child;
        }
        self.places[self.heap[place].1.slot] = place;
    }

    fn first_child(&self, place: usize) -> Option<usize> {
        let (left, right) = (2 * place + 1, 2 * place + 2);
        let left_rank = self.heap.get(left)?;
        match self.heap.get(right) {
            Some(right_rank) if right_rank < left_rank => Some(right),
            _ => Some(left),
        }
    }

    /// Leaves it to the caller to note where what was at `place` ends up.
    fn swap(&mut self, place: usize, other: usize) {
        self.heap.swap(place, other);
        self.places[self.heap[place].1.slot] = place;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_a_sorted_set_is(
            calls in prop::collection::vec((0_usize..40, prop::option::of(0_u8..20)), 1..400),
        ) {
            let mut ranking = Ranking::new();
            let mut model: BTreeSet<(u8, Key)> = BTreeSet::new();
            for (number, (slot, rank)) in (0_u64..).zip(calls) {
                let before = model.iter().find(|(_, key)| key.slot == slot).copied();
                // Every third time somebody else has come into the slot.
                let same = before.filter(|_| number % 3 > 0).map(|(_, key)| key);
                let key = same.unwrap_or(Key { number, slot });
                if let Some((rank, old)) = before {
                    model.remove(&(rank, old));
                    if old != key {
                        ranking.remove(old);
                    }
                }
                match rank {
                    Some(rank) => {
                        model.insert((rank, key));
                        ranking.put(key, rank);
                    }
                    None => ranking.remove(key),
                }
                prop_assert_eq!(ranking.first(), model.first().copied());
            }
            while let Some((rank, key)) = ranking.first() {
                prop_assert_eq!(model.pop_first(), Some((rank, key)));
                ranking.remove(key);
            }
            prop_assert!(model.is_empty());
        }
    }
}
