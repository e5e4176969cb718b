//! A node that runs beside the program.

use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

use super::options::RunOptions;
use super::run::{NodeError, Run};
use crate::config::ValidConfig;
use crate::record::RunRecord;
use crate::source::StopFlag;

/// Configurations that may wait while the node takes one.
const RELOADS_MAX: usize = 8;

/// A node that runs on threads of its own, from [`start`]. When this is dropped, the node is asked to end
/// and not waited for, and its record is lost.
#[derive(Debug)]
pub struct RunningNode {
    stop: StopFlag,
    reloads: Sender<ValidConfig>,
    /// Until it is waited for.
    thread: Option<JoinHandle<Result<RunRecord, NodeError>>>,
}

/// Starts a node and returns as soon as its streams run. What [`run`](super::run) does is the same, on the
/// calling thread.
///
/// # Errors
/// [`NodeError`] of a node that cannot begin.
pub fn start(config: &ValidConfig, options: RunOptions) -> Result<RunningNode, NodeError> {
    let (config, stop) = (config.clone(), options.stop.clone());
    let (reload, reloads) = bounded(RELOADS_MAX);
    let options = options.reloads(reloads);
    let (begun, has_begun) = bounded(1);
    let task = move || {
        let run = Run::begin(&config, options)?;
        // Whoever started it waits for this.
        let _ = begun.send(());
        run.finish()
    };
    let thread = std::thread::Builder::new().name("node".to_owned());
    let thread = thread.spawn(task).map_err(|error| NodeError::Start {
        reason: format!("no thread: {error}"),
    })?;
    let node = RunningNode {
        stop,
        reloads: reload,
        thread: Some(thread),
    };
    match has_begun.recv() {
        Ok(()) => Ok(node),
        // It has ended already, and says why.
        Err(_) => node.wait().and(Err(NodeError::SchedulerDied)),
    }
}

impl RunningNode {
    /// Whether it has ended: its windows are over, its streams have, or something has failed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Has another configuration take the place of the one that runs. Streams that are new in it come,
    /// those that it does not name go, and those that it changes begin anew, from what the state folder
    /// keeps; the others notice nothing. Whatever else it changes needs a restart, which the log says, as it
    /// says what of it cannot be done. Nothing happens to a node that is over.
    pub fn reload(&self, config: ValidConfig) {
        // There is nobody to take it once the node is over.
        let _ = self.reloads.send(config);
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// [`NodeError`], as from [`run`](super::run).
    ///
    /// # Panics
    /// If the node has, which is a bug of it or of what the program brings along.
    pub fn wait(mut self) -> Result<RunRecord, NodeError> {
        let ended = self.thread.take().map(JoinHandle::join);
        match ended.expect("nothing else takes the thread") {
            Ok(record) => record,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Ends it now; the record is that of what there was.
    ///
    /// # Errors
    /// [`NodeError`], as from [`run`](super::run).
    ///
    /// # Panics
    /// As [`RunningNode::wait`].
    pub fn stop(self) -> Result<RunRecord, NodeError> {
        self.stop.set();
        self.wait()
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop.set();
        }
    }
}
