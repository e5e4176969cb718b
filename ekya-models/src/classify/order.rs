//! The order in which an epoch goes through the crops.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::Sampling;

/// An epoch's order of crops whose classes are `labels`: as many indices as there are crops.
pub(super) fn order(labels: &[i64], sampling: Sampling, rng: &mut ChaCha8Rng) -> Vec<usize> {
    match sampling {
        Sampling::Uniform => {
            let mut order: Vec<usize> = (0..labels.len()).collect();
            order.shuffle(rng);
            order
        }
        Sampling::Balanced => balanced(labels, rng),
    }
}

/// Rounds of one crop of every class, until there are enough. The crops of a class take turns, so
/// none comes twice before each of them came.
fn balanced(labels: &[i64], rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut classes: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        classes.entry(*label).or_default().push(index);
    }
    let mut turns: Vec<Vec<usize>> = classes.into_values().collect();
    for crops in &mut turns {
        crops.shuffle(rng);
    }
    let mut order = Vec::with_capacity(labels.len() + turns.len());
    for round in 0.. {
        if order.len() >= labels.len() {
            break;
        }
        // Another order of classes each round: the last is cut off, and not always the same class.
        turns.shuffle(rng);
        order.extend(turns.iter().map(|crops| crops[round % crops.len()]));
    }
    order.truncate(labels.len());
    order
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn drawn(labels: &[i64], sampling: Sampling) -> Vec<usize> {
        order(labels, sampling, &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn uniform_takes_each_crop_once() {
        let mut order = drawn(&[0; 50], Sampling::Uniform);
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert!(order.into_iter().eq(0..50));
    }

    #[test]
    fn balanced_takes_each_class_equally_often_and_crops_in_turn() {
        let labels: Vec<i64> = (0..90)
            .map(|i| [0, 0, 7][i % 3] + i64::from(i == 1))
            .collect();
        let order = drawn(&labels, Sampling::Balanced);
        let count = |class| order.iter().filter(|crop| labels[**crop] == class).count();
        assert_eq!([0, 1, 7].map(count), [30, 30, 30]);
        let mut sevens: Vec<usize> = order.into_iter().filter(|i| labels[*i] == 7).collect();
        sevens.sort_unstable();
        sevens.dedup();
        assert_eq!(sevens.len(), 30, "each of the thirty came once");
    }

    #[test]
    fn nothing_is_drawn_from_nothing() {
        for sampling in [Sampling::Uniform, Sampling::Balanced] {
            assert!(drawn(&[], sampling).is_empty());
        }
    }
}
