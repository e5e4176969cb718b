//! SSDLite's layers: MobileNetV2, four smaller maps over it, and on each of six maps a head for the
//! classes and one for the boxes.
//!
//! The maps are those of the paper: the inside of the first block of stride 32 (576 channels, stride
//! 16), the last convolution (1280, stride 32), then 512, 256, 256 and 128 channels, each half the side
//! of the one before, by a 1×1 convolution to half as many channels and a depthwise separable one of
//! stride 2. A head is a 3×3 depthwise convolution and a 1×1 one with, for A anchors a cell,
//! A·(1 + C) or A·4 outputs.
//!
//! Parameters for the 80 classes of COCO (weights, and scales and shifts of batch normalisation):
//! 2,223,872 for MobileNetV2, 656,960 for the smaller maps, 1,456,181 for the heads; 4,337,013 in all,
//! the paper's 4.3 million.

use tch::{TchError, Tensor};

use super::super::coco::ClassMap;
use super::super::layers::{Activation, Build, Conv, Shape, Source};
use super::super::network::{Features, Network, Target};
use super::super::view::{Levels, Order, View};
use super::anchors::ANCHORS;
use super::backbone::{self, Block};
use super::{boxes, loss};
use crate::backbone::mobilenetv2::LAST;
use crate::{Image, ModelError, Object};

/// The block of the backbone whose inside is the first map.
const FIRST_MAP: usize = 14;

/// Channels of the six maps.
const MAPS: [i64; 6] = [576, LAST, 512, 256, 256, 128];

/// What the heads say about all anchors: those of the first map first, row by row, cell by cell.
#[derive(Debug)]
pub(in crate::detect) struct Answer {
    /// Logits `[n, anchors, 1 + classes]`; the first is that of there being nothing.
    pub(super) class: Tensor,
    /// `[n, anchors, 4]`, coded as in [`boxes`].
    pub(super) bbox: Tensor,
    /// Rows and columns of each map.
    pub(super) maps: Vec<(usize, usize)>,
}

/// SSDLite-MobileNetV2's network; what [`super::SsdLite`] detects with.
#[derive(Debug)]
pub struct SsdLiteNetwork {
    backbone: Vec<Block>,
    smaller: Vec<[Conv; 3]>,
    heads: Vec<Head>,
}

/// The two heads of a map.
#[derive(Debug)]
struct Head {
    class: [Conv; 2],
    bbox: [Conv; 2],
}

impl Network for SsdLiteNetwork {
    const NAME: &'static str = "ssdlite";
    const SIDE: usize = 320;
    /// Mean and deviation of ImageNet's pictures, on which published backbones are trained.
    const LEVELS: Levels = Levels {
        order: Order::Rgb,
        scale: [
            1.0 / (255.0 * 0.229),
            1.0 / (255.0 * 0.224),
            1.0 / (255.0 * 0.225),
        ],
        shift: [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
        outside: 128.0,
    };
    const BLOCKS: usize = backbone::BLOCKS + 1;
    const TRAINED: Build = Build::Moving;
    const CLASS_ROWS: &'static [(&'static str, i64)] = &[
        ("heads.0.class.point.", ANCHORS[0] as i64),
        ("heads.1.class.point.", ANCHORS[1] as i64),
        ("heads.2.class.point.", ANCHORS[2] as i64),
        ("heads.3.class.point.", ANCHORS[3] as i64),
        ("heads.4.class.point.", ANCHORS[4] as i64),
        ("heads.5.class.point.", ANCHORS[5] as i64),
    ];
    type Answer = Answer;

    fn new(source: &mut Source<'_>, classes: usize) -> Result<Self, String> {
        let backbone = backbone::blocks(source)?;
        let smaller = (2..MAPS.len()).map(|map| smaller(source, map));
        let smaller = smaller.collect::<Result<_, _>>()?;
        let heads = (0..MAPS.len()).map(|map| Head::new(source, map, classes));
        Ok(Self {
            backbone,
            smaller,
            heads: heads.collect::<Result<_, _>>()?,
        })
    }

    fn block_of(tensor: &str) -> Option<usize> {
        let smaller = tensor.starts_with("smaller.");
        backbone::block_of(tensor).or_else(|| smaller.then_some(backbone::BLOCKS))
    }

    fn view(image: &Image) -> Result<View, ModelError> {
        View::whole(image)
    }

    fn advance(&self, features: &mut Features, block: usize) -> Result<(), TchError> {
        let Some(layers) = self.backbone.get(block) else {
            for layers in &self.smaller {
                features.top = chain(layers, &features.top)?;
                features.levels.push(features.top.shallow_clone());
            }
            return Ok(());
        };
        let (output, inside) = layers.forward(&features.top)?;
        features.top = output;
        if block == FIRST_MAP {
            features.levels.extend(inside);
        } else if block + 1 == backbone::BLOCKS {
            features.levels.push(features.top.shallow_clone());
        }
        Ok(())
    }

    fn answer(&self, features: &Features) -> Result<Answer, TchError> {
        let (mut class, mut bbox, mut maps) = (Vec::new(), Vec::new(), Vec::new());
        for ((head, map), anchors) in self.heads.iter().zip(&features.levels).zip(ANCHORS) {
            let (_, _, h, w) = map.size4()?;
            maps.push((h as usize, w as usize));
            class.push(by_anchor(&chain(&head.class, map)?, anchors)?);
            bbox.push(by_anchor(&chain(&head.bbox, map)?, anchors)?);
        }
        Ok(Answer {
            class: Tensor::f_cat(&class, 1)?,
            bbox: Tensor::f_cat(&bbox, 1)?,
            maps,
        })
    }

    fn loss(answer: &Answer, targets: &[Target]) -> Result<Tensor, TchError> {
        loss::loss(answer, targets)
    }

    fn about(answer: &Answer, picture: usize) -> Result<Answer, TchError> {
        let part = |of: &Tensor| of.f_narrow(0, picture as i64, 1);
        Ok(Answer {
            class: part(&answer.class)?,
            bbox: part(&answer.bbox)?,
            maps: answer.maps.clone(),
        })
    }

    fn boxes(answer: &Answer, classes: &ClassMap) -> Result<Vec<Object>, TchError> {
        boxes::boxes(answer, classes)
    }
}

/// Layers to a map of half the side.
fn smaller(source: &mut Source<'_>, map: usize) -> Result<[Conv; 3], String> {
    let (inputs, outputs) = (MAPS[map - 1], MAPS[map]);
    let inner = outputs / 2;
    let mut layer = |name: &str, shape| {
        let name = format!("smaller.{}.{name}", map - 2);
        let norm = format!("{name}.norm");
        source.normed(&name, &norm, shape, Activation::Relu6)
    };
    Ok([
        layer("reduce", Shape::point(inner, inputs))?,
        layer("depth", Shape::depthwise(inner, 3).with_stride(2))?,
        layer("expand", Shape::point(outputs, inner))?,
    ])
}

impl Head {
    fn new(source: &mut Source<'_>, map: usize, classes: usize) -> Result<Self, String> {
        let (channels, anchors) = (MAPS[map], ANCHORS[map]);
        let mut head = |name: &str, outputs: usize| -> Result<[Conv; 2], String> {
            let name = format!("heads.{map}.{name}");
            let (depth, norm) = (format!("{name}.depth"), format!("{name}.depth.norm"));
            let shape = Shape::depthwise(channels, 3);
            let answers = Shape::point((anchors * outputs) as i64, channels);
            Ok([
                source.normed(&depth, &norm, shape, Activation::Relu6)?,
                source.biased(&format!("{name}.point"), answers)?,
            ])
        };
        Ok(Self {
            class: head("class", 1 + classes)?,
            bbox: head("bbox", 4)?,
        })
    }
}

fn chain(layers: &[Conv], x: &Tensor) -> Result<Tensor, TchError> {
    let mut x = x.shallow_clone();
    for layer in layers {
        x = layer.forward(&x)?;
    }
    Ok(x)
}

/// `[n, anchors · values, rows, columns]` as `[n, rows · columns · anchors, values]`.
fn by_anchor(x: &Tensor, anchors: usize) -> Result<Tensor, TchError> {
    let (n, channels, _, _) = x.size4()?;
    let values = channels / anchors as i64;
    x.f_permute([0, 2, 3, 1])?.f_reshape([n, -1, values])
}

#[cfg(test)]
mod tests {
    use super::super::SsdLite;
    use super::*;
    use crate::{Placement, coco_names};

    fn count(student: &SsdLite, wanted: impl Fn(&str) -> bool) -> usize {
        let parameters = student.weights.iter().filter(|(name, _)| {
            let parameter = name.ends_with(".weight") || name.ends_with(".bias");
            parameter && wanted(name)
        });
        parameters.map(|(_, tensor)| tensor.numel()).sum()
    }

    #[test]
    fn parameters_are_those_on_paper() {
        let student = SsdLite::new(&coco_names(), Placement::Cpu, 1).unwrap();
        assert_eq!(count(&student, backbone::owns), 2_223_872);
        assert_eq!(
            count(&student, |name| name.starts_with("smaller.")),
            656_960
        );
        assert_eq!(
            count(&student, |name| name.starts_with("heads.")),
            1_456_181
        );
        assert_eq!(count(&student, |_| true), 4_337_013);
    }

    #[test]
    fn six_maps_have_2034_anchors() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let student = SsdLite::new(&classes, Placement::Cpu, 1).unwrap();
        let answer = student.answer(&vec![0.5; 3 * 320 * 320], 320).unwrap();
        let sides = [20, 10, 5, 3, 2, 1].map(|side| (side, side));
        assert_eq!(answer.maps, sides);
        assert_eq!(answer.class.size(), [1, 2034, 3]);
        assert_eq!(answer.bbox.size(), [1, 2034, 4]);
    }

    #[test]
    fn new_classes_leave_the_logits_of_those_known_alone() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let knows = SsdLite::new(&names[..2], Placement::Cpu, 1).unwrap();
        let grown = knows.with_classes(&names, 2).unwrap();
        let pixels: Vec<f32> = (0..3 * 96 * 96).map(|i| (i % 97) as f32 / 97.0).collect();
        let before = knows.answer(&pixels, 96).unwrap();
        let after = grown.answer(&pixels, 96).unwrap();
        assert_eq!(after.class.size()[2], 4);
        // To rounding: how a convolution sums depends on how many outputs it has.
        let known = after.class.narrow(2, 0, 3);
        let worst = (known - before.class).abs().max().double_value(&[]);
        assert!(worst < 1e-5, "differs by {worst}");
        assert_eq!(after.bbox, before.bbox);
    }

    #[test]
    fn blocks_are_counted_from_the_input() {
        for (name, block) in [
            ("features.0.0.weight", Some(0)),
            ("features.18.1.bias", Some(18)),
            ("smaller.3.depth.norm.bias", Some(19)),
            ("heads.0.class.point.bias", None),
            ("features.19.0.weight", None),
        ] {
            assert_eq!(SsdLiteNetwork::block_of(name), block, "{name}");
        }
    }
}
