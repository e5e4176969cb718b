//! Shares of all streams in a window, one strip a stream: inference below, training on top of it.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{
    Area, Drawn, GRANTED_OPACITY, Horizontal, Key, TIME, axes, draw, failed, plot, short, text,
};
use crate::report::ReportError;
use crate::report::palette;

/// Height of a strip.
const STRIP: u32 = 120;

/// Shares of all streams in a window.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimelineChart {
    /// What a screen reader says.
    pub title: String,
    /// Length of the window, in seconds.
    pub seconds: f64,
    /// Streams, from top to bottom.
    pub rows: Vec<Row>,
}

/// (from, to, inference, training): seconds, and devices.
type Spans = (f64, f64, f64, f64);

/// One stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Name, and what else there is to say.
    pub label: String,
    /// Shares over time.
    pub segments: Vec<Spans>,
    /// When its retraining ended.
    pub completes_at: Option<f64>,
}

impl TimelineChart {
    /// The chart as an SVG element. All strips have the same height for a device.
    ///
    /// # Errors
    /// [`ReportError::Chart`] when the drawing library fails.
    pub fn svg(&self) -> Result<String, ReportError> {
        let legend = [
            ("inference (devices)".to_owned(), Key::Area(palette::BLUE)),
            (
                "training (devices)".to_owned(),
                Key::Area(palette::VERMILLION),
            ),
            ("retrained".to_owned(), Key::Line(super::Look::PLAIN)),
        ];
        let segments = self.rows.iter().flat_map(|row| &row.segments);
        let top = segments.map(|s| s.2 + s.3).fold(0.0, f64::max);
        let top = if top > 0.0 { top } else { 1.0 };
        let height = STRIP * self.rows.len().max(1) as u32 + TIME.room();
        draw(&self.title, height, &legend, &[], |area| {
            let mut rest = area.clone();
            for (index, row) in self.rows.iter().enumerate() {
                let last = index + 1 == self.rows.len();
                let (axis, room) = if last {
                    (TIME, TIME.room())
                } else {
                    (Horizontal::Hidden, 0)
                };
                let (strip, below) = rest.split_vertically(STRIP + room);
                row.draw(&strip, self.seconds, top, axis)?;
                rest = below;
            }
            Ok(())
        })
    }
}

impl Row {
    fn draw(&self, area: &Area<'_>, seconds: f64, top: f64, axis: Horizontal) -> Drawn {
        let high = top * 1.1;
        let mut plot = plot(area, &[0.0, seconds], 0.0..high, axis)?;
        axes(&mut plot, "", &|share: &f64| short(*share), 2, axis)?;
        let inference = |s: &Spans| [(s.0, 0.0), (s.1, s.2)];
        let training = |s: &Spans| [(s.0, s.2), (s.1, s.2 + s.3)];
        let areas: [(_, fn(&Spans) -> _); 2] =
            [(palette::BLUE, inference), (palette::VERMILLION, training)];
        for (colour, corners) in areas {
            let style = colour.rgb().mix(GRANTED_OPACITY + 0.2).filled();
            let all = self.segments.iter().map(corners);
            plot.draw_series(all.map(|corners| Rectangle::new(corners, style)))
                .map_err(failed)?;
        }
        let ink = palette::INK.rgb().stroke_width(5);
        let end = self
            .completes_at
            .map(|at| PathElement::new(vec![(at, 0.0), (at, high)], ink));
        plot.draw_series(end).map_err(failed)?;
        let style = text(palette::INK).pos(Pos::new(HPos::Right, VPos::Top));
        let label = Text::new(self.label.clone(), (seconds, high), style);
        plot.draw_series(std::iter::once(label)).map_err(failed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::synthetic::assert_well_formed;

    #[test]
    fn a_timeline_is_well_formed_and_names_its_streams() {
        let row = |label: &str| Row {
            label: label.to_owned(),
            segments: vec![(0.0, 50.0, 0.1, 0.5), (50.0, 200.0, 0.25, 0.0)],
            completes_at: Some(50.0),
        };
        let chart = TimelineChart {
            title: "Shares".to_owned(),
            seconds: 200.0,
            rows: vec![row("east"), row("<west>")],
        };
        let svg = chart.svg().unwrap();
        assert_well_formed(&svg);
        assert!(svg.contains("east") && !svg.contains("<west>"));
    }

    #[test]
    fn nothing_to_draw_is_drawn() {
        assert_well_formed(&TimelineChart::default().svg().unwrap());
    }
}
