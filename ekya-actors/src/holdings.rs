//! What a node's devices are promised to: reservations, which lapse, and what actors hold.
//!
//! The devices themselves are the ledger. A reservation is a job on a device with a grant that
//! expires; taking it up grants the same share again, without end. So whatever is lost on the way,
//! nothing is promised that does not exist, and nothing stays promised to nobody.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ekya_sched::Share;
use parking_lot::Mutex;

use crate::arrange::{Needs, Room, fit};
use crate::device::{Device, JobHandle};
use crate::ledger::Grant;
use crate::plant::{self, Bug};
use crate::state::DeviceState;

/// Reservations that a node holds at a time.
const RESERVED_MAX: usize = 4096;

/// The grants of a job in turn: reserved, taken up, given back.
const RESERVED: u64 = 1;
const TAKEN: u64 = 2;
const GIVEN_BACK: u64 = 3;

/// What the job of a reservation is called, until an actor takes it up.
const NOBODY_YET: &str = "reserved";

/// What an actor holds of a device.
#[derive(Debug)]
pub struct Holding {
    device: Device,
    job: JobHandle,
    share: Share,
}

/// Not enough of a kind of device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shortage(pub(crate) Needs);

/// The devices of a node.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// Each with its kind.
    devices: Vec<(String, Device)>,
    holds: Mutex<Holds>,
}

#[derive(Debug, Default)]
struct Holds {
    /// Reservations by number, and when they lapse.
    reserved: BTreeMap<u64, (Holding, Instant)>,
}

impl Holding {
    /// The device.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The job on it, in whose name minibatches run.
    #[must_use]
    pub const fn job(&self) -> &JobHandle {
        &self.job
    }

    /// The share that was asked for.
    #[must_use]
    pub const fn share(&self) -> Share {
        self.share
    }

    fn grant(&self, sequence: u64, share: Share, expires: Option<Instant>, now: Instant) -> bool {
        let grant = Grant {
            job: self.job.id(),
            share,
            // Whoever leads: the node that owns the device grants.
            term: 0,
            sequence,
            expires,
        };
        self.device.grant_own_at(grant, now).is_ok()
    }

    /// Its actor has ended: whoever still has it, as where its state lives on somewhere, holds nothing
    /// from now on.
    pub(crate) fn give_back(&self, now: Instant) {
        self.grant(GIVEN_BACK, Share::ZERO, None, now);
        self.job.stop();
    }
}

impl Holdings {
    pub(crate) fn new(devices: Vec<(String, Device)>) -> Self {
        Self {
            devices,
            holds: Mutex::default(),
        }
    }

    /// The devices and what is free of each.
    pub(crate) fn rooms(&self, now: Instant) -> Vec<Room> {
        let room = |(kind, device): &(String, Device)| Room {
            device: device.name().to_owned(),
            kind: kind.clone(),
            free_micro: device.free_at(now).micro(),
        };
        self.devices.iter().map(room).collect()
    }

    pub(crate) fn devices(&self) -> Vec<DeviceState> {
        let state = |(kind, device): &(String, Device)| DeviceState::of(kind, device);
        self.devices.iter().map(state).collect()
    }

    /// Reserves all that is needed, or nothing; the numbers of the reservations, in the order of the
    /// needs.
    ///
    /// # Errors
    /// [`Shortage`].
    pub(crate) fn reserve(
        &self,
        needs: &[Needs],
        until: Instant,
        now: Instant,
    ) -> Result<Vec<u64>, Shortage> {
        let mut holds = self.holds.lock();
        holds.reserved.retain(|_, (_, until)| now < *until);
        let mut order: Vec<usize> = (0..needs.len()).collect();
        order.sort_by_key(|&one| Reverse(needs[one].share.micro()));
        let mut rooms = self.rooms(now);
        let mut holdings = BTreeMap::new();
        for one in order {
            let needs = &needs[one];
            let short = || Shortage(needs.clone());
            if holds.reserved.len() + holdings.len() >= RESERVED_MAX {
                return Err(short());
            }
            let place = fit(&mut rooms, needs).ok_or_else(short)?;
            let device = self.devices[place].1.clone();
            let holding = Holding {
                job: device.job(NOBODY_YET),
                device,
                share: needs.share,
            };
            if !holding.grant(RESERVED, needs.share, Some(until), now) {
                // Somebody else has granted it meanwhile.
                return Err(short());
            }
            holdings.insert(one, holding);
        }
        let numbers = holdings.into_values().map(|holding| {
            // Whoever knows it may use it: not to be guessed by anybody else.
            let number = rand::random();
            holds.reserved.insert(number, (holding, until));
            number
        });
        Ok(numbers.collect())
    }

    /// Takes up a reservation, for an actor of this name; `None` when it has lapsed.
    pub(crate) fn take(&self, number: u64, actor: &str, now: Instant) -> Option<Arc<Holding>> {
        let (holding, until) = self.holds.lock().reserved.remove(&number)?;
        if now >= until && !plant::is(Bug::StaleGrant) {
            return None;
        }
        holding.job.rename(actor);
        let taken = holding.grant(TAKEN, holding.share, None, now);
        taken.then(|| Arc::new(holding))
    }

    /// Gives reservations back.
    pub(crate) fn release(&self, numbers: &[u64]) {
        let mut holds = self.holds.lock();
        for number in numbers {
            // Dropping the job frees its share.
            holds.reserved.remove(number);
        }
    }
}

#[cfg(test)]
mod simulation {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Shares that fill a device to the last of its millionths, and miss it by one.
    const SHARES: [u32; 7] = [1, 250_000, 333_333, 333_334, 500_000, 999_999, 1_000_000];

    /// What should be so, beside what is.
    struct World {
        rng: StdRng,
        holdings: Holdings,
        now: Instant,
        /// Reservations: number, share, end.
        reserved: Vec<(u64, u32, Instant)>,
        actors: BTreeMap<u32, (u32, Arc<Holding>)>,
        /// Kept beyond the end of their actors.
        kept: Vec<Arc<Holding>>,
        next: u32,
    }

    impl World {
        fn new(seed: u64) -> Self {
            let device = |name: &str| ("gpu".to_owned(), Device::new(name, 1));
            Self {
                rng: StdRng::seed_from_u64(seed),
                holdings: Holdings::new(vec![device("gpu0"), device("gpu1")]),
                now: Instant::now(),
                reserved: Vec::new(),
                actors: BTreeMap::new(),
                kept: Vec::new(),
                next: 0,
            }
        }

        fn step(&mut self) -> Result<(), String> {
            match self.rng.random_range(0..10) {
                0..3 => self.reserve(),
                3..6 => self.take()?,
                6 => self.release(),
                7 => self.end(),
                8 => self.now += Duration::from_millis(self.rng.random_range(1..900)),
                _ => self.repeat_an_old_grant()?,
            }
            self.check()
        }

        fn reserve(&mut self) {
            let count = self.rng.random_range(1..3);
            let share = |rng: &mut StdRng| SHARES[rng.random_range(0..SHARES.len())];
            let shares: Vec<u32> = (0..count).map(|_| share(&mut self.rng)).collect();
            let needs = |&micro: &u32| Needs::of("gpu", Share::from_micro(micro));
            let needs: Vec<Needs> = shares.iter().map(needs).collect();
            let until = self.now + Duration::from_secs(1);
            if let Ok(numbers) = self.holdings.reserve(&needs, until, self.now) {
                let all = numbers.into_iter().zip(shares);
                self.reserved
                    .extend(all.map(|(number, share)| (number, share, until)));
            }
        }

        fn take(&mut self) -> Result<(), String> {
            if self.reserved.is_empty() {
                return Ok(());
            }
            let nth = self.rng.random_range(0..self.reserved.len());
            let (number, share, until) = self.reserved.swap_remove(nth);
            let taken = self.holdings.take(number, "actor", self.now);
            match taken {
                Some(_) if self.now >= until => Err(format!("{number} was taken up after its end")),
                None if self.now < until => Err(format!("{number} was refused in time")),
                None => Ok(()),
                Some(holding) => {
                    self.next += 1;
                    self.actors.insert(self.next, (share, holding));
                    Ok(())
                }
            }
        }

        fn release(&mut self) {
            if let Some((number, ..)) = self.reserved.pop() {
                self.holdings.release(&[number]);
            }
        }

        fn end(&mut self) {
            if let Some((_, (_, holding))) = self.actors.pop_first() {
                holding.give_back(self.now);
                // Its state lives on, on a thread that computes.
                self.kept.push(holding);
            }
        }

        /// As one that was long on its way.
        fn repeat_an_old_grant(&mut self) -> Result<(), String> {
            for holding in self.kept.iter().chain(self.actors.values().map(|(_, h)| h)) {
                let grant = Grant {
                    job: holding.job.id(),
                    share: holding.share,
                    term: 0,
                    sequence: RESERVED,
                    expires: None,
                };
                if holding.device.grant_at(&[grant], self.now).is_ok() {
                    return Err("an old grant was accepted".to_owned());
                }
            }
            Ok(())
        }

        fn check(&self) -> Result<(), String> {
            let reserved = self.reserved.iter();
            let in_time = reserved.filter(|(_, _, until)| self.now < *until);
            let promised: u64 = in_time.map(|(_, share, _)| u64::from(*share)).sum();
            let held: u64 = self
                .actors
                .values()
                .map(|(share, _)| u64::from(*share))
                .sum();
            let rooms = self.holdings.rooms(self.now);
            let free: u64 = rooms.iter().map(|room| u64::from(room.free_micro)).sum();
            for (_, device) in &self.holdings.devices {
                let usage = device.usage();
                let granted: u64 = usage.iter().map(|job| u64::from(job.share.micro())).sum();
                if granted > u64::from(Share::WHOLE.micro()) {
                    return Err(format!("{granted} granted of one device"));
                }
            }
            if promised + held + free == 2_000_000 {
                return Ok(());
            }
            Err(format!("{promised} reserved, {held} held, {free} free"))
        }
    }

    fn run(seed: u64) -> Result<(), String> {
        let mut world = World::new(seed);
        (0..300).try_for_each(|_| world.step())
    }

    #[test]
    fn no_more_is_promised_than_exists() {
        for seed in crate::simulation::seeds() {
            if let Err(fault) = run(seed) {
                panic!("EKYA_SEEDS={seed}..{} repeats this: {fault}", seed + 1);
            }
        }
    }

    #[test]
    fn planted_bugs_are_found() {
        for bug in [Bug::StaleGrant, Bug::OffByOne] {
            plant::set(Some(bug));
            let found = (0..2000).any(|seed| run(seed).is_err());
            plant::set(None);
            assert!(found, "{bug:?} was not found");
        }
    }

    #[test]
    fn the_number_of_a_reservation_does_not_follow_from_another() {
        let holdings = World::new(0).holdings;
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let some = vec![Needs::of("gpu", Share::from_micro(1)); 8];
        let mut numbers = holdings.reserve(&some, until, now).unwrap();
        numbers.sort_unstable();
        let apart = |pair: &[u64]| pair[1] - pair[0] > 1 << 20;
        assert!(numbers.windows(2).all(apart), "{numbers:?}");
    }

    #[test]
    fn all_is_reserved_or_nothing() {
        let holdings = World::new(0).holdings;
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let whole = Needs::of("gpu", Share::WHOLE);
        let three = vec![whole.clone(); 3];
        assert_eq!(holdings.reserve(&three, until, now), Err(Shortage(whole)));
        let free = |room: Room| room.free_micro;
        let rooms: Vec<u32> = holdings.rooms(now).into_iter().map(free).collect();
        assert_eq!(rooms, [1_000_000; 2]);
    }

    #[test]
    fn whoever_leads_the_node_grants_its_own() {
        let holdings = World::new(0).holdings;
        let now = Instant::now();
        let led = holdings.devices[0].1.job("led");
        let grant = Grant {
            job: led.id(),
            share: Share::ZERO,
            term: 7,
            sequence: 1,
            expires: None,
        };
        let device = &holdings.devices[0].1;
        device.grant_at(&[grant], now).expect("a leader's grant");
        let needs = [
            Needs::of("gpu", Share::WHOLE),
            Needs::of("gpu", Share::WHOLE),
        ];
        let until = now + Duration::from_secs(1);
        let numbers = holdings.reserve(&needs, until, now).expect("both are free");
        for number in numbers {
            let held = holdings.take(number, "actor", now).expect("in time");
            held.give_back(now);
        }
        let free = |room: Room| room.free_micro;
        let rooms: Vec<u32> = holdings.rooms(now).into_iter().map(free).collect();
        assert_eq!(rooms, [1_000_000; 2]);
    }
}
