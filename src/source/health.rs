//! How a camera is doing, for others to show: its source writes it down, whoever holds a handle reads.

use std::time::Instant;

use parking_lot::Mutex;

use super::fault::Fault;

/// How a camera is doing. Shared between its source and those that show it; cheap to read and written
/// only when something changes.
#[derive(Debug)]
pub struct SourceHealth(Mutex<HealthReport>);

/// How a camera is doing at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthReport {
    /// Whether it gives frames now.
    pub connected: bool,
    /// Since when it does or does not.
    pub since: Instant,
    /// How often its decoder was started again, successfully or not.
    pub reconnects: u64,
    /// Why it last gave no frames; stays when it gives them again. `None` before the first loss.
    pub fault: Option<Fault>,
    /// What was wrong then, in words, with what the decoder said; credentials removed. Empty before
    /// the first loss.
    pub reason: String,
}

impl SourceHealth {
    /// A camera that was not yet connected to.
    pub(super) fn new() -> Self {
        Self(Mutex::new(HealthReport {
            connected: false,
            since: Instant::now(),
            reconnects: 0,
            fault: None,
            reason: String::new(),
        }))
    }

    /// How it is doing now.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        self.0.lock().clone()
    }

    /// The first frame of a connection came.
    pub(super) fn found(&self) {
        let mut report = self.0.lock();
        report.connected = true;
        report.since = Instant::now();
    }

    /// The connection is lost, or was not to be had.
    pub(super) fn lost(&self, fault: Fault, reason: String) {
        let mut report = self.0.lock();
        if report.connected {
            report.connected = false;
            report.since = Instant::now();
        }
        report.fault = Some(fault);
        report.reason = reason;
    }

    /// Another decoder is started.
    pub(super) fn reconnecting(&self) {
        self.0.lock().reconnects += 1;
    }

    /// The source has come to its end.
    pub(super) fn ended(&self) {
        let mut report = self.0.lock();
        if report.connected {
            report.connected = false;
            report.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_stays_lost_since_it_was_lost() {
        let health = SourceHealth::new();
        health.found();
        health.lost(Fault::Silent, "no frame for 10 s".to_owned());
        let first = health.report();
        health.reconnecting();
        health.lost(Fault::Unreachable, "refused".to_owned());
        let second = health.report();
        assert_eq!((second.connected, second.reconnects), (false, 1));
        assert_eq!(second.since, first.since);
        assert_eq!(second.fault, Some(Fault::Unreachable));
        health.found();
        let back = health.report();
        assert!(back.connected && back.since >= second.since);
        assert_eq!(back.reason, "refused");
    }
}
