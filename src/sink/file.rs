//! Results into a file of JSON lines. While the disk is full, or whatever else is wrong with it, lines wait;
//! when more wait than may, the oldest are lost and counted, and it goes on when it can.

use std::time::Duration;

use super::outlets::ResultQueue;
use super::rotation::RotatingFile;
use super::tally::Tally;
use crate::write::advice;

/// Lines are written together up to so many bytes.
pub(super) const BATCH_BYTES: usize = 32 << 10;
/// Pause before writing is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Lines that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

impl Batch {
    /// Waits for results, and takes as many as there are and fit; none after the end.
    pub(super) fn fill(&mut self, results: &mut ResultQueue) -> bool {
        self.bytes.clear();
        self.lines = 0;
        while let Some(result) = results.recv() {
            result.write_line(&mut self.bytes);
            self.lines += 1;
            if results.is_empty() || self.bytes.len() >= BATCH_BYTES {
                return true;
            }
        }
        self.lines > 0
    }
}

/// Writes results until there are no more.
pub(super) fn write(mut file: RotatingFile, mut results: ResultQueue, tally: &Tally) {
    let mut batch = Batch::default();
    while batch.fill(&mut results) {
        if !append(&mut file, &batch, &results, tally) {
            tally.add_lost(batch.lines);
            return results.give_up();
        }
    }
}

/// Writes a batch, as soon as that can be done; not at all if the end comes first.
fn append(file: &mut RotatingFile, batch: &Batch, results: &ResultQueue, tally: &Tally) -> bool {
    let output = tally.name();
    while let Err(error) = file.append(&batch.bytes) {
        if tally.set_up(false) {
            let (path, advice) = (file.path().display(), advice(&error));
            tracing::error!(output, %path, "cannot write results, the oldest will be lost: {error}{advice}");
        }
        if results.is_closed_within(AGAIN_AFTER) {
            return false;
        }
    }
    tally.add_written(batch.lines);
    if tally.set_up(true) {
        tracing::info!(output, lost = tally.lost(), "results are written again");
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::super::queue::queue_counting;
    use super::super::result::tests::result;
    use super::*;
    use crate::config::FileOutputConfig;

    #[test]
    fn on_a_full_disk_the_oldest_are_lost_and_it_goes_on_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        symlink("/dev/full", &path).unwrap();
        let config = FileOutputConfig {
            path: path.clone(),
            rotate_bytes: 1 << 20,
            keep: 1,
        };
        let file = RotatingFile::open(&config).unwrap();
        let tally = Tally::new("file");
        let (sender, results) = queue_counting(4, tally.lost_counter());
        let send = |frame| sender.send(Arc::new(result(frame, &["car"])));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(file, results, &tally));
            send(0);
            // It has tried, in vain.
            while tally.is_up() {
                std::thread::yield_now();
            }
            (1..=10).for_each(send);
            fs::remove_file(&path).unwrap();
            while tally.written() < 5 {
                std::thread::yield_now();
            }
            sender.close();
            writer.join().unwrap();
        });
        let text = fs::read_to_string(&path).unwrap();
        let frame = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["frame"].as_u64().unwrap()
        };
        let frames: Vec<u64> = text.lines().map(frame).collect();
        assert_eq!(frames, [0, 7, 8, 9, 10]);
        assert_eq!((tally.written(), tally.lost(), tally.is_up()), (5, 6, true));
    }

    #[test]
    fn what_cannot_be_written_until_the_end_is_lost() {
        let config = FileOutputConfig {
            path: "/dev/full".into(),
            rotate_bytes: 1 << 20,
            keep: 1,
        };
        let file = RotatingFile::open(&config).unwrap();
        let tally = Tally::new("file");
        let (sender, results) = queue_counting(4, tally.lost_counter());
        (0..3).for_each(|frame| sender.send(Arc::new(result(frame, &[]))));
        sender.close();
        write(file, results, &tally);
        assert_eq!((tally.written(), tally.lost()), (0, 3));
    }
}
