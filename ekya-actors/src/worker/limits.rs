//! What a worker may use, and what holds it to that.
//!
//! The best means that the system offers is found when a pool starts: cgroup v2, else cgroup v1.
//! Without them, memory is bounded by `RLIMIT_DATA`, which counts what is asked for instead of what
//! is used, and CPU by duty: the process is stopped whenever no request of the node runs, so that it
//! uses cores within leases only.

use std::io;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use super::cgroup::{Group, Hierarchy, Limit};

/// Tells a worker how many bytes of data it may have.
const MEMORY: &str = "EKYA_WORKER_MEMORY";

/// What one worker may use. Absent is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Of memory, in bytes. Files that it writes to an [`Exchange`](super::Exchange) may count.
    pub memory: Option<u64>,
    /// Of CPU time, in seconds a second: 1.5 is one core and a half. A safety net, for more than its
    /// leases let it use: a worker that is held back by it wastes the lease that it has.
    pub cores: Option<f64>,
}

/// What holds the workers of a pool to their limits.
#[derive(Debug)]
pub(super) struct Means {
    limits: Limits,
    /// None where there is no limit, or none that a cgroup can keep.
    memory: Option<Hierarchy>,
    cpu: Option<Hierarchy>,
}

impl Means {
    /// Finds the best, says which it is, and removes what killed nodes have left behind.
    pub(super) fn find(limits: Limits) -> Self {
        let memory = limits.memory.map(Limit::Memory);
        let cpu = limits.cores.map(Limit::Cpu);
        let means = Self {
            limits,
            memory: memory.and_then(Hierarchy::find),
            cpu: cpu.and_then(Hierarchy::find),
        };
        means.report();
        means
    }

    /// Those of a system without cgroups.
    #[cfg(test)]
    pub(super) fn without_cgroups(limits: Limits) -> Self {
        let (memory, cpu) = (None, None);
        Self {
            limits,
            memory,
            cpu,
        }
    }

    fn report(&self) {
        let memory = name(self.limits.memory.is_some(), &self.memory, "RLIMIT_DATA");
        let cpu = name(
            self.limits.cores.is_some(),
            &self.cpu,
            "stopping between requests",
        );
        let without_memory = self.limits.memory.is_some() && self.memory.is_none();
        if without_memory || self.is_duty() {
            tracing::warn!(
                memory,
                cpu,
                "no cgroup can be used to limit workers (not delegated, or not permitted): the next best means is in force"
            );
        } else {
            tracing::info!(memory, cpu, "what limits workers");
        }
    }

    /// Whether a worker must be stopped whenever no request runs.
    pub(super) fn is_duty(&self) -> bool {
        self.limits.cores.is_some() && self.cpu.is_none()
    }

    /// What the worker must do by itself.
    pub(super) fn tell(&self, command: &mut Command) {
        command.env_remove(MEMORY);
        if let (Some(bytes), None) = (self.limits.memory, &self.memory) {
            command.env(MEMORY, bytes.to_string());
        }
    }

    /// Limits a worker that has just been started.
    pub(super) fn confine(&self, pid: u32) -> io::Result<Confinement> {
        let group = |hierarchy: &Option<Hierarchy>| {
            let hierarchy = hierarchy.as_ref();
            hierarchy.map(|hierarchy| hierarchy.group(pid)).transpose()
        };
        Ok(Confinement {
            memory: group(&self.memory)?,
            _cpu: group(&self.cpu)?,
            limit: self.limits.memory.unwrap_or_default(),
        })
    }
}

fn name(limited: bool, hierarchy: &Option<Hierarchy>, otherwise: &'static str) -> &'static str {
    match hierarchy {
        _ if !limited => "unlimited",
        Some(hierarchy) => hierarchy.name(),
        None => otherwise,
    }
}

/// The cgroups of one worker; dropped after its end, they are removed.
#[derive(Debug, Default)]
pub(super) struct Confinement {
    memory: Option<Group>,
    _cpu: Option<Group>,
    /// On memory, in bytes.
    limit: u64,
}

impl Confinement {
    /// The limit that the process was killed at, if it was.
    pub(super) fn exceeded(&self) -> Option<u64> {
        let killed = self.memory.as_ref().is_some_and(Group::has_run_out);
        killed.then_some(self.limit)
    }
}

/// In the worker: bounds its own memory where it was told to.
pub(super) fn limit_self() -> io::Result<()> {
    let told = std::env::var(MEMORY).ok();
    if let Some(bytes) = told.and_then(|told| told.parse().ok()) {
        setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?;
    }
    Ok(())
}
