//! Schedulers by their names, for command lines and configurations.

use thiserror::Error;

use crate::{
    Cloud, Fixed, FixedConfig, FixedRes, Likeness, NoRetraining, Optimal, Reuse, Scheduler,
    Stealing, Thief, Uniform,
};

/// The names that [`scheduler_by_name`] knows, for people.
pub const SCHEDULER_NAMES: &str = "thief, thief:literal, optimal, none, uniform:FRACTION:OPTION, \
     fixed-res[:FRACTION], fixed-config:OPTION, cloud:UP:DOWN[:UPLOAD:DOWNLOAD], reuse:LIKENESS";

/// A name that no scheduler has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no scheduler {name:?}; there are {SCHEDULER_NAMES}")]
pub struct SchedulerNameError {
    /// What was given.
    pub name: String,
}

/// The scheduler of a name, as [`Scheduler::name`] gives it.
///
/// `FRACTION` is the part of a device that is for inference, `OPTION` the index of a retraining
/// option or, for `uniform`, `best` for each stream's most accurate. `UP` and `DOWN` are megabits a
/// second, `UPLOAD` and `DOWNLOAD` megabits a stream; `LIKENESS` is `classes`, `hour`, `objects` or
/// `location`.
///
/// # Errors
/// When there is no such scheduler.
pub fn scheduler_by_name(
    name: &str,
) -> Result<Box<dyn Scheduler + Send + Sync>, SchedulerNameError> {
    parse(name).ok_or_else(|| SchedulerNameError { name: name.into() })
}

fn parse(name: &str) -> Option<Box<dyn Scheduler + Send + Sync>> {
    let parts: Vec<&str> = name.split(':').collect();
    Some(match parts[..] {
        ["thief"] => Box::new(Thief::default()),
        ["thief", "literal"] => Box::new(Thief {
            stealing: Stealing::Literal,
        }),
        ["optimal"] => Box::new(Optimal),
        ["none"] => Box::new(NoRetraining),
        ["uniform", fraction, option] => Box::new(Uniform {
            inference_fraction: fraction.parse().ok()?,
            retraining: match option {
                "best" => Fixed::MostAccurate,
                option => Fixed::Option(option.parse().ok()?),
            },
        }),
        ["fixed-res"] => Box::new(FixedRes {
            inference_fraction: 0.5,
        }),
        ["fixed-res", fraction] => Box::new(FixedRes {
            inference_fraction: fraction.parse().ok()?,
        }),
        ["fixed-config", option] => Box::new(FixedConfig {
            retraining: option.parse().ok()?,
        }),
        ["cloud", up, down] => Box::new(Cloud::over(up.parse().ok()?, down.parse().ok()?)),
        ["cloud", up, down, upload, download] => Box::new(Cloud {
            up: up.parse().ok()?,
            down: down.parse().ok()?,
            upload: upload.parse().ok()?,
            download: download.parse().ok()?,
        }),
        ["reuse", by] => Box::new(Reuse {
            by: match by {
                "classes" => Likeness::Classes,
                "hour" => Likeness::Hour,
                "objects" => Likeness::Objects,
                "location" => Likeness::Location,
                _ => return None,
            },
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_their_own() {
        for name in [
            "thief",
            "thief:literal",
            "optimal",
            "none",
            "uniform:0.5:3",
            "uniform:0.5:best",
            "fixed-res:0.5",
            "fixed-config:2",
            "cloud:5.1:17.5",
            "cloud:5.1:17.5:80:398",
            "reuse:hour",
        ] {
            let found = scheduler_by_name(name).map(|scheduler| scheduler.name());
            assert_eq!(found.as_deref(), Ok(name));
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_there_are() {
        for name in [
            "",
            "theif",
            "uniform",
            "uniform:a:1",
            "uniform:0.5:-1",
            "cloud:1",
        ] {
            let error = scheduler_by_name(name).err().map(|error| error.to_string());
            assert!(
                error.is_some_and(|text| text.contains("fixed-res")),
                "{name}"
            );
        }
    }
}
