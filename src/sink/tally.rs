//! How an output is doing, for metrics and the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts of one output, which its writer keeps and others look at.
#[derive(Debug)]
pub(crate) struct Tally {
    name: String,
    written: AtomicU64,
    lost: Arc<AtomicU64>,
    up: AtomicBool,
}

impl Tally {
    /// Of an output that has written and lost nothing.
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            written: AtomicU64::new(0),
            lost: Arc::default(),
            up: AtomicBool::new(true),
        })
    }

    /// The output's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What has left the node: lines, or messages that a broker has acknowledged.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Results that did not.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether results can leave the node just now, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn add_written(&self, count: u64) {
        self.written.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn add_lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Says whether it is up; whether that is new.
    pub(super) fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::Relaxed) != up
    }

    /// What queues count in that lose results of this output.
    pub(super) fn lost_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }
}
