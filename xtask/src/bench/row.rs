//! What every bench gives: rows of one form, as a table for people and as JSON for programs.

use serde::Serialize;

/// One number that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// What was measured, without spaces.
    name: String,
    value: f64,
    /// Of `value`, `baseline_value` and `target`.
    unit: &'static str,
    /// What it is compared with.
    baseline: Option<&'static str>,
    baseline_value: Option<f64>,
    /// `value` over `baseline_value`.
    ratio: Option<f64>,
    /// What the value should be at most, or at least.
    target: Option<f64>,
    /// Whether the target is a least value.
    at_least: bool,
}

impl Row {
    /// A number that is compared with nothing.
    pub(super) const fn new(name: String, value: f64, unit: &'static str) -> Self {
        Self {
            name,
            value,
            unit,
            baseline: None,
            baseline_value: None,
            ratio: None,
            target: None,
            at_least: false,
        }
    }

    /// Beside what something else takes, in the same unit.
    pub(super) fn against(mut self, baseline: &'static str, value: f64) -> Self {
        self.baseline = Some(baseline);
        self.baseline_value = Some(value);
        self.ratio = Some(self.value / value);
        self
    }

    /// With what it should be at most.
    pub(super) const fn at_most(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// With what it should be at least.
    pub(super) const fn at_least(mut self, target: f64) -> Self {
        self.target = Some(target);
        self.at_least = true;
        self
    }

    /// Whether the value is on the right side of a target; nothing is on that of no number.
    fn meets(&self, target: f64) -> bool {
        if self.at_least {
            self.value >= target
        } else {
            self.value <= target
        }
    }

    fn cells(&self) -> [String; 6] {
        let target = self.target.map(|target| {
            let side = if self.at_least { "at least " } else { "" };
            let verdict = if self.meets(target) {
                "met".into()
            } else {
                format!("missed, {:.1} times", self.value / target)
            };
            format!("{side}{target}: {verdict}")
        });
        let baseline = self.baseline.zip(self.baseline_value);
        [
            self.name.clone(),
            digits(self.value),
            self.unit.into(),
            target.unwrap_or_default(),
            baseline.map_or(String::new(), |(name, value)| format!("{name}: {value}")),
            self.ratio.map(digits).unwrap_or_default(),
        ]
    }
}

/// The rows with a line of headings, in columns.
pub(super) fn table(rows: &[Row]) -> String {
    let headings = ["what", "value", "unit", "target", "baseline", "ratio"];
    let mut lines = vec![headings.map(String::from)];
    lines.extend(rows.iter().map(Row::cells));
    columns(&lines)
}

/// Lines of as many cells each, in columns.
pub(super) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
    let widths: Vec<usize> = (0..N).filter_map(width).collect();
    let line = |cells: &[String; N]| {
        let cells = cells.iter().zip(&widths);
        let padded: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        format!("{}\n", padded.trim_end())
    };
    lines.iter().map(line).collect()
}

/// Three digits that count, more only before the point.
pub(super) fn digits(value: f64) -> String {
    let before = value.abs().log10().floor();
    let decimals = if before.is_finite() {
        2.0 - before
    } else {
        0.0
    };
    // At most twelve, after the clamp.
    format!("{value:.*}", decimals.clamp(0.0, 12.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_all_fields_in_json() -> serde_json::Result<()> {
        let row = Row::new("plan".into(), 2.0, "ms");
        assert_eq!(
            serde_json::to_string(&row)?,
            r#"{"name":"plan","value":2.0,"unit":"ms","baseline":null,"baseline_value":null,"ratio":null,"target":null,"at_least":false}"#
        );
        let row = row.against("before", 8.0).at_most(1.0);
        assert_eq!((row.ratio, row.target), (Some(0.25), Some(1.0)));
        Ok(())
    }

    #[test]
    fn a_table_says_which_targets_are_missed() {
        let row = |value| Row::new("plan".into(), value, "ms").at_most(2.0);
        assert_eq!(
            table(&[row(1.5), row(3.0)]),
            "what  value  unit  target                baseline  ratio\n\
             plan  1.50   ms    2: met\n\
             plan  3.00   ms    2: missed, 1.5 times\n"
        );
    }

    #[test]
    fn a_least_value_is_missed_from_below() {
        let cell =
            |value: f64| Row::new("kept".into(), value, "%").at_least(80.0).cells()[3].clone();
        assert_eq!(cell(80.0), "at least 80: met");
        assert_eq!(cell(40.0), "at least 80: missed, 0.5 times");
        assert!(cell(f64::NAN).contains("missed"));
    }

    #[test]
    fn numbers_keep_three_digits() {
        let values = [0.001234, 1.0, 25.17, 1234.5, 0.0];
        let shown = values.map(digits);
        assert_eq!(shown, ["0.00123", "1.00", "25.2", "1234", "0"]);
    }
}
