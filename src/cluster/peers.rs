//! The cluster actors of other nodes: found when there is something to say to them, and found again when
//! the connection was lost for good.

use std::collections::BTreeMap;

use ekya_actors::{Ctx, FindError, Message, Node, Receive, Ref};

use super::actor::ClusterActor;

/// What waits to be said to a node until it is found; more is dropped, and said again by whoever says it.
const WAITING_MAX: usize = 64;

/// Name of the actor on every node.
pub(super) const CLUSTER: &str = "cluster";

/// The cluster actors of other nodes.
#[derive(Default)]
pub(super) struct Peers {
    known: BTreeMap<String, Peer>,
}

enum Peer {
    Found(Ref<ClusterActor>),
    /// Being looked for; what is to be said waits.
    Wanted(Vec<Saying>),
}

/// Says something.
type Saying = Box<dyn FnOnce(&Ref<ClusterActor>) + Send>;

/// The cluster actor of a node was found, or not.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) found: Result<Ref<ClusterActor>, FindError>,
}

impl Message for Found {
    type Reply = ();
}

impl Peers {
    /// Tells a node something, as well as can be.
    pub(super) fn tell<M>(&mut self, node: &Node, to: &str, message: M, ctx: &mut Ctx<ClusterActor>)
    where
        M: Message,
        ClusterActor: Receive<M>,
    {
        if let Some(Peer::Found(actor)) = self.known.get(to) {
            if let Err(error) = actor.tell(message) {
                tracing::debug!(%error, node = to, "not told");
                // It is found anew with what is said next.
                self.known.remove(to);
            }
            return;
        }
        let saying: Saying = Box::new(move |actor| drop(actor.tell(message)));
        if let Some(Peer::Wanted(waiting)) = self.known.get_mut(to) {
            if waiting.len() < WAITING_MAX {
                waiting.push(saying);
            }
            return;
        }
        let (node, name) = (node.clone(), to.to_owned());
        let looking = ctx.run::<Found>(async move {
            let found = node.find(CLUSTER, &name).await;
            Found { name, found }
        });
        if looking.is_ok() {
            let waiting = Peer::Wanted(vec![saying]);
            self.known.insert(to.to_owned(), waiting);
        }
    }

    /// A node was found, or not: then what was to be said is dropped.
    pub(super) fn found(&mut self, Found { name, found }: Found) {
        let Some(Peer::Wanted(waiting)) = self.known.remove(&name) else {
            return;
        };
        match found {
            Ok(actor) => {
                waiting.into_iter().for_each(|say| say(&actor));
                self.known.insert(name, Peer::Found(actor));
            }
            Err(error) => tracing::debug!(%error, node = name, "not found"),
        }
    }

    /// Keeps only those for whom `is_there` holds.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.known.retain(|name, _| is_there(name));
    }
}
