//! Accuracy of one stream over time.

use super::{Line, TIME, axes, draw_line, draw_lines, draw_windows, plot, proper};
use crate::report::ReportError;

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

impl AccuracyChart {
    /// The chart as an SVG element. Without lines or windows it is an empty pair of axes.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        draw_lines(&self.title, 620, &self.lines, |area| {
            let (low, high) = proper(self.range.0, self.range.1);
            let mut plot = plot(area, &self.boundaries, low..high, TIME)?;
            let label = |accuracy: &f64| format!("{:.0}", accuracy * 100.0);
            axes(&mut plot, "accuracy (%)", &label, 10, TIME)?;
            draw_windows(&mut plot, &self.boundaries, (low, high), true)?;
            for line in &self.lines {
                draw_line(&mut plot, &line.points, line.look)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::palette::{self, Colour};
    use crate::report::synthetic::assert_well_formed;

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
    fn nothing_to_draw_gives_axes() {
        let empty = AccuracyChart {
            title: String::new(),
            boundaries: Vec::new(),
            lines: Vec::new(),
            range: (f64::NAN, f64::NAN),
        };
        assert_well_formed(&empty.svg().unwrap());
    }

    #[test]
    fn only_sans_serif_is_asked_for() {
        let svg = accuracy_chart().svg().unwrap();
        let fonts = svg.matches("font-family=").count();
        assert!(fonts > 0);
        assert_eq!(svg.matches("font-family=\"sans-serif\"").count(), fonts);
    }
}
