//! SVG charts. Here is what they have in common; each kind has its file.
//!
//! A chart is drawn in twice its size, because the library places everything on whole pixels, and
//! is scaled by the page. Everything that is needed to read it is in it: axes, units, legend.

mod accuracy;
mod calibration;
mod gate;
mod shares;
mod sweep;
mod timeline;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;
use super::palette::{self, Colour};
use super::table::{EKYA, NONE};

pub use accuracy::AccuracyChart;
pub use calibration::CalibrationChart;
pub use gate::{GateChart, GateMark};
use shares::draw_outcome;
pub use shares::{Outcome, RetrainingMark, ShareChart, ShareStep};
pub use sweep::SweepChart;
pub use timeline::{Row as TimelineRow, TimelineChart};

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
/// The scheduler that ekya plans with.
const THIEF: &str = "thief";
/// Dashes and gaps of a dashed line.
const DASHES: &str = "14 9";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One line of a chart, with its look.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// (horizontal, accuracy 0..=1), from left to right. A point that is not a number breaks the
    /// line.
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

impl Look {
    /// A mark of no scheduler.
    const PLAIN: Self = Self {
        colour: palette::INK,
        width: 5,
        dashed: false,
    };
}

impl Line {
    /// The line of a scheduler. `index` counts the schedulers that are neither "none" nor "ekya" (or
    /// "thief", which is what it plans with): each gets its own look; these have theirs in every
    /// chart.
    #[must_use]
    pub fn of_scheduler(name: &str, index: usize, points: Vec<(f64, f64)>) -> Self {
        let look = match name {
            EKYA | THIEF => Look {
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

/// The horizontal axis of a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Horizontal {
    /// With this title.
    Titled(&'static str),
    /// That of the plot below serves both.
    Hidden,
}

/// Time, in most charts.
const TIME: Horizontal = Horizontal::Titled("time from start (s)");

impl Horizontal {
    /// Room below the plot, for labels and title.
    fn room(self) -> u32 {
        match self {
            Self::Titled(_) => 94,
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
    Mark(Outcome, Colour),
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

/// A drawing of lines, the last of which lies on top and comes first in the legend.
fn draw_lines(
    title: &str,
    height: u32,
    lines: &[Line],
    content: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, ReportError> {
    let key = |line: &Line| (line.name.clone(), Key::Line(line.look));
    let legend: Vec<(String, Key)> = lines.iter().rev().map(key).collect();
    let looks: Vec<Look> = lines.iter().map(|line| line.look).collect();
    draw(title, height, &legend, &looks, content)
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
    axis: Horizontal,
) -> Result<Plot<'a, 'b>, ReportError> {
    let first = boundaries.first().copied().unwrap_or(0.0);
    let last = boundaries.last().copied().unwrap_or(1.0);
    let (from, to) = proper(first, last);
    ChartBuilder::on(area)
        .margin_top(TEXT / 2)
        .margin_right(TEXT)
        .margin_left(4)
        .x_label_area_size(axis.room())
        .y_label_area_size(132)
        .build_cartesian_2d(from..to, vertical)
        .map_err(failed)
}

fn axes(
    plot: &mut Plot<'_, '_>,
    title: &str,
    label: &dyn Fn(&f64) -> String,
    labels: usize,
    axis: Horizontal,
) -> Drawn {
    let (across, labels_across) = match axis {
        Horizontal::Titled(title) => (title, 8),
        Horizontal::Hidden => ("", 0),
    };
    plot.configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(palette::GRID.rgb().stroke_width(2))
        .axis_style(palette::INK.rgb().stroke_width(2))
        .label_style(text(palette::INK))
        .axis_desc_style(text(palette::INK))
        .x_desc(across)
        .x_label_formatter(&|x| short(*x))
        .x_labels(labels_across)
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

/// A number without needless decimals.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
        Key::Mark(outcome, colour) => draw_outcome(area, (x + 23, y), outcome, colour),
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
    use super::*;

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("uniform:0.5:expensive-one"), "uniform:0.5:expen…");
        assert_eq!(cut("uniform:0.5:cheap"), "uniform:0.5:cheap");
    }
}
