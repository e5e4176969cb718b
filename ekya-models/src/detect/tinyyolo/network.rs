//! TinyYOLOv3's layers: eight convolutions, six of them followed by pooling, then heads for two grids,
//! of which the finer one also sees an earlier map.
//!
//! For C classes and the table below, the convolutions with batch normalisation hold 8,662,384
//! numbers (running statistics included), the two that answer 512·A + A and 256·A + A with
//! A = 3·(5 + C): 8,858,734 in all for the 80 classes of COCO, as many as in the published file.

use tch::{TchError, Tensor};

use super::super::coco::ClassMap;
use super::super::layers::{Activation, Build, Conv, Shape, Source};
use super::super::network::{Features, Network, Target};
use super::super::view::{Levels, Order, View};
use super::boxes::{self, ANCHORS, BOX_COLUMNS};
use super::loss;
use crate::{Image, ModelError, Object};

/// A convolution as darknet's configuration has it.
pub(super) struct Convolution {
    /// Its number among darknet's layers, which count poolings and routes, too.
    pub(super) layer: usize,
    inputs: i64,
    /// `None`: as many as the answers need. Those have a bias in place of a normalisation.
    outputs: Option<i64>,
    kernel: i64,
}

/// All convolutions, in darknet's order: eight up to the heads, the coarse head, the bridge to the
/// finer grid, the fine head.
pub(super) const CONVOLUTIONS: [Convolution; 13] = [
    row(0, 3, Some(16), 3),
    row(2, 16, Some(32), 3),
    row(4, 32, Some(64), 3),
    row(6, 64, Some(128), 3),
    row(8, 128, Some(256), 3),
    row(10, 256, Some(512), 3),
    row(12, 512, Some(1024), 3),
    row(13, 1024, Some(256), 1),
    row(14, 256, Some(512), 3),
    row(15, 512, None, 1),
    row(18, 256, Some(128), 1),
    row(21, 384, Some(256), 3),
    row(22, 256, None, 1),
];

/// Convolutions before the heads.
const TRUNK: usize = 8;

/// The convolution of the trunk whose map the finer grid sees, before pooling.
const EARLY: usize = 4;

const fn row(layer: usize, inputs: i64, outputs: Option<i64>, kernel: i64) -> Convolution {
    Convolution {
        layer,
        inputs,
        outputs,
        kernel,
    }
}

impl Convolution {
    /// How the names of its tensors begin.
    pub(super) fn name(&self) -> String {
        format!("layer{}", self.layer)
    }

    /// Whether batch normalisation follows.
    pub(super) fn normed(&self) -> bool {
        self.outputs.is_some()
    }

    pub(super) fn shape(&self, classes: usize) -> Shape {
        let answers = (ANCHORS * (BOX_COLUMNS + classes)) as i64;
        Shape::full(self.outputs.unwrap_or(answers), self.inputs, self.kernel)
    }

    fn build(&self, source: &mut Source<'_>, classes: usize) -> Result<Conv, String> {
        let (name, shape) = (self.name(), self.shape(classes));
        if self.normed() {
            source.normed(
                &format!("{name}.conv"),
                &format!("{name}.bn"),
                shape,
                Activation::Leaky,
            )
        } else {
            source.biased(&format!("{name}.conv"), shape)
        }
    }
}

/// What the heads say, before activations: `[n, anchors · (5 + classes), rows, columns]` of the
/// coarse grid and of the fine one. Each anchor's channels are x, y, width, height, objectness, then
/// the classes.
#[derive(Debug)]
pub(in crate::detect) struct Answer(pub(super) [Tensor; 2]);

/// TinyYOLOv3's network; what [`super::TinyYoloV3`] detects with.
#[derive(Debug)]
pub struct TinyYoloNetwork {
    trunk: Vec<Conv>,
    coarse: [Conv; 2],
    bridge: Conv,
    fine: [Conv; 2],
}

impl Network for TinyYoloNetwork {
    const NAME: &'static str = "tinyyolov3";
    const SIDE: usize = 416;
    const LEVELS: Levels = Levels::to_one(Order::Rgb);
    const BLOCKS: usize = TRUNK;
    const TRAINED: Build = Build::Moving;
    const CLASS_ROWS: &'static [(&'static str, i64)] = &[
        ("layer15.conv.", ANCHORS as i64),
        ("layer22.conv.", ANCHORS as i64),
    ];
    type Answer = Answer;

    fn new(source: &mut Source<'_>, classes: usize) -> Result<Self, String> {
        let mut conv = |index: usize| CONVOLUTIONS[index].build(source, classes);
        Ok(Self {
            trunk: (0..TRUNK).map(&mut conv).collect::<Result<_, _>>()?,
            coarse: [conv(8)?, conv(9)?],
            bridge: conv(10)?,
            fine: [conv(11)?, conv(12)?],
        })
    }

    fn block_of(tensor: &str) -> Option<usize> {
        let (layer, _) = tensor.strip_prefix("layer")?.split_once('.')?;
        let layer: usize = layer.parse().ok()?;
        CONVOLUTIONS[..TRUNK]
            .iter()
            .position(|convolution| convolution.layer == layer)
    }

    fn view(image: &Image) -> Result<View, ModelError> {
        View::letterbox(image)
    }

    fn advance(&self, features: &mut Features, block: usize) -> Result<(), TchError> {
        let x = self.trunk[block].forward(&features.top)?;
        if block == EARLY {
            features.levels.push(x.shallow_clone());
        }
        features.top = match block {
            0..=4 => x.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)?,
            // At stride 1 darknet looks right and down, and past the edge at nothing: a repeated
            // edge has the same maximum.
            5 => x.f_replication_pad2d([0, 1, 0, 1])?.f_max_pool2d(
                [2, 2],
                [1, 1],
                [0, 0],
                [1, 1],
                false,
            )?,
            _ => x,
        };
        Ok(())
    }

    fn answer(&self, features: &Features) -> Result<Answer, TchError> {
        let [early] = features.levels.as_slice() else {
            let found = features.levels.len();
            return Err(TchError::Shape(format!("{found} earlier maps, not 1")));
        };
        let head = |[wide, point]: &[Conv; 2], x: &Tensor| point.forward(&wide.forward(x)?);
        let (_, _, h, w) = early.size4()?;
        let bridge =
            self.bridge
                .forward(&features.top)?
                .f_upsample_nearest2d([h, w], None, None)?;
        Ok(Answer([
            head(&self.coarse, &features.top)?,
            head(&self.fine, &Tensor::f_cat(&[&bridge, early], 1)?)?,
        ]))
    }

    fn loss(answer: &Answer, targets: &[Target]) -> Result<Tensor, TchError> {
        loss::loss(answer, targets)
    }

    fn about(answer: &Answer, picture: usize) -> Result<Answer, TchError> {
        let part = |of: &Tensor| of.f_narrow(0, picture as i64, 1);
        let [coarse, fine] = &answer.0;
        Ok(Answer([part(coarse)?, part(fine)?]))
    }

    fn boxes(answer: &Answer, classes: &ClassMap) -> Result<Vec<Object>, TchError> {
        boxes::boxes(answer, classes)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::super::weights::Weights;
    use super::super::TinyYoloV3;
    use super::*;
    use crate::{Placement, coco_names};

    fn weights(classes: &[String]) -> Weights {
        let student = TinyYoloV3::new(classes, Placement::Cpu, 1).unwrap();
        student.weights
    }

    #[test]
    fn there_are_as_many_numbers_as_in_the_published_file() {
        let all = weights(&coco_names());
        let count: usize = all.iter().map(|(_, tensor)| tensor.numel()).sum();
        assert_eq!(count, 8_858_734);
        let shapes: Vec<Vec<i64>> = CONVOLUTIONS
            .iter()
            .map(|c| {
                all.get(&format!("{}.conv.weight", c.name()))
                    .unwrap()
                    .size()
            })
            .collect();
        assert_eq!(
            shapes,
            [
                [16, 3, 3, 3],
                [32, 16, 3, 3],
                [64, 32, 3, 3],
                [128, 64, 3, 3],
                [256, 128, 3, 3],
                [512, 256, 3, 3],
                [1024, 512, 3, 3],
                [256, 1024, 1, 1],
                [512, 256, 3, 3],
                [255, 512, 1, 1],
                [128, 256, 1, 1],
                [256, 384, 3, 3],
                [255, 256, 1, 1],
            ]
        );
        // Four of each normalisation, two of each that answers.
        assert_eq!(all.iter().count(), 11 * 5 + 2 * 2);
    }

    #[test]
    fn grids_have_strides_32_and_16() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let student = TinyYoloV3::new(&classes, Placement::Cpu, 1).unwrap();
        let Answer([coarse, fine]) = student.answer(&vec![0.5; 3 * 96 * 96], 96).unwrap();
        assert_eq!(coarse.size(), [1, 21, 3, 3]);
        assert_eq!(fine.size(), [1, 21, 6, 6]);
    }

    #[test]
    fn pooling_at_stride_one_looks_right_and_down() {
        let x = Tensor::from_slice(&[-1.0f32, -2.0, -3.0, -4.0])
            .reshape([1, 1, 2, 2])
            .to_device(Device::Cpu);
        let padded = x.replication_pad2d([0, 1, 0, 1]);
        let pooled = padded.max_pool2d([2, 2], [1, 1], [0, 0], [1, 1], false);
        let values = Vec::<f32>::try_from(pooled.flatten(0, -1)).unwrap();
        assert_eq!(values, [-1.0, -2.0, -3.0, -4.0]);
    }

    #[test]
    fn only_the_trunk_can_be_frozen() {
        assert_eq!(TinyYoloNetwork::block_of("layer0.conv.weight"), Some(0));
        assert_eq!(TinyYoloNetwork::block_of("layer13.bn.bias"), Some(7));
        assert_eq!(TinyYoloNetwork::block_of("layer14.conv.weight"), None);
        assert_eq!(TinyYoloNetwork::block_of("layer1.conv.weight"), None);
    }
}
