//! FastestDet's layers: a ShuffleNetV2 backbone, one pyramid of 5×5 depthwise convolutions at stride
//! 16, and three heads: is there an object, where, of which class.

use tch::{Kind, TchError, Tensor};

use super::super::coco::ClassMap;
use super::super::layers::{Activation, Build, Conv, Shape, Source};
use super::super::network::{Features, Network, Target};
use super::super::view::{Levels, Order, View};
use super::{decode, loss};
use crate::{Image, ModelError, Object};

/// Channels after the stem and after each stage, and blocks in each stage.
const CHANNELS: [i64; 4] = [24, 48, 96, 192];
const REPEATS: [usize; 3] = [4, 8, 4];

/// Channels of the pyramid and the heads.
const NECK: i64 = 96;

/// How the names of each block's tensors begin: stem, the stages, the pyramid.
const BLOCK_PREFIXES: [&str; 5] = [
    "backbone.first_conv.",
    "backbone.stage2.",
    "backbone.stage3.",
    "backbone.stage4.",
    "SPP.",
];

/// What the three heads say, before their activations. Shapes: `[n, channels, rows, columns]`.
#[derive(Debug)]
pub(in crate::detect) struct Answer {
    /// Logit of there being an object; one channel.
    pub(super) object: Tensor,
    /// Box: centre offset in cells (before tanh) and size as a fraction of the picture (before the
    /// logistic function): x, y, width, height.
    pub(super) bbox: Tensor,
    /// Logits of the classes.
    pub(super) class: Tensor,
}

impl Answer {
    /// All channels in one tensor, as the published network puts them out: object probability, the
    /// four of the box unchanged, class probabilities.
    pub(super) fn raw(&self) -> Result<Tensor, TchError> {
        let class = self.class.f_softmax(1, Kind::Float)?;
        Tensor::f_cat(&[&self.object.f_sigmoid()?, &self.bbox, &class], 1)
    }
}

/// FastestDet's network; what [`super::FastestDet`] detects with.
#[derive(Debug)]
pub struct FastestDetNetwork {
    stem: Conv,
    stages: [Vec<ShuffleBlock>; 3],
    pyramid: Pyramid,
    heads: Heads,
}

impl Network for FastestDetNetwork {
    const NAME: &'static str = "fastestdet";
    /// That of the input that the published weights were trained for.
    const SIDE: usize = 352;
    const LEVELS: Levels = Levels::to_one(Order::Bgr);
    const BLOCKS: usize = BLOCK_PREFIXES.len();
    /// Batches of a few pictures of one camera are too small and too alike to give statistics that
    /// hold for the next window.
    const TRAINED: Build = Build::Steady;
    const CLASS_ROWS: &'static [(&'static str, i64)] = &[
        ("detect_head.cls_layers.conv5x5.3.", 1),
        ("detect_head.cls_layers.conv5x5.4.", 1),
    ];
    type Answer = Answer;

    fn new(source: &mut Source<'_>, classes: usize) -> Result<Self, String> {
        let mut stages = [Vec::new(), Vec::new(), Vec::new()];
        for (s, stage) in stages.iter_mut().enumerate() {
            for b in 0..REPEATS[s] {
                let name = format!("backbone.stage{}.{b}", s + 2);
                stage.push(ShuffleBlock::new(
                    source,
                    &name,
                    CHANNELS[s],
                    CHANNELS[s + 1],
                    b == 0,
                )?);
            }
        }
        let stem = Shape::full(CHANNELS[0], 3, 3).with_stride(2);
        Ok(Self {
            stem: conv(source, "backbone.first_conv", 0, stem, Activation::Relu)?,
            stages,
            pyramid: Pyramid::new(source)?,
            heads: Heads::new(source, classes as i64)?,
        })
    }

    fn block_of(tensor: &str) -> Option<usize> {
        BLOCK_PREFIXES
            .iter()
            .position(|prefix| tensor.starts_with(prefix))
    }

    fn view(image: &Image) -> Result<View, ModelError> {
        View::whole(image)
    }

    fn advance(&self, features: &mut Features, block: usize) -> Result<(), TchError> {
        match block {
            0 => {
                let x = self.stem.forward(&features.top)?;
                features.top = x.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
            }
            stage @ 1..=3 => {
                for block in &self.stages[stage - 1] {
                    features.top = block.forward(&features.top)?;
                }
                features.levels.push(features.top.shallow_clone());
            }
            _ => {
                features.top = self.pyramid.forward(&features.levels)?;
                features.levels.clear();
            }
        }
        Ok(())
    }

    fn answer(&self, features: &Features) -> Result<Answer, TchError> {
        self.heads.forward(&features.top)
    }

    fn loss(answer: &Answer, targets: &[Target]) -> Result<Tensor, TchError> {
        loss::loss(answer, targets)
    }

    fn about(answer: &Answer, picture: usize) -> Result<Answer, TchError> {
        let part = |of: &Tensor| of.f_narrow(0, picture as i64, 1);
        Ok(Answer {
            object: part(&answer.object)?,
            bbox: part(&answer.bbox)?,
            class: part(&answer.class)?,
        })
    }

    fn boxes(answer: &Answer, classes: &ClassMap) -> Result<Vec<Object>, TchError> {
        decode::boxes(answer, classes)
    }
}

/// The convolution at `name.index` and the batch normalisation that follows it.
fn conv(
    source: &mut Source<'_>,
    name: &str,
    index: usize,
    shape: Shape,
    activation: Activation,
) -> Result<Conv, String> {
    let (conv, norm) = (format!("{name}.{index}"), format!("{name}.{}", index + 1));
    source.normed(&conv, &norm, shape, activation)
}

/// Half of the channels pass a block unchanged, the others are convolved; every second channel
/// changes sides between blocks. The first block of a stage halves the resolution instead, and
/// convolves both halves.
#[derive(Debug)]
struct ShuffleBlock {
    main: [Conv; 3],
    side: Option<[Conv; 2]>,
}

impl ShuffleBlock {
    fn new(
        source: &mut Source<'_>,
        name: &str,
        inputs: i64,
        outputs: i64,
        first: bool,
    ) -> Result<Self, String> {
        let half = outputs / 2;
        let inputs = if first { inputs } else { half };
        let stride = if first { 2 } else { 1 };
        let main = format!("{name}.branch_main");
        let depthwise = |channels| Shape::depthwise(channels, 3).with_stride(stride);
        let main = [
            conv(
                source,
                &main,
                0,
                Shape::point(half, inputs),
                Activation::Relu,
            )?,
            conv(source, &main, 3, depthwise(half), Activation::None)?,
            conv(
                source,
                &main,
                5,
                Shape::point(outputs - inputs, half),
                Activation::Relu,
            )?,
        ];
        let proj = format!("{name}.branch_proj");
        let side = if first {
            Some([
                conv(source, &proj, 0, depthwise(inputs), Activation::None)?,
                conv(
                    source,
                    &proj,
                    2,
                    Shape::point(inputs, inputs),
                    Activation::Relu,
                )?,
            ])
        } else {
            None
        };
        Ok(Self { main, side })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (kept, main) = match &self.side {
            Some([depth, point]) => (point.forward(&depth.forward(x)?)?, x.shallow_clone()),
            None => {
                let (n, c, h, w) = x.size4()?;
                let pairs = x.f_reshape([n, c / 2, 2, h, w])?;
                (pairs.f_select(2, 0)?, pairs.f_select(2, 1)?)
            }
        };
        let [first, second, third] = &self.main;
        let main = third.forward(&second.forward(&first.forward(&main)?)?)?;
        Tensor::f_cat(&[kept, main], 1)
    }
}

/// Brings the three stages to one resolution and looks at them with growing fields of view.
#[derive(Debug)]
struct Pyramid {
    entry: Conv,
    towers: [Vec<Conv>; 3],
    exit: Conv,
}

impl Pyramid {
    fn new(source: &mut Source<'_>) -> Result<Self, String> {
        let mut towers = [Vec::new(), Vec::new(), Vec::new()];
        for (t, tower) in towers.iter_mut().enumerate() {
            for layer in 0..=t {
                tower.push(conv(
                    source,
                    &format!("SPP.S{}", t + 1),
                    layer * 3,
                    Shape::depthwise(NECK, 5),
                    Activation::Relu,
                )?);
            }
        }
        let stacked = CHANNELS[1] + CHANNELS[2] + CHANNELS[3];
        Ok(Self {
            entry: conv(
                source,
                "SPP.Conv1x1.conv1x1",
                0,
                Shape::point(NECK, stacked),
                Activation::Relu,
            )?,
            towers,
            exit: conv(
                source,
                "SPP.output",
                0,
                Shape::point(NECK, 3 * NECK),
                Activation::None,
            )?,
        })
    }

    fn forward(&self, levels: &[Tensor]) -> Result<Tensor, TchError> {
        let [fine, middle, coarse] = levels else {
            return Err(TchError::Shape(format!("{} stages, not 3", levels.len())));
        };
        let (_, _, h, w) = middle.size4()?;
        let fine = fine.f_avg_pool2d([3, 3], [2, 2], [1, 1], false, true, None)?;
        let coarse = coarse.f_upsample_nearest2d([h, w], None, None)?;
        let x = self
            .entry
            .forward(&Tensor::f_cat(&[&fine, middle, &coarse], 1)?)?;
        let mut seen = Vec::with_capacity(3);
        for tower in &self.towers {
            let mut y = x.shallow_clone();
            for layer in tower {
                y = layer.forward(&y)?;
            }
            seen.push(y);
        }
        let merged = self.exit.forward(&Tensor::f_cat(&seen, 1)?)?;
        x.f_add(&merged)?.f_relu()
    }
}

/// The three answers about every cell.
#[derive(Debug)]
struct Heads {
    shared: Conv,
    object: [Conv; 2],
    bbox: [Conv; 2],
    class: [Conv; 2],
}

impl Heads {
    fn new(source: &mut Source<'_>, classes: i64) -> Result<Self, String> {
        let shared = "detect_head.conv1x1.conv1x1";
        let shared = conv(
            source,
            shared,
            0,
            Shape::point(NECK, NECK),
            Activation::Relu,
        )?;
        let mut head = |name: &str, outputs| -> Result<[Conv; 2], String> {
            let name = format!("detect_head.{name}.conv5x5");
            Ok([
                conv(
                    source,
                    &name,
                    0,
                    Shape::depthwise(NECK, 5),
                    Activation::Relu,
                )?,
                conv(
                    source,
                    &name,
                    3,
                    Shape::point(outputs, NECK),
                    Activation::None,
                )?,
            ])
        };
        Ok(Self {
            shared,
            object: head("obj_layers", 1)?,
            bbox: head("reg_layers", 4)?,
            class: head("cls_layers", classes)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Answer, TchError> {
        let x = self.shared.forward(x)?;
        let run = |[wide, point]: &[Conv; 2]| point.forward(&wide.forward(&x)?);
        Ok(Answer {
            object: run(&self.object)?,
            bbox: run(&self.bbox)?,
            class: run(&self.class)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::FastestDet;
    use super::*;
    use crate::Placement;

    #[test]
    fn what_is_said_of_a_picture_of_a_batch_is_what_is_said_of_it_alone() {
        let classes = ["car".to_owned()];
        let student = FastestDet::new(&classes, Placement::Cpu, 1).unwrap();
        let side = 64;
        let inputs = [0.2, 0.9].map(|level| -> Vec<f32> {
            let values = 0..3 * side * side;
            values.map(|i| level * (i % 17) as f32 / 17.0).collect()
        });
        let _guard = tch::no_grad_guard();
        let both = student.answer(&inputs.concat(), side).unwrap();
        for (number, input) in inputs.iter().enumerate() {
            let about = FastestDetNetwork::about(&both, number).unwrap();
            let alone = student.answer(input, side).unwrap();
            let difference = about.raw().unwrap() - alone.raw().unwrap();
            assert!(difference.abs().max().double_value(&[]) < 1e-4);
            assert_eq!(about.object.size(), alone.object.size());
        }
        let apart = FastestDetNetwork::about(&both, 0).unwrap().raw().unwrap()
            - FastestDetNetwork::about(&both, 1).unwrap().raw().unwrap();
        assert!(apart.abs().max().double_value(&[]) > 1e-3, "one picture");
    }
}
