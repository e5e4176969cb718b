//! What actors have done: counted for each, and for all of a type since the start, so that no count
//! goes down when an actor ends.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Counters of an actor, or of all of a type.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    handled: AtomicU64,
    refused: AtomicU64,
    restarts: AtomicU64,
    busy_nanos: AtomicU64,
}

/// Of all actors of a type.
#[derive(Debug)]
pub(crate) struct OfType {
    pub(crate) name: &'static str,
    pub(crate) counts: Counts,
    pub(crate) spawned: AtomicU64,
    pub(crate) ended: AtomicU64,
}

/// An actor's counters and those of its type.
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) own: Counts,
    pub(crate) of_type: Arc<OfType>,
}

/// Counters by type.
#[derive(Debug, Default)]
pub(crate) struct Types(Mutex<HashMap<TypeId, Arc<OfType>>>);

impl Types {
    /// Those of a new actor.
    pub(crate) fn of<A: 'static>(&self) -> Stats {
        let mut types = self.0.lock();
        let of_type = types.entry(TypeId::of::<A>()).or_insert_with(|| {
            Arc::new(OfType {
                name: type_name::<A>(),
                counts: Counts::default(),
                spawned: AtomicU64::new(0),
                ended: AtomicU64::new(0),
            })
        });
        Stats {
            own: Counts::default(),
            of_type: Arc::clone(of_type),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<OfType>> {
        let mut all: Vec<_> = self.0.lock().values().cloned().collect();
        all.sort_by_key(|one| one.name);
        all
    }
}

impl Stats {
    /// A handler is about to be called with a message.
    pub(crate) fn handled(&self) {
        add_alone(&self.own.handled, 1);
        let of_type = &self.of_type.counts;
        of_type.handled.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn busy(&self, busy: Duration) {
        let nanos = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        add_alone(&self.own.busy_nanos, nanos);
        let of_type = &self.of_type.counts;
        of_type.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        for counts in [&self.own, &self.of_type.counts] {
            counts.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn restarted(&self) {
        for counts in [&self.own, &self.of_type.counts] {
            counts.restarts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Adds where nobody else does: only the thread of an actor counts what it handles.
fn add_alone(counter: &AtomicU64, more: u64) {
    let before = counter.load(Ordering::Relaxed);
    counter.store(before.wrapping_add(more), Ordering::Relaxed);
}

impl Counts {
    pub(crate) fn read(&self) -> (u64, u64, u64, f64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let busy = Duration::from_nanos(read(&self.busy_nanos));
        (
            read(&self.handled),
            read(&self.refused),
            read(&self.restarts),
            busy.as_secs_f64(),
        )
    }
}
