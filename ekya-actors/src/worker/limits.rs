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
    hierarchies: Vec<Hierarchy>,
}

impl Means {
    /// Finds the best, says which it is, and removes what killed nodes have left behind.
    pub(super) fn find(limits: Limits) -> Self {
        let memory = limits.memory.map(Limit::Memory);
        let cpu = limits.cores.map(Limit::Cpu);
        let hierarchies = Hierarchy::find_all(memory.into_iter().chain(cpu));
        let means = Self {
            limits,
            hierarchies,
        };
        means.report();
        means
    }

    /// Those of a system without cgroups.
    #[cfg(test)]
    pub(super) fn without_cgroups(limits: Limits) -> Self {
        let hierarchies = Vec::new();
        Self {
            limits,
            hierarchies,
        }
    }

    fn report(&self) {
        let name = |limited: bool, by: Option<&Hierarchy>, otherwise| match by {
            _ if !limited => "unlimited",
            Some(hierarchy) => hierarchy.name(),
            None => otherwise,
        };
        let (memory, cores) = (self.limits.memory.is_some(), self.limits.cores.is_some());
        let memory = name(memory, self.of("memory"), "RLIMIT_DATA");
        let cpu = name(cores, self.of("cpu"), "stopping between requests");
        if self.is_by_itself() || self.is_duty() {
            tracing::warn!(
                memory,
                cpu,
                "no cgroup can limit workers (none delegated, or not permitted): the next best means is in force"
            );
        } else {
            tracing::info!(memory, cpu, "what limits workers");
        }
    }

    fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|it| it.limits(controller))
    }

    /// Whether a worker must bound its memory itself.
    fn is_by_itself(&self) -> bool {
        self.limits.memory.is_some() && self.of("memory").is_none()
    }

    /// Whether a worker must be stopped whenever no request runs.
    pub(super) fn is_duty(&self) -> bool {
        self.limits.cores.is_some() && self.of("cpu").is_none()
    }

    /// Tells a worker what it must do by itself.
    pub(super) fn tell(&self, command: &mut Command) {
        command.env_remove(MEMORY);
        if let (true, Some(bytes)) = (self.is_by_itself(), self.limits.memory) {
            command.env(MEMORY, bytes.to_string());
        }
    }

    /// Limits a worker that has just been started.
    pub(super) fn confine(&self, pid: u32) -> io::Result<Confinement> {
        let groups = self.hierarchies.iter().map(|it| it.group(pid));
        Ok(Confinement {
            groups: groups.collect::<io::Result<_>>()?,
            memory: self.limits.memory,
        })
    }
}

/// The cgroups of one worker; dropped after its end, they are removed.
#[derive(Debug, Default)]
pub(super) struct Confinement {
    groups: Vec<Group>,
    /// The limit, in bytes.
    memory: Option<u64>,
}

impl Confinement {
    /// The limit at which the process was killed, if it was.
    pub(super) fn exceeded(&self) -> Option<u64> {
        let killed = self.groups.iter().any(Group::has_run_out);
        self.memory.filter(|_| killed)
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
