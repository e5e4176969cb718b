//! What a worker may use.

use std::io;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

/// Tells a worker how many bytes of data it may have.
const MEMORY: &str = "EKYA_WORKER_MEMORY";

/// What one worker may use. Absent is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Of memory, in bytes.
    pub memory: Option<u64>,
    /// Of CPU time, in seconds a second: 1.5 is one core and a half.
    pub cores: Option<f64>,
}

impl Limits {
    pub(super) fn tell(&self, command: &mut Command) {
        if let Some(memory) = self.memory {
            command.env(MEMORY, memory.to_string());
        }
    }
}

/// In the worker: bounds its own memory where that was told to.
pub(super) fn limit_self() -> io::Result<()> {
    let told = std::env::var(MEMORY).ok();
    if let Some(bytes) = told.and_then(|told| told.parse().ok()) {
        setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?;
    }
    Ok(())
}
