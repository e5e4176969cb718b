//! A cgroup for each worker, below the one that this process is in.
//!
//! Nothing outside the own group is touched, so that what bounds this process bounds its workers,
//! too. Whether a group may be made and a limit set in it is found out by doing so.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the groups of workers are called, before the number of the node's process and their own.
const PREFIX: &str = "ekya-worker-";

/// The group into which a node moves itself: in v2, a group has either processes or limited groups.
const NODE: &str = "ekya-node";

/// In which cores are counted, in microseconds.
const PERIOD: u64 = 100_000;

/// The shortest quota that the kernel takes, in microseconds.
const SHORTEST_QUOTA: u64 = 1_000;

/// More cores than there are anywhere, in microseconds.
const LONGEST_QUOTA: u64 = 100_000 * PERIOD;

/// The tries to make a group: another node may remove an empty one as a left-over, but not for ever.
const TRIES: usize = 10;

/// What one worker may use of one thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    /// In bytes.
    Memory(u64),
    /// In cores.
    Cpu(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V2,
    V1,
}

/// Where groups can be made, and for which limits.
#[derive(Debug)]
pub(super) struct Hierarchy {
    version: Version,
    limits: Vec<Limit>,
    base: PathBuf,
}

/// One group; removed when dropped.
#[derive(Debug)]
pub(super) struct Group {
    version: Version,
    folder: PathBuf,
}

impl Limit {
    fn controller(self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Cpu(_) => "cpu",
        }
    }
}

impl Hierarchy {
    /// Where processes can be held to limits; those that no cgroup can keep are left out.
    pub(super) fn find_all(limits: impl IntoIterator<Item = Limit>) -> Vec<Self> {
        Self::join(limits.into_iter().filter_map(Self::find))
    }

    /// A process can be in one group of a hierarchy only: all its limits must be set there.
    fn join(found: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for found in found {
            match all.iter_mut().find(|other| other.base == found.base) {
                Some(other) => other.limits.extend(found.limits),
                None => all.push(found),
            }
        }
        all
    }

    /// In the newest version in which this process may limit others.
    fn find(limit: Limit) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        [Version::V2, Version::V1].into_iter().find_map(|version| {
            let base = own_group(version, limit.controller(), &groups, &mounts)?;
            let base = match version {
                Version::V1 => base,
                Version::V2 => delegated(base, limit.controller())?,
            };
            let hierarchy = Self {
                version,
                limits: vec![limit],
                base,
            };
            hierarchy.sweep();
            hierarchy.try_out().then_some(hierarchy)
        })
    }

    /// Whether it limits "memory", or "cpu".
    pub(super) fn limits(&self, controller: &str) -> bool {
        let mut limits = self.limits.iter();
        limits.any(|limit| limit.controller() == controller)
    }

    pub(super) fn name(&self) -> &'static str {
        match self.version {
            Version::V2 => "cgroup v2",
            Version::V1 => "cgroup v1",
        }
    }

    /// Limits a process, in a group of its own.
    pub(super) fn group(&self, pid: u32) -> io::Result<Group> {
        let mut tries = 0..TRIES;
        loop {
            let made = self.make().and_then(|group| {
                write(&group.folder, "cgroup.procs", &pid.to_string())?;
                Ok(group)
            });
            match made {
                Err(error) if error.kind() == ErrorKind::NotFound && tries.next().is_some() => {}
                made => return made,
            }
        }
    }

    fn make(&self) -> io::Result<Group> {
        static GROUPS: AtomicU64 = AtomicU64::new(0);
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", process::id());
        let version = self.version;
        let folder = self.base.join(name);
        fs::create_dir(&folder)?;
        let group = Group { version, folder };
        for &limit in &self.limits {
            for (file, value) in settings(version, limit) {
                write(&group.folder, file, &value)?;
            }
            if let Some((file, value)) = no_swap(version, limit) {
                // Not there where the kernel does not count swap.
                let _ = write(&group.folder, file, &value);
            }
        }
        Ok(group)
    }

    /// Does all that is done for a worker, but for moving it.
    fn try_out(&self) -> bool {
        let may_move = |group: &Path| {
            let processes = group.join("cgroup.procs");
            OpenOptions::new().write(true).open(processes).is_ok()
        };
        match self.make() {
            // From one group to another, v2 asks for permission on what is above both.
            Ok(group) if self.version == Version::V2 => {
                may_move(&group.folder) && may_move(&self.base)
            }
            Ok(group) => may_move(&group.folder),
            Err(_) => false,
        }
    }

    /// Removes groups of workers that killed nodes have left behind: a group with a process in it
    /// cannot be removed, and who has just made one makes another.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.base) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

impl Group {
    /// Whether a process in it was killed at its memory limit.
    pub(super) fn has_run_out(&self) -> bool {
        let file = match self.version {
            Version::V2 => "memory.events",
            Version::V1 => "memory.oom_control",
        };
        let events = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let kills = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        kills.is_some_and(|kills| kills.trim() != "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            let group = self.folder.display();
            tracing::debug!(%group, %error, "a cgroup is left to the next start");
        }
    }
}

/// The folder of the group that this process is in, from the text of `/proc/self/cgroup` and
/// `/proc/self/mountinfo`.
fn own_group(version: Version, controller: &str, groups: &str, mounts: &str) -> Option<PathBuf> {
    let lists = |list: &str| list.split(',').any(|each| each == controller);
    let path = groups.lines().find_map(|line| {
        // Number, controllers, path; no controllers in v2.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let found = match version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => lists(controllers),
        };
        found.then_some(path)
    })?;
    let (root, mounted) = mounts.lines().find_map(|line| {
        // …, root, mount point, options, …, "-", type, source, options.
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        let kind = after.next()?;
        let found = match version {
            Version::V2 => kind == "cgroup2",
            Version::V1 => kind == "cgroup" && lists(after.nth(1)?),
        };
        found.then_some((before.next()?, before.next()?))
    })?;
    // In a container, what is mounted may itself be a group.
    let path = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(mounted).join(path))
}

/// In v2: the group below which others can be limited, which needs this process out of it. That is
/// done only where no other process is in it, as in a service of systemd with `Delegate=yes`.
fn delegated(own: PathBuf, controller: &str) -> Option<PathBuf> {
    let base = match own.parent() {
        Some(parent) if own.ends_with(NODE) => parent.to_owned(),
        _ => own,
    };
    let lists = |file: &str| {
        let list = fs::read_to_string(base.join(file)).unwrap_or_default();
        list.split_whitespace().any(|each| each == controller)
    };
    if lists("cgroup.subtree_control") {
        return Some(base);
    }
    if !lists("cgroup.controllers") {
        return None;
    }
    let own = process::id().to_string();
    let processes = fs::read_to_string(base.join("cgroup.procs")).ok()?;
    let node = base.join(NODE);
    let moves = processes.trim() == own;
    if moves {
        match fs::create_dir(&node) {
            // Of a node that was killed.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return None,
            _ => write(&node, "cgroup.procs", &own).ok()?,
        }
    }
    let enable = format!("+{controller}");
    if write(&base, "cgroup.subtree_control", &enable).is_ok() {
        return Some(base);
    }
    if moves {
        // Back again: all is as it was.
        let _ = write(&base, "cgroup.procs", &own);
        let _ = fs::remove_dir(&node);
    }
    None
}

/// What to write into which file of a group.
fn settings(version: Version, limit: Limit) -> Vec<(&'static str, String)> {
    match (version, limit) {
        (Version::V2, Limit::Memory(bytes)) => vec![("memory.max", bytes.to_string())],
        (Version::V1, Limit::Memory(bytes)) => vec![("memory.limit_in_bytes", bytes.to_string())],
        (Version::V2, Limit::Cpu(cores)) => {
            vec![("cpu.max", format!("{} {PERIOD}", quota(cores)))]
        }
        (Version::V1, Limit::Cpu(cores)) => vec![
            ("cpu.cfs_period_us", PERIOD.to_string()),
            ("cpu.cfs_quota_us", quota(cores).to_string()),
        ],
    }
}

/// A worker at its limit must end, instead of slowing down all others by swapping.
fn no_swap(version: Version, limit: Limit) -> Option<(&'static str, String)> {
    match (version, limit) {
        (Version::V2, Limit::Memory(_)) => Some(("memory.swap.max", "0".to_owned())),
        (Version::V1, Limit::Memory(bytes)) => {
            Some(("memory.memsw.limit_in_bytes", bytes.to_string()))
        }
        (_, Limit::Cpu(_)) => None,
    }
}

/// Microseconds in each period.
fn quota(cores: f64) -> u64 {
    // What is no number becomes zero.
    let quota = (cores * PERIOD as f64).clamp(0.0, LONGEST_QUOTA as f64) as u64;
    quota.max(SHORTEST_QUOTA)
}

/// Unlike `fs::write`, makes no file: a group has those that the kernel knows.
fn write(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    let named = |error: io::Error| {
        let text = format!("{}: {error}", path.display());
        io::Error::new(error.kind(), text)
    };
    let mut file = OpenOptions::new().write(true).open(&path).map_err(named)?;
    file.write_all(value.as_bytes()).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/f00 /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const GROUPS: &str = "\
5:memory:/docker/f00/sub
3:cpuset:/
1:cpu,cpuacct:/user.slice
0::/user.slice/a:b
";

    fn own(version: Version, controller: &str) -> Option<PathBuf> {
        own_group(version, controller, GROUPS, MOUNTS)
    }

    #[test]
    fn the_own_group_is_found_in_every_kind_of_hierarchy() {
        let path = |path: &str| Some(PathBuf::from(path));
        let cpu = path("/sys/fs/cgroup/cpu,cpuacct/user.slice");
        assert_eq!(own(Version::V1, "cpu"), cpu);
        // What is mounted here is a group itself.
        let memory = path("/sys/fs/cgroup/memory/sub");
        assert_eq!(own(Version::V1, "memory"), memory);
        let unified = path("/sys/fs/cgroup/unified/user.slice/a:b");
        assert_eq!(own(Version::V2, "memory"), unified);
    }

    #[test]
    fn a_controller_that_is_not_mounted_is_not_found() {
        assert_eq!(own(Version::V1, "cpuset"), None);
        assert_eq!(own(Version::V1, "pids"), None);
        assert_eq!(own_group(Version::V2, "cpu", "1:cpu:/\n", MOUNTS), None);
        assert_eq!(own_group(Version::V2, "cpu", GROUPS, "nonsense"), None);
    }

    #[test]
    fn limits_of_one_hierarchy_are_set_in_one_group() {
        let one = |limit, base: &str| Hierarchy {
            version: Version::V2,
            limits: vec![limit],
            base: base.into(),
        };
        let (memory, cpu) = (Limit::Memory(1), Limit::Cpu(1.0));
        let apart = Hierarchy::join([one(memory, "/a"), one(cpu, "/b")]);
        assert_eq!(apart.len(), 2);
        let [both] = &Hierarchy::join([one(memory, "/a"), one(cpu, "/a")])[..] else {
            panic!("two groups of one hierarchy");
        };
        assert!(both.limits("memory") && both.limits("cpu"));
    }

    #[test]
    fn quotas_stay_within_what_the_kernel_takes() {
        assert_eq!(quota(1.5), 150_000);
        for nonsense in [0.0, -1.0, f64::NAN] {
            assert_eq!(quota(nonsense), SHORTEST_QUOTA);
        }
        assert_eq!(quota(f64::INFINITY), LONGEST_QUOTA);
    }

    #[test]
    fn a_limit_is_written_in_the_words_of_its_version() {
        let file = |name, value: &str| (name, value.to_owned());
        let cpu = Limit::Cpu(0.5);
        assert_eq!(
            settings(Version::V2, cpu),
            [file("cpu.max", "50000 100000")]
        );
        let quota = file("cpu.cfs_quota_us", "50000");
        assert!(settings(Version::V1, cpu).contains(&quota));
        let memory = Limit::Memory(64);
        assert_eq!(settings(Version::V2, memory), [file("memory.max", "64")]);
    }
}
