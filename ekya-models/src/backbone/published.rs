//! Tests that the backbones are the published networks: parameters, costs and shapes.

use std::collections::BTreeMap;

use tch::Tensor;

use super::{Block, Init, blocks};

/// Side of the pictures that published costs are for.
const SIDE: u64 = 224;
/// Classes of the published networks, of which ours have only the backbone.
const CLASSES: u64 = 1000;

/// A tensor's name and shape.
type Named<'a> = (&'a str, &'a [i64]);

/// A backbone without values and the shapes of its tensors.
fn shapes(name: &str) -> (Vec<Block>, BTreeMap<String, Vec<i64>>) {
    let mut shapes = BTreeMap::new();
    let mut note = |name: &str, shape: &[i64], _: Init| -> Result<Tensor, String> {
        match shapes.insert(name.to_owned(), shape.to_vec()) {
            None => Ok(Tensor::new()),
            Some(_) => Err(format!("two tensors are named {name}")),
        }
    };
    let blocks = blocks(name.parse().unwrap(), &mut note).unwrap();
    (blocks, shapes)
}

/// Parameters; running statistics are none.
fn parameters(shapes: &BTreeMap<String, Vec<i64>>) -> i64 {
    shapes
        .iter()
        .filter(|(name, _)| !name.contains("running"))
        .map(|(_, shape)| shape.iter().product::<i64>())
        .sum()
}

/// torchvision's parameters less those of its classifier, a layer from the last features to 1,000
/// classes (with one bias a class).
#[test]
fn backbones_have_the_published_parameters() {
    for (name, published) in [
        ("resnet18", 11_689_512),
        ("resnet101", 44_549_160),
        ("resnext101", 88_791_336),
        ("mobilenetv2", 3_504_872),
        ("shufflenetv2:0.5", 1_366_792),
        ("shufflenetv2:1.0", 2_278_604),
        ("shufflenetv2:1.5", 3_503_624),
        ("shufflenetv2:2.0", 7_393_996),
    ] {
        let (blocks, shapes) = shapes(name);
        let classifier = 1000 * blocks.last().unwrap().channels() + 1000;
        assert_eq!(parameters(&shapes), published - classifier, "{name}");
    }
}

/// Published in thousands only (tonylins/pytorch-mobilenet-v2).
#[test]
fn narrower_mobilenets_have_the_published_parameters() {
    for (width, thousands) in [(0.75, 2_636), (0.5, 1_968), (0.35, 1_677), (0.25, 1_519)] {
        let (_, shapes) = shapes(&format!("mobilenetv2:{width}"));
        let whole = parameters(&shapes) + 1281 * 1000;
        assert_eq!(whole / 1000, thousands, "{width}");
    }
}

/// Published in hundredths of 10⁹ (torchvision), and in millions (the authors of MobileNetV2).
#[test]
fn backbones_have_the_published_costs() {
    for (name, millions, within) in [
        ("resnet18", 1814.0, 5.0),
        ("resnet101", 7801.0, 5.0),
        ("resnext101", 16_414.0, 5.0),
        ("shufflenetv2:0.5", 40.0, 5.0),
        ("shufflenetv2:1.0", 145.0, 5.0),
        ("shufflenetv2:1.5", 296.0, 5.0),
        ("shufflenetv2:2.0", 583.0, 5.0),
        ("mobilenetv2", 300.0, 2.0),
        ("mobilenetv2:1.4", 582.0, 2.0),
        ("mobilenetv2:0.75", 209.0, 2.0),
        ("mobilenetv2:0.5", 97.0, 2.0),
        ("mobilenetv2:0.35", 59.0, 2.0),
    ] {
        let (blocks, _) = shapes(name);
        let (mut cost, mut side) = (0, SIDE);
        for block in &blocks {
            let (own, out) = block.cost(side);
            (cost, side) = (cost + own, out);
        }
        assert_eq!(side, SIDE / 32, "{name}");
        let classifier = CLASSES * blocks.last().unwrap().channels().unsigned_abs();
        let counted = (cost + classifier) as f64 / 1e6;
        assert!((counted - millions).abs() < within, "{name}: {counted}");
    }
}

#[test]
fn tensors_have_the_published_names_and_shapes() {
    let cases: [(&str, usize, &[Named]); 5] = [
        (
            "resnet18",
            100,
            &[
                ("conv1.weight", &[64, 3, 7, 7]),
                ("bn1.running_var", &[64]),
                ("layer1.1.conv2.weight", &[64, 64, 3, 3]),
                ("layer2.0.downsample.0.weight", &[128, 64, 1, 1]),
                ("layer4.1.bn2.bias", &[512]),
            ],
        ),
        (
            "resnet101",
            520,
            &[
                ("layer1.0.conv1.weight", &[64, 64, 1, 1]),
                ("layer1.0.downsample.1.weight", &[256]),
                ("layer3.22.conv2.weight", &[256, 256, 3, 3]),
                ("layer4.2.conv3.weight", &[2048, 512, 1, 1]),
            ],
        ),
        (
            "resnext101",
            520,
            &[
                ("layer1.0.conv1.weight", &[256, 64, 1, 1]),
                ("layer1.0.conv2.weight", &[256, 8, 3, 3]),
                ("layer3.22.conv2.weight", &[1024, 32, 3, 3]),
                ("layer4.2.conv3.weight", &[2048, 2048, 1, 1]),
            ],
        ),
        (
            "mobilenetv2",
            260,
            &[
                ("features.0.0.weight", &[32, 3, 3, 3]),
                ("features.1.conv.0.0.weight", &[32, 1, 3, 3]),
                ("features.1.conv.1.weight", &[16, 32, 1, 1]),
                ("features.1.conv.2.bias", &[16]),
                ("features.2.conv.0.0.weight", &[96, 16, 1, 1]),
                ("features.14.conv.1.1.running_mean", &[576]),
                ("features.17.conv.2.weight", &[320, 960, 1, 1]),
                ("features.17.conv.3.weight", &[320]),
                ("features.18.0.weight", &[1280, 320, 1, 1]),
            ],
        ),
        (
            "shufflenetv2:1.0",
            280,
            &[
                ("conv1.0.weight", &[24, 3, 3, 3]),
                ("stage2.0.branch1.0.weight", &[24, 1, 3, 3]),
                ("stage2.0.branch1.2.weight", &[58, 24, 1, 1]),
                ("stage2.0.branch2.0.weight", &[58, 24, 1, 1]),
                ("stage3.7.branch2.3.weight", &[116, 1, 3, 3]),
                ("stage4.3.branch2.6.running_mean", &[232]),
                ("conv5.0.weight", &[1024, 464, 1, 1]),
            ],
        ),
    ];
    for (network, count, some) in cases {
        let (_, shapes) = shapes(network);
        assert_eq!(shapes.len(), count, "{network}");
        for (name, shape) in some {
            assert_eq!(shapes[*name], *shape, "{network}: {name}");
        }
    }
}
