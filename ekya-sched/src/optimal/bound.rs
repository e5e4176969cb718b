//! An upper bound on what any plan for a device could reach, by Lagrangian prices over time slots.
//!
//! If a device-second had the price `λ(t) >= 0`, every stream could decide for itself: which
//! retraining, when, and which inference. What all streams together make of their decisions, plus
//! what the whole device costs over the window, is never below what any plan reaches, whatever the
//! prices (weak duality): a plan that keeps to the capacity pays no more than the device costs,
//! and no stream does better in it than by its own decision. The lowest such sum is looked for by
//! subgradient steps of Polyak's length.
//!
//! Prices do not rise over time. Then a retraining that ends at `c` is cheapest in the time just
//! before `c`, at full speed, and all decisions of a stream are found by looking at the ends of
//! slots: between them everything is linear. Where speed is not proportional to the share, it is
//! taken to be as fast as it can get at the best speed per device, which no plan reaches; so is the
//! device to have any number of training slots, and start-ups to need no turn.

use super::ladder::Ladder;
use super::pool::{Job, Pool, Sequence};
use super::search::{Effort, Found};

/// Slots that the window is divided into.
const SLOTS: usize = 24;
/// Steps towards the lowest sum.
const STEPS: usize = 120;
/// A bound this close to what was found, relative to it, is close enough.
const CLOSE: f64 = 1e-4;
/// Steps without a lower sum after which steps become shorter.
const PATIENCE: usize = 8;

/// What came of the search for prices.
pub(super) struct Bound {
    /// No plan is worth more, in accuracy-seconds summed over the streams.
    pub(super) worth: f64,
    /// The best sequence that the streams' decisions led to.
    pub(super) found: Found,
}

/// Looks for low prices, starting from the best sequence known.
pub(super) fn bound(pool: &Pool<'_>, mut found: Found, effort: &mut Effort) -> Bound {
    let slot = pool.length / SLOTS as f64;
    let mut prices = Prices::new(pool, slot);
    let mut best = f64::INFINITY;
    let (mut pace, mut patience) = (1.0, PATIENCE);
    let mut lowest = prices.price.clone();
    for _ in 0..STEPS {
        let market = prices.market(pool);
        if market.sum < best - CLOSE * 0.1 * best.abs() {
            patience = PATIENCE;
        } else {
            patience -= 1;
        }
        if market.sum < best {
            best = market.sum;
            lowest.clone_from(&prices.price);
        }
        if patience == 0 {
            pace *= 0.5;
            patience = PATIENCE;
            prices.price.clone_from(&lowest);
        }
        let sequence = Sequence {
            jobs: market.jobs.clone(),
            side_by_side: found.sequence.side_by_side,
        };
        if effort.spend(pool, market.jobs.len())
            && let Some(better) = Found::of(pool, sequence)
            && better.worth > found.worth
        {
            found = better;
        }
        if best - found.worth <= CLOSE * found.worth || !prices.step(&market, found.worth, pace) {
            break;
        }
    }
    Bound {
        worth: best.max(found.worth),
        found,
    }
}

/// A price for a device-second in every slot, not rising.
struct Prices {
    slot: f64,
    capacity: f64,
    price: Vec<f64>,
}

/// What the streams decide at some prices.
struct Market {
    /// The bound: everything that the streams make, plus what the device costs.
    sum: f64,
    /// Devices left over in every slot; negative where more are asked for than there are.
    left: Vec<f64>,
    /// The retrainings decided for, by their ends.
    jobs: Vec<Job>,
}

impl Prices {
    /// What the last device used by inference alone is worth, as a first guess.
    fn new(pool: &Pool<'_>, slot: f64) -> Self {
        let now = pool.now();
        let used = |price: f64| now.iter().map(|l| l.at_price(price).devices).sum::<f64>();
        let (mut low, mut high) = (0.0, 1e3);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if used(middle) > pool.capacity {
                low = middle;
            } else {
                high = middle;
            }
        }
        Self {
            slot,
            capacity: pool.capacity,
            price: vec![high; SLOTS],
        }
    }

    fn market(&self, pool: &Pool<'_>) -> Market {
        let device: f64 = self.price.iter().sum::<f64>() * self.slot * self.capacity;
        let mut market = Market {
            sum: device,
            left: vec![self.capacity; SLOTS],
            jobs: Vec::new(),
        };
        let cost = Prefix::of(&self.price, self.slot);
        let mut ends = Vec::new();
        for (stream, spec) in pool.streams.iter().enumerate() {
            let now = Prefix::of(&self.worth(&spec.now), self.slot);
            let mut best = (now.total(), None);
            let width = spec.fastest.width;
            for (choice, option) in spec.choices.iter().enumerate() {
                let end = Prefix::of(&self.worth(&option.end), self.slot);
                let least = option.work / (width * spec.fastest.slope);
                let worth = |at: f64| {
                    let training = (cost.at(at) - cost.at(at - least)) * width;
                    now.at(at) + end.total() - end.at(at) - training
                };
                for at in self.ends(least, spec.delay + option.startup) {
                    let worth = worth(at);
                    if worth > best.0 {
                        best = (worth, Some((choice, at)));
                    }
                }
            }
            market.sum += best.0;
            self.account(&mut market, pool, stream, best.1);
            if let Some((choice, at)) = best.1 {
                ends.push((at, Job { stream, choice }));
            }
        }
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        market.jobs = ends.into_iter().map(|(_, job)| job).collect();
        market
    }

    /// Ends of a retraining of `least` seconds, not before `from`, among which the best one is:
    /// those at which it starts or ends with a slot, and the first.
    fn ends(&self, least: f64, from: f64) -> impl Iterator<Item = f64> {
        let length = self.slot * SLOTS as f64;
        let first = from + least;
        let borders = (0..=SLOTS).map(|index| index as f64 * self.slot);
        borders
            .flat_map(move |border| [border, border + least])
            .chain([first])
            .filter(move |&end| first <= end && end <= length)
    }

    /// Worth of inference in every slot.
    fn worth(&self, ladder: &Ladder) -> Vec<f64> {
        let worth = |&price: &f64| {
            let rung = ladder.at_price(price);
            rung.accuracy - price * rung.devices
        };
        self.price.iter().map(worth).collect()
    }

    /// Takes what a stream decided to use off what is left.
    fn account(
        &self,
        market: &mut Market,
        pool: &Pool<'_>,
        stream: usize,
        retraining: Option<(usize, f64)>,
    ) {
        let spec = &pool.streams[stream];
        for (index, left) in market.left.iter_mut().enumerate() {
            let from = index as f64 * self.slot;
            let price = self.price[index];
            let Some((choice, at)) = retraining else {
                *left -= spec.now.at_price(price).devices;
                continue;
            };
            let choice = &spec.choices[choice];
            let part = |upto: f64| ((upto - from) / self.slot).clamp(0.0, 1.0);
            let before = part(at);
            *left -= before * spec.now.at_price(price).devices;
            *left -= (1.0 - before) * choice.end.at_price(price).devices;
            let start = at - choice.work / (spec.fastest.width * spec.fastest.slope);
            *left -= (before - part(start)) * spec.fastest.width;
        }
    }

    /// Moves against the subgradient, as far as would reach `target` if the sum were linear
    /// (Polyak); false where nothing moves.
    fn step(&mut self, market: &Market, target: f64, pace: f64) -> bool {
        let square: f64 = market.left.iter().map(|left| left * left).sum::<f64>() * self.slot;
        if square <= 0.0 {
            return false;
        }
        let step = pace * (market.sum - target) / square;
        for (price, left) in self.price.iter_mut().zip(&market.left) {
            *price = (*price - step * left).max(0.0);
        }
        make_falling(&mut self.price);
        true
    }
}

/// The nearest sequence that does not rise (pool adjacent violators).
fn make_falling(values: &mut [f64]) {
    let mut blocks: Vec<(f64, usize)> = Vec::with_capacity(values.len());
    for &value in values.iter() {
        blocks.push((value, 1));
        while let [.., (a, m), (b, n)] = blocks[..]
            && a < b
        {
            blocks.truncate(blocks.len() - 2);
            let mean = (a * m as f64 + b * n as f64) / (m + n) as f64;
            blocks.push((mean, m + n));
        }
    }
    let flat = blocks
        .iter()
        .flat_map(|&(value, n)| std::iter::repeat_n(value, n));
    for (value, flat) in values.iter_mut().zip(flat) {
        *value = flat;
    }
}

/// Integral of a function that is constant in every slot.
struct Prefix {
    slot: f64,
    values: Vec<f64>,
    /// Up to the start of every slot, and to the end of the last.
    sums: Vec<f64>,
}

impl Prefix {
    fn of(values: &[f64], slot: f64) -> Self {
        let mut sums = vec![0.0];
        for value in values {
            sums.push(sums[sums.len() - 1] + value * slot);
        }
        Self {
            slot,
            values: values.to_vec(),
            sums,
        }
    }

    fn total(&self) -> f64 {
        self.sums[self.values.len()]
    }

    /// Up to a time in the window.
    fn at(&self, time: f64) -> f64 {
        let index = ((time / self.slot) as usize).min(self.values.len() - 1);
        self.sums[index] + (time - index as f64 * self.slot) * self.values[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rising_values_are_levelled() {
        let mut values = [5.0, 1.0, 3.0, 2.0, 0.0];
        make_falling(&mut values);
        assert_eq!(values, [5.0, 2.0, 2.0, 2.0, 0.0]);
    }

    #[test]
    fn integrals_are_exact_inside_slots() {
        let prefix = Prefix::of(&[2.0, 4.0], 10.0);
        assert_eq!(prefix.at(5.0), 10.0);
        assert_eq!(prefix.at(15.0), 40.0);
        assert_eq!(prefix.total(), prefix.at(20.0));
    }
}
