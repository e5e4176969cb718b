//! Where the answers to asks of another node go.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::actor::Message;
use crate::link::Link;
use crate::peer::{Failure, Unstreamed};
use crate::reply::Fallen;

/// Where the answer to an ask of another node goes. Dropped without one, it says why its actor has gone
/// down, or that it has stopped.
pub(crate) struct ReplyTo {
    link: Arc<Link>,
    session: u64,
    /// Absent once it is answered.
    call: Option<u64>,
    /// What the link had counted of them when this one came.
    cancellations: u64,
    wants: Wanted,
}

/// What the asker waits for.
pub(crate) enum Wanted {
    /// One answer, until then.
    By(Instant),
    /// Items; wakes when there may be room, or nobody who waits.
    Items(Arc<Notify>),
}

impl ReplyTo {
    /// To a call of the link's present session.
    pub(crate) fn new(link: Arc<Link>, session: u64, call: u64, wants: Wanted) -> Self {
        let cancellations = link.cancellations();
        Self {
            link,
            session,
            call: Some(call),
            cancellations,
            wants,
        }
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_too_late(&self) -> bool {
        // Asking the link takes its lock, which is wanted for every message.
        let may_be_cancelled = self.link.cancellations() != self.cancellations;
        match &self.wants {
            Wanted::By(deadline) => {
                Instant::now() >= *deadline || may_be_cancelled && !self.is_awaited()
            }
            Wanted::Items(_) => !self.is_awaited(),
        }
    }

    fn is_awaited(&self) -> bool {
        let is_wanted = |call| self.link.is_answering(self.session, call);
        self.call.is_some_and(is_wanted)
    }

    /// The session that it belongs to.
    pub(crate) fn session(&self) -> (Arc<Link>, u64) {
        (Arc::clone(&self.link), self.session)
    }

    /// The name of the peer that it belongs to.
    pub(crate) fn peer(&self) -> Arc<str> {
        Arc::clone(&self.link.who().name)
    }

    /// Whether a stream is waited for.
    pub(crate) const fn wants_items(&self) -> bool {
        matches!(self.wants, Wanted::Items(_))
    }

    /// Wakes when there may be room for items, or nobody who waits for them.
    pub(crate) fn changed(&self) -> Option<&Notify> {
        match &self.wants {
            Wanted::By(_) => None,
            Wanted::Items(changed) => Some(changed),
        }
    }

    /// Sends an item.
    ///
    /// # Errors
    /// [`Unstreamed`].
    pub(crate) fn item(&self, payload: &[u8]) -> Result<(), Unstreamed> {
        let call = self.call.ok_or(Unstreamed::Gone)?;
        self.link.item(self.session, call, payload)
    }

    /// Ends a stream in good order.
    pub(crate) fn end(mut self) {
        if let Some(call) = self.call.take() {
            self.link.answer(self.session, call, Ok(&[]));
        }
    }

    pub(crate) fn send<M: Message>(mut self, answer: &M::Reply) {
        let Some(call) = self.call.take() else {
            return;
        };
        let encoded = M::WIRE.map(|wire| wire.encode_reply(answer));
        match encoded {
            Some(Ok(bytes)) => self.link.answer(self.session, call, Ok(&bytes)),
            Some(Err(error)) => {
                let failure = Failure::Refused(format!("the answer cannot travel: {error}"));
                self.link.answer(self.session, call, Err(&failure));
            }
            // It came from the wire.
            None => {}
        }
    }

    pub(crate) fn fail(mut self, failure: &Failure) {
        if let Some(call) = self.call.take() {
            self.link.answer(self.session, call, Err(failure));
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else {
            return;
        };
        let is_late = matches!(self.wants, Wanted::By(deadline) if Instant::now() >= deadline);
        let (link, session) = self.session();
        Fallen::add(Box::new(move |why| {
            let failure = match why {
                Some(why) => Failure::from(why.clone()),
                None if is_late => Failure::Deadline,
                None => Failure::Stopped,
            };
            link.answer(session, call, Err(&failure));
        }));
    }
}
