//! `ekya plan`: how many cameras fit on devices such as those of a finished run, and what one more costs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use ekya::capacity::{Capacity, Expected};
use ekya::record::{RecordError, RunRecord};
use indicatif::ProgressBar;
use serde::Serialize;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Question {
    /// Accuracy that is to be kept in the mean over cameras and time, 0 to 1.
    #[arg(long)]
    accuracy: Option<f64>,
    /// Devices like those of the run; absent: as many as it had.
    #[arg(long)]
    devices: Option<usize>,
    /// The most cameras to plan for; absent: twice those of the run for each of its devices, and with
    /// --accuracy as many as keep it.
    #[arg(long)]
    cameras: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Nobody asks for more.
const CAMERAS_MAX: usize = 256;

/// What `--json` prints.
#[derive(Serialize)]
struct Answer {
    /// Cameras and devices of the run, and the accuracy measured in it.
    run_cameras: usize,
    run_devices: usize,
    run_accuracy: f64,
    /// What was to be kept, and how many cameras keep it.
    asked_accuracy: Option<f64>,
    fit: Option<usize>,
    expected: Vec<Expected>,
}

/// Prints the answer.
///
/// # Errors
/// When the run cannot be read, or says nothing about it.
pub(crate) fn plan(run: &Path, question: &Question) -> Result<()> {
    if let Some(accuracy) = question.accuracy
        && !(0.0..=1.0).contains(&accuracy)
    {
        bail!("--accuracy is {accuracy}; it has to be between 0 and 1");
    }
    let record = read(run)?;
    let capacity = Capacity::of(&record).with_context(|| run.display().to_string())?;
    let answer = answer(&capacity, question)?;
    if question.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print!("{}", text(&answer));
    }
    Ok(())
}

/// The record in a folder of `run --out`.
///
/// # Errors
/// When there is none, or it is not one.
pub(crate) fn read(run: &Path) -> Result<RunRecord> {
    let file = run.join("run.json");
    RunRecord::read(&file).map_err(|error| {
        let what = match &error {
            RecordError::Read(_) => format!(
                "{}: not a folder that `ekya run --out` has written",
                run.display()
            ),
            _ => file.display().to_string(),
        };
        anyhow::Error::new(error).context(what)
    })
}

fn answer(capacity: &Capacity, question: &Question) -> Result<Answer> {
    let devices = question.devices.unwrap_or(capacity.devices());
    let usual = 2 * capacity.cameras() * devices.div_ceil(capacity.devices());
    let most = match (question.cameras, question.accuracy) {
        (Some(cameras), _) => cameras.min(CAMERAS_MAX),
        (None, Some(_)) => CAMERAS_MAX,
        (None, None) => usual,
    };
    let bar = ProgressBar::new_spinner();
    let mut expected: Vec<Expected> = Vec::new();
    let mut fit = question.accuracy.map(|_| 0);
    for cameras in 1..=most {
        bar.set_message(format!("planning for {cameras} cameras"));
        bar.tick();
        let next = capacity.expect(cameras, devices)?;
        expected.push(next);
        if let Some(accuracy) = question.accuracy {
            if next.accuracy >= accuracy {
                fit = Some(cameras);
            } else if question.cameras.is_none() && cameras > fit.unwrap_or(0) + 1 {
                // Two in a row that do not keep it.
                break;
            }
        }
    }
    bar.finish_and_clear();
    Ok(Answer {
        run_cameras: capacity.cameras(),
        run_devices: capacity.devices(),
        run_accuracy: capacity.measured(),
        asked_accuracy: question.accuracy,
        fit,
        expected,
    })
}

fn text(answer: &Answer) -> String {
    let devices = answer.expected.first().map_or(0, |one| one.devices);
    let mut text = format!(
        "the run: {} on {}, accuracy {:.3} measured\nexpected of cameras like those, on {}:\n\n\
         cameras  accuracy  least  one more costs  retrainings  labels\n",
        counted(answer.run_cameras, "camera"),
        counted(answer.run_devices, "device"),
        answer.run_accuracy,
        counted(devices, "device"),
    );
    for (index, one) in answer.expected.iter().enumerate() {
        let costs = answer.expected.get(index + 1);
        let costs = costs.map_or_else(
            || "-".to_owned(),
            |next| format!("{:.3}", one.accuracy - next.accuracy),
        );
        text += &format!(
            "{:>7}  {:>8.3}  {:>5.3}  {costs:>14}  {:>11.2}  {:>5.0}%{}\n",
            one.cameras,
            one.accuracy,
            one.least_accuracy,
            one.retrainings,
            one.overhead * 100.0,
            if one.overhead > 1.0 { "  late" } else { "" },
        );
    }
    text += "\nretrainings: a camera and window. labels: device time of labels and profiles, of what is set \
             aside for them.\n";
    if let (Some(accuracy), Some(fit)) = (answer.asked_accuracy, answer.fit) {
        text += &match fit {
            0 => format!("no number of cameras is expected to keep an accuracy of {accuracy}\n"),
            _ => format!(
                "{} at an accuracy of at least {accuracy}\n",
                counted(fit, "camera")
            ),
        };
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(cameras: usize, accuracy: f64) -> Expected {
        Expected {
            cameras,
            devices: 1,
            accuracy,
            least_accuracy: accuracy - 0.1,
            retrainings: 0.75,
            overhead: 0.6 * cameras as f64,
        }
    }

    #[test]
    fn the_table_says_what_one_more_costs_and_how_many_fit() {
        let answer = Answer {
            run_cameras: 1,
            run_devices: 1,
            run_accuracy: 0.87,
            asked_accuracy: Some(0.8),
            fit: Some(2),
            expected: vec![expected(1, 0.9), expected(2, 0.85), expected(3, 0.7)],
        };
        let text = text(&answer);
        assert!(text.starts_with("the run: 1 camera on 1 device, accuracy 0.870 measured\n"));
        let second = "      2     0.850  0.750           0.150         0.75    120%  late\n";
        assert!(text.contains(second), "{text}");
        assert!(text.ends_with("2 cameras at an accuracy of at least 0.8\n"));
    }
}
