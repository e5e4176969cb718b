//! Results for the program that runs a node.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;

use super::outlets::ResultQueue;
use super::result::FrameResult;

/// The results of one or all streams, from `RunOptions::subscribe`. Wait for them in a task
/// ([`Results::next`], or as a [`Stream`]) or on a thread ([`Results::next_timeout`]). Those of one stream
/// come in the order of its frames. Whoever is slow loses the oldest ones and holds nothing up.
#[derive(Debug)]
pub struct Results {
    queue: ResultQueue,
}

impl Results {
    pub(crate) fn new(queue: ResultQueue) -> Self {
        Self { queue }
    }

    /// The next result; none once the run is over and all were given. Cancel-safe: a call that is
    /// dropped before it is done has taken nothing.
    pub async fn next(&mut self) -> Option<Arc<FrameResult>> {
        self.queue.next().await
    }

    /// The next result, waiting for it no longer than `limit`; none after that, and none once the run is
    /// over and all were given ([`Results::is_over`] tells the two apart). Blocks the thread: not for
    /// tasks.
    pub fn next_timeout(&mut self, limit: Duration) -> Option<Arc<FrameResult>> {
        self.queue.recv_timeout(limit)
    }

    /// Whether nothing waits and nothing will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queue.is_over()
    }

    /// Results that were lost so far because nobody took them in time.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }
}

impl Stream for Results {
    type Item = Arc<FrameResult>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.queue).poll_next(context)
    }
}
