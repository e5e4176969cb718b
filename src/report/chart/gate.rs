//! What the gate measured, against what was true.

use plotters::prelude::*;

use super::{
    Drawn, Horizontal, Key, Look, Outcome, Plot, axes, draw, draw_line, failed, palette, plot,
};
use crate::report::ReportError;
use crate::report::palette::Colour;

/// Gains further from 0 are drawn at the edge, in percentage points: those of students that were
/// spoilt are.
const EDGE: f64 = 20.0;

/// Retrained students by the gain that was measured on held-out frames and their true one: promoted
/// ones left of the middle were mistakes, dropped ones on the right were missed.
#[derive(Debug, Clone, PartialEq)]
pub struct GateChart {
    /// What a screen reader says.
    pub title: String,
    /// Names of kinds of retrainings in the legend, and their marks.
    pub kinds: Vec<(String, Vec<GateMark>)>,
}

/// A retrained student.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GateMark {
    /// Gain in accuracy as measured.
    pub measured: f64,
    /// Gain in accuracy as it was.
    pub truth: f64,
    /// Whether it was promoted.
    pub promoted: bool,
}

impl GateChart {
    /// The chart as an SVG element.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        let look = |index| Look {
            colour: colour(index),
            width: 12,
            dashed: false,
        };
        let kinds = self.kinds.iter().enumerate();
        let mut legend: Vec<(String, Key)> = kinds
            .map(|(index, (name, _))| (name.clone(), Key::Line(look(index))))
            .collect();
        legend.extend(
            [
                ("promoted", Outcome::Promoted),
                ("dropped", Outcome::Dropped),
            ]
            .map(|(name, outcome)| (name.to_owned(), Key::Mark(outcome, palette::INK))),
        );
        draw(&self.title, 900, &legend, &[], |area| {
            let axis = Horizontal::Titled("true gain (points, beyond 20 at the edge)");
            let mut plot = plot(area, &[-EDGE, EDGE], -EDGE..EDGE, axis)?;
            let label = |gain: &f64| format!("{gain:.0}");
            axes(&mut plot, "measured gain (points)", &label, 8, axis)?;
            for zero in [[(0.0, -EDGE), (0.0, EDGE)], [(-EDGE, 0.0), (EDGE, 0.0)]] {
                draw_line(&mut plot, &zero, ZERO)?;
            }
            // The first kind lies on top.
            for (index, (_, marks)) in self.kinds.iter().enumerate().rev() {
                draw_marks(&mut plot, marks, colour(index))?;
            }
            Ok(())
        })
    }
}

/// Where nothing is gained.
const ZERO: Look = Look {
    colour: palette::GREY,
    width: 2,
    dashed: false,
};

fn colour(index: usize) -> Colour {
    match index {
        0 => palette::BLUE,
        _ => palette::other(index - 1),
    }
}

fn draw_marks(plot: &mut Plot<'_, '_>, marks: &[GateMark], colour: Colour) -> Drawn {
    let at = |mark: &GateMark| [mark.truth, mark.measured].map(|g| (g * 100.0).clamp(-EDGE, EDGE));
    let style = colour.rgb().stroke_width(4);
    let (promoted, dropped): (Vec<GateMark>, Vec<GateMark>) =
        marks.iter().partition(|mark| mark.promoted);
    plot.draw_series(
        dropped
            .iter()
            .map(|mark| Cross::new(at(mark).into(), 9, style)),
    )
    .map_err(failed)?;
    let dot = |mark| Circle::new(at(mark).into(), 9, style.filled());
    plot.draw_series(promoted.iter().map(dot)).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic::assert_well_formed;

    #[test]
    fn promoted_ones_are_dots_and_all_are_drawn() {
        let mark = |truth, promoted| GateMark {
            measured: 0.05,
            truth,
            promoted,
        };
        let chart = GateChart {
            title: "Gains".to_owned(),
            kinds: vec![
                (
                    "sound".to_owned(),
                    vec![mark(0.1, true), mark(-0.02, true), mark(0.0, false)],
                ),
                ("spoilt".to_owned(), vec![mark(-0.9, false)]),
            ],
        };
        let svg = chart.svg().unwrap();
        assert_well_formed(&svg);
        // Two dots and that of the legend.
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("sound") && svg.contains("spoilt"));
    }
}
