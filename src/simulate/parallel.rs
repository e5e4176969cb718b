//! Independent tasks on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The results of tasks, in their order. `tell` is called after each with how many are done.
pub(super) fn map<T: Sync, R: Send>(
    tasks: &[T],
    work: impl Fn(&T) -> R + Sync,
    tell: &(dyn Fn(usize) + Sync),
) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(tasks.len()));
    let run = || {
        while let Some(task) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            tasks.get(index).map(|task| (index, task))
        } {
            let result = work(task.1);
            results.lock().push((task.0, result));
            tell(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..cores.min(tasks.len()) {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results.into_inner();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_their_tasks() {
        let tasks: Vec<usize> = (0..100).collect();
        let most = AtomicUsize::new(0);
        let tell = |done| {
            most.fetch_max(done, Ordering::Relaxed);
        };
        let doubled = map(&tasks, |task| task * 2, &tell);
        assert_eq!(
            doubled,
            tasks.iter().map(|task| task * 2).collect::<Vec<_>>()
        );
        assert_eq!(most.into_inner(), 100);
        assert!(map(&[], |task: &usize| *task, &|_| {}).is_empty());
    }
}
