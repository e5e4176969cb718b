//! What a stream shows, in the few numbers by which students trained before are chosen again.

use serde::{Deserialize, Serialize};

/// What a stream shows. Numbers that are not known may be left at zero everywhere.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scene {
    /// Part of the objects that is of each class; shorter lists end in zeros.
    pub classes: Vec<f64>,
    /// Time of day, in hours from midnight.
    pub hour: f64,
    /// Objects in a frame, on average.
    pub objects: f64,
    /// Where the camera is, in any unit of length.
    pub location: (f64, f64),
}

/// A student that was trained before, on this stream or another.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CachedStudent {
    /// What it was trained on.
    pub scene: Scene,
    /// Its accuracy on what the stream shows now, in 0..=1: there so that plans can be simulated. A
    /// scheduler that chooses by it knows more than it could.
    pub accuracy: f64,
}

/// By what scenes are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// How the objects are distributed over the classes.
    Classes,
    /// The time of day.
    Hour,
    /// How many objects there are.
    Objects,
    /// Where the camera is.
    Location,
}

impl Scene {
    /// How different two scenes are; 0 when they do not differ in this. Classes by total variation
    /// (0..=1), hours around the clock (0..=12), the others by their difference or distance.
    #[must_use]
    pub fn distance(&self, other: &Self, by: Likeness) -> f64 {
        match by {
            Likeness::Classes => {
                let classes = self.classes.len().max(other.classes.len());
                let part = |scene: &Self, class| scene.classes.get(class).copied().unwrap_or(0.0);
                let differences = (0..classes).map(|c| (part(self, c) - part(other, c)).abs());
                differences.sum::<f64>() / 2.0
            }
            Likeness::Hour => {
                let apart = (self.hour - other.hour).rem_euclid(24.0);
                apart.min(24.0 - apart)
            }
            Likeness::Objects => (self.objects - other.objects).abs(),
            Likeness::Location => {
                let ((a, b), (c, d)) = (self.location, other.location);
                (a - c).hypot(b - d)
            }
        }
    }

    /// Whether all numbers are numbers.
    pub(crate) fn is_finite(&self) -> bool {
        let others = [self.hour, self.objects, self.location.0, self.location.1];
        self.classes
            .iter()
            .chain(&others)
            .all(|number| number.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_compared_by_one_thing_at_a_time() {
        let day = Scene {
            classes: vec![0.5, 0.5],
            hour: 23.0,
            objects: 4.0,
            location: (0.0, 0.0),
        };
        let night = Scene {
            classes: vec![0.25, 0.25, 0.5],
            hour: 1.0,
            objects: 1.0,
            location: (3.0, 4.0),
        };
        let distance = |by| day.distance(&night, by);
        assert_eq!(distance(Likeness::Classes), 0.5);
        assert_eq!(distance(Likeness::Hour), 2.0);
        assert_eq!(distance(Likeness::Objects), 3.0);
        assert_eq!(distance(Likeness::Location), 5.0);
    }
}
