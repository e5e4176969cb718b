//! A bounded queue that loses its oldest: many may send, one receives. Sending never waits, whatever the
//! other end does. It knows nothing of what it carries.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::Stream;
use parking_lot::{Condvar, Mutex};

/// The sending end. The queue is closed by [`Sender::close`], or when the sender is dropped.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The receiving end: wait for the next item on a thread, with a time limit or in a task.
#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// Told when an item has come or the queue was closed.
    changed: Condvar,
    /// Counts what is lost, here and wherever else somebody counts in it.
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// Most items that wait, at least 1.
    room: usize,
    /// Nothing more comes.
    closed: bool,
    /// Nobody receives any more.
    left: bool,
    /// The task that waits.
    waker: Option<Waker>,
}

/// A queue in which `room` items (at least 1) may wait.
pub(crate) fn queue<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    queue_counting(room, Arc::default())
}

/// The same, which adds what it loses to `lost`.
pub(crate) fn queue_counting<T>(room: usize, lost: Arc<AtomicU64>) -> (Sender<T>, Receiver<T>) {
    let state = State {
        items: VecDeque::new(),
        room: room.max(1),
        closed: false,
        left: false,
        waker: None,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        changed: Condvar::new(),
        lost,
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Queues an item. Where there is no room, the oldest one goes, and counts as lost; so does an item
    /// that comes after the end.
    pub(crate) fn send(&self, item: T) {
        let mut state = self.0.state.lock();
        if state.left {
            return;
        }
        if state.closed {
            drop(state);
            self.0.count_lost(1);
            return;
        }
        // What is lost is dropped when nobody waits for the lock any more.
        let oldest = if state.items.len() == state.room {
            self.0.count_lost(1);
            state.items.pop_front()
        } else {
            None
        };
        state.items.push_back(item);
        self.0.tell(state);
        drop(oldest);
    }

    /// Ends the queue: the receiver gets what waits, and then learns that it was all.
    pub(crate) fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        self.0.tell(state);
    }

    /// Items that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.state.lock().items.len()
    }

    /// Whether the receiver has gone.
    pub(crate) fn is_left(&self) -> bool {
        self.0.state.lock().left
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T> Receiver<T> {
    /// The next item, waiting for it; none after the end.
    pub(crate) fn recv(&mut self) -> Option<T> {
        let mut state = self.0.state.lock();
        while state.items.is_empty() && !state.closed {
            self.0.changed.wait(&mut state);
        }
        state.items.pop_front()
    }

    /// The same, waiting no longer than `limit`.
    pub(crate) fn recv_timeout(&mut self, limit: Duration) -> Option<T> {
        let until = Instant::now().checked_add(limit);
        let mut state = self.0.state.lock();
        while state.items.is_empty() && !state.closed {
            match until {
                Some(until) if self.0.changed.wait_until(&mut state, until).timed_out() => break,
                Some(_) => {}
                None => self.0.changed.wait(&mut state),
            }
        }
        state.items.pop_front()
    }

    /// The next item, in a task; a call that is cancelled has taken none.
    pub(crate) async fn next(&mut self) -> Option<T> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        let mut state = self.0.state.lock();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until the queue is closed, whatever is in it, or `limit` is over; whether it is closed.
    pub(crate) fn is_closed_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.0.state.lock();
        while !state.closed && !self.0.changed.wait_until(&mut state, until).timed_out() {}
        state.closed
    }

    /// Waits in a task until the queue is closed, whatever is in it.
    pub(crate) async fn closed(&mut self) {
        std::future::poll_fn(|context| {
            let mut state = self.0.state.lock();
            if state.closed {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Gives up what waits, which counts as lost, and what is yet to come, which does not.
    pub(crate) fn give_up(self) {
        let mut state = self.0.state.lock();
        state.left = true;
        self.0.count_lost(state.items.len());
    }

    /// Whether nothing waits just now.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.state.lock().items.is_empty()
    }

    /// Whether nothing waits and nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.0.state.lock();
        state.closed && state.items.is_empty()
    }

    /// Items that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll(context)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.left = true;
        let waiting = std::mem::take(&mut state.items);
        drop(state);
        drop(waiting);
    }
}

impl<T> Shared<T> {
    fn count_lost(&self, count: usize) {
        self.lost.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Wakes whoever waits, when it can have the lock.
    fn tell(&self, mut state: parking_lot::MutexGuard<'_, State<T>>) {
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the consumer does, it sees a subsequence in order, and nothing goes uncounted.
        #[test]
        fn order_is_kept_and_what_is_sent_is_delivered_or_lost(
            room in 0usize..8,
            steps in proptest::collection::vec(any::<bool>(), 0..200),
        ) {
            let (sender, mut receiver) = queue(room);
            let (mut sent, mut got) = (0u64, Vec::new());
            for is_send in steps {
                if is_send {
                    sender.send(sent);
                    sent += 1;
                } else {
                    got.extend(receiver.next().now_or_never().flatten());
                }
            }
            sender.close();
            while let Some(item) = receiver.recv() {
                got.push(item);
            }
            prop_assert!(got.is_sorted_by(|one, other| one < other));
            prop_assert_eq!(got.len() as u64 + receiver.lost(), sent);
            // The newest are never the ones that are lost.
            prop_assert_eq!(got.last().copied(), sent.checked_sub(1));
        }
    }

    #[test]
    fn senders_on_threads_and_a_slow_receiver_agree_on_the_count() {
        let (sender, mut receiver) = queue(16);
        let got = std::thread::scope(|scope| {
            let receiver = &mut receiver;
            let got = scope.spawn(|| std::iter::from_fn(|| receiver.recv()).count());
            let senders: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).for_each(|item| sender.send(item))))
                .collect();
            for one in senders {
                one.join().unwrap();
            }
            sender.close();
            got.join().unwrap()
        });
        assert_eq!(got as u64 + receiver.lost(), 4000);
    }

    #[test]
    fn a_wait_that_is_cancelled_takes_nothing() {
        let (sender, mut receiver) = queue(4);
        assert!(receiver.next().now_or_never().is_none());
        sender.send(1);
        let pending = receiver.next();
        drop(pending);
        assert_eq!(receiver.next().now_or_never(), Some(Some(1)));
        drop(sender);
        assert_eq!(receiver.next().now_or_never(), Some(None));
    }

    #[test]
    fn a_limit_is_kept_and_the_end_is_not_waited_for() {
        let (sender, mut receiver) = queue(1);
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), None);
        sender.send(1);
        assert_eq!(receiver.recv_timeout(Duration::MAX), Some(1));
        sender.close();
        assert_eq!(receiver.recv_timeout(Duration::MAX), None);
    }

    #[test]
    fn an_end_is_heard_of_while_items_wait() {
        let (sender, mut receiver) = queue(4);
        sender.send(1);
        assert!(!receiver.is_closed_within(Duration::from_millis(1)));
        assert!(receiver.closed().now_or_never().is_none());
        sender.close();
        assert!(receiver.is_closed_within(Duration::from_secs(60)));
        assert!(receiver.closed().now_or_never().is_some());
        assert_eq!(receiver.recv(), Some(1));
    }

    #[test]
    fn what_is_given_up_is_lost() {
        let lost = Arc::default();
        let (sender, receiver) = queue_counting(2, Arc::clone(&lost));
        (0..3).for_each(|item| sender.send(item));
        receiver.give_up();
        sender.send(4);
        assert_eq!(lost.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_sender_sees_that_the_receiver_has_gone() {
        let (sender, receiver) = queue(1);
        sender.send(1);
        assert!(!sender.is_left());
        drop(receiver);
        assert!(sender.is_left());
        sender.send(2);
    }
}
