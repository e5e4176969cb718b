//! Sharing out a device to inference alone: one option of every stream, in sum not more than the
//! device has, in sum as accurate as possible (the multiple-choice knapsack problem).
//!
//! First greedily, by accuracy per device along the concave hulls. At the price at which that stops,
//! every stream's best choice bounds what can be reached, and a choice that loses more against that
//! than the bound is above what was found can be left out: few are left to branch on (the core of
//! a knapsack, after Pisinger). The number of branches is limited.

use super::ladder::{Ladder, Rung};
use crate::Share;
use crate::pick::EPSILON;

/// Branches looked at, at most.
const BRANCHES_MAX: usize = 2000;

/// The rungs that fit and are worth most when a device costs `rent`, in accuracy, whether there is
/// another use for it or not; `None` when the device is too small for the least that all must have.
pub(super) fn fill(ladders: &[&Ladder], share: Share, rent: f64) -> Option<Vec<Rung>> {
    let least = ladders.iter().map(|ladder| ladder.least().share);
    least
        .clone()
        .try_fold(share, |left, share| left.checked_sub(share))?;
    let (mut rungs, price) = greedy(ladders, share, rent);
    let mut core = Core::new(ladders, share, (rent, price), &rungs);
    if core.gap > EPSILON {
        core.branch(0, 0.0, Share::ZERO);
        if let Some(found) = core.found {
            rungs = found;
        }
    }
    Some(rungs)
}

/// The steepest steps first, then whatever still fits; with the slope above `rent` of the first step
/// that did not, 0 when all did.
fn greedy(ladders: &[&Ladder], share: Share, rent: f64) -> (Vec<Rung>, f64) {
    let mut rungs: Vec<Rung> = ladders.iter().map(|ladder| ladder.least()).collect();
    let used = rungs.iter().map(|rung| rung.share);
    let mut left = used.fold(share, Share::saturating_sub);
    let mut price = 0.0;
    for (slope, stream, rung) in steps(ladders) {
        if slope <= rent {
            break;
        }
        let more = rung.share.saturating_sub(rungs[stream].share);
        if more <= left {
            left = left.saturating_sub(more);
            rungs[stream] = rung;
        } else {
            price = f64::max(price, slope - rent);
        }
    }
    while let Some((stream, rung)) = most_helpful(ladders, &rungs, left, rent) {
        let more = rung.share.saturating_sub(rungs[stream].share);
        left = left.saturating_sub(more);
        rungs[stream] = rung;
    }
    (rungs, price)
}

/// All steps of all ladders as (slope, stream, corner reached), the steepest first.
fn steps(ladders: &[&Ladder]) -> Vec<(f64, usize, Rung)> {
    let mut steps: Vec<(f64, usize, Rung)> = Vec::new();
    for (stream, ladder) in ladders.iter().enumerate() {
        let ladder_steps = (0..).map_while(|index| ladder.step_after(index));
        steps.extend(ladder_steps.map(|(slope, rung)| (slope, stream, rung)));
    }
    steps.sort_by(|a, b| b.0.total_cmp(&a.0));
    steps
}

/// The stream that gains most from what is left.
fn most_helpful(
    ladders: &[&Ladder],
    rungs: &[Rung],
    left: Share,
    rent: f64,
) -> Option<(usize, Rung)> {
    let better = |(stream, (ladder, rung)): (usize, (&&Ladder, &Rung))| {
        let within = ladder.within(rung.share.saturating_add(left));
        let gain = within.accuracy - rung.accuracy - rent * (within.devices - rung.devices);
        (gain > EPSILON).then_some((gain, stream, within))
    };
    let all = ladders.iter().zip(rungs).enumerate().filter_map(better);
    let best = all.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    Some((best.1, best.2))
}

/// The choices worth branching on.
struct Core {
    share: Share,
    /// What a device is worth above its rent.
    price: f64,
    /// By stream: what a choice loses against the best at this price, and the choice; the least
    /// loss first.
    choices: Vec<Vec<(f64, Rung)>>,
    /// Least and most that the choices from a stream on take.
    takes: Vec<(u64, u64)>,
    /// How far the bound is above the best found.
    gap: f64,
    taken: Vec<Rung>,
    found: Option<Vec<Rung>>,
    branches_left: usize,
}

impl Core {
    fn new(ladders: &[&Ladder], share: Share, (rent, price): (f64, f64), found: &[Rung]) -> Self {
        let worth = |rung: &Rung| rung.accuracy - rent * rung.devices;
        let net = |rung: &Rung| worth(rung) - price * rung.devices;
        let best: Vec<f64> = ladders
            .iter()
            .map(|l| net(&l.at_price(rent + price)))
            .collect();
        let bound = best.iter().sum::<f64>() + price * share.as_f64();
        let gap = bound - found.iter().map(worth).sum::<f64>();
        let choices: Vec<Vec<(f64, Rung)>> = ladders
            .iter()
            .zip(&best)
            .map(|(ladder, best)| {
                let losses = ladder.rungs().iter().map(|rung| (best - net(rung), *rung));
                let mut few: Vec<_> = losses.filter(|(loss, _)| *loss < gap).collect();
                few.sort_by(|a, b| a.0.total_cmp(&b.0));
                few
            })
            .collect();
        let mut takes = vec![(0, 0)];
        for few in choices.iter().rev() {
            let micros = few.iter().map(|(_, rung)| u64::from(rung.share.micro()));
            let (least, most) = takes[takes.len() - 1];
            takes.push((
                least + micros.clone().min().unwrap_or(0),
                most + micros.max().unwrap_or(0),
            ));
        }
        takes.reverse();
        Self {
            share,
            price,
            choices,
            takes,
            gap,
            taken: Vec::new(),
            found: None,
            branches_left: BRANCHES_MAX,
        }
    }

    /// Chooses for the streams from one on, when those before lose so much and take so much.
    fn branch(&mut self, stream: usize, loss: f64, used: Share) {
        let (least, most) = self.takes[stream];
        let left = u64::from(self.share.saturating_sub(used).micro());
        let idle = left.saturating_sub(most) as f64 / 1e6;
        if least > left || loss + self.price * idle >= self.gap - EPSILON {
            return;
        }
        if stream == self.choices.len() {
            self.gap = loss + self.price * left as f64 / 1e6;
            self.found = Some(self.taken.clone());
            return;
        }
        for index in 0..self.choices[stream].len() {
            let (more, rung) = self.choices[stream][index];
            if self.branches_left == 0 || loss + more >= self.gap {
                return;
            }
            let used = used.saturating_add(rung.share);
            if used > self.share {
                continue;
            }
            self.branches_left -= 1;
            self.taken.push(rung);
            self.branch(stream + 1, loss + more, used);
            self.taken.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pick::Level;

    fn ladder(levels: &[(u32, f64)]) -> Ladder {
        let mut levels: Vec<Level> = levels
            .iter()
            .map(|&(micro, factor)| Level {
                share: Share::from_micro(micro),
                factor,
                option: 0,
            })
            .collect();
        levels.sort_by_key(|level| level.share);
        let mut best = 0.0;
        levels.retain(|level| {
            let better = level.factor > best;
            best = best.max(level.factor);
            better
        });
        Ladder::new(&levels, 1.0, 0.0, 1.0)
    }

    /// All choices.
    fn best(ladders: &[&Ladder], left: u64, rent: f64) -> f64 {
        let Some((first, rest)) = ladders.split_first() else {
            return 0.0;
        };
        let fitting = first
            .rungs()
            .iter()
            .filter(|rung| u64::from(rung.share.micro()) <= left);
        let worth = |rung: &Rung| {
            let rest = best(rest, left - u64::from(rung.share.micro()), rent);
            rung.accuracy - rent * rung.devices + rest
        };
        fitting.map(worth).fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn nothing_better_fits(
            levels in prop::collection::vec(
                prop::collection::vec((0..1_000_000_u32, 0.0..1.0_f64), 0..4), 1..6,
            ),
            share in 0..3_000_000_u32,
            rent in prop_oneof![Just(0.0), 0.0..2.0_f64],
        ) {
            let ladders: Vec<Ladder> = levels.iter().map(|levels| ladder(levels)).collect();
            let ladders: Vec<&Ladder> = ladders.iter().collect();
            let rungs = fill(&ladders, Share::from_micro(share), rent);
            let rungs = rungs.ok_or_else(|| TestCaseError::fail("nothing fits"))?;
            let used: u64 = rungs.iter().map(|rung| u64::from(rung.share.micro())).sum();
            let worth: f64 = rungs.iter().map(|rung| rung.accuracy - rent * rung.devices).sum();
            prop_assert!(used <= u64::from(share));
            prop_assert!((worth - best(&ladders, u64::from(share), rent)).abs() < 1e-6);
        }
    }
}
