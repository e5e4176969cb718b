//! Whether intervals hold what they promise.

use super::{Horizontal, Line, Look, axes, draw_line, draw_lines, plot};
use crate::report::ReportError;
use crate::report::palette;
use crate::report::palette::Colour;

/// How many truths lie in intervals of a level, against the level: a calibrated prediction follows
/// the diagonal, one too sure of itself lies below.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationChart {
    /// What a screen reader says.
    pub title: String,
    /// Name in the legend and, for each prediction, the level in 0..=1 of the narrowest interval
    /// that holds the truth.
    pub predictions: Vec<(String, Vec<f64>)>,
}

impl CalibrationChart {
    /// The chart as an SVG element.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        let mut lines = vec![Line {
            name: "calibrated".to_owned(),
            points: vec![(0.0, 0.0), (100.0, 100.0)],
            look: Look {
                colour: palette::GREY,
                width: 4,
                dashed: true,
            },
        }];
        let drawn = self.predictions.iter().enumerate();
        lines.extend(drawn.map(|(index, (name, levels))| Line {
            name: name.clone(),
            points: held(levels),
            look: Look {
                colour: colour(index),
                width: 6,
                dashed: false,
            },
        }));
        draw_lines(&self.title, 760, &lines, |area| {
            let axis = Horizontal::Titled("level of the interval (%)");
            let mut plot = plot(area, &[0.0, 100.0], 0.0..100.0, axis)?;
            let label = |part: &f64| format!("{part:.0}");
            axes(&mut plot, "truths inside (%)", &label, 10, axis)?;
            for line in &lines {
                draw_line(&mut plot, &line.points, line.look)?;
            }
            Ok(())
        })
    }
}

fn colour(index: usize) -> Colour {
    match index {
        0 => palette::BLUE,
        _ => palette::other(index - 1),
    }
}

/// Percentages of truths held, at the levels where they change.
fn held(levels: &[f64]) -> Vec<(f64, f64)> {
    let mut levels = levels.to_vec();
    levels.sort_by(f64::total_cmp);
    let count = levels.len().max(1) as f64;
    let steps = levels.iter().enumerate();
    let points = steps.map(|(i, level)| (level * 100.0, (i + 1) as f64 / count * 100.0));
    std::iter::once((0.0, 0.0)).chain(points).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic::assert_well_formed;

    #[test]
    fn uniform_levels_lie_on_the_diagonal() {
        let levels: Vec<f64> = (1..=10).rev().map(|i| f64::from(i) / 10.0).collect();
        for (level, held) in held(&levels) {
            assert!((level - held).abs() < 1e-9);
        }
    }

    #[test]
    fn a_chart_is_well_formed() {
        let chart = CalibrationChart {
            title: "Intervals".to_owned(),
            predictions: vec![
                ("ours".to_owned(), vec![0.2, 0.9]),
                ("none".to_owned(), vec![]),
            ],
        };
        let svg = chart.svg().unwrap();
        assert_well_formed(&svg);
        assert!(svg.contains("ours") && svg.contains("calibrated"));
    }
}
