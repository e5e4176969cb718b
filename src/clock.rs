//! The wall clock, for what outlives a run. Within a run, time is seconds from its start.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix seconds; 0 on a machine that believes to live before 1970.
#[must_use]
pub fn unix_seconds() -> u64 {
    unix_time() as u64
}

/// The same with its fraction.
#[must_use]
pub fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
