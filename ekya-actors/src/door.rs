//! How many connections may be in the making at a time, and how many of them from one address: who
//! begins many and goes on with none keeps out nobody but those at the same address.
//!
//! An address is worth something only when it is shown to be one's own: where half of the places are
//! taken, all in all or from there, that is asked for first.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections that are being accepted at a time.
pub(crate) const PLACES: usize = 128;
/// The same from one address.
const FROM_ONE: usize = 32;
/// Bits of an IPv6 address that its holder may choose freely.
const CHOSEN_BITS: u32 = 64;

/// The places that are taken, by address.
#[derive(Debug, Default)]
pub(crate) struct Door {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// What becomes of somebody who wants in.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It has a place until that is dropped.
    In(Place),
    /// It has to show first that it gets what is sent to its address.
    Prove,
    /// There is no place.
    Full,
}

#[derive(Debug)]
pub(crate) struct Place {
    door: Arc<Door>,
    from: IpAddr,
}

impl Door {
    /// `is_proven` says whether the address was shown to be the sender's own.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr, is_proven: bool) -> Entry {
        let from = network(from);
        let mut taken = self.taken.lock();
        let all: usize = taken.values().sum();
        let from_there = taken.get(&from).copied().unwrap_or(0);
        if !is_proven && (all > PLACES / 2 || from_there > FROM_ONE / 2) {
            return Entry::Prove;
        }
        if all >= PLACES || from_there >= FROM_ONE {
            return Entry::Full;
        }
        taken.insert(from, from_there + 1);
        let door = Arc::clone(self);
        Entry::In(Place { door, from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.door.taken.lock();
        if let Some(count) = taken.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.from);
            }
        }
    }
}

/// All addresses that one holder has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> CHOSEN_BITS).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(door: &Arc<Door>, from: [u8; 4]) -> Vec<Place> {
        let enter = || match door.enter(from.into(), true) {
            Entry::In(place) => Some(place),
            _ => None,
        };
        std::iter::from_fn(enter).collect()
    }

    #[test]
    fn one_address_takes_no_more_than_its_share() {
        let door = Arc::new(Door::default());
        let first = entered(&door, [10, 0, 0, 1]);
        assert_eq!(first.len(), FROM_ONE);
        let other = IpAddr::from([10, 0, 0, 2]);
        assert!(matches!(door.enter(other, false), Entry::In(_)));
        // Until it goes.
        drop(first);
        assert_eq!(entered(&door, [10, 0, 0, 1]).len(), FROM_ONE);
        assert!(door.taken.lock().is_empty());
    }

    #[test]
    fn many_addresses_take_no_more_than_there_is_and_have_to_show_them_before() {
        let door = Arc::new(Door::default());
        let mut places = Vec::new();
        for host in 0..200 {
            match door.enter([10, 0, 0, host].into(), false) {
                Entry::In(place) => places.push(place),
                entry => assert!(matches!(entry, Entry::Prove)),
            }
        }
        assert_eq!(places.len(), PLACES / 2 + 1);
        places.extend((0..200).flat_map(|host| entered(&door, [10, 0, 1, host])));
        assert_eq!(places.len(), PLACES);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let one: [IpAddr; 2] =
            ["2001:db8::1", "2001:db8::ffff:1"].map(|text| text.parse().unwrap());
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(network(one[0]), network(one[1]));
        assert_ne!(network(one[0]), network(other));
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(network(mapped), IpAddr::from([10, 0, 0, 1]));
    }
}
