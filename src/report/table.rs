//! Schedulers side by side, as a table for the terminal and as Markdown.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::statistics::{Estimate, mean, paired_differences};
use super::summary::Summary;

/// Name of the scheduler that never retrains.
pub(super) const NONE: &str = "none";
/// Name of the thief scheduler.
pub(super) const EKYA: &str = "ekya";
/// How the names of the uniform schedulers start ("uniform:0.5:cheap").
pub(super) const UNIFORM: &str = "uniform:";

/// Schedulers side by side.
///
/// Differences are taken run by run, within pairs of the same seed and load. Runs of one seed share
/// their scenes, so that their differences are not independent: those of one seed are averaged over
/// its loads first, and the interval is over the seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Loads, in the order of their first appearance.
    pub loads: Vec<Option<String>>,
    /// Seeds, ascending.
    pub seeds: Vec<u64>,
    /// No retraining first, then the uniform ones, then all else.
    pub rows: Vec<Row>,
    /// The uniform scheduler with the highest mean: picked after the fact, in its own favour.
    pub best_uniform: Option<String>,
    /// Whether every scheduler ran with every seed under every load; where not, means of different
    /// schedulers are not over the same runs (differences always are).
    pub balanced: bool,
}

/// One scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As written in the configuration.
    pub scheduler: String,
    /// Mean accuracy over the seeds, by load; absent where it did not run.
    pub by_load: Vec<Option<f64>>,
    /// Mean accuracy over all runs.
    pub mean: f64,
    /// Number of runs.
    pub runs: usize,
    /// Difference to no retraining; see [`Comparison`] for its interval.
    pub to_none: Option<Estimate>,
    /// Difference to the best uniform scheduler.
    pub to_uniform: Option<Estimate>,
    /// Whether no other mean is higher.
    pub best: bool,
}

/// Accuracy by (seed, position of the load).
type Runs = BTreeMap<(u64, usize), f64>;

impl Comparison {
    /// Puts the schedulers of a summary side by side.
    #[must_use]
    pub fn of(summary: &Summary) -> Self {
        let loads = loads_of(summary);
        let mut seeds: Vec<u64> = summary.runs.iter().map(|run| run.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let runs = runs_by_scheduler(summary, &loads);
        let best_uniform = best(runs.iter().filter(|(name, _)| name.starts_with(UNIFORM)));
        let best_of_all = best(runs.iter());
        let complete = seeds.len() * loads.len();
        let balanced = runs.values().all(|runs| runs.len() == complete);

        let mut names: Vec<&String> = runs.keys().collect();
        names.sort_by(|a, b| display_order(a, b));
        let rows = names
            .into_iter()
            .map(|name| {
                let own = &runs[name];
                let to = |other: Option<&str>| {
                    let other = other.filter(|other| *other != name)?;
                    difference(own, runs.get(other)?)
                };
                Row {
                    scheduler: name.clone(),
                    by_load: (0..loads.len()).map(|load| mean_of(own, load)).collect(),
                    mean: overall(own),
                    runs: own.len(),
                    to_none: to(Some(NONE)),
                    to_uniform: to(best_uniform.as_deref()),
                    best: best_of_all.as_ref() == Some(name),
                }
            })
            .collect();
        Self {
            loads,
            seeds,
            rows,
            best_uniform,
            balanced,
        }
    }

    /// For a terminal, in aligned columns with an asterisk at the best; ends in a line feed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut cells = self.cells();
        for (cells, best) in cells.iter_mut().zip(self.marks()) {
            if best {
                cells[0].push_str(" *");
            }
        }
        let widths: Vec<usize> = (0..cells[0].len())
            .map(|column| cells.iter().map(|row| width(&row[column])).max())
            .map(Option::unwrap_or_default)
            .collect();
        let mut text = String::new();
        for (index, row) in cells.iter().enumerate() {
            push_aligned(&mut text, row, &widths);
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                push_aligned(&mut text, &rule, &widths);
            }
        }
        text.push('\n');
        for note in self.notes() {
            text.push_str(&note);
            text.push('\n');
        }
        text
    }

    /// For a README; ends in a line feed.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        for (index, (cells, best)) in self.cells().into_iter().zip(self.marks()).enumerate() {
            for cell in &cells {
                let cell = cell.replace('|', "\\|");
                let cell = if best { format!("**{cell}**") } else { cell };
                text.push_str(&format!("| {cell} "));
            }
            text.push_str("|\n");
            if index == 0 {
                text.push_str("|---");
                text.push_str(&"|---:".repeat(cells.len() - 1));
                text.push_str("|\n");
            }
        }
        for note in self.notes() {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }

    /// Titles of the columns.
    pub(super) fn titles(&self) -> Vec<String> {
        let mut titles = vec!["scheduler".to_owned()];
        if self.has_load_columns() {
            titles.extend(self.loads.iter().map(|load| load_title(load.as_deref())));
        }
        titles.push("mean accuracy".to_owned());
        titles.push("to no retraining".to_owned());
        titles.push("to best uniform".to_owned());
        titles
    }

    /// One row in words: accuracies in per cent, differences in points with their interval.
    pub(super) fn row_cells(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![row.scheduler.clone()];
        if self.has_load_columns() {
            cells.extend(
                row.by_load
                    .iter()
                    .map(|mean| mean.map_or_else(dash, percent)),
            );
        }
        cells.push(percent(row.mean));
        for to in [row.to_none, row.to_uniform] {
            cells.push(to.map_or_else(dash, |to| self.paired(&to)));
        }
        cells
    }

    /// What has to be known to read the table, a sentence or two each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = vec![self.note_on_the_columns()];
        if !self.balanced {
            notes.push(
                "Not every scheduler ran with every seed and load: their means are over different \
                 runs; differences are over the runs that both have."
                    .to_owned(),
            );
        }
        notes
    }

    /// A difference, with the number of its seeds where that is not the same everywhere.
    fn paired(&self, difference: &Estimate) -> String {
        let points = points(difference);
        if self.balanced {
            points
        } else {
            format!("{points} (n = {})", difference.n)
        }
    }

    fn note_on_the_columns(&self) -> String {
        let runs = self.rows.iter().map(|row| row.runs).max().unwrap_or(0);
        let mut note = format!(
            "Accuracy in %, mean over the streams; {} a scheduler ({}",
            counted(runs, "run"),
            counted(self.seeds.len(), "seed"),
        );
        if self.has_load_columns() {
            note.push_str(&format!(" × {}", counted(self.loads.len(), "load")));
        }
        note.push_str(").");
        if self.rows.len() > 1 {
            note.push_str(&self.note_on_differences());
        }
        if let Some(uniform) = &self.best_uniform {
            note.push_str(&format!(
                " Best uniform: {uniform}, picked after the fact, in its favour."
            ));
        }
        note
    }

    fn note_on_differences(&self) -> String {
        let mut note = " Differences in points, paired by seed and load".to_owned();
        let seeds = self.seeds.len();
        if seeds > 1 && self.has_load_columns() {
            note.push_str(&format!(
                ", averaged over the loads of a seed, with the 95 % t-interval over the seeds \
                 (n = {seeds})."
            ));
        } else if seeds > 1 {
            note.push_str(&format!(
                ", with the 95 % t-interval over the seeds (n = {seeds})."
            ));
        } else {
            note.push_str("; a single seed has no interval.");
        }
        note
    }

    fn has_load_columns(&self) -> bool {
        self.loads.len() > 1
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let mut cells = vec![self.titles()];
        cells.extend(self.rows.iter().map(|row| self.row_cells(row)));
        cells
    }

    /// Which lines of [`Self::cells`] are the best.
    fn marks(&self) -> impl Iterator<Item = bool> {
        std::iter::once(false).chain(self.rows.iter().map(|row| row.best && self.rows.len() > 1))
    }
}

/// None, uniforms, others, Ekya.
pub(super) fn display_order(a: &str, b: &str) -> Ordering {
    fn rank(name: &str) -> u8 {
        match name {
            NONE => 0,
            EKYA => 3,
            uniform if uniform.starts_with(UNIFORM) => 1,
            _ => 2,
        }
    }
    (rank(a), a).cmp(&(rank(b), b))
}

fn loads_of(summary: &Summary) -> Vec<Option<String>> {
    let mut loads = Vec::new();
    for run in &summary.runs {
        if !loads.contains(&run.load) {
            loads.push(run.load.clone());
        }
    }
    loads
}

fn runs_by_scheduler(summary: &Summary, loads: &[Option<String>]) -> BTreeMap<String, Runs> {
    let mut runs: BTreeMap<String, Runs> = BTreeMap::new();
    for run in &summary.runs {
        let load = loads.iter().position(|load| *load == run.load);
        runs.entry(run.scheduler.clone())
            .or_default()
            .insert((run.seed, load.unwrap_or(0)), run.mean_accuracy);
    }
    runs
}

/// Name of the highest mean; the first of equals.
fn best<'a>(runs: impl Iterator<Item = (&'a String, &'a Runs)>) -> Option<String> {
    let mut best: Option<(&String, f64)> = None;
    for (name, runs) in runs {
        let mean = overall(runs);
        if best.is_none_or(|(_, highest)| mean > highest) {
            best = Some((name, mean));
        }
    }
    best.map(|(name, _)| name.clone())
}

fn overall(runs: &Runs) -> f64 {
    let accuracies: Vec<f64> = runs.values().copied().collect();
    mean(&accuracies).unwrap_or(0.0)
}

fn mean_of(runs: &Runs, load: usize) -> Option<f64> {
    let of_load = runs.iter().filter(|((_, of), _)| *of == load);
    let accuracies: Vec<f64> = of_load.map(|(_, accuracy)| *accuracy).collect();
    mean(&accuracies)
}

/// Mean over the seeds of the mean over the loads of the paired differences.
fn difference(a: &Runs, b: &Runs) -> Option<Estimate> {
    let mut by_seed: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for ((seed, _), difference) in paired_differences(a, b) {
        by_seed.entry(seed).or_default().push(difference);
    }
    let seeds: Vec<f64> = by_seed.values().filter_map(|loads| mean(loads)).collect();
    Estimate::of(&seeds)
}

/// Heading of a load.
pub(super) fn load_title(load: Option<&str>) -> String {
    load.map_or_else(|| "no load label".to_owned(), |load| format!("load {load}"))
}

/// An accuracy, in per cent.
pub(super) fn percent(accuracy: f64) -> String {
    format!("{:.1}", accuracy * 100.0)
}

/// A difference of accuracies, in points, with its interval if there is one.
pub(super) fn points(estimate: &Estimate) -> String {
    let mean = format!("{:+.1}", estimate.mean * 100.0);
    match estimate.half_width {
        Some(half) => format!("{mean} ± {:.1}", half * 100.0),
        None => mean,
    }
}

/// What stands where there is nothing to say.
pub(super) fn dash() -> String {
    "–".to_owned()
}

/// "1 seed", "3 seeds".
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// First column to the left, numbers to the right.
fn push_aligned(text: &mut String, cells: &[String], widths: &[usize]) {
    let mut line = String::new();
    for (index, (cell, column)) in cells.iter().zip(widths).enumerate() {
        let space = " ".repeat(column.saturating_sub(width(cell)));
        if index == 0 {
            line.push_str(cell);
            line.push_str(&space);
        } else {
            line.push_str("  ");
            line.push_str(&space);
            line.push_str(cell);
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::summary::RunSummary;
    use super::*;

    fn run(scheduler: &str, seed: u64, load: Option<&str>, mean_accuracy: f64) -> RunSummary {
        RunSummary {
            seed,
            scheduler: scheduler.to_owned(),
            load: load.map(str::to_owned),
            mean_accuracy,
            streams: BTreeMap::new(),
        }
    }

    fn three_schedulers() -> Summary {
        Summary {
            runs: vec![
                run("ekya", 1, None, 0.80),
                run("ekya", 2, None, 0.82),
                run("uniform:0.9:cheap", 1, None, 0.75),
                run("uniform:0.9:cheap", 2, None, 0.73),
                run("uniform:0.5:cheap", 1, None, 0.60),
                run("uniform:0.5:cheap", 2, None, 0.60),
                run("none", 1, None, 0.70),
                run("none", 2, None, 0.70),
            ],
        }
    }

    #[test]
    fn rows_are_ordered_and_the_best_are_found() {
        let comparison = Comparison::of(&three_schedulers());
        let names: Vec<_> = comparison.rows.iter().map(|row| &row.scheduler).collect();
        assert_eq!(
            names,
            ["none", "uniform:0.5:cheap", "uniform:0.9:cheap", "ekya"]
        );
        assert_eq!(
            comparison.best_uniform.as_deref(),
            Some("uniform:0.9:cheap")
        );
        let best: Vec<_> = comparison.rows.iter().map(|row| row.best).collect();
        assert_eq!(best, [false, false, false, true]);
        assert!(comparison.balanced);
    }

    /// Differences 0.10 and 0.12: mean 0.11, standard error 0.01, t(1) = 12.7062.
    #[test]
    fn differences_are_paired_by_seed() {
        let comparison = Comparison::of(&three_schedulers());
        let to_none = comparison.rows[3].to_none.unwrap();
        assert_eq!(points(&to_none), "+11.0 ± 12.7");
        assert_eq!(comparison.rows[0].to_none, None);
        assert_eq!(comparison.rows[2].to_uniform, None);
        assert!((comparison.rows[0].to_uniform.unwrap().mean + 0.04).abs() < 1e-12);
    }

    #[test]
    fn seeds_average_their_loads_first() {
        let mut runs = Vec::new();
        for (seed, load, ekya) in [(1, "a", 0.6), (1, "b", 0.8), (2, "a", 0.7), (2, "b", 0.9)] {
            runs.push(run("none", seed, Some(load), 0.5));
            runs.push(run("ekya", seed, Some(load), ekya));
        }
        let comparison = Comparison::of(&Summary { runs });
        let to_none = comparison.rows[1].to_none.unwrap();
        assert_eq!(to_none.n, 2);
        assert!((to_none.mean - 0.25).abs() < 1e-12);
        // Seed means 0.2 and 0.3: standard error 0.05.
        assert!((to_none.half_width.unwrap() - 0.05 * 12.7062).abs() < 1e-9);
        assert_eq!(comparison.rows[1].by_load.len(), 2);
        assert!(comparison.to_text().contains("over the seeds (n = 2)"));
    }

    #[test]
    fn missing_runs_are_said() {
        let mut summary = three_schedulers();
        summary.runs.remove(0);
        let comparison = Comparison::of(&summary);
        assert!(!comparison.balanced);
        assert!(comparison.to_text().contains("Not every scheduler"));
        assert_eq!(comparison.rows[3].to_none.unwrap().n, 1);
    }

    #[test]
    fn text_is_aligned_and_markdown_is_a_table() {
        let comparison = Comparison::of(&three_schedulers());
        let text = comparison.to_text();
        let lines: Vec<&str> = text.lines().take(6).collect();
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() == lines[1].chars().count()),
            "{text}"
        );
        assert!(lines[5].starts_with("ekya *"));

        let markdown = comparison.to_markdown();
        let rows: Vec<&str> = markdown
            .lines()
            .filter(|line| line.starts_with('|'))
            .collect();
        assert_eq!(rows.len(), 6);
        assert!(rows.iter().all(|row| row.matches('|').count() == 5));
        assert!(rows[5].starts_with("| **ekya** | **81.0** |"));
    }

    #[test]
    fn no_runs_give_an_empty_table() {
        let comparison = Comparison::of(&Summary { runs: Vec::new() });
        assert!(comparison.rows.is_empty());
        assert_eq!(comparison.to_text().lines().count(), 4);
    }
}
