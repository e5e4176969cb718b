//! The actor that a node itself is, for other nodes: it finds actors, and tells of their end.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Ctx, Handler, Message, Receive};
use crate::exports::{Exports, NODE, Published};
use crate::far::Far;
use crate::link::Link;
use crate::reference::{AskError, Ref};
use crate::reply::Reply;
use crate::watch::ExitReason;
use crate::wire::{Messages, Remote, Wire};

/// Messages that wait for it.
pub(crate) const RECEPTION_CAPACITY: usize = 1024;

/// Its name; no other actor may have it.
pub(crate) const RECEPTION: &str = "node";

/// How long an end is waited for before it is asked for again.
const WATCH_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How soon it is asked for again where it could not be.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// The actor that a node is, for other nodes.
pub(crate) struct Reception {
    exports: Arc<Exports>,
}

impl Reception {
    pub(crate) const fn new(exports: Arc<Exports>) -> Self {
        Self { exports }
    }
}

impl Actor for Reception {}

impl Remote for Reception {
    const TYPE: &'static str = "ekya/node";

    fn messages(messages: &mut Messages<Self>) {
        messages.add::<Find>().add::<List>().add::<Watch>();
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
        self.exports.find(&name)
    }
}

/// Asks for all published actors.
#[derive(Serialize, Deserialize)]
pub(crate) struct List;

impl Message for List {
    type Reply = Vec<Published>;
    const WIRE: Option<Wire<Self>> = Some(Wire::new("node/list", 1));
}

impl Handler<List> for Reception {
    fn handle(&mut self, _: List, _: &mut Ctx<Self>) -> Vec<Published> {
        self.exports.all()
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
        self.exports.watch(actor, reply);
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
