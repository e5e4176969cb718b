//! The actor that a node itself is, for other nodes: it finds actors, tells of their end, and spawns
//! what is asked for. What observers may ask for is marked so.

use std::sync::Arc;
use std::time::Duration;

use ekya_sched::Share;
use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Ctx, Handler, Message, Receive};
use crate::arrange::{Needs, Room};
use crate::exports::{NODE, Published};
use crate::far::Far;
use crate::hosting::{Hosting, Refusal};
use crate::link::Link;
use crate::net::Net;
use crate::reference::{AskError, Ref};
use crate::reply::Reply;
use crate::state::{NodeState, Piece};
use crate::stream::{Items, Streams};
use crate::watch::ExitReason;
use crate::wire::{Messages, Remote, Wire};

/// Messages that wait for it.
pub(crate) const RECEPTION_CAPACITY: usize = 1024;

/// Its name; no other actor may have it.
pub(crate) const RECEPTION: &str = "node";

/// Long answers that are sent at a time: each takes some hundred bytes for an actor until it has gone.
const SENDING_MAX: usize = 16;

/// Of them, those to one peer: none keeps all the others from being answered.
const SENDING_TO_ONE_MAX: usize = 4;

/// How long one of them may take: whoever does not read it has it no longer.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// How long an end is waited for before it is asked for again.
const WATCH_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How soon it is asked for again where it could not be.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// The actor that a node is, for other nodes.
pub(crate) struct Reception {
    hosting: Arc<Hosting>,
    net: Arc<Net>,
    /// Long answers that are being sent, each by the name of the peer; none for this node itself.
    sending: Vec<Option<Arc<str>>>,
}

impl Reception {
    pub(crate) const fn new(hosting: Arc<Hosting>, net: Arc<Net>) -> Self {
        Self {
            hosting,
            net,
            sending: Vec::new(),
        }
    }

    /// Sends a long answer; one too many is cut off at its start, and not even made.
    fn send_all<M: Message>(
        &mut self,
        items: Items<M>,
        all: impl FnOnce(&Self) -> Vec<M::Reply>,
        ctx: &mut Ctx<Self>,
    ) {
        let to = items.peer();
        let to_it = self.sending.iter().filter(|&other| *other == to).count();
        if self.sending.len() >= SENDING_MAX || to_it >= SENDING_TO_ONE_MAX {
            return;
        }
        let all = all(self);
        let sent = Sent { to: to.clone() };
        let sending = async move {
            send_within(SENT_WITHIN, all, items).await;
            sent
        };
        if ctx.run(sending).is_ok() {
            self.sending.push(to);
        }
    }
}

/// Sends a long answer to whoever reads it in this time. Anybody else must not take what has come of it
/// for all of it.
async fn send_within<M: Message>(within: Duration, all: Vec<M::Reply>, items: Items<M>) {
    let sending = async {
        for one in all {
            if items.send(one).await.is_err() {
                break;
            }
        }
    };
    if tokio::time::timeout(within, sending).await.is_err() {
        items.cut_off();
    }
}

impl Actor for Reception {}

impl Remote for Reception {
    const TYPE: &'static str = "ekya/node";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Find>().for_observers::<Find>();
        messages.add_stream::<List>().for_observers::<List>();
        messages.add::<Watch>().for_observers::<Watch>();
        messages.add::<Look>().for_observers::<Look>();
        messages.add_stream::<StateOf>().for_observers::<StateOf>();
        messages.add::<Reserve>().add::<Release>();
        messages.add::<Place>().add::<Stop>();
    }
}

/// The one of another node.
pub(crate) fn of(link: &Arc<Link>, session: u64) -> Ref<Reception> {
    Ref::there(Arc::new(Far {
        name: format!("node {}", link.who().name).into(),
        link: Arc::clone(link),
        session,
        actor: NODE,
        generation: 0,
    }))
}

/// Asks for an actor by its name.
#[derive(Serialize, Deserialize)]
pub(crate) struct Find {
    pub(crate) name: String,
}

impl Message for Find {
    type Reply = Option<Published>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/find", 1));
}

impl Handler<Find> for Reception {
    fn handle(&mut self, Find { name }: Find, _: &mut Ctx<Self>) -> Option<Published> {
        self.net.exports().find(&name)
    }
}

/// Asks for all published actors.
#[derive(Serialize, Deserialize)]
pub(crate) struct List;

impl Message for List {
    type Reply = Published;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/list", 2));
}

impl Streams<List> for Reception {
    fn stream(&mut self, _: List, items: Items<List>, ctx: &mut Ctx<Self>) {
        self.send_all(items, |here| here.net.exports().all(), ctx);
    }
}

/// Asks for an actor's end; answered when it has ended.
#[derive(Serialize, Deserialize)]
pub(crate) struct Watch {
    actor: u64,
}

impl Message for Watch {
    type Reply = ExitReason;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/watch", 1));
}

impl Receive<Watch> for Reception {
    fn receive(&mut self, Watch { actor }: Watch, reply: Reply<Watch>, _: &mut Ctx<Self>) {
        self.net.exports().watch(actor, reply);
    }
}

/// Asks what is free, and whether a type of actor is offered.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Look {
    pub(crate) actor_type: String,
}

impl Message for Look {
    type Reply = (Vec<Room>, bool);
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/look", 1));
}

impl Handler<Look> for Reception {
    fn handle(&mut self, Look { actor_type }: Look, _: &mut Ctx<Self>) -> (Vec<Room>, bool) {
        (self.hosting.rooms(), self.hosting.offers(&actor_type))
    }
}

/// Asks what the node is doing; answered in pieces.
#[derive(Serialize, Deserialize)]
pub(crate) struct StateOf;

impl Message for StateOf {
    type Reply = Piece;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/state", 1));
}

impl Streams<StateOf> for Reception {
    fn stream(&mut self, _: StateOf, items: Items<StateOf>, ctx: &mut Ctx<Self>) {
        let Some(system) = self.hosting.system() else {
            return;
        };
        let pieces = |here: &Self| NodeState::of(&here.net, &system, &here.hosting).into_pieces();
        self.send_all(items, pieces, ctx);
    }
}

/// A list or a state has been sent.
struct Sent {
    to: Option<Arc<str>>,
}

impl Message for Sent {
    type Reply = ();
}

impl Handler<Sent> for Reception {
    fn handle(&mut self, Sent { to }: Sent, _: &mut Ctx<Self>) {
        if let Some(at) = self.sending.iter().position(|other| *other == to) {
            self.sending.swap_remove(at);
        }
    }
}

/// [`Needs`] on the wire.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WireNeeds {
    kind: String,
    micro: u32,
}

impl From<&Needs> for WireNeeds {
    fn from(needs: &Needs) -> Self {
        Self {
            kind: needs.kind.clone(),
            micro: needs.share.micro(),
        }
    }
}

impl From<&WireNeeds> for Needs {
    fn from(needs: &WireNeeds) -> Self {
        Self::of(&*needs.kind, Share::from_micro(needs.micro))
    }
}

/// Reserves all of this for a while, or nothing; the numbers of the reservations.
#[derive(Serialize, Deserialize)]
pub(crate) struct Reserve {
    pub(crate) needs: Vec<WireNeeds>,
    pub(crate) within: Duration,
}

impl Message for Reserve {
    type Reply = Result<Vec<u64>, Refusal>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/reserve", 1));
}

impl Handler<Reserve> for Reception {
    fn handle(&mut self, reserve: Reserve, _: &mut Ctx<Self>) -> Result<Vec<u64>, Refusal> {
        let needs: Vec<Needs> = reserve.needs.iter().map(Needs::from).collect();
        self.hosting.reserve(&needs, reserve.within)
    }
}

/// Gives reservations back.
#[derive(Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) reservations: Vec<u64>,
}

impl Message for Release {
    type Reply = ();
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/release", 1));
}

impl Handler<Release> for Reception {
    fn handle(&mut self, Release { reservations }: Release, _: &mut Ctx<Self>) {
        self.hosting.release(&reservations);
    }
}

/// Spawns an actor.
#[derive(Serialize, Deserialize)]
pub(crate) struct Place {
    /// [`Remote::TYPE`].
    pub(crate) actor_type: String,
    pub(crate) name: String,
    pub(crate) args: Vec<u8>,
    pub(crate) mailbox: u32,
    pub(crate) needs: Option<WireNeeds>,
    /// What was reserved for it before.
    pub(crate) reservation: Option<u64>,
    pub(crate) restarts: u32,
    pub(crate) restarts_within: Duration,
    /// First and most.
    pub(crate) backoff: [Duration; 2],
    pub(crate) is_detached: bool,
}

impl Message for Place {
    type Reply = Result<Published, Refusal>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/place", 1));
}

impl Receive<Place> for Reception {
    fn receive(&mut self, place: Place, reply: Reply<Place>, _: &mut Ctx<Self>) {
        let owner = reply.session();
        let hosted = self.hosting.host(place, owner);
        if let Ok(placed) = &hosted
            && !reply.is_wanted()
        {
            // Nobody will know that it runs.
            self.hosting.stop(placed.actor, None);
        }
        reply.send(hosted);
    }
}

/// Stops an actor that the sender has ordered.
#[derive(Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) actor: u64,
}

impl Message for Stop {
    type Reply = bool;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/stop", 1));
}

impl Receive<Stop> for Reception {
    fn receive(&mut self, Stop { actor }: Stop, reply: Reply<Stop>, _: &mut Ctx<Self>) {
        let stopped = self.hosting.stop(actor, reply.peer().as_deref());
        reply.send(stopped);
    }
}

/// Waits for the end of another node's actor, or of the session with that node.
pub(crate) async fn ended(far: &Far) -> ExitReason {
    let reception = of(&far.link, far.session);
    loop {
        let actor = far.actor;
        match reception.ask(Watch { actor }, WATCH_WITHIN).await {
            Ok(reason) => return reason,
            Err(AskError::Deadline { .. }) => {}
            Err(AskError::Overloaded { .. }) => tokio::time::sleep(WATCH_AGAIN).await,
            Err(AskError::Lost { why, .. }) => return ExitReason::Lost(why),
            Err(other) => return ExitReason::Lost(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::System;

    /// Sends a list in no time, and says when that is over.
    struct Hasty(Option<tokio::sync::oneshot::Sender<()>>);

    impl Actor for Hasty {}

    struct Hear;

    impl Message for Hear {
        type Reply = u32;
    }

    struct Done;

    impl Message for Done {
        type Reply = ();
    }

    impl Streams<Hear> for Hasty {
        fn stream(&mut self, _: Hear, items: Items<Hear>, ctx: &mut Ctx<Self>) {
            let sending = async move {
                send_within(Duration::ZERO, vec![1, 2], items).await;
                Done
            };
            ctx.run(sending).unwrap();
        }
    }

    impl Handler<Done> for Hasty {
        fn handle(&mut self, _: Done, _: &mut Ctx<Self>) {
            self.0.take().unwrap().send(()).unwrap();
        }
    }

    #[tokio::test]
    async fn a_long_answer_that_is_not_read_does_not_look_whole() {
        let system = System::start().unwrap();
        let (is_over, over) = tokio::sync::oneshot::channel();
        let hasty = system.spawn("hasty", Hasty(Some(is_over)), 4).unwrap();
        let patience = Duration::from_secs(20);
        let mut heard = hasty.stream(Hear, 1).unwrap();
        over.await.unwrap();
        assert_eq!(heard.next(patience).await, Ok(Some(1)));
        let end = heard.next(patience).await;
        assert!(matches!(end, Err(AskError::Overloaded { .. })), "{end:?}");
    }
}
