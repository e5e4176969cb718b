//! FastestDet's layers (dog-qiuqiu/FastestDet): a ShuffleNetV2 backbone, one pyramid of 5×5 depthwise
//! convolutions at stride 16, and three heads: is there an object, where, of which class.
//!
//! A network is built from named tensors, the names being those of the published weights. Built
//! *folded*, every batch normalisation is merged into the convolution before it, which halves the
//! time of a frame; built *unfolded*, it can be trained. Batch normalisation always uses its
//! running statistics: batches of a few pictures of one camera are too small and too alike to give
//! statistics that hold for the next window.

use tch::{Kind, TchError, Tensor};

use super::weights::Weights;

/// Side in pixels of one cell of the output grid.
pub(super) const STRIDE: usize = 16;

/// Classes that the published weights know.
pub(super) const CLASSES: usize = 80;

/// Parts of the network that can be frozen, from the input: stem, stage 2, stage 3, stage 4, and the
/// pyramid. The heads always train.
pub(super) const BLOCKS: usize = 5;

/// Added to the variance in batch normalisation, PyTorch's default.
const BN_EPS: f64 = 1e-5;

/// Channels after the stem and after each stage, and blocks in each stage.
const CHANNELS: [i64; 4] = [24, 48, 96, 192];
const REPEATS: [usize; 3] = [4, 8, 4];

/// Channels of the pyramid and the heads.
const NECK: i64 = 96;

/// How the names of each block's tensors begin.
pub(super) const BLOCK_PREFIXES: [&str; BLOCKS] = [
    "backbone.first_conv.",
    "backbone.stage2.",
    "backbone.stage3.",
    "backbone.stage4.",
    "SPP.",
];

/// What the three heads say, before their activations. Shapes: `[n, channels, rows, columns]`.
#[derive(Debug)]
pub(super) struct Answer {
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

/// Whether batch normalisation is merged into the convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    /// Merged: fast, and the tensors are copies.
    Folded,
    /// Kept: the layers share their tensors with the [`Weights`], so that these can be trained.
    Unfolded,
}

/// The whole network.
#[derive(Debug)]
pub(super) struct Network {
    stem: Conv,
    stages: [Vec<ShuffleBlock>; 3],
    pyramid: Pyramid,
    heads: Heads,
}

impl Network {
    /// Builds the layers from `weights`.
    ///
    /// # Errors
    /// What is wrong with which tensor.
    pub(super) fn new(weights: &Weights, build: Build) -> Result<Self, String> {
        let _guard = tch::no_grad_guard();
        let source = Source { weights, build };
        let mut stages = [Vec::new(), Vec::new(), Vec::new()];
        for (s, stage) in stages.iter_mut().enumerate() {
            for b in 0..REPEATS[s] {
                let name = format!("backbone.stage{}.{b}", s + 2);
                stage.push(ShuffleBlock::new(
                    &source,
                    &name,
                    CHANNELS[s],
                    CHANNELS[s + 1],
                    b == 0,
                )?);
            }
        }
        let stem = Shape {
            outputs: CHANNELS[0],
            inputs: 3,
            kernel: 3,
            stride: 2,
            depthwise: false,
        };
        Ok(Self {
            stem: source.conv("backbone.first_conv", 0, stem, true)?,
            stages,
            pyramid: Pyramid::new(&source)?,
            heads: Heads::new(&source)?,
        })
    }

    /// Answers a batch `[n, 3, side, side]`, B G R in 0..=1, `side` a multiple of 32.
    pub(super) fn forward(&self, input: &Tensor) -> Result<Answer, TchError> {
        let mut features = Features::new(input);
        for block in 0..BLOCKS {
            self.advance(&mut features, block)?;
        }
        self.heads.forward(&features.top)
    }

    /// Runs one block.
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
}

/// A network for training whose first blocks stay as they are: these run folded and track nothing,
/// which is most of what freezing saves.
#[derive(Debug)]
pub(super) struct PartlyFrozen {
    fixed: Network,
    trained: Network,
    frozen: usize,
}

impl PartlyFrozen {
    /// Marks the tensors of `weights` after the first `frozen` blocks as trainable and builds on
    /// them.
    ///
    /// # Errors
    /// What is wrong with which tensor.
    pub(super) fn new(weights: &Weights, frozen: usize) -> Result<Self, String> {
        let fixed = Network::new(weights, Build::Folded)?;
        for tensor in weights.trainable(frozen) {
            let _same = tensor
                .f_set_requires_grad(true)
                .map_err(|error| error.to_string())?;
        }
        let trained = Network::new(weights, Build::Unfolded)?;
        Ok(Self {
            fixed,
            trained,
            frozen: frozen.min(BLOCKS),
        })
    }

    /// What the blocks that stay as they are make of a batch `[n, 3, side, side]`.
    pub(super) fn fixed(&self, input: &Tensor) -> Result<Features, TchError> {
        let _guard = tch::no_grad_guard();
        let mut features = Features::new(input);
        for block in 0..self.frozen {
            self.fixed.advance(&mut features, block)?;
        }
        Ok(features)
    }

    /// The answer of the blocks that are trained, through which gradients flow.
    pub(super) fn trained(&self, mut features: Features) -> Result<Answer, TchError> {
        for block in self.frozen..BLOCKS {
            self.trained.advance(&mut features, block)?;
        }
        self.trained.heads.forward(&features.top)
    }
}

/// What is known after some blocks: the newest features, and those of each finished stage.
#[derive(Debug)]
pub(super) struct Features {
    top: Tensor,
    levels: Vec<Tensor>,
}

impl Features {
    fn new(input: &Tensor) -> Self {
        Self {
            top: input.shallow_clone(),
            levels: Vec::with_capacity(3),
        }
    }

    /// One batch of several, all taken after the same block; `None` of none.
    pub(super) fn stack(parts: &[&Self]) -> Result<Option<Self>, TchError> {
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let tops: Vec<&Tensor> = parts.iter().map(|part| &part.top).collect();
        let levels = (0..first.levels.len()).map(|level| {
            let level: Vec<&Tensor> = parts.iter().map(|part| &part.levels[level]).collect();
            Tensor::f_cat(&level, 0)
        });
        let levels = levels.collect::<Result<_, _>>()?;
        Ok(Some(Self {
            top: Tensor::f_cat(&tops, 0)?,
            levels,
        }))
    }
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
        source: &Source,
        name: &str,
        inputs: i64,
        outputs: i64,
        first: bool,
    ) -> Result<Self, String> {
        let half = outputs / 2;
        let inputs = if first { inputs } else { half };
        let stride = if first { 2 } else { 1 };
        let main = format!("{name}.branch_main");
        let depthwise = |channels| Shape {
            outputs: channels,
            inputs: channels,
            kernel: 3,
            stride,
            depthwise: true,
        };
        let main = [
            source.conv(&main, 0, Shape::point(half, inputs), true)?,
            source.conv(&main, 3, depthwise(half), false)?,
            source.conv(&main, 5, Shape::point(outputs - inputs, half), true)?,
        ];
        let proj = format!("{name}.branch_proj");
        let side = if first {
            Some([
                source.conv(&proj, 0, depthwise(inputs), false)?,
                source.conv(&proj, 2, Shape::point(inputs, inputs), true)?,
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
    fn new(source: &Source) -> Result<Self, String> {
        let mut towers = [Vec::new(), Vec::new(), Vec::new()];
        for (t, tower) in towers.iter_mut().enumerate() {
            for layer in 0..=t {
                tower.push(source.conv(
                    &format!("SPP.S{}", t + 1),
                    layer * 3,
                    Shape::wide(NECK),
                    true,
                )?);
            }
        }
        let stacked = CHANNELS[1] + CHANNELS[2] + CHANNELS[3];
        Ok(Self {
            entry: source.conv("SPP.Conv1x1.conv1x1", 0, Shape::point(NECK, stacked), true)?,
            towers,
            exit: source.conv("SPP.output", 0, Shape::point(NECK, 3 * NECK), false)?,
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
    fn new(source: &Source) -> Result<Self, String> {
        let head = |name: &str, outputs| -> Result<[Conv; 2], String> {
            let name = format!("detect_head.{name}.conv5x5");
            Ok([
                source.conv(&name, 0, Shape::wide(NECK), true)?,
                source.conv(&name, 3, Shape::point(outputs, NECK), false)?,
            ])
        };
        Ok(Self {
            shared: source.conv(
                "detect_head.conv1x1.conv1x1",
                0,
                Shape::point(NECK, NECK),
                true,
            )?,
            object: head("obj_layers", 1)?,
            bbox: head("reg_layers", 4)?,
            class: head("cls_layers", CLASSES as i64)?,
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

/// A convolution's size.
#[derive(Debug, Clone, Copy)]
struct Shape {
    outputs: i64,
    inputs: i64,
    kernel: i64,
    stride: i64,
    /// One filter a channel.
    depthwise: bool,
}

impl Shape {
    /// 1×1.
    fn point(outputs: i64, inputs: i64) -> Self {
        Self {
            outputs,
            inputs,
            kernel: 1,
            stride: 1,
            depthwise: false,
        }
    }

    /// 5×5 depthwise.
    fn wide(channels: i64) -> Self {
        Self {
            outputs: channels,
            inputs: channels,
            kernel: 5,
            stride: 1,
            depthwise: true,
        }
    }
}

/// A convolution, its batch normalisation, and whether a ReLU follows.
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    after: After,
    shape: Shape,
    relu: bool,
}

#[derive(Debug)]
enum After {
    Bias(Tensor),
    Norm(Norm),
}

#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
}

impl Conv {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (stride, padding) = ([self.shape.stride; 2], [self.shape.kernel / 2; 2]);
        let groups = if self.shape.depthwise {
            self.shape.inputs
        } else {
            1
        };
        let bias = match &self.after {
            After::Bias(bias) => Some(bias),
            After::Norm(_) => None,
        };
        let mut y = x.f_conv2d(&self.weight, bias, stride, padding, [1, 1], groups)?;
        if let After::Norm(norm) = &self.after {
            y = norm.forward(&y)?;
        }
        if self.relu { y.f_relu_() } else { Ok(y) }
    }
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        x.f_batch_norm(
            weight,
            bias,
            Some(&self.mean),
            Some(&self.var),
            false,
            0.0,
            BN_EPS,
            true,
        )
    }

    /// The factor and the constant that it comes down to, one a channel.
    fn affine(&self) -> Result<(Tensor, Tensor), TchError> {
        let factor = self
            .weight
            .f_div(&self.var.f_add_scalar(BN_EPS)?.f_sqrt()?)?;
        let constant = self.bias.f_sub(&self.mean.f_mul(&factor)?)?;
        Ok((factor, constant))
    }
}

/// Takes layers out of named weights.
struct Source<'a> {
    weights: &'a Weights,
    build: Build,
}

impl Source<'_> {
    /// The convolution at `name.index` and the batch normalisation that follows it.
    fn conv(&self, name: &str, index: usize, shape: Shape, relu: bool) -> Result<Conv, String> {
        let inputs = if shape.depthwise { 1 } else { shape.inputs };
        let size = [shape.outputs, inputs, shape.kernel, shape.kernel];
        let weight = self.tensor(&format!("{name}.{index}.weight"), &size)?;
        let norm =
            |part: &str| self.tensor(&format!("{name}.{}.{part}", index + 1), &[shape.outputs]);
        let norm = Norm {
            weight: norm("weight")?,
            bias: norm("bias")?,
            mean: norm("running_mean")?,
            var: norm("running_var")?,
        };
        match self.build {
            Build::Unfolded => Ok(Conv {
                weight,
                after: After::Norm(norm),
                shape,
                relu,
            }),
            Build::Folded => {
                fold(&weight, &norm, shape, relu).map_err(|error| format!("{name}: {error}"))
            }
        }
    }

    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, String> {
        let Some(tensor) = self.weights.get(name) else {
            return Err(format!("has no tensor {name:?}"));
        };
        if tensor.size() != shape || tensor.kind() != Kind::Float {
            let (kind, size) = (tensor.kind(), tensor.size());
            return Err(format!(
                "tensor {name:?} is {kind:?} {size:?}, not Float {shape:?}"
            ));
        }
        let finite = tensor
            .f_isfinite()
            .and_then(|t| t.f_all())
            .and_then(|t| t.f_int64_value(&[]));
        match finite {
            Ok(1) => Ok(tensor.shallow_clone()),
            Ok(_) => Err(format!("tensor {name:?} has values that are not finite")),
            Err(error) => Err(format!("tensor {name:?}: {error}")),
        }
    }
}

fn fold(weight: &Tensor, norm: &Norm, shape: Shape, relu: bool) -> Result<Conv, TchError> {
    let (factor, constant) = norm.affine()?;
    let weight = weight.f_mul(&factor.f_reshape([-1, 1, 1, 1])?)?;
    Ok(Conv {
        weight: weight.f_detach()?,
        after: After::Bias(constant.f_detach()?),
        shape,
        relu,
    })
}
