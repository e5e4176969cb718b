//! `ekya checkpoints` and `ekya erase`: what is in a state folder, and out of it again.

use std::path::Path;

use anyhow::Result;
use ekya::keep::{self, Erasure, Saw, StateFolder, StreamFolder, Verdict};
use ekya_models::{Checkpoint, CheckpointStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The checkpoints of all streams, for people.
///
/// # Errors
/// When `state` is no state folder or cannot be read.
pub(crate) fn checkpoints(state: &Path) -> Result<()> {
    println!(
        "{:<16} {:>6}  {:<20} {:<12} {:>9} {:>8} {:>7}  {:<12} file",
        "stream", "number", "written", "network", "accuracy", "held out", "frames", "weights"
    );
    for stream in keep::streams(state)? {
        for line in lines(state, &stream)? {
            println!("{line}");
        }
    }
    println!(
        "(accuracy: %, on the held-out frames; frames: labelled ones, in the last retraining)"
    );
    Ok(())
}

/// A line for each checkpoint of a stream, newest first.
fn lines(state: &Path, stream: &str) -> Result<Vec<String>> {
    let folder = StreamFolder::of(state, stream).checkpoints;
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let store = CheckpointStore::open(&folder, usize::MAX)?;
    let listing = store.list()?;
    let whole = listing.checkpoints.iter().map(|one| {
        let verified = store.verify(one).map_err(|error| error.to_string());
        (one.manifest.sequence, line(stream, one, verified))
    });
    let unusable = listing.unusable.iter().map(|one| {
        let (number, path, reason) = (one.sequence, one.path.display(), &one.reason);
        let line = format!("{stream:<16} {number:>6}  not a checkpoint: {path}: {reason}");
        (number, line)
    });
    let mut lines: Vec<(u64, String)> = whole.chain(unusable).collect();
    lines.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

fn line(stream: &str, checkpoint: &Checkpoint, verified: Result<(), String>) -> String {
    let provenance = &checkpoint.manifest.provenance;
    format!(
        "{:<16} {:>6}  {:<20} {:<12} {:>9.1} {:>8} {:>7}  {:<12} {}",
        stream,
        checkpoint.manifest.sequence,
        date(provenance.written_at),
        provenance.network,
        provenance.accuracy * 100.0,
        provenance.held_out,
        provenance.trained_on.frames,
        verified.map_or("damaged", |()| "whole"),
        checkpoint.weights.display()
    )
}

/// Erases a stream's frames, and says which checkpoints have learnt from them.
///
/// # Errors
/// When a node is running on `state`, or nothing is kept of the stream.
pub(crate) fn erase(
    state: &Path,
    stream: &str,
    before: Option<Time>,
    checkpoints: bool,
) -> Result<()> {
    let state = StateFolder::take(state)?;
    let before = before.map(|Time(seconds)| seconds);
    let erasure = keep::erase(&state, stream, before, checkpoints)?;
    print!("{}", describe(stream, &erasure, checkpoints));
    Ok(())
}

fn describe(stream: &str, erasure: &Erasure, removed: bool) -> String {
    let Erasure { frames, bytes, saw } = erasure;
    let mut text = format!("{stream}: {frames} frames erased, {bytes} bytes\n");
    if saw.is_empty() {
        return text + "no checkpoint that is kept has learnt from frames of that time\n";
    }
    text += if removed {
        "these checkpoints had learnt from frames of that time and are removed too:\n"
    } else {
        "these checkpoints have learnt from frames of that time; --checkpoints removes them too:\n"
    };
    for one in saw {
        text += &saw_line(one);
    }
    text
}

fn saw_line(saw: &Saw) -> String {
    let what = match saw.verdict {
        Verdict::Frames(frames) => format!("{frames} frames"),
        Verdict::Unknown => "perhaps: its list of frames is not complete".to_owned(),
    };
    let (stream, number, weights) = (&saw.stream, saw.sequence, saw.weights.display());
    format!("  {stream} {number}: {what}: {weights}\n")
}

/// A moment, as a user writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(u64);

impl std::str::FromStr for Time {
    type Err = String;

    /// A date, a date with a time, or Unix seconds.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse() {
            return Ok(Self(seconds));
        }
        let midnight = format!("{text}T00:00:00Z");
        let parsed = [text, &midnight]
            .into_iter()
            .find_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        parsed
            .and_then(|moment| u64::try_from(moment.unix_timestamp()).ok())
            .map(Self)
            .ok_or_else(|| {
                "expected a date (2026-01-31), a time (2026-01-31T12:00:00Z) or Unix seconds, 1970 or later".to_owned()
            })
    }
}

/// Unix seconds as a date with a time, in UTC.
fn date(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok();
    let moment = moment.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn moments_are_read_in_every_spelling() {
        for text in [
            "86400",
            "1970-01-02",
            "1970-01-02T00:00:00Z",
            "1970-01-02T02:00:00+02:00",
        ] {
            assert_eq!(text.parse(), Ok(Time(86_400)), "{text}");
        }
        for wrong in ["", "yesterday", "-1", "1969-12-31", "1970-13-01"] {
            let refused = wrong.parse::<Time>().unwrap_err();
            assert!(refused.contains("2026-01-31"), "{wrong}: {refused}");
        }
        assert_eq!(date(86_400), "1970-01-02T00:00:00Z");
        assert_eq!(date(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn an_erasure_says_what_else_has_learnt() {
        let mut erasure = Erasure {
            frames: 2,
            bytes: 99,
            saw: Vec::new(),
        };
        let text = describe("gate", &erasure, false);
        assert!(text.contains("2 frames erased, 99 bytes") && text.contains("no checkpoint"));
        erasure.saw = [Verdict::Frames(5), Verdict::Unknown]
            .map(|verdict| Saw {
                stream: "gate".to_owned(),
                sequence: 7,
                weights: PathBuf::from("state/7.safetensors"),
                verdict,
            })
            .to_vec();
        let text = describe("gate", &erasure, false);
        assert!(
            text.contains("gate 7: 5 frames: state/7.safetensors"),
            "{text}"
        );
        assert!(
            text.contains("perhaps") && text.contains("--checkpoints"),
            "{text}"
        );
        assert!(describe("gate", &erasure, true).contains("are removed too"));
    }
}
