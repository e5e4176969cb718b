//! The 80 classes of COCO, and the choice of them that a stream works with.

use crate::ModelError;

/// COCO's class names in the order of its networks' outputs.
const COCO: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

/// COCO's 80 class names, in the order of its networks' outputs.
#[must_use]
pub fn coco_names() -> Vec<String> {
    COCO.iter().map(|&name| name.to_owned()).collect()
}

/// Which outputs of a network are classes of the stream. Outputs that the stream has no class for
/// are dropped, so that a traffic camera never reports a toaster.
#[derive(Debug, Clone)]
pub(super) struct ClassMap {
    /// What each output of the network stands for.
    names: Vec<String>,
    /// Output of the network for each class of the stream.
    outputs: Vec<usize>,
}

impl ClassMap {
    /// The stream's classes `wanted` among a network's `names`.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when `wanted` is empty, repeats a name or has one that the network
    /// does not know.
    pub(super) fn new(names: &[String], wanted: &[String]) -> Result<Self, ModelError> {
        if wanted.is_empty() {
            return Err(ModelError::BadInput(
                "a detector needs at least one class".into(),
            ));
        }
        let mut outputs = Vec::with_capacity(wanted.len());
        for name in wanted {
            let Some(output) = names.iter().position(|known| known == name) else {
                return Err(ModelError::BadInput(format!(
                    "class {name:?} is not one of the {} that the network knows ({} …)",
                    names.len(),
                    names.iter().take(3).cloned().collect::<Vec<_>>().join(", "),
                )));
            };
            if outputs.contains(&output) {
                return Err(ModelError::BadInput(format!(
                    "class {name:?} is named twice"
                )));
            }
            outputs.push(output);
        }
        Ok(Self {
            names: names.to_vec(),
            outputs,
        })
    }

    /// The stream's classes `wanted` of a network that has its outputs and more, behind them, for
    /// those that it does not know.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] when `wanted` is empty or repeats a name.
    pub(super) fn grown(&self, wanted: &[String]) -> Result<Self, ModelError> {
        let mut names = self.names.clone();
        names.extend(
            wanted
                .iter()
                .filter(|name| !self.names.contains(name))
                .cloned(),
        );
        Self::new(&names, wanted)
    }

    /// What each output of the network stands for.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Outputs that the network has.
    pub(super) fn width(&self) -> usize {
        self.names.len()
    }

    /// The stream's class with the highest of `scores` (one a network output), and that score.
    pub(super) fn best(&self, scores: impl Fn(usize) -> f32) -> (usize, f32) {
        let mut best = (0, f32::NEG_INFINITY);
        for (class, &output) in self.outputs.iter().enumerate() {
            let score = scores(output);
            if score > best.1 {
                best = (class, score);
            }
        }
        best
    }

    /// The network's output for a class of the stream.
    pub(super) fn output(&self, class: usize) -> Option<usize> {
        self.outputs.get(class).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn classes_are_numbered_as_the_stream_lists_them() {
        let map = ClassMap::new(&coco_names(), &names(&["truck", "person"])).unwrap();
        assert_eq!(
            (map.output(0), map.output(1), map.output(2)),
            (Some(7), Some(0), None)
        );
        // Output 2 (car) is the highest, but the stream does not know cars.
        let (class, score) =
            map.best(|output| [0.2, 0.1, 0.9, 0.0, 0.0, 0.0, 0.0, 0.3][output.min(7)]);
        assert_eq!((class, score), (0, 0.3));
    }

    #[test]
    fn new_classes_come_behind_those_known() {
        let map = ClassMap::new(&names(&["a", "b"]), &names(&["b"])).unwrap();
        let grown = map.grown(&names(&["c", "a"])).unwrap();
        assert_eq!(grown.names(), names(&["a", "b", "c"]));
        assert_eq!((grown.output(0), grown.output(1)), (Some(2), Some(0)));
        assert!(map.grown(&names(&["c", "c"])).is_err());
    }

    #[test]
    fn unknown_repeated_or_no_classes_are_refused() {
        for bad in [&["unicorn"][..], &["car", "car"], &[]] {
            let error = ClassMap::new(&coco_names(), &names(bad)).unwrap_err();
            assert!(matches!(error, ModelError::BadInput(_)), "{error}");
        }
    }
}
