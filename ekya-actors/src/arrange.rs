//! Which nodes a gang of actors goes to: all of them, or nowhere.
//!
//! Best fit, the largest needs first. It may miss an arrangement where only another order of filling
//! up would do; finding every one is bin packing, which is NP-hard.

use std::sync::Arc;

use ekya_sched::Share;
use serde::{Deserialize, Serialize};

/// What an actor needs of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The kind of device, such as `"gpu"`.
    pub kind: String,
    /// How much of it, at most a whole one.
    pub share: Share,
}

impl Needs {
    /// So much of a device of this kind.
    #[must_use]
    pub fn of(kind: impl Into<String>, share: Share) -> Self {
        let kind = kind.into();
        Self { kind, share }
    }
}

/// How a gang is spread over nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// On as few nodes as can be: close to each other.
    Pack,
    /// On as many nodes as can be: so that few are lost with one.
    Spread,
}

/// A device of a node, and how much of it nobody holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its name.
    pub device: String,
    /// Its kind.
    pub kind: String,
    /// In micro-devices, of 1,000,000.
    pub free_micro: u32,
}

/// A node and its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) node: Arc<str>,
    pub(crate) rooms: Vec<Room>,
}

/// Takes the needs of one actor from the device on which the least is left over, by its place.
pub(crate) fn fit(rooms: &mut [Room], needs: &Needs) -> Option<usize> {
    let fits = |room: &Room| room.kind == needs.kind && room.free_micro >= needs.share.micro();
    let all = rooms.iter_mut().enumerate();
    let fitting = all.filter(|(_, room)| fits(room));
    let (place, room) = fitting.min_by_key(|(_, room)| room.free_micro)?;
    room.free_micro -= needs.share.micro();
    Some(place)
}

/// Where each of a gang goes, as places in `sites`; `None` where not all find room.
pub(crate) fn arrange(
    gang: &[Option<Needs>],
    mut sites: Vec<Site>,
    how: Arrangement,
) -> Option<Vec<usize>> {
    let share = |needs: &Option<Needs>| needs.as_ref().map_or(0, |needs| needs.share.micro());
    let mut order: Vec<usize> = (0..gang.len()).collect();
    order.sort_by_key(|&one| std::cmp::Reverse(share(&gang[one])));
    let mut taken = vec![0_usize; sites.len()];
    let mut places = vec![0; gang.len()];
    for one in order {
        let needs = &gang[one];
        let mut choice: Vec<usize> = (0..sites.len()).collect();
        choice.sort_by_key(|&site| preference(taken[site], largest_free(&sites[site], needs), how));
        let place = choice.into_iter().find(|&site| match needs {
            Some(needs) => fit(&mut sites[site].rooms, needs).is_some(),
            None => true,
        })?;
        taken[place] += 1;
        places[one] = place;
    }
    Some(places)
}

/// The lower, the rather; where nothing else decides, to where there is most room.
fn preference(taken: usize, free: u32, how: Arrangement) -> (usize, u32) {
    let full = u32::MAX - free;
    match how {
        Arrangement::Pack => (usize::MAX - taken, full),
        Arrangement::Spread => (taken, full),
    }
}

fn largest_free(site: &Site, needs: &Option<Needs>) -> u32 {
    let kind = needs.as_ref().map(|needs| &needs.kind);
    let rooms = site.rooms.iter();
    let rooms = rooms.filter(|room| kind.is_none_or(|kind| *kind == room.kind));
    rooms.map(|room| room.free_micro).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn site(node: &str, free: &[u32]) -> Site {
        let room = |&free_micro| Room {
            device: "d".to_owned(),
            kind: "gpu".to_owned(),
            free_micro,
        };
        Site {
            node: node.into(),
            rooms: free.iter().map(room).collect(),
        }
    }

    fn needs(micro: u32) -> Option<Needs> {
        Some(Needs::of("gpu", Share::from_micro(micro)))
    }

    #[test]
    fn a_gang_is_packed_or_spread() {
        let sites = || vec![site("a", &[500]), site("b", &[900]), site("c", &[400])];
        let gang = [needs(300), needs(300), needs(300)];
        let packed = arrange(&gang, sites(), Arrangement::Pack);
        assert_eq!(packed, Some(vec![1, 1, 1]));
        let spread = arrange(&gang, sites(), Arrangement::Spread);
        assert_eq!(spread, Some(vec![1, 0, 2]));
    }

    #[test]
    fn all_find_room_or_none_does() {
        let sites = || vec![site("a", &[500]), site("b", &[500])];
        for how in [Arrangement::Pack, Arrangement::Spread] {
            assert!(arrange(&[needs(500), needs(500)], sites(), how).is_some());
            assert!(arrange(&[needs(500), needs(501)], sites(), how).is_none());
            let other = Some(Needs::of("cpu", Share::from_micro(1)));
            assert!(arrange(&[needs(1), other], sites(), how).is_none());
            assert!(arrange(&[None, None], Vec::new(), how).is_none());
        }
    }

    #[test]
    fn the_largest_go_first() {
        let sites = vec![site("a", &[600]), site("b", &[1000])];
        let gang = [needs(600), needs(1000)];
        let places = arrange(&gang, sites, Arrangement::Spread);
        assert_eq!(places, Some(vec![0, 1]));
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice(
            free in prop::collection::vec(prop::collection::vec(0..1000_u32, 0..3), 1..5),
            gang in prop::collection::vec(prop::option::of(0..700_u32), 0..8),
            pack in any::<bool>(),
        ) {
            let sites: Vec<Site> = free.iter().map(|free| site("n", free)).collect();
            let gang: Vec<Option<Needs>> = gang.into_iter().map(|one| one.and_then(needs)).collect();
            let how = if pack { Arrangement::Pack } else { Arrangement::Spread };
            if let Some(places) = arrange(&gang, sites.clone(), how) {
                // Each node finds room for what is sent to it, as it does when it is asked.
                for (at, mut site) in sites.into_iter().enumerate() {
                    let mut sent: Vec<&Needs> = gang
                        .iter()
                        .zip(&places)
                        .filter(|(_, place)| **place == at)
                        .filter_map(|(needs, _)| needs.as_ref())
                        .collect();
                    sent.sort_by_key(|needs| std::cmp::Reverse(needs.share.micro()));
                    for needs in sent {
                        prop_assert!(fit(&mut site.rooms, needs).is_some());
                    }
                }
            }
        }
    }
}
