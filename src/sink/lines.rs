//! A file of JSON lines, written by a thread of its own from a queue, to the first failure.
//!
//! A slow disk never slows inference: the queue loses its oldest, and counts them.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::Serialize;

use super::queue::{Receiver, Sender, queue};

/// Lines that may wait for a writer: about two seconds of ten cameras.
pub(crate) const QUEUE_LINES: usize = 1024;

/// Takes lines for a file.
#[derive(Debug)]
pub struct LineSink<L>(Arc<Sender<L>>);

impl<L> Clone for LineSink<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The writer of such a file.
#[derive(Debug)]
pub struct LineWriter(JoinHandle<io::Result<u64>>);

impl<L: Serialize + Send + 'static> LineSink<L> {
    /// A sink into a new file at `path`, and its writer.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> io::Result<(Self, LineWriter)> {
        let (sender, lines) = queue(QUEUE_LINES);
        let writer = LineWriter::start(path, lines)?;
        Ok((Self(Arc::new(sender)), writer))
    }

    /// Queues a line; never blocks.
    pub(crate) fn send(&self, line: L) {
        self.0.send(line);
    }
}

impl LineWriter {
    /// Writes what comes out of a queue into a new file at `path`.
    pub(crate) fn start<L: Serialize + Send + 'static>(
        path: &Path,
        lines: Receiver<L>,
    ) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        let thread = std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || write_lines(file, lines))?;
        Ok(Self(thread))
    }

    /// Waits until every queued line is written; the queue must be closed, or all sinks gone. Returns
    /// the lines lost.
    ///
    /// # Errors
    /// When writing failed; what came after the failure is lost, what came before is whole lines.
    pub fn finish(self) -> io::Result<u64> {
        let panicked = |_| Err(io::Error::other("the writer of a file of lines panicked"));
        self.0.join().unwrap_or_else(panicked)
    }
}

fn write_lines<L: Serialize>(file: File, mut lines: Receiver<L>) -> io::Result<u64> {
    let mut out = BufWriter::new(file);
    let result = write_all(&mut out, &mut lines);
    if result.is_err() {
        // What is still buffered would fail again: leave whole lines behind, and nothing more.
        let (mut file, _) = out.into_parts();
        cut_to_whole_lines(&mut file)?;
    }
    result.map(|()| lines.lost())
}

fn write_all<L: Serialize>(out: &mut impl Write, lines: &mut Receiver<L>) -> io::Result<()> {
    while let Some(line) = lines.recv() {
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
fn cut_to_whole_lines(file: &mut File) -> io::Result<()> {
    let end = end_of_whole_lines(file)?;
    file.set_len(end)
}

/// Where the last whole line ends.
pub(super) fn end_of_whole_lines(file: &mut File) -> io::Result<u64> {
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
    Ok(end)
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
