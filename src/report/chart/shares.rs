//! Shares of one stream over time: what was granted, what was used, and what came of retrainings.

use plotters::prelude::*;

use super::{
    Area, Colour, Drawn, GRANTED_OPACITY, Horizontal, Key, Look, Plot, TIME, axes, draw, draw_line,
    draw_windows, failed, plot,
};
use crate::report::ReportError;
use crate::report::palette;

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
            (
                "promoted",
                Key::Mark(Outcome::Promoted, palette::VERMILLION),
            ),
            ("dropped", Key::Mark(Outcome::Dropped, palette::VERMILLION)),
            ("cut off", Key::Mark(Outcome::CutOff, palette::VERMILLION)),
        ]
        .map(|(name, key)| (name.to_owned(), key));
        let top = if self.top > 0.0 { self.top } else { 1.0 };
        let inference = Panel {
            title: "inference (devices)",
            steps: &self.inference,
            colour: palette::BLUE,
            retrainings: &[],
            axis: Horizontal::Hidden,
        };
        let training = Panel {
            title: "training (devices)",
            steps: &self.training,
            colour: palette::VERMILLION,
            retrainings: &self.retrainings,
            axis: TIME,
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
    axis: Horizontal,
}

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>, boundaries: &[f64], top: f64) -> Drawn {
        // Room above the highest share, for the retrainings and the numbers of the windows.
        let high = top * 1.25;
        let mut plot = plot(area, boundaries, 0.0..high, self.axis)?;
        let label = |share: &f64| format!("{share:.2}");
        axes(&mut plot, self.title, &label, 4, self.axis)?;
        let numbered = self.axis == Horizontal::Hidden;
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
        draw_outcome(area, (x - left, y - top), mark.outcome, palette::VERMILLION)?;
    }
    Ok(())
}

/// A full dot, a cross, or an upright bar: shapes, so that nobody has to see a colour.
pub(super) fn draw_outcome(
    area: &Area<'_>,
    (x, y): (i32, i32),
    outcome: Outcome,
    colour: Colour,
) -> Drawn {
    let style = colour.rgb().stroke_width(5);
    match outcome {
        Outcome::Promoted => area.draw(&Circle::new((x, y), 12, style.filled())),
        Outcome::Dropped => area.draw(&Cross::new((x, y), 11, style)),
        Outcome::CutOff => area.draw(&PathElement::new(vec![(x, y - 14), (x, y + 14)], style)),
    }
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic::assert_well_formed;

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
        assert_well_formed(&ShareChart::default().svg().unwrap());
    }
}
