//! The actors of a process: starting them, hearing of their end, shutting down.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use thiserror::Error;

use crate::actor::Actor;
use crate::envelope::guarded;
use crate::reference::{Mailbox, Ref};
use crate::runtime::{self, Apart, Runtime, Shell};
use crate::state::{ActorState, TypeState};
use crate::stats::Types;
use crate::supervision::{Group, Member, Restarts, Supervision};
use crate::watch::{Exit, ExitReason};

/// Runs the actors of a process on a thread of its own. Clones are the same system; when the last is
/// dropped, its actors stop.
#[derive(Clone)]
pub struct System {
    inner: Arc<Inner>,
}

/// Why the system could not be started.
#[derive(Debug, Error)]
#[error("the actors' thread could not be started: {0}")]
pub struct StartError(#[from] io::Error);

/// Why an actor could not be spawned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Another actor has the name.
    #[error("there is an actor {0} already")]
    NameTaken(String),
    /// The mailbox would hold nothing, or more than can be counted.
    #[error("{actor} cannot have a mailbox of {capacity} messages")]
    Capacity {
        /// The actor's name.
        actor: String,
        /// The capacity asked for.
        capacity: usize,
    },
    /// The operating system refuses a thread.
    #[error("no thread for {actor}: {why}")]
    Thread {
        /// The actor's name.
        actor: String,
        /// What the system says.
        why: String,
    },
    /// The system is shutting down.
    #[error("{0} was not spawned: the system is shutting down")]
    Stopped(String),
}

/// Why the system has not shut down in time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// These actors were still in a handler; their thread is left behind.
    #[error("still running at the deadline: {}", .0.join(", "))]
    Late(Vec<String>),
    /// An actor cannot wait for its own end; nothing was done.
    #[error("an actor cannot shut its own system down")]
    OnRuntimeThread,
}

struct Inner {
    runtime: Runtime,
    registry: Arc<Registry>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl System {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses a thread or its timer.
    pub fn start() -> Result<Self, StartError> {
        let (runtime, thread) = Runtime::start()?;
        let inner = Inner {
            runtime,
            registry: Arc::default(),
            thread: Mutex::new(Some(thread)),
        };
        let inner = Arc::new(inner);
        Ok(Self { inner })
    }

    /// Runs an actor under a name that no other running actor has. At most `capacity` messages wait
    /// for it. It lives until it stops, is stopped or panics, whether or not references to it are
    /// left.
    ///
    /// # Errors
    /// [`SpawnError`]; the actor is dropped.
    pub fn spawn<A: Actor>(
        &self,
        name: &str,
        actor: A,
        capacity: usize,
    ) -> Result<Ref<A>, SpawnError> {
        self.run(name, actor, capacity, None)
    }

    /// Like [`spawn`](Self::spawn), but an actor that panics is replaced by a new one from `factory`,
    /// behind the same references. Messages that wait at that time are failed.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn_supervised<A: Actor>(
        &self,
        name: &str,
        mut factory: impl FnMut() -> A + Send + 'static,
        capacity: usize,
        restarts: Restarts,
    ) -> Result<Ref<A>, SpawnError> {
        let actor = factory();
        let supervision = Supervision::alone(Box::new(factory), restarts);
        self.run(name, actor, capacity, Some(supervision))
    }

    /// Like [`spawn_supervised`](Self::spawn_supervised), on a thread of its own, which ends with it:
    /// for an actor whose handlers take longer than others are to wait.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn_apart<A: Actor>(
        &self,
        name: &str,
        mut factory: impl FnMut() -> A + Send + 'static,
        capacity: usize,
        restarts: Restarts,
    ) -> Result<Ref<A>, SpawnError> {
        let actor = factory();
        let supervision = Some(Supervision::alone(Box::new(factory), restarts));
        let thread = Runtime::start().map_err(|error| SpawnError::Thread {
            actor: name.to_owned(),
            why: error.to_string(),
        })?;
        // It is not joined: it may be left behind in a handler.
        let (runtime, _) = thread;
        let spawned = self.run_on(
            &runtime,
            Some(runtime.apart()),
            (name, actor, capacity, supervision),
        );
        if spawned.is_err() {
            runtime.stop();
        }
        spawned
    }

    /// Like [`spawn_supervised`](Self::spawn_supervised), as one of a group.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn_in<A: Actor>(
        &self,
        group: &Group,
        name: &str,
        mut factory: impl FnMut() -> A + Send + 'static,
        capacity: usize,
    ) -> Result<Ref<A>, SpawnError> {
        let actor = factory();
        let supervision = Supervision::together(Box::new(factory), group.clone());
        let spawned = self.run(name, actor, capacity, Some(supervision))?;
        if let Some(actor) = spawned.running() {
            let name = spawned.shared_name();
            group.add(Member { name, actor });
        }
        Ok(spawned)
    }

    /// Names of the actors that run.
    #[must_use]
    pub fn actors(&self) -> Vec<String> {
        self.inner.registry.names()
    }

    /// What its actors are doing, by name, and what all actors of each type have done.
    #[must_use]
    pub fn state(&self) -> (Vec<ActorState>, Vec<TypeState>) {
        let registry = &self.inner.registry;
        let running: Vec<_> = registry.actors.lock().running.values().cloned().collect();
        let types = registry.types.all();
        (
            running.iter().map(|actor| actor.state()).collect(),
            types.iter().map(|of_type| (&**of_type).into()).collect(),
        )
    }

    /// Stops the actor of this name, once it has handled what it has accepted before; whether there is
    /// one.
    pub fn stop(&self, name: &str) -> bool {
        self.inner.registry.stop(name)
    }

    pub(crate) fn downgrade(&self) -> WeakSystem {
        WeakSystem(Arc::downgrade(&self.inner))
    }

    /// Calls `watcher` whenever an actor ends or is restarted. It runs on the actors' thread: it
    /// should tell an actor and return.
    pub fn on_exit(&self, watcher: impl Fn(&Exit) + Send + Sync + 'static) {
        self.inner.registry.watchers.lock().push(Arc::new(watcher));
    }

    /// Stops all actors, each after what it has accepted, and ends the thread.
    ///
    /// # Errors
    /// [`ShutdownError`].
    pub fn shutdown(&self, within: Duration) -> Result<(), ShutdownError> {
        if runtime::is_current_thread() {
            return Err(ShutdownError::OnRuntimeThread);
        }
        let deadline = Instant::now() + within;
        let registry = &self.inner.registry;
        registry.stop_all();
        registry.wait_for_end(deadline);
        self.inner.runtime.stop();
        if !self.inner.runtime.wait(deadline) {
            return Err(ShutdownError::Late(registry.names()));
        }
        if let Some(thread) = self.inner.thread.lock().take() {
            // It has ended; a panic of its own was logged by the hook.
            drop(thread.join());
        }
        Ok(())
    }

    fn run<A: Actor>(
        &self,
        name: &str,
        actor: A,
        capacity: usize,
        supervision: Option<Supervision<A>>,
    ) -> Result<Ref<A>, SpawnError> {
        let all = &self.inner.runtime;
        self.run_on(all, None, (name, actor, capacity, supervision))
    }

    fn run_on<A: Actor>(
        &self,
        runtime: &Runtime,
        apart: Option<Apart>,
        (name, actor, capacity, supervision): (&str, A, usize, Option<Supervision<A>>),
    ) -> Result<Ref<A>, SpawnError> {
        if !(1..=isize::MAX as usize).contains(&capacity) {
            let actor = name.to_owned();
            return Err(SpawnError::Capacity { actor, capacity });
        }
        let (post, incoming) = Runtime::post();
        let registry = &self.inner.registry;
        let stats = registry.types.of::<A>();
        let mailbox = Arc::new(Mailbox::new(name, capacity, stats, post));
        registry.add(Arc::clone(&mailbox))?;
        let me = Ref::here(Arc::clone(&mailbox));
        // If the thread has ended, the shell is dropped, and that takes the name back.
        let registry = Arc::clone(registry);
        let shell = Shell::new(actor, mailbox, registry, supervision, apart);
        if runtime.run(incoming, shell) {
            Ok(me)
        } else {
            Err(SpawnError::Stopped(name.to_owned()))
        }
    }
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let actors = self.inner.registry.names();
        f.debug_struct("System").field("actors", &actors).finish()
    }
}

impl Drop for Inner {
    /// Does not wait: it may run on the very thread that is to end.
    fn drop(&mut self) {
        self.runtime.stop();
    }
}

/// A [`System`] that lives only as long as others want it.
pub(crate) struct WeakSystem(Weak<Inner>);

impl WeakSystem {
    pub(crate) fn upgrade(&self) -> Option<System> {
        let inner = self.0.upgrade()?;
        Some(System { inner })
    }
}

type Watcher = Arc<dyn Fn(&Exit) + Send + Sync>;

/// The actors that run, by name.
#[derive(Default)]
pub(crate) struct Registry {
    actors: Mutex<Actors>,
    emptied: Condvar,
    watchers: Mutex<Vec<Watcher>>,
    types: Types,
}

#[derive(Default)]
struct Actors {
    running: BTreeMap<Arc<str>, Arc<dyn Running>>,
    closed: bool,
}

/// An actor whose type is forgotten.
pub(crate) trait Running: Send + Sync {
    fn stop(&self);

    /// Restarts it after the given pause, because of the named one of its group; ends it without a pause.
    fn follow(&self, whom: &Arc<str>, pause: Option<Duration>);

    fn has_ended(&self) -> bool;

    fn state(&self) -> ActorState;
}

impl Registry {
    fn add<A: Actor>(&self, mailbox: Arc<Mailbox<A>>) -> Result<(), SpawnError> {
        let name = Arc::clone(mailbox.name());
        let mut actors = self.actors.lock();
        if actors.closed {
            return Err(SpawnError::Stopped(name.to_string()));
        }
        if actors.running.contains_key(&name) {
            return Err(SpawnError::NameTaken(name.to_string()));
        }
        let spawned = &mailbox.stats().of_type.spawned;
        spawned.fetch_add(1, Ordering::Relaxed);
        actors.running.insert(name, mailbox);
        Ok(())
    }

    /// Takes note of an actor's end.
    pub(crate) fn remove(&self, exit: &Exit) {
        let mut actors = self.actors.lock();
        let ended = actors.running.remove(&exit.actor);
        if actors.running.is_empty() {
            self.emptied.notify_all();
        }
        drop(actors);
        drop(ended);
        self.tell_watchers(exit);
    }

    pub(crate) fn tell_watchers(&self, exit: &Exit) {
        let (actor, restarted) = (&*exit.actor, exit.restarted);
        match &exit.reason {
            ExitReason::Stopped => tracing::debug!(actor, "actor stopped"),
            ExitReason::Panicked(panic) => {
                tracing::error!(actor, panic, restarted, "actor panicked");
            }
            ExitReason::WithGroup(whom) => {
                tracing::warn!(actor, %whom, restarted, "actor follows one of its group");
            }
            ExitReason::WithLinked(whom) => {
                tracing::warn!(actor, %whom, restarted, "actor follows one that it is linked to");
            }
            // Actors of other nodes are watched by those whom it concerns.
            ExitReason::Lost(_) => {}
        }
        // Not under the lock: a watcher may add another.
        let watchers = self.watchers.lock().clone();
        for watcher in watchers {
            if let Err(panic) = guarded(|| watcher(exit)) {
                tracing::error!(actor, panic, "panic while hearing of an actor's end");
            }
        }
    }

    fn stop(&self, name: &str) -> bool {
        let actor = self.actors.lock().running.get(name).cloned();
        actor.map(|actor| actor.stop()).is_some()
    }

    fn stop_all(&self) {
        let all: Vec<_> = {
            let mut actors = self.actors.lock();
            actors.closed = true;
            actors.running.values().cloned().collect()
        };
        for actor in all {
            actor.stop();
        }
    }

    fn wait_for_end(&self, deadline: Instant) {
        let mut actors = self.actors.lock();
        while !actors.running.is_empty() {
            if self.emptied.wait_until(&mut actors, deadline).timed_out() {
                return;
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let actors = self.actors.lock();
        actors.running.keys().map(ToString::to_string).collect()
    }
}
