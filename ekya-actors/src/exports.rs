//! The actors of a node that other nodes may call, by number and by name.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::peer::Failure;
use crate::reception::Watch;
use crate::reference::Ref;
use crate::reply::Reply;
use crate::reply_to::ReplyTo;
use crate::watch::ExitReason;
use crate::wire::{Letter, Messages, Remote, told};

/// The number of the actor that a node itself is.
pub(crate) const NODE: u64 = 0;

/// Ends other than in good order that are remembered, for those who ask for them late.
const ENDS_MAX: usize = 1024;

/// An actor whose type is forgotten.
trait Export: Send + Sync {
    fn deliver(&self, letter: Letter<'_>, reply: Option<ReplyTo>) -> Result<(), Failure>;

    fn describe(&self) -> Published;

    /// A [`Ref`], if the caller knows of what type.
    fn actor(&self) -> &(dyn Any + Send + Sync);

    /// Why the actor has ended, once it has.
    fn end(&self) -> Option<ExitReason>;
}

/// An actor that other nodes may call.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Published {
    pub(crate) actor: u64,
    pub(crate) name: String,
    /// [`Remote::TYPE`].
    pub(crate) actor_type: String,
    pub(crate) generation: u64,
}

struct Exported<A: Remote> {
    number: u64,
    actor: Ref<A>,
    messages: Messages<A>,
}

/// What a node has published.
#[derive(Default)]
pub(crate) struct Exports {
    tables: RwLock<Tables>,
    last: AtomicU64,
}

#[derive(Default)]
struct Tables {
    numbers: HashMap<u64, Arc<dyn Export>>,
    names: BTreeMap<String, u64>,
    /// Those who wait for an actor's end, by its number.
    watchers: HashMap<u64, Vec<Reply<Watch>>>,
    /// Why the last actors have ended that did not just stop, by number; oldest first.
    ends: VecDeque<(u64, ExitReason)>,
}

impl<A: Remote> Export for Exported<A> {
    fn deliver(&self, letter: Letter<'_>, reply: Option<ReplyTo>) -> Result<(), Failure> {
        self.messages.deliver(&self.actor, letter, reply)
    }

    fn describe(&self) -> Published {
        Published {
            actor: self.number,
            name: self.actor.name().to_owned(),
            actor_type: A::TYPE.to_owned(),
            generation: self.actor.generation(),
        }
    }

    fn actor(&self) -> &(dyn Any + Send + Sync) {
        &self.actor
    }

    fn end(&self) -> Option<ExitReason> {
        self.actor.end()
    }
}

fn is<A: Remote>(export: &dyn Export, actor: &Ref<A>) -> bool {
    let known = export.actor().downcast_ref::<Ref<A>>();
    known.is_some_and(|known| known.is(actor))
}

/// An actor that is forgotten, and those who wait for its end.
struct Over {
    reason: ExitReason,
    watchers: Vec<Reply<Watch>>,
}

impl Over {
    fn tell(self) {
        for watcher in self.watchers {
            watcher.send(self.reason.clone());
        }
    }
}

impl Tables {
    fn forget(&mut self, number: u64) -> Over {
        let export = self.numbers.remove(&number);
        let reason = export.and_then(|export| export.end());
        let reason = reason.unwrap_or(ExitReason::Stopped);
        if reason != ExitReason::Stopped {
            if self.ends.len() == ENDS_MAX {
                self.ends.pop_front();
            }
            self.ends.push_back((number, reason.clone()));
        }
        Over {
            reason,
            watchers: self.watchers.remove(&number).unwrap_or_default(),
        }
    }

    /// Why an actor has ended that is forgotten.
    fn end(&self, number: u64) -> ExitReason {
        let end = self.ends.iter().find(|(ended, _)| *ended == number);
        end.map_or(ExitReason::Stopped, |(_, reason)| reason.clone())
    }
}

impl Exports {
    /// Publishes an actor under its name; again, it stays what it is. Another one that was published
    /// under that name before has ended, and is forgotten.
    pub(crate) fn publish<A: Remote>(&self, actor: &Ref<A>) -> Published {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.add(number, actor)
    }

    /// Publishes the actor that the node itself is.
    pub(crate) fn publish_node<A: Remote>(&self, actor: &Ref<A>) {
        self.add(NODE, actor);
    }

    fn add<A: Remote>(&self, number: u64, actor: &Ref<A>) -> Published {
        let export = Exported {
            number,
            actor: actor.clone(),
            messages: Messages::of(),
        };
        let published = export.describe();
        let mut tables = self.tables.write();
        let before = tables.names.get(actor.name()).copied();
        let known = before.and_then(|before| tables.numbers.get(&before));
        if let Some(known) = known.filter(|known| is(&***known, actor)) {
            return known.describe();
        }
        tables.names.insert(actor.name().to_owned(), number);
        let over = before.map(|before| tables.forget(before));
        tables.numbers.insert(number, Arc::new(export));
        drop(tables);
        over.into_iter().for_each(Over::tell);
        if actor.end().is_some() {
            // Before it was here to be withdrawn, perhaps.
            self.withdraw(actor.name());
        }
        published
    }

    /// The actor of a number, if it is of this type.
    pub(crate) fn actor<A: Remote>(&self, number: u64) -> Option<Ref<A>> {
        let tables = self.tables.read();
        let export = tables.numbers.get(&number)?;
        export.actor().downcast_ref::<Ref<A>>().cloned()
    }

    /// Forgets an actor that has ended; another of its name may have been published meanwhile.
    pub(crate) fn withdraw(&self, name: &str) {
        let mut tables = self.tables.write();
        let Some(&number) = tables.names.get(name) else {
            return;
        };
        let export = tables.numbers.get(&number);
        if export.is_some_and(|export| export.end().is_none()) {
            return;
        }
        tables.names.remove(name);
        let over = tables.forget(number);
        drop(tables);
        over.tell();
    }

    /// Answers when an actor has ended, or has ended already.
    pub(crate) fn watch(&self, actor: u64, reply: Reply<Watch>) {
        let mut tables = self.tables.write();
        if !tables.numbers.contains_key(&actor) {
            let reason = tables.end(actor);
            drop(tables);
            return reply.send(reason);
        }
        let watchers = tables.watchers.entry(actor).or_default();
        // Those who have gone are looked for only after as many have come as were left the last time:
        // that costs little on the whole, whoever comes and goes.
        if watchers.len() == watchers.capacity() {
            watchers.retain(Reply::is_wanted);
            watchers.reserve(watchers.len().max(4));
        }
        watchers.push(reply);
    }

    pub(crate) fn find(&self, name: &str) -> Option<Published> {
        let tables = self.tables.read();
        let export = tables.numbers.get(tables.names.get(name)?)?;
        Some(export.describe())
    }

    pub(crate) fn all(&self) -> Vec<Published> {
        let tables = self.tables.read();
        let all = tables
            .names
            .values()
            .filter_map(|number| tables.numbers.get(number));
        all.map(|export| export.describe()).collect()
    }

    /// Hands a message to its actor. A `reply` hears of whatever goes wrong.
    ///
    /// # Errors
    /// Why it could not be handed over.
    pub(crate) fn deliver(
        &self,
        letter: Letter<'_>,
        reply: Option<ReplyTo>,
    ) -> Result<(), Failure> {
        let export = self.tables.read().numbers.get(&letter.to.actor).cloned();
        match export {
            Some(export) => export.deliver(letter, reply),
            None => Err(told(reply, Failure::Stopped)),
        }
    }
}
