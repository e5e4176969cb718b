//! Accuracy against a circumstance, such as the number of GPUs.

use plotters::prelude::*;

use super::{Horizontal, Line, axes, draw_line, draw_lines, failed, plot, proper};
use crate::report::ReportError;

/// Accuracy against a circumstance, a line a scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepChart {
    /// What a screen reader says.
    pub title: String,
    /// Title of the horizontal axis, with its unit.
    pub horizontal: &'static str,
    /// Lines; the last lies on top.
    pub lines: Vec<Line>,
}

impl SweepChart {
    /// The chart as an SVG element. Without points it is an empty pair of axes.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        let ends = self.range(|point| point.0);
        let (low, high) = self.range(|point| point.1);
        let room = (high - low) * 0.06;
        let (low, high) = proper((low - room).max(0.0), (high + room).min(1.0));
        draw_lines(&self.title, 680, &self.lines, |area| {
            let axis = Horizontal::Titled(self.horizontal);
            let mut plot = plot(area, &[ends.0, ends.1], low..high, axis)?;
            let label = |accuracy: &f64| format!("{:.0}", accuracy * 100.0);
            axes(&mut plot, "accuracy (%)", &label, 10, axis)?;
            for line in &self.lines {
                draw_line(&mut plot, &line.points, line.look)?;
                let style = line.look.colour.rgb().filled();
                let finite = line.points.iter().filter(|point| point.1.is_finite());
                plot.draw_series(finite.map(|&point| Circle::new(point, 7, style)))
                    .map_err(failed)?;
            }
            Ok(())
        })
    }

    fn range(&self, of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let values = points.map(of).filter(|value| value.is_finite());
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic::assert_well_formed;

    #[test]
    fn a_sweep_is_well_formed_with_a_dot_a_point() {
        let points = vec![(1.0, 0.5), (2.0, 0.7), (4.0, f64::NAN)];
        let chart = SweepChart {
            title: "Accuracy".to_owned(),
            horizontal: "GPUs",
            lines: vec![
                Line::of_scheduler("optimal", 0, points.clone()),
                Line::of_scheduler("thief", 1, points),
            ],
        };
        let svg = chart.svg().unwrap();
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains("GPUs") && svg.contains("optimal"));
    }

    #[test]
    fn nothing_to_draw_gives_axes() {
        let empty = SweepChart {
            title: String::new(),
            horizontal: "GPUs",
            lines: Vec::new(),
        };
        assert_well_formed(&empty.svg().unwrap());
    }
}
