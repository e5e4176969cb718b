//! Convolutional networks without their heads: lists of blocks, built from named tensors.
//!
//! `conv` is the layer that all are made of, `block` what can be frozen and taken by itself, and
//! each family of networks has a file. Published networks name their tensors as torchvision does,
//! so that published weights need no table of names.

use tch::{TchError, Tensor};

mod block;
mod conv;
pub(crate) mod mobilenetv2;
mod pretrained;
mod resnet;
mod shufflenetv2;
mod shufflenetv2_release;
mod small;

pub(crate) use block::Block;
pub(crate) use conv::{Init, Maker};
pub(crate) use pretrained::matched;

use crate::{Architecture, IMAGENET, Normalisation};
use resnet::Groups;

/// The blocks of a network.
pub(crate) fn blocks<E>(
    architecture: Architecture,
    make: &mut Maker<'_, E>,
) -> Result<Vec<Block>, E> {
    match architecture {
        Architecture::Small => small::student(make),
        Architecture::Teacher => small::teacher(make),
        Architecture::MobileNetV2(width) => mobilenetv2::blocks(make, "", width),
        Architecture::ShuffleNetV2(width) => shufflenetv2::blocks(make, width),
        Architecture::ResNet18 => resnet::resnet18(make),
        Architecture::ResNet101 => resnet::resnet101(
            make,
            Groups {
                count: 1,
                width: 64,
            },
        ),
        Architecture::ResNeXt101 => resnet::resnet101(
            make,
            Groups {
                count: 32,
                width: 8,
            },
        ),
    }
}

/// Crops of about -1..1 as the network wants them. Published weights want pixels to have the mean
/// and deviation of ImageNet's; the networks of the scene take crops as they are.
pub(crate) fn normalised(architecture: Architecture, crops: &Tensor) -> Result<Tensor, TchError> {
    if matches!(architecture, Architecture::Small | Architecture::Teacher) {
        return Ok(crops.shallow_clone());
    }
    let Normalisation { mean, deviation } = IMAGENET;
    let channels = |values: [f32; 3]| {
        Tensor::f_from_slice(&values)?
            .f_reshape([1, 3, 1, 1])?
            .f_to_device(crops.device())
    };
    // (x + 1) / 2 are the pixels.
    let scale = channels(deviation.map(|deviation| 0.5 / deviation))?;
    let shift = channels([0, 1, 2].map(|i| (0.5 - mean[i]) / deviation[i]))?;
    crops.f_mul(&scale)?.f_add(&shift)
}

#[cfg(test)]
mod published;
