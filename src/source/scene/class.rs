//! What moves through a scene.

/// Names of the classes, by class index.
pub const CLASSES: [&str; 8] = [
    "car",
    "van",
    "bus",
    "truck",
    "motorbike",
    "bicycle",
    "pedestrian",
    "cart",
];

/// A class, in the order of [`CLASSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Car,
    Van,
    Bus,
    Truck,
    Motorbike,
    Bicycle,
    Pedestrian,
    Cart,
}

impl Class {
    /// Every class, by class index.
    pub(super) const ALL: [Self; 8] = [
        Self::Car,
        Self::Van,
        Self::Bus,
        Self::Truck,
        Self::Motorbike,
        Self::Bicycle,
        Self::Pedestrian,
        Self::Cart,
    ];

    /// Index into [`CLASSES`].
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Fastest and slowest crossing of the whole view, in seconds.
    pub(super) fn crossing_seconds(self) -> (f32, f32) {
        match self {
            Self::Car => (1.6, 2.6),
            Self::Van => (1.8, 2.8),
            Self::Bus => (2.4, 3.6),
            Self::Truck => (2.2, 3.4),
            Self::Motorbike => (1.5, 2.3),
            Self::Bicycle => (2.6, 3.8),
            Self::Pedestrian => (3.8, 5.0),
            Self::Cart => (3.4, 4.8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_names() {
        for (i, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), i);
            assert_eq!(format!("{class:?}").to_lowercase(), CLASSES[i]);
        }
    }
}
