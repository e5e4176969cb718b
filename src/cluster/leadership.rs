//! Who leads: a state machine without I/O and clock.
//!
//! Every node says in its [`Claim`], which the membership carries to all others, whether it leads and the
//! highest term that it knows. Whoever leads in the highest term is followed; of two in the same term, the
//! one whose name is last. Where nobody leads, the first of the members by name begins a new term, and the
//! next one when that does not. Two leaders on two sides of a partition are normal: each plans for its
//! side, and when they hear of each other, the higher one goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// For so long nobody has to lead before the first of the members does; for twice as long before the
/// second, and so on. Long enough for those that are there to hear of each other.
const VACANT: Duration = Duration::from_secs(2);

/// What a node says of itself to all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claim {
    /// The highest term that it knows.
    pub term: u64,
    /// Whether it leads in that term.
    pub leads: bool,
    /// Whether it is about to be taken down, and must be given nothing more to do.
    pub drains: bool,
}

/// Who leads, in which term. The higher is followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leader {
    /// Its term.
    pub term: u64,
    /// The node.
    pub name: String,
}

/// What one node knows of who leads.
#[derive(Debug)]
pub struct Leadership {
    me: String,
    /// The highest term that it knows.
    term: u64,
    /// Whether this node leads in it.
    leads: bool,
    drains: bool,
    /// Since when nobody leads, as far as this node knows.
    vacant_since: Option<Duration>,
}

impl Leadership {
    /// Of a node that has known `term` before; nobody leads, as far as it knows.
    #[must_use]
    pub const fn new(me: String, term: u64) -> Self {
        Self {
            me,
            term,
            leads: false,
            drains: false,
            vacant_since: None,
        }
    }

    /// What this node says of itself.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        Claim {
            term: self.term,
            leads: self.leads,
            drains: self.drains,
        }
    }

    /// Leads no more, and never again: the node is about to be taken down.
    pub const fn drain(&mut self) {
        self.drains = true;
        self.leads = false;
    }

    /// Knows a term above this one, of which nobody else has to know: whoever leads is to begin another.
    pub fn raise_above(&mut self, term: u64) {
        self.term = self.term.max(term + 1);
    }

    /// Looks at what the other members say, those included that have said nothing yet, and says who
    /// leads. `now` only grows. When the [claim](Self::claim) has changed its term, that is to be kept
    /// before others hear of it.
    pub fn look<'a>(
        &mut self,
        now: Duration,
        others: impl IntoIterator<Item = (&'a str, Option<Claim>)>,
    ) -> Option<Leader> {
        let mut highest = self.leads.then(|| self.leader(&self.me));
        // How many stand before this one, were somebody to begin a term.
        let mut before = 0;
        let mut term = self.term;
        for (name, claim) in others {
            let claim = claim.unwrap_or_default();
            term = term.max(claim.term);
            before += u32::from(!claim.drains && *name < *self.me);
            let leader = Leader {
                term: claim.term,
                name: name.to_owned(),
            };
            highest = highest.max(Some(leader).filter(|_| claim.leads));
        }
        let i_lead = |leader: &Leader| leader.name == self.me;
        self.leads = highest.as_ref().is_some_and(i_lead);
        // A leader that hears of a higher term without a leader has been led past: it begins another.
        if self.leads && term > self.term {
            self.term = term + 1;
            return Some(self.leader(&self.me));
        }
        self.term = term;
        if highest.is_some() {
            self.vacant_since = None;
            return highest;
        }
        let vacant = now.saturating_sub(*self.vacant_since.get_or_insert(now));
        if self.drains || vacant < VACANT * (before + 1) {
            return None;
        }
        (self.term, self.leads, self.vacant_since) = (self.term + 1, true, None);
        Some(self.leader(&self.me))
    }

    fn leader(&self, name: &str) -> Leader {
        Leader {
            term: self.term,
            name: name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const LOOK: Duration = Duration::from_millis(250);

    /// Nodes that hear each other's claims at every look, as far as they can reach each other.
    struct Site {
        now: Duration,
        nodes: Vec<Option<Leadership>>,
        /// What each node keeps.
        terms: Vec<u64>,
        /// Nodes reach those of the same side.
        sides: Vec<u8>,
    }

    impl Site {
        fn new(nodes: usize) -> Self {
            let node = |index: usize| Some(Leadership::new(name(index), 0));
            Self {
                now: Duration::ZERO,
                nodes: (0..nodes).map(node).collect(),
                terms: vec![0; nodes],
                sides: vec![0; nodes],
            }
        }

        /// Each node looks once, in this order; whom each follows.
        fn look(&mut self, order: &[usize]) -> Vec<Option<Leader>> {
            self.now += LOOK;
            let mut follows = vec![None; self.nodes.len()];
            for &index in order {
                let reached = |other: &usize| {
                    *other != index
                        && self.sides[*other] == self.sides[index]
                        && self.nodes[*other].is_some()
                };
                let others: Vec<_> = (0..self.nodes.len()).filter(reached).collect();
                let claims = others.iter().map(|&other| {
                    let claim = self.nodes[other].as_ref().map(Leadership::claim);
                    (name(other), claim)
                });
                let claims: Vec<_> = claims.collect();
                let Some(node) = &mut self.nodes[index] else {
                    continue;
                };
                let claims = claims.iter().map(|(name, claim)| (&**name, *claim));
                let before = node.claim();
                follows[index] = node.look(self.now, claims);
                let claim = node.claim();
                assert!(claim.term >= before.term, "terms only grow");
                if claim.leads && !before.leads {
                    assert!(
                        claim.term > self.terms[index],
                        "a new term is above all it has kept"
                    );
                }
                self.terms[index] = claim.term;
            }
            follows
        }

        fn settle(&mut self, looks: usize) -> Vec<Option<Leader>> {
            let order: Vec<_> = (0..self.nodes.len()).collect();
            let mut follows = Vec::new();
            for _ in 0..looks {
                follows = self.look(&order);
            }
            follows
        }

        fn restart(&mut self, index: usize) {
            self.nodes[index] = Some(Leadership::new(name(index), self.terms[index]));
        }
    }

    fn name(index: usize) -> String {
        format!("edge-{index:03}")
    }

    fn leader(term: u64, node: usize) -> Option<Leader> {
        let name = name(node);
        Some(Leader { term, name })
    }

    #[test]
    fn the_first_by_name_begins_and_is_followed_until_it_dies() {
        let mut site = Site::new(3);
        assert_eq!(
            site.settle(8),
            [None, None, None],
            "they may not know all yet"
        );
        assert_eq!(site.settle(3), vec![leader(1, 0); 3]);
        site.nodes[0] = None;
        assert_eq!(site.settle(10)[1..], vec![leader(2, 1); 2]);
        // It comes back, and follows: whoever leads goes on.
        site.restart(0);
        assert_eq!(site.settle(10), vec![leader(2, 1); 3]);
    }

    #[test]
    fn a_node_alone_leads_itself() {
        assert_eq!(Site::new(1).settle(10), [leader(1, 0)]);
    }

    #[test]
    fn two_sides_have_two_leaders_and_then_one_again() {
        let mut site = Site::new(3);
        site.settle(12);
        site.sides = vec![0, 1, 1];
        let follows = site.settle(12);
        assert_eq!(follows, [leader(1, 0), leader(2, 1), leader(2, 1)]);
        site.sides = vec![0; 3];
        // At its next look, each.
        assert_eq!(site.settle(2), vec![leader(2, 1); 3]);
    }

    #[test]
    fn of_two_leaders_in_one_term_the_last_by_name_goes_on() {
        let mut site = Site::new(4);
        site.sides = vec![0, 0, 1, 1];
        let follows = site.settle(20);
        assert_eq!(follows[0], leader(1, 0));
        assert_eq!(follows[3], leader(1, 2));
        site.sides = vec![0; 4];
        assert_eq!(site.settle(2), vec![leader(1, 2); 4]);
    }

    #[test]
    fn when_the_first_does_not_begin_the_next_one_does() {
        let mut alone = Leadership::new(name(5), 7);
        let silent = [(&*name(1), None), (&*name(2), None), (&*name(9), None)];
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(alone.look(at(10), silent), None);
        assert_eq!(alone.look(at(15), silent), None, "two are before it");
        assert_eq!(alone.look(at(16), silent), leader(8, 5));
    }

    #[test]
    fn one_that_drains_gives_the_lead_away() {
        let mut site = Site::new(2);
        site.settle(12);
        if let Some(first) = &mut site.nodes[0] {
            first.drain();
        }
        assert_eq!(site.settle(12), vec![leader(2, 1); 2]);
        site.nodes[1] = None;
        assert_eq!(
            site.settle(40)[0],
            None,
            "nobody, rather than one that goes"
        );
    }

    #[test]
    fn a_follower_that_may_not_follow_has_its_leader_begin_another_term() {
        let mut site = Site::new(2);
        assert_eq!(site.settle(12)[1], leader(1, 0));
        // It has taken orders in term 1 from a third node, which nobody else has heard of.
        if let Some(follower) = &mut site.nodes[1] {
            follower.raise_above(1);
        }
        assert_eq!(site.settle(2), vec![leader(3, 0); 2]);
    }

    #[test]
    fn a_leader_that_hears_of_a_higher_term_leads_in_a_higher_one_still() {
        let mut node = Leadership::new(name(0), 0);
        node.look(Duration::ZERO, []);
        assert_eq!(node.look(VACANT, []), leader(1, 0));
        // From a side whose leader has died meanwhile.
        let claim = Claim {
            term: 5,
            ..Claim::default()
        };
        let other = name(1);
        assert_eq!(node.look(VACANT, [(&*other, Some(claim))]), leader(6, 0));
    }

    proptest! {
        /// Whatever has happened, soon after it is over all follow one leader.
        #[test]
        fn in_the_end_all_follow_one(seed: u64, nodes in 1..8_usize, steps in 0..60_usize) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut site = Site::new(nodes);
            for _ in 0..steps {
                let node = random.random_range(0..nodes);
                match random.random_range(0..10) {
                    0 => site.nodes[node] = None,
                    1 => site.restart(node),
                    2 => site.sides[node] = random.random_range(0..2),
                    3 => site.sides.fill(0),
                    _ => {}
                }
                let looks = (0..nodes).filter(|_| random.random_bool(0.7));
                let mut order: Vec<_> = looks.collect();
                order.reverse();
                site.look(&order);
            }
            site.sides.fill(0);
            for node in 0..nodes {
                if site.nodes[node].is_none() {
                    site.restart(node);
                }
            }
            let follows = site.settle(8 * (nodes + 2));
            prop_assert!(follows[0].is_some());
            prop_assert!(follows.iter().all(|one| one == &follows[0]), "{follows:?}");
        }
    }
}
