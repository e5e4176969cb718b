//! The outputs that a configuration names: each is a queue and a thread that empties it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use thiserror::Error;

use super::lines::QUEUE_LINES;
use super::mqtt::Mqtt;
use super::outlets::{Outlets, Streams};
use super::rotation::RotatingFile;
use super::socket::Socket;
use super::tally::Tally;
use super::{file, stdout};
use crate::config::{OutputConfig, OutputTo};
use crate::write::advice;

/// Time for all outputs to get rid of what waits when a node ends: readers may be slow, brokers away.
const END_WITHIN: Duration = Duration::from_secs(3);

/// Why results cannot go where they should.
#[derive(Debug, Error)]
#[error("output '{output}': {what}: {reason}")]
pub struct OutputError {
    /// Name of the output.
    pub output: String,
    /// What cannot be used.
    pub what: String,
    /// Why, and what to do.
    pub reason: String,
}

/// Outputs that run. Dropped, they end: the outlets must be closed then.
pub(crate) struct Outputs(Vec<Output>);

struct Output {
    tally: Arc<Tally>,
    /// Is disconnected when the thread has ended.
    ended: Receiver<Infallible>,
}

impl Outputs {
    /// Opens all outputs and starts to write what comes out of the outlets.
    ///
    /// # Errors
    /// [`OutputError`] for the first that cannot be opened. A broker may come later.
    pub(crate) fn start(
        configs: &[OutputConfig],
        outlets: &mut Outlets,
    ) -> Result<Self, OutputError> {
        let start = |config| Output::start(config, outlets);
        let outputs = configs.iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self(outputs))
    }
}

impl Output {
    fn start(config: &OutputConfig, outlets: &mut Outlets) -> Result<Self, OutputError> {
        let name = config.name();
        let failed = |what: String, error: &io::Error| OutputError {
            output: name.to_owned(),
            what,
            reason: format!("{error}{}", advice(error)),
        };
        let streams = config.streams.clone().map_or(Streams::All, Streams::Named);
        let (results, tally) = outlets.add_output(name, streams, QUEUE_LINES);
        let counts = Arc::clone(&tally);
        let work: Box<dyn FnOnce() + Send> = match &config.to {
            OutputTo::File(config) => {
                let opened = RotatingFile::open(config);
                let path = || config.path.display().to_string();
                let file = opened.map_err(|error| failed(path(), &error))?;
                Box::new(move || file::write(file, results, &counts))
            }
            OutputTo::Stdout => {
                let out = stdout::open();
                let out = out.map_err(|error| failed("standard output".to_owned(), &error))?;
                Box::new(move || stdout::write(out, results, &counts))
            }
            OutputTo::Socket(config) => {
                let opened = Socket::open(&config.path);
                let path = || config.path.display().to_string();
                let socket = opened.map_err(|error| failed(path(), &error))?;
                Box::new(move || socket.write(results, counts))
            }
            OutputTo::Mqtt(config) => {
                let mqtt = Mqtt::open(config).map_err(|(what, reason)| OutputError {
                    output: name.to_owned(),
                    what,
                    reason,
                })?;
                Box::new(move || mqtt.write(results, counts))
            }
        };
        let (running, ended) = bounded(0);
        let thread = std::thread::Builder::new().name(format!("output-{name}"));
        let spawned = thread.spawn(move || {
            work();
            drop(running);
        });
        spawned.map_err(|error| failed("no thread".to_owned(), &error))?;
        Ok(Self { tally, ended })
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        let until = Instant::now() + END_WITHIN;
        for Output { tally, ended } in &self.0 {
            let output = tally.name();
            if let Err(RecvTimeoutError::Timeout) = ended.recv_deadline(until) {
                tracing::warn!(output, "the last results are not taken: they are lost");
            }
            let (written, lost) = (tally.written(), tally.lost());
            if lost > 0 {
                tracing::warn!(
                    output,
                    written,
                    lost,
                    "results were lost: they were not taken in time"
                );
            }
        }
    }
}
