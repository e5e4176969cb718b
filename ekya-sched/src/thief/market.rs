//! The jobs of a device that steal from each other.

use super::Stealing;
use crate::Share;
use crate::pick::{EPSILON, Pick, Picker};
use crate::share::equal_parts;

/// Passes over all pairs of jobs of [`Stealing::Exhaustive`]; later ones hardly find anything.
const PASSES_MAX: usize = 3;

/// Quanta that a device is divided into at most; they are made larger where there would be more, for
/// a steal would take for ever.
const QUANTA_MAX: u32 = 1000;
/// Jobs that a thief tries to steal from in a pass, at most: beyond that, a device has so many that
/// those that lose least suffice, and time would grow with the square of their number.
const VICTIMS_MAX: usize = 128;

/// The jobs of one device and what they hold. The stream at place `p` has job `2p`, its
/// inference, and job `2p + 1`, its retraining; the last job is nobody's and holds what is unused.
#[derive(Clone)]
pub(super) struct Market<'a> {
    pickers: &'a [Picker<'a>],
    picks: Vec<Pick>,
    shares: Vec<Share>,
    /// Jobs that exist: a stream that no retraining would help has no training job.
    jobs: Vec<usize>,
    /// Amounts that a steal tries; kept to allocate once.
    amounts: Vec<Share>,
    /// What a device that a retraining hands back when it ends is worth to the inference of other
    /// streams, in accuracy.
    handed_back: f64,
}

/// What a steal changes in the sums over the streams.
#[derive(Clone, Copy)]
struct Change {
    shortfall: f64,
    mean: f64,
}

impl Change {
    const NOTHING: Self = Self {
        shortfall: 0.0,
        mean: 0.0,
    };

    /// For one stream that counts for so much.
    fn between(old: &Pick, new: &Pick, weight: f64) -> Self {
        Self {
            shortfall: new.shortfall - old.shortfall,
            mean: (new.mean - old.mean) * weight,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            shortfall: self.shortfall + other.shortfall,
            mean: self.mean + other.mean,
        }
    }

    fn beats(&self, other: &Self) -> bool {
        let shortfall = self.shortfall - other.shortfall;
        shortfall < -EPSILON || (shortfall <= EPSILON && self.mean > other.mean + EPSILON)
    }
}

impl<'a> Market<'a> {
    pub(super) fn fair(pickers: &'a [Picker<'a>], capacity: Share) -> Self {
        let streams = pickers.len();
        let jobs: Vec<usize> = (0..2 * streams)
            .filter(|job| job % 2 == 0 || pickers[job / 2].may_train())
            .collect();
        let mut market = Self {
            pickers,
            picks: Vec::new(),
            shares: vec![Share::ZERO; 2 * streams + 1],
            jobs,
            amounts: Vec::new(),
            handed_back: 0.0,
        };
        market.shares[2 * streams] = capacity;
        market.spread_unused(|market, job| job % 2 == 0 || market.pickers[job / 2].may_train());
        market.picks = (0..streams).map(|place| market.pick_of(place)).collect();
        market
    }

    /// All shares at inference.
    fn inference_first(&self) -> Self {
        let mut market = self.clone();
        let unused = market.unused_job();
        market.shares[unused] = market.granted();
        market.shares[..unused].fill(Share::ZERO);
        market.spread_unused(|_, job| job % 2 == 0);
        for place in 0..market.picks.len() {
            market.pick_again(place);
        }
        market
    }

    /// The sum of all shares: the device's capacity.
    fn granted(&self) -> Share {
        let sum = |sum: Share, &share: &Share| sum.saturating_add(share);
        self.shares.iter().fold(Share::ZERO, sum)
    }

    /// What is better here than in another market of the same device.
    fn change_from(&self, other: &Self) -> Change {
        let pairs = other.picks.iter().zip(&self.picks).zip(self.pickers);
        pairs.fold(Change::NOTHING, |sum, ((old, new), picker)| {
            sum.and(Change::between(old, new, picker.weight))
        })
    }

    /// What a stream does with its shares.
    pub(super) fn pick_of(&self, place: usize) -> Pick {
        self.pick(place, [None; 2])
    }

    pub(super) fn shares_of(&self, place: usize) -> (Share, Share) {
        (self.shares[2 * place], self.shares[2 * place + 1])
    }

    fn unused_job(&self) -> usize {
        self.shares.len() - 1
    }

    /// The market after all stealing.
    pub(super) fn trade(mut self, stealing: Stealing, quantum: Share) -> Self {
        let quantum = quantum.max(Share::from_micro(self.granted().micro() / QUANTA_MAX));
        match stealing {
            Stealing::Literal => {
                self.pass(|market, thief, victim| market.steal_literally(thief, victim, quantum));
            }
            Stealing::Exhaustive => {
                self = self.trade_exhaustively(quantum);
            }
        }
        self.give_away_unused();
        self
    }

    /// Trades twice: the second time with what the first says that retrainings will hand back,
    /// unless that ends below the start.
    fn trade_exhaustively(self, quantum: Share) -> Self {
        let first = self.clone().trade_from_two_starts(quantum);
        let mut again = self.clone();
        again.hand_back(first.worth_handed_back());
        if again.handed_back <= 0.0 {
            return first;
        }
        let again = again.trade_from_two_starts(quantum);
        if self.predicted().beats(&again.predicted()) {
            first
        } else {
            again
        }
    }

    /// From the present shares and from all shares at inference; the better end.
    fn trade_from_two_starts(mut self, quantum: Share) -> Self {
        let mut other = self.inference_first();
        self.trade_until_settled(quantum);
        other.trade_until_settled(quantum);
        if other.is_better_than(&self) {
            other
        } else {
            self
        }
    }

    /// Without what is handed back to others.
    fn predicted(&self) -> Change {
        let picks = self.picks.iter().zip(self.pickers);
        picks.fold(Change::NOTHING, |sum, (pick, picker)| {
            sum.and(Change {
                shortfall: pick.shortfall,
                mean: (pick.mean - pick.bonus) * picker.weight,
            })
        })
    }

    fn is_better_than(&self, other: &Self) -> bool {
        self.change_from(other).beats(&Change::NOTHING)
    }

    /// What inference lacks, in accuracy per device, shared out over what the retrainings will hand
    /// back to it.
    fn worth_handed_back(&self) -> f64 {
        let (mut lacking, mut wanted, mut training) = (0.0, 0.0, 0.0);
        for (place, picker) in self.pickers.iter().enumerate() {
            let (inference, share) = self.shares_of(place);
            let most = picker.most_useful();
            lacking += (picker.serve(most).mean - picker.serve(inference).mean) * picker.weight;
            wanted += most.saturating_sub(inference).as_f64();
            if self.picks[place].retraining.is_some() {
                training += share.as_f64();
            }
        }
        if training > 0.0 {
            lacking / f64::max(training, wanted)
        } else {
            0.0
        }
    }

    fn hand_back(&mut self, worth: f64) {
        self.handed_back = worth;
        for place in 0..self.picks.len() {
            self.pick_again(place);
        }
    }

    fn trade_until_settled(&mut self, quantum: Share) {
        for _ in 0..PASSES_MAX {
            self.free_unused();
            let steal = |market: &mut Self, thief, victim| {
                market.steal_most_helpful(thief, victim, quantum)
            };
            if !self.pass(steal) {
                break;
            }
        }
    }

    /// Lets every job steal from what is unused and from others; whether anything moved.
    fn pass(&mut self, mut steal: impl FnMut(&mut Self, usize, usize) -> bool) -> bool {
        let mut moved = false;
        let victims = self.victims();
        for thief in self.jobs.clone() {
            moved |= steal(self, thief, self.unused_job());
            let mut asked = 0;
            for &victim in victims.iter().filter(|&&victim| victim != thief) {
                if self.shares[victim] > Share::ZERO {
                    moved |= steal(self, thief, victim);
                    asked += 1;
                }
                if asked == VICTIMS_MAX {
                    break;
                }
            }
        }
        moved
    }

    /// All jobs; where there are many, those first that lose least, per device, when they lose
    /// everything.
    fn victims(&self) -> Vec<usize> {
        let mut victims = self.jobs.clone();
        if victims.len() > VICTIMS_MAX {
            let rate = |job: &usize| {
                let share = self.shares[*job];
                let loss = self.loss(*job, share);
                let devices = share.as_f64().max(f64::MIN_POSITIVE);
                (loss.shortfall / devices, -loss.mean / devices)
            };
            let mut rated: Vec<_> = victims.iter().map(|job| (rate(job), *job)).collect();
            rated.sort_by(|((a, b), _), ((c, d), _)| a.total_cmp(c).then(b.total_cmp(d)));
            victims = rated.into_iter().map(|(_, job)| job).collect();
        }
        victims
    }

    fn steal_literally(&mut self, thief: usize, victim: usize, quantum: Share) -> bool {
        let mut moved = false;
        while self.shares[victim] >= quantum
            && self.change(thief, victim, quantum).beats(&Change::NOTHING)
        {
            self.transfer(thief, victim, quantum);
            moved = true;
        }
        moved
    }

    /// Both what a thief gains and what a victim loses rise with the amount. So nothing is gained
    /// when all that can be had is worth less than what any amount at all would cost, which is soon
    /// seen for most pairs; and amounts are tried, the smallest first, until they cost more than
    /// that.
    fn steal_most_helpful(&mut self, thief: usize, victim: usize, quantum: Share) -> bool {
        let most = self.shares[victim].min(self.room(thief));
        if most == Share::ZERO {
            return false;
        }
        let same_stream = thief / 2 == victim / 2;
        let most_gain = self.gain(thief, most);
        let hopeless = |market: &Self, amount, best: &Change| {
            !same_stream && !most_gain.and(market.loss(victim, amount)).beats(best)
        };
        if hopeless(self, Share::from_micro(1), &Change::NOTHING) {
            return false;
        }
        let mut amounts = std::mem::take(&mut self.amounts);
        self.list_amounts(thief, victim, quantum, most, &mut amounts);
        let mut best = (Change::NOTHING, Share::ZERO);
        for &amount in &amounts {
            if hopeless(self, amount, &best.0) {
                break;
            }
            let change = self.change(thief, victim, amount);
            if change.beats(&best.0) {
                best = (change, amount);
            }
        }
        self.amounts = amounts;
        if best.1 > Share::ZERO {
            self.transfer(thief, victim, best.1);
        }
        best.1 > Share::ZERO
    }

    /// The amounts worth trying, rising. Inference takes just what an option needs, and gives up
    /// what it has above what one needs; what lies between would be of no use to it. Only between
    /// retrainings, which can use any amount, all multiples of the quantum are tried.
    fn list_amounts(
        &self,
        thief: usize,
        victim: usize,
        quantum: Share,
        most: Share,
        amounts: &mut Vec<Share>,
    ) {
        amounts.clear();
        if thief.is_multiple_of(2) {
            let held = self.shares[thief];
            let needs = self.pickers[thief / 2].needs();
            let missing = needs.filter_map(|need| need.checked_sub(held));
            amounts.extend(missing.filter(|&amount| Share::ZERO < amount && amount < most));
        } else if victim == self.unused_job() {
            // The more the better.
        } else if victim.is_multiple_of(2) {
            let all = self.shares[victim];
            let needs = self.pickers[victim / 2].needs().rev();
            let spare = needs.filter_map(|need| all.checked_sub(need));
            amounts.extend(spare.filter(|&amount| Share::ZERO < amount && amount < most));
        } else {
            let mut amount = quantum;
            while amount < most {
                amounts.push(amount);
                amount = amount.saturating_add(quantum);
            }
        }
        amounts.push(most);
    }

    /// How much more a job can use.
    fn room(&self, job: usize) -> Share {
        let picker = &self.pickers[job / 2];
        let useful = if job.is_multiple_of(2) {
            picker.most_useful()
        } else {
            picker.most_useful_to_train()
        };
        useful.saturating_sub(self.shares[job])
    }

    /// What so much more for a job would change.
    fn gain(&self, thief: usize, amount: Share) -> Change {
        let share = self.shares[thief].saturating_add(amount);
        self.change_of(thief / 2, [Some((thief, share)), None])
    }

    /// What so much less for a job would change.
    fn loss(&self, victim: usize, amount: Share) -> Change {
        if victim == self.unused_job() {
            return Change::NOTHING;
        }
        let share = self.shares[victim].saturating_sub(amount);
        self.change_of(victim / 2, [Some((victim, share)), None])
    }

    /// What moving `amount` would change.
    fn change(&self, thief: usize, victim: usize, amount: Share) -> Change {
        if thief / 2 != victim / 2 {
            return self.gain(thief, amount).and(self.loss(victim, amount));
        }
        let richer = (thief, self.shares[thief].saturating_add(amount));
        let poorer = (victim, self.shares[victim].saturating_sub(amount));
        self.change_of(thief / 2, [Some(richer), Some(poorer)])
    }

    /// What other shares for some jobs of a stream would change.
    fn change_of(&self, place: usize, trial: [Option<(usize, Share)>; 2]) -> Change {
        let new = self.pick(place, trial);
        Change::between(&self.picks[place], &new, self.pickers[place].weight)
    }

    fn transfer(&mut self, thief: usize, victim: usize, amount: Share) {
        self.shares[thief] = self.shares[thief].saturating_add(amount);
        self.shares[victim] = self.shares[victim].saturating_sub(amount);
        self.pick_again(thief / 2);
        self.pick_again(victim / 2);
    }

    /// PickConfigs for one stream, with the shares of some jobs replaced.
    fn pick(&self, place: usize, trial: [Option<(usize, Share)>; 2]) -> Pick {
        let share = |job: usize| {
            let replaced = trial.into_iter().flatten().find(|&(j, _)| j == job);
            replaced.map_or(self.shares[job], |(_, share)| share)
        };
        let (inference, training) = (share(2 * place), share(2 * place + 1));
        self.pickers[place].pick(inference, training, self.handed_back)
    }

    fn pick_again(&mut self, place: usize) {
        if place < self.picks.len() {
            self.picks[place] = self.pick_of(place);
        }
    }

    /// Takes back what the chosen configurations do not need.
    fn free_unused(&mut self) {
        let unused = self.unused_job();
        for place in 0..self.picks.len() {
            let pick = &self.picks[place];
            let (inference, training) = self.shares_of(place);
            // Best effort below the cheapest option keeps what it has, for want of better use.
            if pick.inference.is_some() {
                let mut spare = inference.saturating_sub(pick.needed);
                if pick.retraining.is_some() {
                    // Once it has ended, inference makes use of both shares.
                    let both = inference.saturating_add(training);
                    let useful = self.pickers[place].serve(both).needed;
                    spare = spare.min(both.saturating_sub(useful));
                }
                self.shares[2 * place] = inference.saturating_sub(spare);
                self.shares[unused] = self.shares[unused].saturating_add(spare);
            }
            if pick.retraining.is_none() {
                self.shares[2 * place + 1] = Share::ZERO;
                self.shares[unused] = self.shares[unused].saturating_add(training);
            }
            self.pick_again(place);
        }
    }

    /// Hands what is still unused to the retrainings, which end earlier for it, else to
    /// inference, as reserve.
    fn give_away_unused(&mut self) {
        self.free_unused();
        let retraining = self.picks.iter().any(|pick| pick.retraining.is_some());
        let retrains =
            |market: &Self, job: usize| job % 2 == 1 && market.picks[job / 2].retraining.is_some();
        if retraining {
            self.spread_unused(retrains);
        } else {
            self.spread_unused(|_, job| job % 2 == 0);
        }
    }

    /// Divides what is unused equally over the jobs that qualify, to the last micro-GPU.
    fn spread_unused(&mut self, qualifies: impl Fn(&Self, usize) -> bool) {
        let unused = self.unused_job();
        let takers: Vec<usize> = (0..unused).filter(|&job| qualifies(self, job)).collect();
        for (taker, part) in takers
            .iter()
            .zip(equal_parts(self.shares[unused], takers.len()))
        {
            self.shares[*taker] = self.shares[*taker].saturating_add(part);
            self.shares[unused] = self.shares[unused].saturating_sub(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::pick::pickers;
    use crate::{DeviceSpec, InferenceOption, Problem, RetrainingOption, StreamSpec};

    fn problem(capacity: u32, min_accuracy: f64, streams: &[(f64, f64, f64)]) -> Problem {
        let stream = |&(accuracy, end_accuracy, gpu_seconds): &(f64, f64, f64)| StreamSpec {
            name: "s".into(),
            accuracy,
            inference: [(1.0, 250_000), (0.78, 125_000), (0.64, 83_334)]
                .map(|(accuracy_factor, micro)| InferenceOption {
                    accuracy_factor,
                    share: Share::from_micro(micro),
                })
                .into(),
            retraining: vec![RetrainingOption::new(end_accuracy, gpu_seconds)],
            ..StreamSpec::default()
        };
        Problem {
            min_accuracy,
            devices: vec![DeviceSpec::new(Share::from_micro(capacity))],
            streams: streams.iter().map(stream).collect(),
            ..Problem::new(Duration::from_secs(200))
        }
    }

    fn traded(problem: &Problem, stealing: Stealing) -> (Change, Share) {
        let pickers = pickers(problem);
        let capacity = problem.capacity();
        let fair = Market::fair(&pickers, capacity);
        let market = fair.clone().trade(stealing, problem.quantum);
        let (before, after) = (fair.predicted(), market.predicted());
        let change = Change {
            shortfall: after.shortfall - before.shortfall,
            mean: after.mean - before.mean,
        };
        (change, market.granted())
    }

    proptest! {
        #[test]
        fn never_below_the_fair_start_and_nothing_is_lost(
            capacity in 1..4_000_000_u32,
            min_accuracy in 0.0..0.6_f64,
            streams in prop::collection::vec(
                (0.0..=1.0_f64, 0.0..=1.0_f64, 0.0..250.0_f64), 1..8,
            ),
        ) {
            let problem = problem(capacity, min_accuracy, &streams);
            for stealing in [Stealing::Literal, Stealing::Exhaustive] {
                let (change, granted) = traded(&problem, stealing);
                prop_assert!(!Change::NOTHING.beats(&change));
                prop_assert_eq!(granted, Share::from_micro(capacity));
            }
        }
    }

    #[test]
    fn literal_stealing_is_stuck_when_a_fair_share_is_below_the_quantum() {
        let problem = problem(1_000_000, 0.0, &[(0.5, 0.9, 10.0); 8]);
        let (literal, _) = traded(&problem, Stealing::Literal);
        let (exhaustive, _) = traded(&problem, Stealing::Exhaustive);
        assert!(literal.mean.abs() < 1e-9);
        assert!(exhaustive.beats(&literal));
    }
}
