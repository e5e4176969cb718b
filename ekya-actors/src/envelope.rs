//! Messages on their way to an actor, their types erased.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::actor::{Actor, Ctx, Message, Receive};
use crate::reference::AskError;
use crate::reply::{Reply, To};
use crate::watch::ExitReason;

/// Bytes of a text that says what went wrong: it must fit into answers to other nodes, where it is the
/// same as here.
const TEXT_MAX: usize = 512;

/// What becomes of a message: it is handled, or it is failed.
pub(crate) trait Deliver<A: Actor>: Send {
    /// Runs the handler.
    ///
    /// # Errors
    /// Why the actor cannot go on.
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Ctx<A>) -> Result<(), ExitReason>;

    /// Tells whoever waits for the answer that there will be none.
    fn fail(self: Box<Self>, why: AskError);
}

/// A message in a mailbox.
pub(crate) struct Envelope<A: Actor> {
    pub(crate) body: Box<dyn Deliver<A>>,
    /// The generation of the actor that it was meant for.
    pub(crate) generation: u64,
}

/// A message and where its answer goes.
pub(crate) struct Body<M: Message> {
    pub(crate) message: M,
    pub(crate) to: To<M>,
    /// Names the span of an asker on another node, so that the logs of both can be put together.
    pub(crate) span: tracing::Span,
}

impl<M: Message> Body<M> {
    /// A message of this process.
    pub(crate) const fn here(message: M, to: To<M>) -> Self {
        let span = tracing::Span::none();
        Self { message, to, span }
    }
}

impl<A: Receive<M>, M: Message> Deliver<A> for Body<M> {
    fn deliver(self: Box<Self>, actor: &mut A, ctx: &mut Ctx<A>) -> Result<(), ExitReason> {
        let Self { message, to, span } = *self;
        if !to.is_in_time() {
            return Ok(());
        }
        ctx.mailbox().stats().handled();
        let reply = Reply::new(to, Arc::clone(ctx.mailbox().name()));
        let _entered = span.enter();
        guarded(|| actor.receive(message, reply, ctx)).map_err(ExitReason::Panicked)
    }

    fn fail(self: Box<Self>, why: AskError) {
        self.to.fail(why);
    }
}

/// Runs something of the user's; a panic becomes its text.
///
/// # Errors
/// The text of the panic, or the first 512 bytes of it. What it has left half done is the caller's to drop.
pub fn guarded<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_text(&*panic))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    shortened(text.unwrap_or("a panic without a text")).to_owned()
}

/// The text, as far as it is not too long.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic_is_not_too_long() {
        let long = || -> () { panic!("{}", "ä€".repeat(100_000)) };
        let text = guarded(long).unwrap_err();
        assert!(
            (TEXT_MAX - 3..=TEXT_MAX).contains(&text.len()),
            "{}",
            text.len()
        );
        assert_eq!(
            guarded(|| -> () { panic!("short") }),
            Err("short".to_owned())
        );
    }
}
