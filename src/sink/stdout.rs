//! Results as JSON lines on standard output. Whoever reads them may be slow, and may go.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

use super::file::Batch;
use super::outlets::ResultQueue;
use super::tally::Tally;

/// Standard output, past the buffer and the lock that the rest of a program shares.
///
/// # Errors
/// When it is closed.
pub(super) fn open() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Writes results until there are no more, or nobody takes them.
pub(super) fn write(mut out: impl Write, mut results: ResultQueue, tally: &Tally) {
    let mut batch = Batch::default();
    while batch.fill(&mut results) {
        if let Err(error) = out.write_all(&batch.bytes) {
            tally.set_up(false);
            tally.add_lost(batch.lines);
            let output = tally.name();
            tracing::warn!(output, %error, "nobody reads standard output: no more results go there");
            return results.give_up();
        }
        tally.add_written(batch.lines);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::queue::queue_counting;
    use super::super::result::tests::result;
    use super::*;

    #[test]
    fn a_reader_that_goes_ends_it() {
        let tally = Tally::new("stdout");
        let (sender, results) = queue_counting(8, tally.lost_counter());
        (0..3).for_each(|frame| sender.send(Arc::new(result(frame, &[]))));
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        write(writer, results, &tally);
        assert!(sender.is_left());
        assert_eq!(
            (tally.written(), tally.lost(), tally.is_up()),
            (0, 3, false)
        );
    }
}
