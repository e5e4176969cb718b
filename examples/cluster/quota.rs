//! What a process and all that it starts may take of the machine: a cgroup of its own with a quota of
//! processor time, as a container has. Needs root.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Microseconds in which the quota is counted.
const PERIOD: u64 = 100_000;

pub(crate) struct Quota {
    folder: PathBuf,
}

impl Quota {
    /// A group that may take so many cores; nothing where none can be made.
    pub(crate) fn new(name: &str, cores: f64) -> Option<Self> {
        let quota = (cores * PERIOD as f64) as u64;
        let root = PathBuf::from("/sys/fs/cgroup");
        // Version 1, then version 2.
        let first = root.join("cpu").join(name);
        let made = fs::create_dir(&first).and_then(|()| {
            fs::write(first.join("cpu.cfs_period_us"), PERIOD.to_string())?;
            fs::write(first.join("cpu.cfs_quota_us"), quota.to_string())
        });
        if made.is_ok() {
            return Some(Self { folder: first });
        }
        let second = root.join(name);
        let make = || -> io::Result<()> {
            fs::create_dir(&second)?;
            fs::write(second.join("cpu.max"), format!("{quota} {PERIOD}"))
        };
        make().ok().map(|()| Self { folder: second })
    }

    /// Puts a process under it; what it starts from then on is, too.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn take(&self, process: u32) -> io::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), process.to_string())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The processes have ended; one that is being taken down keeps it, which does no harm.
        let _ = fs::remove_dir(&self.folder);
    }
}
