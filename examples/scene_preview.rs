//! Draws contact sheets of the procedural scene: a row for each preset, time running to the right,
//! true boxes in the colour of their class; and a sheet of individuals by class.
//!
//! ```sh
//! cargo run --example scene_preview -- --out preview
//! ```

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use ekya::source::scene::{Backdrop, CLASSES, Keyframe, Preset, SceneConfig, SceneSource};
use ekya::source::{Frame, Source};
use ekya_models::BBox;
use image::{Rgb, RgbImage, imageops};

/// Length of the drift that is shown, in seconds.
const DRIFT_SECONDS: f64 = 60.0;
/// Frames shown of a preset.
const COLUMNS: usize = 6;
/// Enlargement of every pixel.
const ZOOM: u32 = 2;
/// Colours by class index.
const COLORS: [[u8; 3]; 8] = [
    [255, 70, 70],
    [255, 160, 40],
    [255, 240, 60],
    [110, 230, 80],
    [60, 220, 220],
    [90, 130, 255],
    [200, 110, 255],
    [255, 130, 200],
];

/// Draws contact sheets of the procedural scene.
#[derive(Parser)]
struct Args {
    /// Folder for the sheets; made when absent.
    #[arg(long, default_value = "preview")]
    out: PathBuf,
    /// Seed of the scenes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("making the folder {}", args.out.display()))?;
    for backdrop in [Backdrop::Road, Backdrop::Square] {
        let sheet = presets_sheet(backdrop, args.seed)?;
        save(
            &sheet,
            &args.out.join(format!("{backdrop:?}.png").to_lowercase()),
        )?;
    }
    save(&classes_sheet(args.seed)?, &args.out.join("classes.png"))?;
    time_frames(args.seed)?;
    for (name, [r, g, b]) in CLASSES.iter().zip(COLORS) {
        eprintln!("\x1b[38;2;{r};{g};{b}m■\x1b[0m {name}");
    }
    Ok(())
}

fn save(sheet: &RgbImage, path: &PathBuf) -> Result<()> {
    sheet
        .save(path)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// One row a preset, one column a moment of its drift.
fn presets_sheet(backdrop: Backdrop, seed: u64) -> Result<RgbImage> {
    let base = SceneConfig {
        seed,
        backdrop,
        fps: 10.0,
        ..SceneConfig::default()
    };
    let (width, height) = (base.width as u32 * ZOOM, base.height as u32 * ZOOM);
    let mut sheet = RgbImage::new(width * COLUMNS as u32, height * Preset::ALL.len() as u32);
    for (row, preset) in Preset::ALL.into_iter().enumerate() {
        let config = SceneConfig {
            preset: Some(preset),
            drift_seconds: DRIFT_SECONDS,
            seed: seed + row as u64,
            ..base.clone()
        };
        let every = (DRIFT_SECONDS * config.fps / COLUMNS as f64) as u64;
        let mut source = SceneSource::new(config)?;
        for column in 0..COLUMNS {
            let frame = frame_at(&mut source, (column as u64 + 1) * every - 1)?;
            let picture = with_boxes(&frame)?;
            let (x, y) = (
                column as i64 * i64::from(width),
                row as i64 * i64::from(height),
            );
            imageops::replace(&mut sheet, &picture, x, y);
        }
    }
    Ok(sheet)
}

/// Individuals of every class, a row a class: the usual looks on the left, the other city's on the
/// right, as the regions of frames cut out at 32 x 32.
fn classes_sheet(seed: u64) -> Result<RgbImage> {
    const SIDE: u32 = 32 * ZOOM;
    const EACH: usize = 10;
    let mut sheet = RgbImage::new(SIDE * 2 * EACH as u32, SIDE * CLASSES.len() as u32);
    for (row, class) in CLASSES.iter().enumerate() {
        for column in 0..2 * EACH {
            let look = if column < EACH { 0.0 } else { 1.0 };
            let only = Keyframe {
                look: Some(look),
                class_mix: Some([((*class).to_owned(), 1.0)].into()),
                ..Keyframe::default()
            };
            let mut source = SceneSource::new(SceneConfig {
                seed: seed + column as u64,
                drift: vec![only],
                ..SceneConfig::default()
            })?;
            let frame = frame_at(&mut source, 0)?;
            let Some(region) = frame.regions.first() else {
                continue;
            };
            let crop = crop(&frame, region)?;
            let crop = imageops::resize(&crop, SIDE, SIDE, imageops::FilterType::Triangle);
            imageops::replace(
                &mut sheet,
                &crop,
                i64::from(SIDE) * column as i64,
                i64::from(SIDE) * row as i64,
            );
        }
    }
    Ok(sheet)
}

/// Advances a source to the frame with this index.
fn frame_at(source: &mut SceneSource, index: u64) -> Result<Frame> {
    loop {
        let frame = source.next_frame()?.context("a scene never ends")?;
        if frame.index >= index {
            return Ok(frame);
        }
    }
}

fn picture(frame: &Frame) -> Result<RgbImage> {
    let (width, height) = (frame.image.width() as u32, frame.image.height() as u32);
    RgbImage::from_raw(width, height, frame.image.rgb().to_vec()).context("a whole picture")
}

fn crop(frame: &Frame, region: &BBox) -> Result<RgbImage> {
    let (x, y) = (region.x1 as u32, region.y1 as u32);
    let (right, bottom) = (region.x2.ceil() as u32, region.y2.ceil() as u32);
    Ok(imageops::crop_imm(&picture(frame)?, x, y, right - x, bottom - y).to_image())
}

/// The frame enlarged, with the true boxes in the colours of their classes.
fn with_boxes(frame: &Frame) -> Result<RgbImage> {
    let small = picture(frame)?;
    let (width, height) = (small.width() * ZOOM, small.height() * ZOOM);
    let mut large = imageops::resize(&small, width, height, imageops::FilterType::Nearest);
    for object in frame.truth.iter().flatten() {
        let color = Rgb(COLORS[object.class]);
        let place = |value: f32, max: u32| ((value * ZOOM as f32) as u32).min(max - 1);
        let (x1, x2) = (place(object.bbox.x1, width), place(object.bbox.x2, width));
        let (y1, y2) = (place(object.bbox.y1, height), place(object.bbox.y2, height));
        for x in x1..=x2 {
            large.put_pixel(x, y1, color);
            large.put_pixel(x, y2, color);
        }
        for y in y1..=y2 {
            large.put_pixel(x1, y, color);
            large.put_pixel(x2, y, color);
        }
    }
    Ok(large)
}

/// Says how long a frame takes, preset by preset.
fn time_frames(seed: u64) -> Result<()> {
    const FRAMES: u32 = 1000;
    for preset in Preset::ALL {
        let config = SceneConfig {
            seed,
            preset: Some(preset),
            drift_seconds: 25.0,
            ..SceneConfig::default()
        };
        let started = Instant::now();
        let mut source = SceneSource::new(config)?;
        let construction = started.elapsed();
        let started = Instant::now();
        for _ in 0..FRAMES {
            source.next_frame()?;
        }
        let each = started.elapsed() / FRAMES;
        println!(
            "{:<10} {each:?} a frame, {construction:?} to construct",
            preset.name()
        );
    }
    Ok(())
}
