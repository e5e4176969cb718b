//! Which processes there are, for tests of worker processes.

use nix::unistd::Pid;

/// Processes that `of` has started and that are not waited for yet.
pub(crate) fn children(of: u32) -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{of}/task")) else {
        return Vec::new();
    };
    let tasks = tasks.filter_map(Result::ok);
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let text: Vec<String> = lists.collect();
    let pids = text.iter().flat_map(|list| list.split_whitespace());
    pids.filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect()
}
