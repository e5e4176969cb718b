//! Messages on their way to an actor, their types erased.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::actor::{Actor, Ctx, Handler, Message};
use crate::link::ReplyTo;
use crate::peer::Failure;
use crate::reference::AskError;

/// What becomes of a message: it is handled, or it is failed.
pub(crate) trait Deliver<A: Actor>: Send {
    /// Runs the handler.
    ///
    /// # Errors
    /// The text of the handler's panic.
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Ctx<A>) -> Result<(), String>;

    /// Tells whoever waits for the answer that there will be none.
    fn fail(self: Box<Self>, why: AskError);
}

/// A message with its place in the mailbox.
pub(crate) struct Envelope<A: Actor> {
    pub(crate) body: Box<dyn Deliver<A>>,
    /// The generation of the actor that it was meant for.
    pub(crate) generation: u64,
    /// Its place in the mailbox: given back when the handler begins.
    pub(crate) place: OwnedSemaphorePermit,
}

/// A message whose answer nobody waits for.
pub(crate) struct Tell<M>(pub(crate) M);

impl<A: Handler<M>, M: Message> Deliver<A> for Tell<M> {
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Ctx<A>) -> Result<(), String> {
        guarded(|| actor.handle(self.0, ctx)).map(drop)
    }

    fn fail(self: Box<Self>, _: AskError) {}
}

/// A message whose answer somebody waits for.
pub(crate) struct Ask<M: Message> {
    pub(crate) message: M,
    pub(crate) reply: oneshot::Sender<Result<M::Reply, AskError>>,
}

impl<A: Handler<M>, M: Message> Deliver<A> for Ask<M> {
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Ctx<A>) -> Result<(), String> {
        let Self { message, reply } = *self;
        if reply.is_closed() {
            // The deadline has passed: an overloaded actor must not work for nobody.
            return Ok(());
        }
        let (answer, result) = match guarded(|| actor.handle(message, ctx)) {
            Ok(answer) => (Ok(answer), Ok(())),
            Err(panic) => (Err(ctx.mailbox().panicked(&panic)), Err(panic)),
        };
        // An asker that has gone meanwhile does not want it any more.
        drop(reply.send(answer));
        result
    }

    fn fail(self: Box<Self>, why: AskError) {
        drop(self.reply.send(Err(why)));
    }
}

/// A message of another node, which waits for the answer.
pub(crate) struct FarAsk<M> {
    pub(crate) message: M,
    pub(crate) reply: ReplyTo,
    /// Names the span of the asker, so that the logs of both nodes can be put together.
    pub(crate) span: tracing::Span,
}

impl<A: Handler<M>, M: Message> Deliver<A> for FarAsk<M> {
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Ctx<A>) -> Result<(), String> {
        let Self {
            message,
            reply,
            span,
        } = *self;
        if reply.is_too_late() {
            return Ok(());
        }
        let _entered = span.enter();
        match guarded(|| actor.handle(message, ctx)) {
            Ok(answer) => {
                reply.send::<M>(&answer);
                Ok(())
            }
            Err(panic) => {
                reply.fail(&Failure::Panicked(panic.clone()));
                Err(panic)
            }
        }
    }

    fn fail(self: Box<Self>, why: AskError) {
        self.reply.fail(&why.into());
    }
}

/// Runs something of the user's; a panic becomes its text.
///
/// # Errors
/// The text of the panic. What it has left half done is the caller's to drop.
pub fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_text(&*panic))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}
