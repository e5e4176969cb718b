//! Spawning actors on other nodes: on one of them, on any that has room, or a gang on several.
//!
//! A gang is reserved everywhere before any of it runs. Reservations lapse by themselves, so a node
//! that dies in the middle of it leaves nothing behind. What runs already when the rest cannot, or when
//! nobody waits for it any more, is stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinSet;

use crate::arrange::{Arrangement, Needs, Room, Site, arrange};
use crate::exports::Published;
use crate::hosting::{Order, Refusal, Spawn};
use crate::node::{Desk, FindError, Node};
use crate::reception::{Look, Place, Release, Reserve, Stop, WireNeeds};
use crate::reference::{AskError, Ref};
use crate::supervision::Backoff;

/// Time that a node has to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// How long an actor's node is listened to all the same, to stop what has come to run too late. A session
/// that is out of reach for the rest of it ends, and the actor with it.
const HEARD_WITHIN: Duration = Duration::from_secs(20);

/// How long a gang may take to be spawned.
const RESERVED_FOR: Duration = Duration::from_secs(20);

/// How often a gang is arranged anew when others have been faster.
const TRIES: u32 = 4;

/// How soon.
const TRY_AFTER: Backoff = Backoff {
    first: Duration::from_millis(50),
    most: Duration::from_millis(400),
};

/// Why an actor was not spawned.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The node is not connected.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The node has refused.
    #[error("{node} refuses: {why}")]
    Refused {
        /// The node.
        node: String,
        /// Why.
        why: Refusal,
    },
    /// The node has not answered. Should the actor run there, it is stopped as soon as that is heard; what
    /// is detached, and is not heard of, goes on.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No nodes that offer the type have room for all of it.
    #[error("no room for {wanted}: {rooms}")]
    NoRoom {
        /// What was to be spawned.
        wanted: String,
        /// What there is.
        rooms: String,
    },
}

impl Node {
    /// Lets other nodes and clients spawn actors of this type here.
    pub fn offer<A: Spawn>(&self) {
        self.hosting().offer::<A>();
    }

    /// The devices of a connected node, or this one, and what is free of them.
    ///
    /// # Errors
    /// [`FindError`].
    pub async fn rooms(&self, node: &str) -> Result<Vec<Room>, FindError> {
        let actor_type = String::new();
        let desk = self.desk(node)?;
        Ok(desk.reception.ask(Look { actor_type }, WITHIN).await?.0)
    }

    /// Spawns an actor on a connected node, or this one. Unless it is detached, it ends with the
    /// session of the two nodes; it can be [stopped](Ref::stop) by its reference.
    ///
    /// # Errors
    /// [`PlaceError`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the actor is not spawned, or is stopped.
    pub async fn spawn_on<A: Spawn>(
        &self,
        node: &str,
        order: &Order<A>,
    ) -> Result<Ref<A>, PlaceError> {
        let desk = self.desk(node)?;
        let placed = self.place(&desk, order, None).await?;
        let reference = placed.reference(self)?;
        placed.keep();
        Ok(reference)
    }

    /// Spawns an actor on any node that has room for it: of those connected, and this one, the one
    /// that has most.
    ///
    /// # Errors
    /// [`PlaceError`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the actor is not spawned, or is stopped.
    pub async fn spawn_anywhere<A: Spawn>(&self, order: &Order<A>) -> Result<Ref<A>, PlaceError> {
        let gang = std::slice::from_ref(order);
        let mut placed = self.spawn_gang(gang, Arrangement::Spread).await?;
        placed.pop().ok_or_else(|| no_room(gang, &[]))
    }

    /// Spawns a gang of actors on nodes that have room for all of them together, or none of them; in
    /// the order of the gang.
    ///
    /// # Errors
    /// [`PlaceError`]; nothing of it runs, or it is being stopped.
    ///
    /// # Cancel safety
    /// When the future is dropped, nothing of the gang runs, or it is being stopped.
    pub async fn spawn_gang<A: Spawn>(
        &self,
        gang: &[Order<A>],
        how: Arrangement,
    ) -> Result<Vec<Ref<A>>, PlaceError> {
        let mut tries = 0;
        let reserved = loop {
            tries += 1;
            let (desks, sites) = self.sites::<A>().await;
            let needs: Vec<Option<Needs>> = gang.iter().map(|one| one.wanted().cloned()).collect();
            let arranged = arrange(&needs, sites.clone(), how);
            let places = arranged.ok_or_else(|| no_room(gang, &sites))?;
            let places: Vec<Desk> = places.into_iter().map(|at| desks[at].clone()).collect();
            match reserve(&needs, &places).await {
                Ok(reserved) => break reserved,
                // Others were faster, perhaps with a gang that blocks this one and gives way, too.
                Err(_) if tries < TRIES => {
                    tokio::time::sleep(TRY_AFTER.before(tries, rand::random())).await;
                }
                Err(error) => return Err(error),
            }
        };
        let mut spawned = Vec::with_capacity(gang.len());
        for (order, mut seat) in gang.iter().zip(reserved) {
            let reservation = seat.reservation.take();
            spawned.push(self.place(&seat.desk, order, reservation).await?);
        }
        let references = spawned.iter().map(|placed| placed.reference(self));
        let references = references.collect::<Result<_, _>>()?;
        spawned.into_iter().for_each(Placed::keep);
        Ok(references)
    }

    /// Spawns an actor there. A task of its own asks for it, so that it is heard of, and stopped, also
    /// when this future is dropped, or gives up before the answer comes.
    async fn place<A: Spawn>(
        &self,
        desk: &Desk,
        order: &Order<A>,
        reservation: Option<u64>,
    ) -> Result<Placed, PlaceError> {
        let place: Place = order.place(reservation).map_err(|why| refused(desk, why))?;
        let actor = desk.reception.shared_name();
        let desk = desk.clone();
        let placing = self.network().spawn(async move {
            let placed = desk.reception.ask(place, HEARD_WITHIN).await?;
            let published = placed.map_err(|why| refused(&desk, why))?;
            Ok(Placed {
                desk,
                published,
                is_kept: false,
            })
        });
        match tokio::time::timeout(WITHIN, placing).await {
            Ok(Ok(placed)) => placed,
            Ok(Err(_)) => {
                let why = "this node stops".to_owned();
                Err(AskError::Lost { actor, why }.into())
            }
            Err(_) => {
                let within = WITHIN;
                Err(AskError::Deadline { actor, within }.into())
            }
        }
    }

    /// The nodes that offer to run such an actor.
    async fn sites<A: Spawn>(&self) -> (Vec<Desk>, Vec<Site>) {
        let mut looking = JoinSet::new();
        for desk in self.desks() {
            let actor_type = A::TYPE.to_owned();
            looking.spawn(async move {
                let looked = desk.reception.ask(Look { actor_type }, WITHIN).await;
                (desk, looked)
            });
        }
        let looked = looking.join_all().await.into_iter();
        // A node that does not answer has no room.
        let offering = looked.filter_map(|(desk, looked)| match looked {
            Ok((rooms, true)) => Some((desk, rooms)),
            Ok((_, false)) | Err(_) => None,
        });
        let mut all: Vec<(Desk, Vec<Room>)> = offering.collect();
        // The order of answers is chance.
        all.sort_by(|(a, _), (b, _)| a.node.cmp(&b.node));
        let site = |(desk, rooms): &(Desk, Vec<Room>)| Site {
            node: desk.node.clone(),
            rooms: rooms.clone(),
        };
        let sites = all.iter().map(site).collect();
        (all.into_iter().map(|(desk, _)| desk).collect(), sites)
    }
}

/// A place for one of a gang.
struct Seat {
    desk: Desk,
    /// None for one that needs no device, or has taken it up.
    reservation: Option<u64>,
}

impl Drop for Seat {
    /// Gives back what was reserved. What does not get there lapses.
    fn drop(&mut self) {
        if let Some(number) = self.reservation {
            let reservations = vec![number];
            drop(self.desk.reception.tell(Release { reservations }));
        }
    }
}

/// An actor that has been spawned, and is stopped unless it is kept.
struct Placed {
    desk: Desk,
    published: Published,
    is_kept: bool,
}

impl Placed {
    fn reference<A: Spawn>(&self, node: &Node) -> Result<Ref<A>, FindError> {
        node.reference(&self.desk, self.published.clone())
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if !self.is_kept {
            let actor = self.published.actor;
            drop(self.desk.reception.tell(Stop { actor }));
        }
    }
}

/// Reserves all that a gang needs, or nothing.
async fn reserve(needs: &[Option<Needs>], places: &[Desk]) -> Result<Vec<Seat>, PlaceError> {
    let mut by_node: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (one, desk) in places.iter().enumerate() {
        if needs[one].is_some() {
            by_node.entry(&desk.node).or_default().push(one);
        }
    }
    let seat = |desk: &Desk| Seat {
        desk: desk.clone(),
        reservation: None,
    };
    let mut seats: Vec<Seat> = places.iter().map(seat).collect();
    for members in by_node.into_values() {
        let numbers = reserve_at(needs, &members, places).await?;
        for (member, number) in members.into_iter().zip(numbers) {
            seats[member].reservation = Some(number);
        }
    }
    Ok(seats)
}

/// Reserves what some of a gang need on the node that they share.
async fn reserve_at(
    needs: &[Option<Needs>],
    members: &[usize],
    places: &[Desk],
) -> Result<Vec<u64>, PlaceError> {
    let desk = &places[members[0]];
    let needs = members.iter().filter_map(|&one| needs[one].as_ref());
    let reserve = Reserve {
        needs: needs.map(WireNeeds::from).collect(),
        within: RESERVED_FOR,
    };
    let reserved = desk.reception.ask(reserve, WITHIN).await?;
    reserved.map_err(|why| refused(desk, why))
}

fn refused(desk: &Desk, why: Refusal) -> PlaceError {
    let node = desk.node.to_string();
    PlaceError::Refused { node, why }
}

fn no_room<A: Spawn>(gang: &[Order<A>], sites: &[Site]) -> PlaceError {
    let need = |order: &Order<A>| match order.wanted() {
        None => format!("a {}", A::TYPE),
        Some(needs) => format!("a {} with {} of a {}", A::TYPE, needs.share, needs.kind),
    };
    let free = |room: &Room| {
        format!(
            "{}/1000000 of {} ({})",
            room.free_micro, room.device, room.kind
        )
    };
    let site = |site: &Site| {
        let rooms: Vec<String> = site.rooms.iter().map(free).collect();
        format!("{} has {}", site.node, rooms.join(" and "))
    };
    let rooms = match sites {
        [] => format!("no connected node offers to run a {}", A::TYPE),
        sites => sites.iter().map(site).collect::<Vec<_>>().join(", "),
    };
    let wanted = gang.iter().map(need).collect::<Vec<_>>().join(", ");
    PlaceError::NoRoom { wanted, rooms }
}
