//! Streams of replies: a message that is answered by many items, as they come to be.
//!
//! Whoever asks says how many items it has room for; no more are on their way at any time, here and
//! across nodes. Items arrive in order, none twice and none left out.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::actor::{Actor, Ctx, Message};
use crate::envelope::{Deliver, guarded};
use crate::far::Flowing;
use crate::peer::{Failure, Unstreamed};
use crate::reference::{AskError, Mailbox};
use crate::reply::Fallen;
use crate::reply_to::ReplyTo;
use crate::watch::ExitReason;
use crate::wire;

/// Answers one type of message by a stream of its [`Message::Reply`]s.
pub trait Streams<M: Message>: Actor {
    /// Takes a message. The actor keeps `items` and sends whenever it has something to say; dropping
    /// it ends the stream. A panic ends this actor, and no other.
    fn stream(&mut self, message: M, items: Items<M>, ctx: &mut Ctx<Self>);
}

/// Where the items of a stream go.
pub struct Items<M: Message> {
    to: Option<Outlet<M>>,
    actor: Arc<str>,
}

/// Where the items of a stream come from. Dropping it cancels the stream.
pub struct Replies<M: Message> {
    from: Inlet<M>,
    actor: Arc<str>,
}

/// Why an item was not sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ItemError {
    /// Whoever asked has no room for more now.
    #[error("no room for more items now")]
    Full,
    /// Whoever asked waits no longer.
    #[error("nobody waits for items any more")]
    Gone,
    /// It goes to another node, and is too long, say.
    #[error("the item cannot travel: {0}")]
    Untransportable(String),
}

pub(crate) enum Outlet<M: Message> {
    Here(
        mpsc::Sender<M::Reply>,
        oneshot::Sender<Result<(), AskError>>,
    ),
    There(ReplyTo),
}

enum Inlet<M: Message> {
    Here {
        items: mpsc::Receiver<M::Reply>,
        /// Absent once it has been heard.
        end: Option<oneshot::Receiver<Result<(), AskError>>>,
        /// Why there is no end when the message was never handled.
        unheard: Box<dyn Fn() -> AskError + Send>,
    },
    There(Flowing),
}

impl<M: Message> Items<M> {
    /// Sends an item, if there is room for it.
    ///
    /// # Errors
    /// [`ItemError`]; the item is dropped.
    pub fn try_send(&self, item: M::Reply) -> Result<(), ItemError> {
        match &self.to {
            None => Err(ItemError::Gone),
            Some(Outlet::Here(items, _)) => items.try_send(item).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ItemError::Full,
                mpsc::error::TrySendError::Closed(_) => ItemError::Gone,
            }),
            Some(Outlet::There(reply)) => Ok(reply.item(&encoded::<M>(&item)?)?),
        }
    }

    /// Sends an item, as soon as there is room for it. Not to be waited for in a handler: for a
    /// [future of the actor's](Ctx::run), or a thread of its own.
    ///
    /// # Errors
    /// [`ItemError`]; the item is dropped.
    pub async fn send(&self, item: M::Reply) -> Result<(), ItemError> {
        match &self.to {
            None => Err(ItemError::Gone),
            Some(Outlet::Here(items, _)) => items.send(item).await.map_err(|_| ItemError::Gone),
            Some(Outlet::There(reply)) => {
                let item = encoded::<M>(&item)?;
                wait(reply, || match reply.item(&item) {
                    Err(Unstreamed::Full) => None,
                    sent => Some(sent),
                })
                .await
                .map_err(ItemError::from)
            }
        }
    }

    /// Waits until nobody waits for items any more.
    pub async fn closed(&self) {
        match &self.to {
            None => {}
            Some(Outlet::Here(items, _)) => items.closed().await,
            Some(Outlet::There(reply)) => wait(reply, || reply.is_too_late().then_some(())).await,
        }
    }

    /// The name in the certificate of the peer that they go to; none for this process.
    #[must_use]
    pub fn peer(&self) -> Option<Arc<str>> {
        match &self.to {
            Some(Outlet::There(reply)) => Some(reply.peer()),
            Some(Outlet::Here(..)) | None => None,
        }
    }

    /// Ends the stream before all was sent, because whoever asked does not take it.
    pub(crate) fn cut_off(mut self) {
        let actor = Arc::clone(&self.actor);
        if let Some(to) = self.to.take() {
            to.end(Some(&AskError::Overloaded { actor }));
        }
    }

    /// Whether somebody waits for items.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        match &self.to {
            None => false,
            Some(Outlet::Here(items, _)) => !items.is_closed(),
            Some(Outlet::There(reply)) => !reply.is_too_late(),
        }
    }
}

/// Tries until there is a result.
async fn wait<R>(reply: &ReplyTo, tried: impl Fn() -> Option<R>) -> R {
    loop {
        // Before trying, so that room made meanwhile is not missed.
        let changed = reply.changed().map(tokio::sync::Notify::notified);
        if let Some(result) = tried() {
            return result;
        }
        if let Some(changed) = changed {
            changed.await;
        }
    }
}

fn encoded<M: Message>(item: &M::Reply) -> Result<Vec<u8>, ItemError> {
    let wire = wire::of::<M>().map_err(ItemError::Untransportable)?;
    let encoded = wire.encode_reply(item);
    encoded.map_err(|error| ItemError::Untransportable(error.to_string()))
}

impl From<Unstreamed> for ItemError {
    fn from(unsent: Unstreamed) -> Self {
        match unsent {
            Unstreamed::Full => Self::Full,
            Unstreamed::Gone => Self::Gone,
        }
    }
}

impl<M: Message> Drop for Items<M> {
    /// Ends the stream: in good order, unless its actor goes down.
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            Fallen::add(Box::new(move |why| to.end(why)));
        }
    }
}

impl<M: Message> Outlet<M> {
    fn end(self, why: Option<&AskError>) {
        match self {
            Self::Here(items, end) => {
                drop(end.send(why.map_or(Ok(()), |why| Err(why.clone()))));
                drop(items);
            }
            Self::There(reply) => match why {
                None => reply.end(),
                Some(why) => reply.fail(&Failure::from(why.clone())),
            },
        }
    }
}

impl<M: Message> Replies<M> {
    pub(crate) fn here<A: Actor>(mailbox: &Arc<Mailbox<A>>, room: usize) -> (Outlet<M>, Self) {
        let (items, coming) = mpsc::channel(room);
        let (end, ended) = oneshot::channel();
        let actor = Arc::clone(mailbox.name());
        let mailbox = Arc::clone(mailbox);
        let from = Inlet::Here {
            items: coming,
            end: Some(ended),
            unheard: Box::new(move || mailbox.unheard()),
        };
        (Outlet::Here(items, end), Self { from, actor })
    }

    pub(crate) const fn there(from: Flowing, actor: Arc<str>) -> Self {
        let from = Inlet::There(from);
        Self { from, actor }
    }

    /// The next item; `None` when the stream has ended in good order. After an error other than
    /// [`AskError::Deadline`] there is nothing more to come.
    ///
    /// # Errors
    /// [`AskError`]: no item within the time, or why the stream has ended.
    ///
    /// # Cancel safety
    /// May be dropped and called again: no item is lost.
    pub async fn next(&mut self, within: Duration) -> Result<Option<M::Reply>, AskError> {
        let next = tokio::time::timeout(within, self.from.next()).await;
        next.unwrap_or_else(|_| {
            let actor = Arc::clone(&self.actor);
            Err(AskError::Deadline { actor, within })
        })
    }
}

impl<M: Message> Inlet<M> {
    async fn next(&mut self) -> Result<Option<M::Reply>, AskError> {
        let (items, end, unheard) = match self {
            Self::There(flowing) => return flowing.next::<M>().await,
            Self::Here {
                items,
                end,
                unheard,
            } => (items, end, unheard),
        };
        if let Some(item) = items.recv().await {
            return Ok(Some(item));
        }
        let Some(ending) = end else {
            return Ok(None);
        };
        let ended = ending.await;
        *end = None;
        ended.unwrap_or_else(|_| Err(unheard())).map(|()| None)
    }
}

/// A message that is answered by a stream.
pub(crate) struct StreamBody<M: Message> {
    pub(crate) message: M,
    pub(crate) to: Outlet<M>,
}

impl<A: Streams<M>, M: Message> Deliver<A> for StreamBody<M> {
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Ctx<A>) -> Result<(), ExitReason> {
        let Self { message, to } = *self;
        let items = Items {
            to: Some(to),
            actor: Arc::clone(ctx.mailbox().name()),
        };
        if !items.is_wanted() {
            return Ok(());
        }
        ctx.mailbox().stats().handled();
        guarded(|| actor.stream(message, items, ctx)).map_err(ExitReason::Panicked)
    }

    fn fail(self: Box<Self>, why: AskError) {
        self.to.end(Some(&why));
    }
}

impl<M: Message> std::fmt::Debug for Items<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Items");
        debug.field("actor", &self.actor);
        debug.field("is_wanted", &self.is_wanted()).finish()
    }
}

impl<M: Message> std::fmt::Debug for Replies<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies")
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}
