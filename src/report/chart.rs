//! SVG charts: accuracy over time under every scheduler, and shares over time under one.
//!
//! A chart is drawn in twice its size, because the library places everything on whole pixels, and
//! is scaled by the page. Everything that is needed to read it is in it: axes, units, legend.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;
use super::palette::{self, Colour};
use super::table::{EKYA, NONE};

/// Width in drawing units; a page shows it at half of that or whatever fits.
const WIDTH: u32 = 1080;
/// Size of the text.
const TEXT: u32 = 38;
/// Height of a line of the legend.
const LEGEND_LINE: u32 = 46;
/// Columns of the legend.
const LEGEND_COLUMNS: usize = 3;
/// Characters of a name in the legend; longer ones are cut.
const LEGEND_NAME: usize = 18;
/// Windows that get a number; of more, only the boundaries are drawn.
const NUMBERED_WINDOWS: usize = 12;
/// Opacity of the areas of granted shares, so that the grid shows through.
const GRANTED_OPACITY: f64 = 0.35;
/// Dashes and gaps of a dashed line.
const DASHES: &str = "14 9";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One line of a chart, with its look.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// (seconds from the start of the run, accuracy 0..=1), by time. A point that is not a number
    /// breaks the line.
    pub points: Vec<(f64, f64)>,
    look: Look,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    colour: Colour,
    width: u32,
    dashed: bool,
}

impl Line {
    /// The line of a scheduler. `index` counts the schedulers that are neither "none" nor "ekya":
    /// each gets its own look; the two have theirs in every chart.
    #[must_use]
    pub fn of_scheduler(name: &str, index: usize, points: Vec<(f64, f64)>) -> Self {
        let look = match name {
            EKYA => Look {
                colour: palette::BLUE,
                width: 6,
                dashed: false,
            },
            NONE => Look {
                colour: palette::GREY,
                width: 4,
                dashed: true,
            },
            _ => Look {
                colour: palette::other(index),
                width: 3,
                // Every second one, so that colour is never the only difference to its neighbour.
                dashed: index % 2 == 1,
            },
        };
        Self {
            name: name.to_owned(),
            points,
            look,
        }
    }
}

/// Accuracy of one stream over time, a line a scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct AccuracyChart {
    /// What a screen reader says.
    pub title: String,
    /// Starts of the windows and the end of the last, in seconds.
    pub boundaries: Vec<f64>,
    /// Lines; the last lies on top.
    pub lines: Vec<Line>,
    /// Accuracies that the vertical axis spans; common to the charts that are to be compared.
    pub range: (f64, f64),
}

/// Shares of one stream over time under one scheduler.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShareChart {
    /// What a screen reader says.
    pub title: String,
    /// Starts of the windows and the end of the last, in seconds.
    pub boundaries: Vec<f64>,
    /// Inference.
    pub inference: Vec<ShareStep>,
    /// Profiling and retraining.
    pub training: Vec<ShareStep>,
    /// Retrainings, by time.
    pub retrainings: Vec<RetrainingMark>,
    /// Top of both vertical axes, in devices; common to the charts that are to be compared.
    pub top: f64,
}

/// A share over a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareStep {
    /// Start, in seconds.
    pub from: f64,
    /// End, in seconds.
    pub to: f64,
    /// Granted, in devices.
    pub granted: f64,
    /// Used, in devices.
    pub used: f64,
}

/// A retraining in a chart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrainingMark {
    /// Start, in seconds.
    pub from: f64,
    /// End, in seconds.
    pub to: f64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a retraining ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It replaced the serving student.
    Promoted,
    /// It did not.
    Dropped,
    /// It did not come to its end.
    CutOff,
}

impl AccuracyChart {
    /// The chart as an SVG element. Without lines or windows it is an empty pair of axes.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        let legend: Vec<(String, Key)> = self
            .lines
            .iter()
            .rev()
            .map(|line| (line.name.clone(), Key::Line(line.look)))
            .collect();
        let looks: Vec<Look> = self.lines.iter().map(|line| line.look).collect();
        draw(&self.title, 620, &legend, &looks, |area| {
            let (low, high) = proper(self.range.0, self.range.1);
            let mut plot = plot(area, &self.boundaries, low..high, TimeAxis::Shown)?;
            let label = |accuracy: &f64| format!("{:.0}", accuracy * 100.0);
            axes(&mut plot, "accuracy (%)", &label, 10, TimeAxis::Shown)?;
            draw_windows(&mut plot, &self.boundaries, (low, high), true)?;
            for line in &self.lines {
                draw_line(&mut plot, &line.points, line.look)?;
            }
            Ok(())
        })
    }
}

impl ShareChart {
    /// The chart as an SVG element: inference above, training below. Without shares or windows it is
    /// two empty pairs of axes.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        let legend = [
            ("inference granted", Key::Area(palette::BLUE)),
            ("training granted", Key::Area(palette::VERMILLION)),
            ("used", Key::Line(USED)),
            ("promoted", Key::Mark(Outcome::Promoted)),
            ("dropped", Key::Mark(Outcome::Dropped)),
            ("cut off", Key::Mark(Outcome::CutOff)),
        ]
        .map(|(name, key)| (name.to_owned(), key));
        let top = if self.top > 0.0 { self.top } else { 1.0 };
        let inference = Panel {
            title: "inference (devices)",
            steps: &self.inference,
            colour: palette::BLUE,
            retrainings: &[],
            time_axis: TimeAxis::Hidden,
        };
        let training = Panel {
            title: "training (devices)",
            steps: &self.training,
            colour: palette::VERMILLION,
            retrainings: &self.retrainings,
            time_axis: TimeAxis::Shown,
        };
        draw(&self.title, 780, &legend, &[], |area| {
            let (upper, lower) = area.split_vertically(345);
            inference.draw(&upper, &self.boundaries, top)?;
            training.draw(&lower, &self.boundaries, top)
        })
    }
}

/// How used shares are drawn.
const USED: Look = Look {
    colour: palette::INK,
    width: 4,
    dashed: false,
};

/// Shares of one kind of job.
struct Panel<'a> {
    title: &'a str,
    steps: &'a [ShareStep],
    colour: Colour,
    retrainings: &'a [RetrainingMark],
    time_axis: TimeAxis,
}

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>, boundaries: &[f64], top: f64) -> Drawn {
        // Room above the highest share, for the retrainings and the numbers of the windows.
        let high = top * 1.25;
        let mut plot = plot(area, boundaries, 0.0..high, self.time_axis)?;
        let label = |share: &f64| format!("{share:.2}");
        axes(&mut plot, self.title, &label, 4, self.time_axis)?;
        let numbered = self.time_axis == TimeAxis::Hidden;
        draw_windows(&mut plot, boundaries, (0.0, high), numbered)?;
        plot.draw_series(self.steps.iter().map(|step| {
            let corners = [(step.from, 0.0), (step.to, step.granted)];
            Rectangle::new(corners, self.colour.rgb().mix(GRANTED_OPACITY).filled())
        }))
        .map_err(failed)?;
        let used = |step: &ShareStep| [(step.from, step.used), (step.to, step.used)];
        let used: Vec<(f64, f64)> = self.steps.iter().flat_map(used).collect();
        draw_line(&mut plot, &used, USED)?;
        draw_retrainings(area, &mut plot, self.retrainings, top * 1.12)
    }
}

/// Whether a plot has the time axis, or shares that of the one below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeAxis {
    Shown,
    Hidden,
}

impl TimeAxis {
    /// Room below the plot, for labels and title.
    fn room(self) -> u32 {
        match self {
            Self::Shown => 94,
            Self::Hidden => TEXT / 2,
        }
    }
}

type Drawn = Result<(), ReportError>;

fn failed(error: impl std::fmt::Display) -> ReportError {
    ReportError::Chart(error.to_string())
}

/// What stands before a name in the legend.
#[derive(Debug, Clone, Copy)]
enum Key {
    Line(Look),
    Area(Colour),
    Mark(Outcome),
}

/// A drawing of `height` with its legend below.
fn draw(
    title: &str,
    height: u32,
    legend: &[(String, Key)],
    looks: &[Look],
    content: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, ReportError> {
    let lines = legend.len().div_ceil(LEGEND_COLUMNS) as u32;
    let total = height + lines * LEGEND_LINE + LEGEND_LINE / 2;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, total)).into_drawing_area();
        let (upper, lower) = root.split_vertically(height);
        content(&upper)?;
        draw_legend(&lower, legend)?;
        root.present().map_err(failed)?;
    }
    Ok(finish(&svg, title, looks))
}

/// Adds what the library has no words for: what a screen reader says, and dashes.
fn finish(svg: &str, title: &str, looks: &[Look]) -> String {
    let opening = format!(
        "<svg role=\"img\" aria-label=\"{}\" ",
        super::html::Escaped(title)
    );
    let mut svg = svg.replacen("<svg ", &opening, 1);
    for look in looks.iter().filter(|look| look.dashed) {
        let stroke = format!("stroke=\"{}\"", look.colour.light_hex());
        let dashed = format!("{stroke} stroke-dasharray=\"{DASHES}\"");
        svg = svg.replace(&dashed, &stroke).replace(&stroke, &dashed);
    }
    svg
}

fn text(colour: Colour) -> TextStyle<'static> {
    ("sans-serif", TEXT).into_font().color(&colour.rgb())
}

/// A range that is not empty.
fn proper(low: f64, high: f64) -> (f64, f64) {
    if low < high { (low, high) } else { (0.0, 1.0) }
}

fn plot<'a, 'b>(
    area: &'a Area<'b>,
    boundaries: &[f64],
    vertical: std::ops::Range<f64>,
    time_axis: TimeAxis,
) -> Result<Plot<'a, 'b>, ReportError> {
    let first = boundaries.first().copied().unwrap_or(0.0);
    let last = boundaries.last().copied().unwrap_or(1.0);
    let (from, to) = proper(first, last);
    ChartBuilder::on(area)
        .margin_top(TEXT / 2)
        .margin_right(TEXT)
        .margin_left(4)
        .x_label_area_size(time_axis.room())
        .y_label_area_size(132)
        .build_cartesian_2d(from..to, vertical)
        .map_err(failed)
}

fn axes(
    plot: &mut Plot<'_, '_>,
    title: &str,
    label: &dyn Fn(&f64) -> String,
    labels: usize,
    time_axis: TimeAxis,
) -> Drawn {
    let (time_title, time_labels) = match time_axis {
        TimeAxis::Shown => ("time from start (s)", 8),
        TimeAxis::Hidden => ("", 0),
    };
    plot.configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(palette::GRID.rgb().stroke_width(2))
        .axis_style(palette::INK.rgb().stroke_width(2))
        .label_style(text(palette::INK))
        .axis_desc_style(text(palette::INK))
        .x_desc(time_title)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .x_labels(time_labels)
        .y_desc(title)
        .y_label_formatter(label)
        .y_labels(labels)
        .draw()
        .map_err(failed)
}

/// Vertical lines between windows, with their numbers where there is room.
fn draw_windows(
    plot: &mut Plot<'_, '_>,
    boundaries: &[f64],
    (low, high): (f64, f64),
    numbered: bool,
) -> Drawn {
    let style = palette::BOUNDARY.rgb().stroke_width(2);
    plot.draw_series(
        boundaries
            .iter()
            .map(|at| PathElement::new(vec![(*at, low), (*at, high)], style)),
    )
    .map_err(failed)?;
    if !numbered || boundaries.len() > NUMBERED_WINDOWS {
        return Ok(());
    }
    let style = text(palette::GREY).pos(Pos::new(HPos::Center, VPos::Top));
    plot.draw_series(boundaries.windows(2).enumerate().map(|(index, ends)| {
        let middle = f64::midpoint(ends[0], ends[1]);
        Text::new(format!("window {index}"), (middle, high), style.clone())
    }))
    .map_err(failed)?;
    Ok(())
}

fn draw_line(plot: &mut Plot<'_, '_>, points: &[(f64, f64)], look: Look) -> Drawn {
    let style = look.colour.rgb().stroke_width(look.width);
    let whole = points.split(|(_, y)| !y.is_finite());
    plot.draw_series(
        whole
            .filter(|part| part.len() > 1)
            .map(|part| PathElement::new(part.to_vec(), style)),
    )
    .map_err(failed)?;
    Ok(())
}

/// A bar from start to end, with the mark of the outcome at its end.
fn draw_retrainings(
    area: &Area<'_>,
    plot: &mut Plot<'_, '_>,
    retrainings: &[RetrainingMark],
    at: f64,
) -> Drawn {
    let bar = palette::VERMILLION.rgb().stroke_width(5);
    plot.draw_series(
        retrainings
            .iter()
            .map(|mark| PathElement::new(vec![(mark.from, at), (mark.to, at)], bar)),
    )
    .map_err(failed)?;
    let (left, top) = area.get_base_pixel();
    for mark in retrainings {
        let (x, y) = plot.plotting_area().map_coordinate(&(mark.to, at));
        draw_outcome(area, (x - left, y - top), mark.outcome)?;
    }
    Ok(())
}

/// A full dot, a cross, or an upright bar: shapes, so that nobody has to see a colour.
fn draw_outcome(area: &Area<'_>, (x, y): (i32, i32), outcome: Outcome) -> Drawn {
    let style = palette::VERMILLION.rgb().stroke_width(5);
    match outcome {
        Outcome::Promoted => area.draw(&Circle::new((x, y), 12, style.filled())),
        Outcome::Dropped => area.draw(&Cross::new((x, y), 11, style)),
        Outcome::CutOff => area.draw(&PathElement::new(vec![(x, y - 14), (x, y + 14)], style)),
    }
    .map_err(failed)
}

fn draw_legend(area: &Area<'_>, legend: &[(String, Key)]) -> Drawn {
    let column_width = (WIDTH - TEXT) as usize / LEGEND_COLUMNS;
    let style = text(palette::INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (index, (name, key)) in legend.iter().enumerate() {
        let x = TEXT as i32 + (index % LEGEND_COLUMNS * column_width) as i32;
        let y = (LEGEND_LINE * 3 / 4) as i32 + (index / LEGEND_COLUMNS) as i32 * LEGEND_LINE as i32;
        draw_key(area, (x, y), *key)?;
        area.draw(&Text::new(cut(name), (x + 58, y), style.clone()))
            .map_err(failed)?;
    }
    Ok(())
}

fn draw_key(area: &Area<'_>, (x, y): (i32, i32), key: Key) -> Drawn {
    match key {
        Key::Line(look) => {
            let style = look.colour.rgb().stroke_width(look.width);
            area.draw(&PathElement::new(vec![(x, y), (x + 46, y)], style))
                .map_err(failed)
        }
        Key::Area(colour) => {
            let style = colour.rgb().mix(GRANTED_OPACITY).filled();
            area.draw(&Rectangle::new([(x, y - 13), (x + 46, y + 13)], style))
                .map_err(failed)
        }
        Key::Mark(outcome) => draw_outcome(area, (x + 23, y), outcome),
    }
}

/// A name that fits its column.
fn cut(name: &str) -> String {
    if name.chars().count() <= LEGEND_NAME {
        return name.to_owned();
    }
    let start: String = name.chars().take(LEGEND_NAME - 1).collect();
    start + "…"
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::assert_well_formed;
    use super::*;

    fn accuracy_chart() -> AccuracyChart {
        let points = vec![
            (0.0, 0.6),
            (5.0, 0.7),
            (10.0, f64::NAN),
            (15.0, 0.8),
            (20.0, 0.9),
        ];
        AccuracyChart {
            title: "Accuracy of <b>\"east\" & west</b>".to_owned(),
            boundaries: vec![0.0, 10.0, 20.0],
            lines: vec![
                Line::of_scheduler("none", 0, points.clone()),
                Line::of_scheduler("uniform:0.5:<cheap>", 0, points.clone()),
                Line::of_scheduler("ekya", 0, points),
            ],
            range: (0.5, 1.0),
        }
    }

    fn share_chart() -> ShareChart {
        let step = |from: f64, granted| ShareStep {
            from,
            to: from + 10.0,
            granted,
            used: granted / 2.0,
        };
        let mark = |from: f64, outcome| RetrainingMark {
            from,
            to: from + 4.0,
            outcome,
        };
        ShareChart {
            title: "Shares".to_owned(),
            boundaries: vec![0.0, 10.0, 20.0],
            inference: vec![step(0.0, 0.2), step(10.0, 0.4)],
            training: vec![step(0.0, 0.3), step(10.0, 0.0)],
            retrainings: vec![mark(1.0, Outcome::Promoted), mark(11.0, Outcome::Dropped)],
            top: 0.5,
        }
    }

    #[test]
    fn accuracy_is_well_formed_with_names_escaped() {
        let svg = accuracy_chart().svg().unwrap();
        assert_well_formed(&svg);
        assert!(!svg.contains("<cheap>") && !svg.contains("<b>"));
        for needed in ["window 1", "accuracy (%)", "time from start (s)", "ekya"] {
            assert!(svg.contains(needed), "{needed}");
        }
    }

    #[test]
    fn only_sans_serif_is_asked_for() {
        for svg in [
            accuracy_chart().svg().unwrap(),
            share_chart().svg().unwrap(),
        ] {
            let fonts = svg.matches("font-family=").count();
            assert!(fonts > 0);
            assert_eq!(svg.matches("font-family=\"sans-serif\"").count(), fonts);
        }
    }

    #[test]
    fn a_point_that_is_no_number_breaks_the_line() {
        let svg = accuracy_chart().svg().unwrap();
        let blue = format!("stroke=\"{}\"", palette::BLUE.light_hex());
        // Two parts and the key.
        assert_eq!(svg.matches(&blue).count(), 3);
    }

    #[test]
    fn no_retraining_is_dashed_and_ekya_is_not() {
        let svg = accuracy_chart().svg().unwrap();
        let stroke = |colour: Colour| format!("stroke=\"{}\" stroke-dash", colour.light_hex());
        assert!(svg.contains(&stroke(palette::GREY)));
        assert!(!svg.contains(&stroke(palette::BLUE)));
    }

    #[test]
    fn shares_are_well_formed_and_show_every_outcome() {
        let chart = share_chart();
        let svg = chart.svg().unwrap();
        assert_well_formed(&svg);
        // A dot for the promoted one and its key.
        assert_eq!(svg.matches("<circle").count(), 2);
        for needed in [
            "inference granted",
            "training granted",
            "promoted",
            "dropped",
        ] {
            assert!(svg.contains(needed), "{needed}");
        }
    }

    #[test]
    fn nothing_to_draw_gives_axes() {
        let empty = AccuracyChart {
            title: String::new(),
            boundaries: Vec::new(),
            lines: Vec::new(),
            range: (f64::NAN, f64::NAN),
        };
        assert_well_formed(&empty.svg().unwrap());
        assert_well_formed(&ShareChart::default().svg().unwrap());
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("uniform:0.5:expensive-one"), "uniform:0.5:expen…");
        assert_eq!(cut("uniform:0.5:cheap"), "uniform:0.5:cheap");
    }
}
