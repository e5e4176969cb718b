//! Connects to the nodes that the configuration names, again and again until each has answered once. From
//! then on the connection is kept, and those that these know are known here, too.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ekya_actors::Node;

use super::client::connect as connect_to;

/// Time between two tries, which doubles from the first to the second.
const TRY_EVERY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(8)];

/// The thread that connects.
pub(super) struct Seeds {
    stop: Sender<()>,
    /// It ends within a try; nobody waits for that.
    _thread: JoinHandle<()>,
}

impl Seeds {
    /// Begins to connect to each `host:port`.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn join(node: Node, seeds: Vec<String>) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let thread = std::thread::Builder::new().name("seeds".to_owned());
        let thread = thread.spawn(move || connect_all(&node, seeds, &stopped))?;
        Ok(Self {
            stop,
            _thread: thread,
        })
    }

    pub(super) fn stop(&self) {
        // Full: it has been told.
        let _ = self.stop.try_send(());
    }
}

fn connect_all(node: &Node, mut missing: Vec<String>, stopped: &Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return tracing::error!("no runtime; this node waits for others to find it");
    };
    let [mut pause, longest] = TRY_EVERY;
    let mut told = false;
    while !missing.is_empty() {
        missing.retain(|seed| {
            let connected = connect(node, seed, &runtime);
            if let Err(why) = &connected
                && !told
            {
                tracing::warn!(seed, why, "no connection yet; it is tried again and again");
            }
            connected.is_err()
        });
        told = true;
        if !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        pause = (pause * 2).min(longest);
    }
}

/// Connects to a node, unless the seed is this node itself.
fn connect(node: &Node, seed: &str, runtime: &tokio::runtime::Runtime) -> Result<(), String> {
    if seed == node.address() {
        return Ok(());
    }
    runtime.block_on(connect_to(node, seed)).map(drop)
}
