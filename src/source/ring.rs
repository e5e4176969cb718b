//! The bounded ring between a source and inference: the newest frames win.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A bounded queue that never makes its producer wait: when it is full, the oldest item goes.
///
/// One thread pushes, one pops; share it in an `Arc`. Counting what was lost is the producer's
/// business: [`Ring::push`] hands it back.
#[derive(Debug)]
pub struct Ring<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Ring<T> {
    /// An empty ring for `capacity` items.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        let capacity = capacity.get();
        let state = State {
            items: VecDeque::with_capacity(capacity),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            capacity,
        }
    }

    /// Adds the newest item. Returns what will never be popped: the oldest item of a full ring, or
    /// `item` itself when the ring is closed.
    pub fn push(&self, item: T) -> Option<T> {
        let mut state = self.state.lock();
        if state.closed {
            return Some(item);
        }
        let evicted = if state.items.len() == self.capacity {
            state.items.pop_front()
        } else {
            None
        };
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
        evicted
    }

    /// Takes the oldest item, waiting for one until `deadline`. `None` when none came in time, and
    /// at once when the ring is closed and empty ([`Ring::is_finished`] tells the two apart).
    pub fn pop_wait(&self, deadline: Instant) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.closed || self.changed.wait_until(&mut state, deadline).timed_out() {
                // An item may have come together with the deadline.
                return state.items.pop_front();
            }
        }
    }

    /// Takes no more items; those inside can still be popped. Wakes whoever waits.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether the ring is closed and empty: nothing will ever be popped again.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let state = self.state.lock();
        state.closed && state.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ring(capacity: usize) -> Ring<u32> {
        Ring::new(NonZeroUsize::new(capacity).unwrap())
    }

    /// Longer than any test may take, so that only a wake-up ends the wait.
    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_full_ring_gives_up_its_oldest() {
        let ring = ring(2);
        assert_eq!(
            [ring.push(1), ring.push(2), ring.push(3)],
            [None, None, Some(1)]
        );
        assert_eq!(
            [ring.pop_wait(far()), ring.pop_wait(far())],
            [Some(2), Some(3)]
        );
    }

    #[test]
    fn an_empty_ring_times_out_and_is_not_finished() {
        let ring = ring(1);
        assert_eq!(ring.pop_wait(Instant::now()), None);
        assert!(!ring.is_finished());
    }

    #[test]
    fn a_closed_ring_is_drained_and_refuses_more() {
        let ring = ring(2);
        assert_eq!(ring.push(1), None);
        ring.close();
        assert_eq!(ring.push(2), Some(2));
        assert!(!ring.is_finished());
        assert_eq!(ring.pop_wait(far()), Some(1));
        assert!(ring.is_finished());
        assert_eq!(ring.pop_wait(far()), None);
    }

    #[test]
    fn every_item_is_popped_in_order_or_handed_back() {
        let ring = ring(3);
        std::thread::scope(|scope| {
            let consumer = scope.spawn(|| {
                let mut popped = Vec::new();
                while !ring.is_finished() {
                    popped.extend(ring.pop_wait(far()));
                }
                popped
            });
            let lost = (0..1000)
                .filter_map(|item| ring.push(item))
                .collect::<Vec<_>>();
            ring.close();
            let popped = consumer.join().unwrap();
            assert!(popped.is_sorted() && lost.is_sorted());
            let mut all = [popped, lost].concat();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
        });
    }

    #[test]
    fn closing_wakes_a_waiting_consumer() {
        let ring = ring(1);
        std::thread::scope(|scope| {
            let consumer = scope.spawn(|| ring.pop_wait(far()));
            ring.close();
            assert_eq!(consumer.join().unwrap(), None);
        });
    }
}
