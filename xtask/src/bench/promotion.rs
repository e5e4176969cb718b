//! The bench of promotions, `benches/promotion/`: runs it and counts, in what it measured, right and
//! wrong promotions and what swaps add to latencies.
//!
//! With `EKYA_DATA`, streams of the traffic crops are among those that are retrained.

use std::collections::BTreeSet;
use std::ffi::OsString;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::figures::figures;
use super::profiler::crops;
use super::row::Row;

/// A student that is truly so much better, in accuracy, is to be promoted.
const CLEARLY_BETTER: f64 = 0.02;
/// Percentages of wrong promotions among all retrainings, at most, and of promotions among those of
/// students that are clearly better, at least.
const WRONG_TARGET: f64 = 2.0;
const KEPT_TARGET: f64 = 80.0;
/// 99th percentile of latencies with swaps over that without, at most.
const LATENCY_TARGET: f64 = 1.2;
/// The kind of the retrainings with nothing wrong.
const SOUND: &str = "sound";
/// Where the bench leaves its chart.
const OUT: &str = "out/bench";

/// Measures promotions.
///
/// # Errors
/// When the bench does not build or run, or prints what cannot be read.
pub(super) fn rows(quick: bool) -> Result<Vec<Row>> {
    let mut arguments: Vec<OsString> = ["--out", OUT].map(Into::into).into();
    if quick {
        arguments.push("--quick".into());
    } else if let Some(crops) = crops()? {
        arguments.extend(["--crops".into(), crops.into_os_string()]);
    } else {
        eprintln!("EKYA_DATA is not set: without the real traffic crops");
    }
    let figures = figures("promotion", &arguments)?;
    let document: Document =
        serde_json::from_value(figures).context("what the bench promotion printed")?;
    eprintln!("{OUT}/promotion.svg: measured gains against true ones");
    let mut rows = gate_rows(&document.retrainings);
    rows.extend(swap_rows(&document.swaps));
    Ok(rows)
}

/// What the bench prints; it has more fields.
#[derive(Deserialize)]
struct Document {
    retrainings: Vec<Retraining>,
    swaps: Swaps,
}

#[derive(Debug, Clone, Deserialize)]
struct Retraining {
    kind: String,
    promoted: bool,
    /// None where the training failed.
    truth: Option<Gain>,
    /// A class truly lost more than it may.
    loses_class: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Gain {
    mean: f64,
    sd: f64,
}

#[derive(Deserialize)]
struct Swaps {
    without_ms: Vec<f64>,
    with_ms: Vec<f64>,
    dropped_without: u64,
    dropped_with: u64,
    swaps: u64,
}

impl Retraining {
    /// What it gains when it serves.
    fn gain(&self) -> f64 {
        self.truth.map_or(0.0, |truth| truth.mean)
    }

    /// Promoted, and worse by more than the truth itself is uncertain.
    fn is_wrong(&self) -> bool {
        self.promoted && self.truth.is_some_and(|truth| truth.mean < -truth.sd)
    }

    fn is_at_all_worse(&self) -> bool {
        self.promoted && self.gain() < 0.0
    }

    fn is_clearly_better(&self) -> bool {
        self.gain() >= CLEARLY_BETTER
    }
}

/// How right the gate is, of all retrainings and by kind, and what that gains.
fn gate_rows(all: &[Retraining]) -> Vec<Row> {
    let clearly: Vec<Retraining> = those(all, Retraining::is_clearly_better);
    // Of these, the gate is to refuse those that lose a class: so many are left.
    let whole: Vec<Retraining> = those(&clearly, |one| !one.loses_class);
    let mut rows = vec![
        count("retrainings", all.len()),
        percent("wrong_promotions", all, Retraining::is_wrong).at_most(WRONG_TARGET),
        percent("promotions_at_all_worse", all, Retraining::is_at_all_worse),
        count("clearly_better", clearly.len()),
        percent("clearly_better_promoted", &clearly, |one| one.promoted).at_least(KEPT_TARGET),
        count("clearly_better_that_lose_no_class", whole.len()),
        percent(
            "clearly_better_that_lose_no_class_promoted",
            &whole,
            |one| one.promoted,
        ),
        percent("promotions_that_lose_a_class", all, |one| {
            one.promoted && one.loses_class
        }),
    ];
    let kinds: BTreeSet<&str> = all.iter().map(|one| one.kind.as_str()).collect();
    for kind in kinds {
        let of = those(all, |one| one.kind == kind);
        rows.push(count(&format!("{kind}_retrainings"), of.len()));
        rows.push(percent(&format!("{kind}_promoted"), &of, |one| {
            one.promoted
        }));
        rows.push(percent(&format!("{kind}_wrong"), &of, Retraining::is_wrong));
    }
    rows.extend(gain_rows(&those(all, |one| one.kind == SOUND)));
    rows
}

/// What retrainings with nothing wrong gain in the mean, each by itself, behind this gate, behind
/// none, and behind one that knows the truth.
fn gain_rows(sound: &[Retraining]) -> [Row; 3] {
    let mean = |gain: fn(&Retraining) -> f64| {
        sound.iter().map(gain).sum::<f64>() / sound.len() as f64 * 100.0
    };
    let ungated = mean(Retraining::gain);
    let gated = mean(|one| if one.promoted { one.gain() } else { 0.0 });
    let unerring = mean(|one| one.gain().max(0.0));
    [
        ("mean_gain", gated),
        ("mean_gain_without_gate", ungated),
        ("mean_gain_of_a_gate_that_never_errs", unerring),
    ]
    .map(|(name, points)| Row::new(name.into(), points, "points"))
}

fn those(all: &[Retraining], of: impl Fn(&Retraining) -> bool) -> Vec<Retraining> {
    all.iter().filter(|one| of(one)).cloned().collect()
}

fn count(name: &str, count: usize) -> Row {
    Row::new(name.into(), count as f64, "retrainings")
}

/// No number, and so no target met, where there is none.
fn percent(name: &str, all: &[Retraining], of: impl Fn(&Retraining) -> bool) -> Row {
    let part = all.iter().filter(|one| of(one)).count() as f64 / all.len() as f64;
    Row::new(name.into(), part * 100.0, "%")
}

fn swap_rows(swaps: &Swaps) -> Vec<Row> {
    let latency = |name: &str, part: f64| {
        let [with, without] = [&swaps.with_ms, &swaps.without_ms].map(|all| quantile(all, part));
        (
            with / without,
            Row::new(name.into(), with, "ms").against("without swaps", without),
        )
    };
    let (_, median) = latency("latency_with_swaps_p50", 0.5);
    let (ratio, late) = latency("latency_with_swaps_p99", 0.99);
    vec![
        Row::new("swaps".into(), swaps.swaps as f64, "swaps"),
        median,
        late,
        Row::new("latency_p99_with_over_without".into(), ratio, "times").at_most(LATENCY_TARGET),
        Row::new(
            "dropped_with_swaps".into(),
            swaps.dropped_with as f64,
            "frames",
        )
        .against("without swaps", swaps.dropped_without as f64)
        .at_most(0.0),
    ]
}

/// The smallest of the values that are at least as large as this part of them.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * part).ceil().max(1.0) as usize;
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retraining(kind: &str, promoted: bool, mean: f64) -> Retraining {
        Retraining {
            kind: kind.into(),
            promoted,
            truth: Some(Gain { mean, sd: 0.01 }),
            loses_class: false,
        }
    }

    #[test]
    fn right_and_wrong_promotions_are_counted() {
        let all = [
            retraining(SOUND, true, 0.03),
            retraining(SOUND, true, -0.005),
            retraining(SOUND, false, 0.05),
            retraining("class_missing", true, -0.2),
            retraining("class_missing", false, -0.2),
        ];
        let rows = gate_rows(&all);
        for row in [
            Row::new("wrong_promotions".into(), 20.0, "%").at_most(2.0),
            Row::new("promotions_at_all_worse".into(), 40.0, "%"),
            Row::new("clearly_better_promoted".into(), 50.0, "%").at_least(80.0),
            Row::new("class_missing_wrong".into(), 50.0, "%"),
            Row::new("sound_wrong".into(), 0.0, "%"),
        ] {
            assert!(rows.contains(&row), "{row:?} in {rows:?}");
        }
    }

    #[test]
    fn gains_are_compared_with_those_of_no_gate_and_of_one_that_never_errs() {
        let sound = [
            retraining(SOUND, true, 0.5),
            retraining(SOUND, true, -0.25),
            retraining(SOUND, false, -0.5),
            retraining(SOUND, false, 0.25),
        ];
        let values = gain_rows(&sound);
        let row = |name: &str, points| Row::new(name.into(), points, "points");
        assert_eq!(values[0], row("mean_gain", 6.25));
        assert_eq!(values[1], row("mean_gain_without_gate", 0.0));
        assert_eq!(values[2], row("mean_gain_of_a_gate_that_never_errs", 18.75));
    }

    #[test]
    fn a_training_that_failed_is_no_promotion() {
        let text = r#"{"kind":"rate_too_high","promoted":false,"truth":null,"loses_class":false,"round":3}"#;
        let failed: Retraining = serde_json::from_str(text).expect("as the bench prints it");
        assert!(!failed.is_wrong() && !failed.is_clearly_better());
    }

    #[test]
    fn latencies_are_compared_at_their_99th_percentile() {
        let without: Vec<f64> = (1..=100).map(f64::from).collect();
        let with = without.iter().map(|ms| ms * 2.0).collect();
        let rows = swap_rows(&Swaps {
            without_ms: without,
            with_ms: with,
            dropped_without: 3,
            dropped_with: 0,
            swaps: 10,
        });
        let late = Row::new("latency_with_swaps_p99".into(), 198.0, "ms");
        assert_eq!(rows[2], late.against("without swaps", 99.0));
        let ratio = Row::new("latency_p99_with_over_without".into(), 2.0, "times");
        assert_eq!(rows[3], ratio.at_most(LATENCY_TARGET));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
