//! Measured profiles as CSV: what skipping frames costs, and how fast training is under a share.

use std::io::Read;

use thiserror::Error;

use crate::{InferenceOption, Share, Throughput, ThroughputError};

/// Rates offered between two measured ones.
const RATES_BETWEEN: u32 = 10;

/// Why a profile cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Not CSV, or not numbers.
    #[error("not a profile")]
    Csv(#[from] csv::Error),
    /// A column that is not there.
    #[error("no column {column:?}; there are {columns}")]
    NoColumn {
        /// The name asked for.
        column: String,
        /// Those that there are.
        columns: String,
    },
    /// A number that makes no sense.
    #[error("line {line}: {value}; {wanted}")]
    Value {
        /// Line of the file.
        line: u64,
        /// What it holds.
        value: String,
        /// What it has to be.
        wanted: &'static str,
    },
    /// There are no lines.
    #[error("the profile is empty")]
    Empty,
    /// The student needs no share, or more than there can be.
    #[error("a student that needs {0} of a device; it has to be above 0 and at most 4294")]
    StudentShare(f64),
    /// Points that are no throughput.
    #[error("not a throughput")]
    Throughput(#[from] ThroughputError),
}

/// Inference options from what answering every n-th frame only costs.
///
/// The first column is n, at least 1 and rising; the others are accuracy factors in 0..=1, of which
/// `column` names one (the first without). `student_share` answers every frame; every n-th needs an
/// n-th of that. Between two measured n, ten more are offered, with factors between: a stream that
/// skips two frames of five answers at a rate between every frame and every second.
///
/// # Errors
/// When it is not such a profile.
pub fn inference_from_csv(
    csv: impl Read,
    column: Option<&str>,
    student_share: f64,
) -> Result<Vec<InferenceOption>, ProfileError> {
    let possible = 0.0 < student_share && student_share <= 4294.0;
    if !possible {
        return Err(ProfileError::StudentShare(student_share));
    }
    let points = points(csv, column)?;
    let wanted = "every n-th frame, rising from at least 1, and a factor in 0..=1";
    let mut last = 0.0;
    for &(line, every, factor) in &points {
        let rises = every >= 1.0 && every > last && every.is_finite();
        if !(rises && (0.0..=1.0).contains(&factor)) {
            let value = format!("{every}, {factor}");
            return Err(ProfileError::Value {
                line,
                value,
                wanted,
            });
        }
        last = every;
    }
    let mut rates = Vec::new();
    for pair in points.windows(2) {
        for step in 0..RATES_BETWEEN {
            let part = f64::from(step) / f64::from(RATES_BETWEEN);
            let between = |from: f64, to: f64| from + part * (to - from);
            rates.push((between(pair[0].1, pair[1].1), between(pair[0].2, pair[1].2)));
        }
    }
    rates.extend(points.last().map(|&(_, every, factor)| (every, factor)));
    let option = |(every, accuracy_factor): (f64, f64)| InferenceOption {
        accuracy_factor,
        // Rounded up, so that the share suffices; at most 4294 devices, checked above.
        share: Share::from_micro((student_share * 1e6 / every).ceil() as u32),
    };
    Ok(rates.into_iter().map(option).collect())
}

/// Throughput from how long one job took under shares: percent of a device, and seconds.
///
/// # Errors
/// When it is not such a profile.
pub fn throughput_from_csv(csv: impl Read) -> Result<Throughput, ProfileError> {
    let wanted = "percent of a device, from 0 to 100000, and seconds above 0";
    let mut shares = Vec::new();
    for (line, percent, seconds) in points(csv, None)? {
        let share = Share::try_from(percent / 100.0);
        match share {
            Ok(share) if percent <= 100_000.0 && seconds > 0.0 && seconds.is_finite() => {
                shares.push((share, seconds));
            }
            _ => {
                let value = format!("{percent}, {seconds}");
                return Err(ProfileError::Value {
                    line,
                    value,
                    wanted,
                });
            }
        }
    }
    Ok(Throughput::measured(&shares)?)
}

/// Line, first column and one other.
fn points(csv: impl Read, column: Option<&str>) -> Result<Vec<(u64, f64, f64)>, ProfileError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(csv);
    let headers = reader.headers()?.clone();
    let index = match column {
        None => 1,
        Some(column) => headers
            .iter()
            .position(|header| header == column)
            .filter(|&index| index > 0)
            .ok_or_else(|| ProfileError::NoColumn {
                column: column.into(),
                columns: headers.iter().skip(1).collect::<Vec<_>>().join(", "),
            })?,
    };
    let mut points = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let number = |index: usize| {
            let text = record.get(index).unwrap_or_default();
            text.parse::<f64>().map_err(|_| ProfileError::Value {
                line,
                value: format!("{text:?}"),
                wanted: "it has to be a number",
            })
        };
        points.push((line, number(0)?, number(index)?));
    }
    if points.is_empty() {
        return Err(ProfileError::Empty);
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKIPPING: &str = "subsampling,c1,c2\n1,1,1\n2,0.8,0.7\n";

    #[test]
    fn rates_between_the_measured_are_offered() -> Result<(), ProfileError> {
        let options = inference_from_csv(SKIPPING.as_bytes(), Some("c2"), 0.25)?;
        assert_eq!(options.len(), 11);
        assert_eq!(options[0].share, Share::from_micro(250_000));
        assert!((options[5].accuracy_factor - 0.85).abs() < 1e-9);
        assert_eq!(options[5].share, Share::from_micro(166_667));
        assert_eq!(options[10].share, Share::from_micro(125_000));
        Ok(())
    }

    #[test]
    fn a_missing_column_is_named_with_those_there_are() {
        let error = inference_from_csv(SKIPPING.as_bytes(), Some("c9"), 0.25).err();
        let text = error.map(|error| error.to_string());
        assert_eq!(text.as_deref(), Some("no column \"c9\"; there are c1, c2"));
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for csv in [
            "",
            "a\n",
            "a,b\n",
            "a,b\n1,x\n",
            "a,b\n0,1\n",
            "a,b\n2,1\n1,1\n",
            "a,b\n1,1\ninf,0\n",
            "a,b\n1,2\n",
        ] {
            assert!(
                inference_from_csv(csv.as_bytes(), None, 0.25).is_err(),
                "{csv:?}"
            );
        }
        for csv in [
            "",
            "a,b\n",
            "a,b\n10,0\n",
            "a,b\n-1,5\n",
            "a,b\n20,5\n10,5\n",
        ] {
            assert!(throughput_from_csv(csv.as_bytes()).is_err(), "{csv:?}");
        }
        assert!(inference_from_csv(SKIPPING.as_bytes(), None, f64::NAN).is_err());
    }
}
