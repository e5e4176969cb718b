//! A stream's newest answered frame, for people: with its boxes beside it, or as it is.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Json, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ekya_models::{Image, Object};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageError};
use serde::Serialize;

use super::live::Face;
use super::routes::Refusal;
use crate::stream::Shown;

const QUALITY: u8 = 70;
/// A stream keeps a frame only once it is asked for one; so many looks wait for the first.
const LOOKS: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A picture with what was found on it.
#[derive(Serialize)]
struct PictureView {
    frame: u64,
    /// Unix seconds.
    at: f64,
    width: usize,
    height: usize,
    objects: Vec<ObjectView>,
    /// A `data:` address of a JPEG.
    image: String,
}

/// An object, in pixels of the picture.
#[derive(Serialize)]
struct ObjectView {
    class: String,
    score: f32,
    x1: f32,
    y1: f32,
    x2: f32,
    y2: f32,
}

pub(super) async fn json(face: &Face) -> Result<Response, Refusal> {
    let shown = newest(face).await?;
    let jpeg = encode(&shown.frame.image).await?;
    Ok(Json(PictureView::of(face, &shown, &jpeg)).into_response())
}

pub(super) async fn jpeg(face: &Face) -> Result<Response, Refusal> {
    let shown = newest(face).await?;
    let jpeg = encode(&shown.frame.image).await?;
    let headers = [(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Bytes::from(jpeg)).into_response())
}

async fn newest(face: &Face) -> Result<Shown, Refusal> {
    for _ in 0..LOOKS {
        if let Some(shown) = face.intake.show() {
            return Ok(shown);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let what = "no frame was answered in the last two seconds";
    Err(Refusal::new(StatusCode::NOT_FOUND, what))
}

/// Some milliseconds a megapixel: not on the thread that answers everybody.
async fn encode(picture: &Arc<Image>) -> Result<Vec<u8>, Refusal> {
    let failed = |error: &dyn std::error::Error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    };
    let picture = Arc::clone(picture);
    let encoded = tokio::task::spawn_blocking(move || {
        let mut jpeg = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
        let (width, height) = (picture.width() as u32, picture.height() as u32);
        encoder.write_image(picture.rgb(), width, height, ExtendedColorType::Rgb8)?;
        Ok(jpeg)
    });
    let encoded = encoded.await.map_err(|error| failed(&error))?;
    encoded.map_err(|error: ImageError| failed(&error))
}

impl PictureView {
    fn of(face: &Face, shown: &Shown, jpeg: &[u8]) -> Self {
        let object = |object: &Object| ObjectView {
            class: face.classes.get(object.class).cloned().unwrap_or_default(),
            score: object.score,
            x1: object.bbox.x1,
            y1: object.bbox.y1,
            x2: object.bbox.x2,
            y2: object.bbox.y2,
        };
        let objects = shown.answer.iter().flat_map(|answer| &answer.objects);
        Self {
            frame: shown.frame.index,
            at: shown.at,
            width: shown.frame.image.width(),
            height: shown.frame.image.height(),
            objects: objects.map(object).collect(),
            image: format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg)),
        }
    }
}
