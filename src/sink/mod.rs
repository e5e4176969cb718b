//! Results out: JSON lines, each file written by a thread of its own. `results.jsonl` has a line a
//! frame, `labelled.jsonl` a line a frame that the teacher has labelled.
//!
//! A slow disk never slows inference: the queue to a writer is bounded, and lines that do not fit
//! are left out and counted.

mod labelled;
mod result;

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::Serialize;

pub use labelled::{LabelledLine, NamedObject};
pub use result::ResultLine;

/// Lines that may wait for the writer: about two seconds of ten cameras.
const QUEUE_LINES: usize = 1024;

/// Takes lines for a file.
#[derive(Debug)]
pub struct LineSink<L> {
    lines: Sender<L>,
    lost: Arc<AtomicU64>,
}

impl<L> Clone for LineSink<L> {
    fn clone(&self) -> Self {
        Self {
            lines: self.lines.clone(),
            lost: self.lost.clone(),
        }
    }
}

/// The writer of such a file.
#[derive(Debug)]
pub struct LineWriter {
    thread: JoinHandle<std::io::Result<()>>,
    lost: Arc<AtomicU64>,
}

impl<L: Serialize + Send + 'static> LineSink<L> {
    /// A sink into a new file at `path`, and its writer.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> std::io::Result<(Self, LineWriter)> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        let (lines, received) = bounded(QUEUE_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let thread = std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || write_lines(file, &received))?;
        Ok((
            Self {
                lines,
                lost: lost.clone(),
            },
            LineWriter { thread, lost },
        ))
    }

    /// Queues a line; never blocks.
    pub(crate) fn send(&self, line: L) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.lines.try_send(line)
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_lines<L: Serialize>(file: File, lines: &Receiver<L>) -> std::io::Result<()> {
    let mut out = BufWriter::new(file);
    let result = write_all(&mut out, lines);
    if result.is_err() {
        // What is still buffered would fail again: leave whole lines behind, and nothing more.
        let (mut file, _) = out.into_parts();
        cut_to_whole_lines(&mut file)?;
    }
    result
}

fn write_all<L: Serialize>(out: &mut BufWriter<File>, lines: &Receiver<L>) -> std::io::Result<()> {
    for line in lines {
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        if lines.is_empty() {
            // Whoever reads along sees it.
            out.flush()?;
        }
    }
    out.flush()
}

/// Cuts off what follows the last line feed: the beginning of a line that a full disk cut short.
fn cut_to_whole_lines(file: &mut File) -> std::io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut byte = [0];
    while end > 0 {
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut byte)?;
        if byte == *b"\n" {
            break;
        }
        end -= 1;
    }
    file.set_len(end)
}

impl LineWriter {
    /// Waits until every queued line is written; all sinks must be gone. Returns the lines lost.
    ///
    /// # Errors
    /// When writing failed; what came after the failure is lost, what came before is whole lines.
    pub fn finish(self) -> std::io::Result<u64> {
        match self.thread.join() {
            Ok(result) => result.map(|()| self.lost.load(Ordering::Relaxed)),
            Err(_) => Err(std::io::Error::other(
                "the writer of a file of lines panicked",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_short_is_taken_back() {
        let mut file = tempfile::tempfile().unwrap();
        for (text, expected) in [("one\ntwo\nthr", 8), ("one\n", 4), ("on", 0), ("", 0)] {
            file.set_len(0).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            cut_to_whole_lines(&mut file).unwrap();
            assert_eq!(file.metadata().unwrap().len(), expected, "{text:?}");
        }
    }
}
