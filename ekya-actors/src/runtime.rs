//! The one module that names actix: a thread that runs actors, and the shell around each of them.
//!
//! What is done here because actix does not do it:
//! - a panic is caught around the handler, so that it has a text, a reason for those who wait, and a
//!   successor (actix lets the task die and restarts nothing);
//! - an actor yields after [`SLICE_MESSAGES`] messages or [`SLICE_TIME`] of handling (actix drains a
//!   mailbox in one go: 200,000 messages made a sibling wait 404 ms);
//! - the bound of a mailbox is that of [`Mailbox`].

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix::dev::channel;
use actix::fut::{ActorFuture, wrap_future};
use actix::{ActorContext, ActorFutureExt, Addr, AsyncContext, Context};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::actor::{Actor, Ctx};
use crate::envelope::{Deliver, Envelope, guarded};
use crate::reference::Mailbox;
use crate::reply::Fallen;
use crate::supervision::Supervision;
use crate::system::Registry;
use crate::watch::{Exit, ExitReason};

/// Messages an actor handles before the others get their turn.
const SLICE_MESSAGES: u32 = 64;

/// Time an actor spends in handlers before the others get their turn.
const SLICE_TIME: Duration = Duration::from_millis(1);

/// A handler that takes longer is worth a warning.
const SLOW: Duration = Duration::from_millis(100);

thread_local! {
    static RUNS_ACTORS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is one that runs actors.
pub(crate) fn is_current_thread() -> bool {
    RUNS_ACTORS.get()
}

/// A thread that runs actors.
pub(crate) struct Runtime {
    system: actix::System,
    arbiter: actix::ArbiterHandle,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl Runtime {
    pub(crate) fn start() -> io::Result<(Self, JoinHandle<()>)> {
        let (ready, started) = bounded(1);
        let (end, ended) = bounded(0);
        let thread = thread::Builder::new()
            .name("actors".to_owned())
            .spawn(move || run(&ready, end))?;
        let gone = |_| io::Error::other("the actors' thread ended at its start");
        let (system, arbiter) = started.recv().map_err(gone)??;
        let runtime = Self {
            system,
            arbiter,
            ended,
        };
        Ok((runtime, thread))
    }

    /// Makes a mailbox whose messages wait until [`run`](Self::run) gets its other end.
    pub(crate) fn post<A: Actor>() -> (Post<A>, Incoming<A>) {
        // The capacity would not hold for clones of the address; see `Mailbox`.
        let (sender, receiver) = channel::channel(0);
        (Post(Addr::new(sender)), Incoming(receiver))
    }

    /// Runs an actor; false when the thread has ended.
    pub(crate) fn run<A: Actor>(&self, incoming: Incoming<A>, shell: Shell<A>) -> bool {
        self.arbiter.spawn_fn(move || {
            let context = Context::with_receiver(incoming.0);
            let mailbox = Arc::clone(shell.mailbox());
            let mut running = context.into_future(shell);
            actix_rt::spawn(async move {
                (&mut running).await;
                // What is left in the mailbox goes down with the actor, for the same reason.
                let (dropped, fallen) = Fallen::during(|| guarded(|| drop(running)));
                if let Err(panic) = dropped {
                    let actor = &**mailbox.name();
                    tracing::error!(actor, panic, "panic while dropping messages");
                }
                fallen.fail(Some(&mailbox.unheard()));
            });
        })
    }

    /// For an actor that is to be the only one of this thread.
    pub(crate) fn apart(&self) -> Apart {
        Apart(self.system.clone())
    }

    /// Makes the thread end after what it is doing.
    pub(crate) fn stop(&self) {
        self.system.stop();
    }

    /// Waits for the thread to end; false when it has not by the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        let end = self.ended.recv_deadline(deadline);
        matches!(end, Err(crossbeam_channel::RecvTimeoutError::Disconnected))
    }
}

/// A thread that ends with its actor.
pub(crate) struct Apart(actix::System);

type Handles = (actix::System, actix::ArbiterHandle);

fn run(ready: &Sender<io::Result<Handles>>, end: Sender<()>) {
    RUNS_ACTORS.set(true);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let tokio = match tokio {
        Ok(tokio) => tokio,
        // A starter that is gone needs no error.
        Err(error) => return drop(ready.send(Err(error))),
    };
    let runner = actix::System::with_tokio_rt(|| tokio);
    let system = actix::System::current();
    let arbiter = system.arbiter().clone();
    if ready.send(Ok((system, arbiter))).is_ok()
        && let Err(error) = runner.run()
    {
        tracing::error!(%error, "the actors' thread ended");
    }
    drop(end);
}

/// Where an actor's messages are put.
pub(crate) struct Post<A: Actor>(Addr<Shell<A>>);

impl<A: Actor> Post<A> {
    pub(crate) fn deliver(&self, envelope: Envelope<A>) {
        self.0.do_send(Parcel::Message(envelope));
    }

    pub(crate) fn stop(&self) {
        self.0.do_send(Parcel::Stop);
    }

    /// Has the actor follow another of its group; see [`Running`](crate::system::Running::follow).
    pub(crate) fn follow(&self, whom: &Arc<str>, pause: Option<Duration>) {
        let whom = Arc::clone(whom);
        self.0.do_send(Parcel::Follow { whom, pause });
    }
}

/// Where an actor's messages come out.
pub(crate) struct Incoming<A: Actor>(channel::AddressReceiver<Shell<A>>);

enum Parcel<A: Actor> {
    Message(Envelope<A>),
    Stop,
    Follow {
        whom: Arc<str>,
        pause: Option<Duration>,
    },
}

impl<A: Actor> actix::Message for Parcel<A> {
    type Result = ();
}

/// An actor as actix sees it.
pub(crate) struct Shell<A: Actor> {
    /// Absent once it has ended.
    actor: Option<A>,
    ctx: Ctx<A>,
    registry: Arc<Registry>,
    supervision: Option<Supervision<A>>,
    /// Its thread, where that is its own and ends with it.
    apart: Option<Apart>,
    /// What is waited before the actor starts, after a panic.
    pause: Option<Duration>,
    /// Numbers its tasks, also across restarts.
    last_task: u64,
    messages: u32,
    busy: Duration,
}

impl<A: Actor> Shell<A> {
    pub(crate) fn new(
        actor: A,
        mailbox: Arc<Mailbox<A>>,
        registry: Arc<Registry>,
        supervision: Option<Supervision<A>>,
        apart: Option<Apart>,
    ) -> Self {
        Self {
            actor: Some(actor),
            ctx: Ctx::new(mailbox),
            registry,
            supervision,
            apart,
            pause: None,
            last_task: 0,
            messages: 0,
            busy: Duration::ZERO,
        }
    }

    fn mailbox(&self) -> &Arc<Mailbox<A>> {
        self.ctx.mailbox()
    }

    /// Starts the actor, unless it is to wait. One that panics at that is tried again by
    /// [`settle`](Self::settle), so that the others get their turn before.
    fn start(&mut self) {
        if self.pause.is_some() {
            return;
        }
        let Some(actor) = &mut self.actor else {
            return;
        };
        let (started, fallen) = Fallen::during(|| guarded(|| actor.started(&mut self.ctx)));
        match started {
            Ok(()) => fallen.fail(None),
            Err(panic) => {
                self.replace(ExitReason::Panicked(panic), fallen);
                self.pause.get_or_insert(Duration::ZERO);
            }
        }
    }

    fn receive(&mut self, envelope: Envelope<A>) {
        let Envelope { body, generation } = envelope;
        self.mailbox().leave();
        if generation == self.mailbox().generation() {
            self.deliver(body);
        } else {
            body.fail(self.mailbox().restarted());
        }
    }

    fn deliver(&mut self, body: Box<dyn Deliver<A>>) {
        let Some(actor) = &mut self.actor else {
            return body.fail(self.mailbox().unheard());
        };
        let (delivered, fallen) = Fallen::during(|| body.deliver(actor, &mut self.ctx));
        match delivered {
            Ok(()) => fallen.fail(None),
            Err(reason) => {
                self.replace(reason, fallen);
                self.start();
            }
        }
    }

    /// Replaces an actor that cannot go on, if it is supervised and has restarts left; ends it
    /// otherwise.
    fn replace(&mut self, reason: ExitReason, fallen: Fallen) {
        let fallen = fallen.and(self.discard());
        let name = Arc::clone(self.mailbox().name());
        let supervision = self.supervision.as_mut();
        let successor = supervision.and_then(|supervision| supervision.successor(&name));
        self.succeed(successor, reason, fallen);
    }

    /// Is restarted, or ends, because another of its group has panicked.
    fn follow(&mut self, whom: Arc<str>, pause: Option<Duration>) {
        if self.actor.is_none() {
            return;
        }
        let fallen = self.discard();
        let supervision = self.supervision.as_mut().zip(pause);
        let successor = supervision.and_then(|(one, pause)| Some((one.instance()?, pause)));
        self.succeed(successor, ExitReason::WithGroup(whom), fallen);
        self.start();
    }

    fn succeed(&mut self, successor: Option<(A, Duration)>, reason: ExitReason, fallen: Fallen) {
        let Some((successor, pause)) = successor else {
            return self.end(reason, fallen);
        };
        let why = match reason {
            ExitReason::Panicked(_) => self.mailbox().failed_by(&reason),
            _ => self.mailbox().restarted(),
        };
        self.mailbox().next_generation();
        self.actor = Some(successor);
        self.pause = Some(pause).filter(|pause| !pause.is_zero());
        self.registry.tell_watchers(&Exit {
            actor: Arc::clone(self.mailbox().name()),
            node: None,
            reason,
            restarted: true,
        });
        // Only now: whoever hears of it may ask the successor at once.
        fallen.fail(Some(&why));
    }

    /// Drops the actor and its tasks, and with them the replies that they have kept. Destructors are
    /// the user's code too.
    fn discard(&mut self) -> Fallen {
        let actor = self.actor.take();
        let empty = Ctx::new(Arc::clone(self.mailbox()));
        let ctx = std::mem::replace(&mut self.ctx, empty);
        let (dropped, fallen) = Fallen::during(|| guarded(|| drop((actor, ctx))));
        if let Err(panic) = dropped {
            tracing::error!(
                actor = &**self.mailbox().name(),
                panic,
                "panic while dropping an actor"
            );
        }
        fallen
    }

    fn end(&mut self, reason: ExitReason, fallen: Fallen) {
        let fallen = fallen.and(self.discard());
        let why = self.mailbox().failed_by(&reason);
        self.ctx.stopping = true;
        self.mailbox().close(reason.clone());
        let ended = &self.mailbox().stats().of_type.ended;
        ended.fetch_add(1, Ordering::Relaxed);
        if let Some(Apart(thread)) = self.apart.take() {
            thread.stop();
        }
        self.registry.remove(&Exit {
            actor: Arc::clone(self.mailbox().name()),
            node: None,
            reason,
            restarted: false,
        });
        fallen.fail(Some(&why));
    }

    /// Stops the actor in good order.
    fn finish(&mut self) {
        let Some(actor) = &mut self.actor else {
            return;
        };
        let reason = match guarded(|| actor.stopping()) {
            Ok(()) => ExitReason::Stopped,
            Err(panic) => ExitReason::Panicked(panic),
        };
        self.end(reason, Fallen::default());
    }

    /// Carries out what the last handler wanted.
    fn settle(&mut self, context: &mut Context<Self>) {
        if self.ctx.stopping {
            self.finish();
            context.terminate();
            return;
        }
        if let Some(pause) = self.pause.take() {
            // Messages wait meanwhile, as far as the mailbox holds them.
            let mailbox = Arc::clone(self.mailbox());
            let waited = async move {
                tokio::select! {
                    () = tokio::time::sleep(pause) => true,
                    () = mailbox.stop_asked() => false,
                }
            };
            context.wait(
                wrap_future::<_, Self>(waited).map(|goes_on, shell, context| {
                    if goes_on {
                        shell.start();
                        shell.settle(context);
                    } else {
                        shell.end(ExitReason::Stopped, Fallen::default());
                        context.terminate();
                    }
                }),
            );
            return;
        }
        for task in std::mem::take(&mut self.ctx.tasks) {
            self.last_task += 1;
            self.ctx.running.insert(self.last_task, task);
            context.spawn(Running(self.last_task));
        }
    }

    /// Whether a task is over; its output is for the actor.
    fn poll_task(&mut self, number: u64, waking: &mut task::Context<'_>) -> Poll<()> {
        // One that went down with the actor that had begun it is over.
        let Some(task) = self.ctx.running.get_mut(&number) else {
            return Poll::Ready(());
        };
        let (polled, fallen) = Fallen::during(|| guarded(|| task.as_mut().poll(waking)));
        match polled {
            Ok(Poll::Pending) => {
                fallen.fail(None);
                return Poll::Pending;
            }
            Ok(Poll::Ready(body)) => {
                fallen.fail(None);
                self.ctx.running.remove(&number);
                let start = Instant::now();
                self.deliver(body);
                self.mailbox().stats().busy(start.elapsed());
            }
            Err(panic) => {
                self.replace(ExitReason::Panicked(panic), fallen);
                self.start();
            }
        }
        Poll::Ready(())
    }

    /// Lets the other actors run when this one has had its slice.
    fn share_thread(&mut self, handled: Duration, context: &mut Context<Self>) {
        self.messages += 1;
        self.busy += handled;
        if self.messages >= SLICE_MESSAGES || self.busy >= SLICE_TIME {
            self.messages = 0;
            self.busy = Duration::ZERO;
            context.wait(wrap_future(tokio::task::yield_now()));
        }
    }
}

/// A task of an actor's, as actix sees it: its number.
struct Running(u64);

impl<A: Actor> ActorFuture<Shell<A>> for Running {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        shell: &mut Shell<A>,
        context: &mut Context<Shell<A>>,
        waking: &mut task::Context<'_>,
    ) -> Poll<()> {
        let polled = shell.poll_task(self.0, waking);
        if polled.is_ready() {
            shell.settle(context);
        }
        polled
    }
}

// The actor inside is never pinned.
impl<A: Actor> Unpin for Shell<A> {}

impl<A: Actor> actix::Actor for Shell<A> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.start();
        self.settle(context);
    }
}

impl<A: Actor> actix::Handler<Parcel<A>> for Shell<A> {
    type Result = ();

    fn handle(&mut self, parcel: Parcel<A>, context: &mut Context<Self>) {
        let start = Instant::now();
        match parcel {
            Parcel::Message(envelope) => self.receive(envelope),
            Parcel::Stop => self.ctx.stopping = true,
            Parcel::Follow { whom, pause } => self.follow(whom, pause),
        }
        self.settle(context);
        let handled = start.elapsed();
        self.mailbox().stats().busy(handled);
        if handled >= SLOW && self.apart.is_none() {
            let actor = &**self.mailbox().name();
            tracing::warn!(
                actor,
                ?handled,
                "a handler held up all actors: give it a thread of its own, or a Compute"
            );
        }
        self.share_thread(handled, context);
    }
}

impl<A: Actor> Drop for Shell<A> {
    /// However the shell goes, whoever waits for its actor hears of it.
    fn drop(&mut self) {
        if self.actor.is_some() {
            self.end(ExitReason::Stopped, Fallen::default());
        }
    }
}
