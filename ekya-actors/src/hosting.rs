//! Actors that a node runs because another one, or itself, has asked for them.
//!
//! Only what the node has offered is spawned, only as many as fit, and only on shares of devices that
//! nobody else holds. An actor that is not detached ends with the session of the node that asked for
//! it; nobody but that node, and this one, may stop it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::arrange::{Needs, Room};
use crate::codec;
use crate::envelope::guarded;
use crate::exports::{Exports, Published};
use crate::frame::MESSAGE_MAX;
use crate::holdings::{Holding, Holdings, Shortage};
use crate::link::Link;
use crate::reception::{Place, WireNeeds};
use crate::state::DeviceState;
use crate::supervision::{Backoff, Restarts};
use crate::system::{Running, SpawnError, System, WeakSystem};
use crate::wire::Remote;

/// Actors that a node runs for others, at most.
const SPAWNED_MAX: usize = 1024;

/// Messages that may wait for one of them, at most.
const MAILBOX_MAX: u32 = 1 << 16;

/// A reservation lapses after this, whatever was asked for.
const RESERVED_FOR: Duration = Duration::from_secs(30);

/// An actor that other nodes may spawn here, once it is [offered](crate::Node::offer).
pub trait Spawn: Remote {
    /// What it is made from.
    type Args: Serialize + DeserializeOwned + Send + 'static;

    /// Makes one, and another at each restart, on the thread that runs the actors: long work belongs
    /// to a [`Compute`](crate::Compute) thread. `holding` is what it [needs](Order::needs) of a device.
    fn spawn(args: &Self::Args, holding: Option<&Arc<Holding>>) -> Self;
}

/// An actor to be spawned, here or elsewhere.
#[derive(Debug)]
pub struct Order<A: Spawn> {
    name: String,
    args: A::Args,
    needs: Option<Needs>,
    restarts: Restarts,
    mailbox: u32,
    is_detached: bool,
}

impl<A: Spawn> Order<A> {
    /// An actor of this name on its node: with 64 messages in its mailbox, without restarts, and
    /// without a device.
    pub fn new(name: impl Into<String>, args: A::Args) -> Self {
        Self {
            name: name.into(),
            args,
            needs: None,
            restarts: Restarts::new(0, Duration::ZERO),
            mailbox: 64,
            is_detached: false,
        }
    }

    /// Needs so much of a device of this kind, to itself, as long as it runs.
    #[must_use]
    pub fn needs(mut self, needs: Needs) -> Self {
        self.needs = Some(needs);
        self
    }

    /// Is replaced when it panics.
    #[must_use]
    pub const fn restarts(mut self, restarts: Restarts) -> Self {
        self.restarts = restarts;
        self
    }

    /// So many messages wait for it, at most 65,536.
    #[must_use]
    pub const fn mailbox(mut self, capacity: u32) -> Self {
        self.mailbox = capacity;
        self
    }

    /// Outlives the session with the node that has asked for it. That node may still
    /// [stop](crate::Ref::stop) it, in a later session; no other may, unless the actor takes a message
    /// that stops it.
    #[must_use]
    pub const fn detached(mut self) -> Self {
        self.is_detached = true;
        self
    }

    pub(crate) const fn wanted(&self) -> Option<&Needs> {
        self.needs.as_ref()
    }

    /// As it travels.
    ///
    /// # Errors
    /// [`Refusal::Args`].
    pub(crate) fn place(&self, reservation: Option<u64>) -> Result<Place, Refusal> {
        let mut args = Vec::new();
        let encoded = codec::encode(&self.args, &mut args, MESSAGE_MAX / 2);
        encoded.map_err(|error| Refusal::Args(error.to_string()))?;
        Ok(Place {
            actor_type: A::TYPE.to_owned(),
            name: self.name.clone(),
            args,
            mailbox: self.mailbox,
            needs: self.needs.as_ref().map(WireNeeds::from),
            reservation,
            restarts: self.restarts.at_most,
            restarts_within: self.restarts.within,
            backoff: [self.restarts.backoff.first, self.restarts.backoff.most],
            is_detached: self.is_detached,
        })
    }
}

/// Why a node does not spawn an actor.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// It has not offered the type.
    #[error("it does not offer to run a {0}")]
    NotOffered(String),
    /// It runs an actor of the name.
    #[error("it has an actor {0} already")]
    NameTaken(String),
    /// Not so much of a device is free.
    #[error("{micro} millionths of a {kind} are not free")]
    Shortage {
        /// The kind of device.
        kind: String,
        /// What was asked for, in micro-devices.
        micro: u32,
    },
    /// The reservation has lapsed.
    #[error("the reservation has lapsed")]
    Lapsed,
    /// It runs as many for others as it may.
    #[error("it runs {SPAWNED_MAX} actors for others already")]
    TooMany,
    /// No such mailbox can be.
    #[error("a mailbox of {0} messages: 1 to {MAILBOX_MAX} are possible")]
    Mailbox(u32),
    /// What it was to be made from makes no sense to it, or is too long.
    #[error("the arguments cannot be used: {0}")]
    Args(String),
    /// Making it has panicked.
    #[error("making it has panicked: {0}")]
    Panicked(String),
    /// The node stops.
    #[error("the node stops")]
    Stopping,
}

impl From<Shortage> for Refusal {
    fn from(Shortage(needs): Shortage) -> Self {
        Self::Shortage {
            kind: needs.kind,
            micro: needs.share.micro(),
        }
    }
}

/// Who has ordered an actor: it ends with this session, unless it is detached.
type Owner = (Arc<Link>, u64);

/// Makes an actor of one type.
type Offer = fn(&Arc<Hosting>, Place, Option<Arc<Holding>>, Option<Owner>) -> Placed;

type Placed = Result<Published, Refusal>;

/// What a node runs for others.
pub(crate) struct Hosting {
    system: WeakSystem,
    exports: Arc<Exports>,
    holdings: Holdings,
    network: Handle,
    offers: RwLock<HashMap<&'static str, Offer>>,
    /// By number.
    spawned: Mutex<BTreeMap<u64, Spawned>>,
}

struct Spawned {
    name: Arc<str>,
    actor: Arc<dyn Running>,
    holding: Option<Arc<Holding>>,
    /// The name of the peer that has; none for this node.
    ordered_by: Option<Arc<str>>,
}

impl Hosting {
    pub(crate) fn new(
        system: WeakSystem,
        exports: Arc<Exports>,
        holdings: Holdings,
        network: Handle,
    ) -> Self {
        Self {
            system,
            exports,
            holdings,
            network,
            offers: RwLock::default(),
            spawned: Mutex::default(),
        }
    }

    pub(crate) fn offer<A: Spawn>(&self) {
        self.offers.write().insert(A::TYPE, make::<A>);
    }

    pub(crate) fn offers(&self, actor_type: &str) -> bool {
        self.offers.read().contains_key(actor_type)
    }

    /// Its actors, if they still run.
    pub(crate) fn system(&self) -> Option<System> {
        self.system.upgrade()
    }

    pub(crate) fn devices(&self) -> Vec<DeviceState> {
        self.holdings.devices()
    }

    pub(crate) fn rooms(&self) -> Vec<Room> {
        self.holdings.rooms(Instant::now())
    }

    /// # Errors
    /// [`Refusal::Shortage`].
    pub(crate) fn reserve(&self, needs: &[Needs], within: Duration) -> Result<Vec<u64>, Refusal> {
        let now = Instant::now();
        let until = now + within.min(RESERVED_FOR);
        Ok(self.holdings.reserve(needs, until, now)?)
    }

    pub(crate) fn release(&self, reservations: &[u64]) {
        self.holdings.release(reservations);
    }

    /// Runs an actor.
    ///
    /// # Errors
    /// [`Refusal`]; what was reserved for it is free.
    pub(crate) fn host(self: &Arc<Self>, place: Place, owner: Option<Owner>) -> Placed {
        let holding = self.holding(&place);
        let offer = self.offers.read().get(&*place.actor_type).copied();
        let offer = offer.ok_or_else(|| Refusal::NotOffered(place.actor_type.clone()))?;
        if !(1..=MAILBOX_MAX).contains(&place.mailbox) {
            return Err(Refusal::Mailbox(place.mailbox));
        }
        if self.spawned.lock().len() >= SPAWNED_MAX {
            return Err(Refusal::TooMany);
        }
        let holding = holding?;
        let placed = offer(self, place, holding.clone(), owner);
        if let (Err(_), Some(holding)) = (&placed, holding) {
            // Also where what was made, and is not run, lives on somewhere.
            holding.give_back(Instant::now());
        }
        placed
    }

    fn holding(&self, place: &Place) -> Result<Option<Arc<Holding>>, Refusal> {
        let now = Instant::now();
        let reservation = match (place.reservation, &place.needs) {
            (Some(number), _) => number,
            (None, Some(needs)) => {
                let until = now + RESERVED_FOR;
                let needs = [Needs::from(needs)];
                let numbers = self.holdings.reserve(&needs, until, now)?;
                numbers.into_iter().next().ok_or(Refusal::Lapsed)?
            }
            (None, None) => return Ok(None),
        };
        let taken = self.holdings.take(reservation, &place.name, now);
        taken.map(Some).ok_or(Refusal::Lapsed)
    }

    /// Stops an actor for the peer that has ordered it, or for this node; whether it does.
    pub(crate) fn stop(&self, number: u64, by: Option<&str>) -> bool {
        let spawned = self.spawned.lock();
        let may = |one: &&Spawned| by.is_none() || one.ordered_by.as_deref() == by;
        let one = spawned.get(&number).filter(may);
        one.map(|one| one.actor.stop()).is_some()
    }

    /// An actor has ended. One that is spawned here may have its name already: that is free before this
    /// is heard of, where the other one had a thread of its own.
    pub(crate) fn ended(&self, actor: &str) {
        let mut spawned = self.spawned.lock();
        let is_it = |_: &u64, one: &mut Spawned| *one.name == *actor && one.actor.has_ended();
        for (_, Spawned { holding, .. }) in spawned.extract_if(.., is_it) {
            if let Some(holding) = holding {
                holding.give_back(Instant::now());
            }
        }
    }
}

/// Runs on the actors' thread, so that no actor ends before it is remembered.
fn make<A: Spawn>(
    hosting: &Arc<Hosting>,
    place: Place,
    holding: Option<Arc<Holding>>,
    owner: Option<Owner>,
) -> Placed {
    let args = codec::decode::<A::Args>(&place.args);
    let args = args.map_err(|error| Refusal::Args(error.to_string()))?;
    let system = hosting.system.upgrade().ok_or(Refusal::Stopping)?;
    let held = holding.clone();
    let factory = move || A::spawn(&args, held.as_ref());
    let [first, most] = place.backoff;
    let backoff = Backoff { first, most };
    let restarts = Restarts::new(place.restarts, place.restarts_within).after(backoff);
    let capacity = place.mailbox as usize;
    let spawned = guarded(|| system.spawn_supervised(&place.name, factory, capacity, restarts));
    let actor = spawned
        .map_err(Refusal::Panicked)?
        .map_err(|error| match error {
            SpawnError::NameTaken(name) => Refusal::NameTaken(name),
            SpawnError::Capacity { .. } => Refusal::Mailbox(place.mailbox),
            SpawnError::Stopped(_) | SpawnError::Thread { .. } => Refusal::Stopping,
        })?;
    let published = hosting.exports.publish(&actor);
    if let Some(running) = actor.running() {
        let spawned = Spawned {
            name: actor.shared_name(),
            actor: running,
            holding,
            ordered_by: owner.as_ref().map(|(link, _)| Arc::clone(&link.who().name)),
        };
        hosting.spawned.lock().insert(published.actor, spawned);
    }
    if let Some((link, session)) = owner.filter(|_| !place.is_detached) {
        hosting.network.spawn(async move {
            tokio::select! {
                _ = actor.ended() => {}
                () = link.over(session) => actor.stop(),
            }
        });
    }
    Ok(published)
}

#[cfg(test)]
mod tests {
    use ekya_sched::Share;

    use super::*;
    use crate::actor::Actor;
    use crate::device::Device;
    use crate::wire::Messages;

    struct Idle;

    impl Actor for Idle {}

    impl Remote for Idle {
        const TYPE: &'static str = "idle";

        fn messages(_: &mut Messages<Self>) {}
    }

    impl Spawn for Idle {
        type Args = ();

        fn spawn((): &(), _: Option<&Arc<Holding>>) -> Self {
            Self
        }
    }

    #[test]
    fn the_end_of_another_of_the_same_name_frees_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let system = System::start().unwrap();
        let devices = vec![("gpu".to_owned(), Device::new("gpu0", 1))];
        let hosting = Arc::new(Hosting::new(
            system.downgrade(),
            Arc::default(),
            Holdings::new(devices),
            runtime.handle().clone(),
        ));
        hosting.offer::<Idle>();
        let order = Order::<Idle>::new("idle", ()).needs(Needs::of("gpu", Share::WHOLE));
        let place = || order.place(None).unwrap();
        let number = hosting.host(place(), None).unwrap().actor;
        hosting.ended("idle");
        assert_eq!(hosting.rooms()[0].free_micro, 0);
        assert!(!hosting.stop(number, Some("somebody")));
        assert!(hosting.stop(number, None));
        system.shutdown(Duration::from_secs(10)).unwrap();
        hosting.ended("idle");
        assert_eq!(hosting.rooms()[0].free_micro, 1_000_000);
        assert!(!hosting.stop(number, None));
    }
}
