//! A folder of labelled pictures, listed in a CSV file and replayed at a given rate.
//!
//! One row is one object: a time, a picture, a label, and a box where the object is not the whole
//! picture. Rows of the same picture make one frame.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ekya_models::{BBox, Image, Object};
use image::ImageReader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Frame, Source, SourceError};

/// Name of the CSV file when a folder is given.
const MANIFEST: &str = "manifest.csv";

/// A labelled folder, as configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The CSV file, or the folder that holds it as `manifest.csv`.
    #[schemars(extend("format" = "path"))]
    pub path: PathBuf,
    /// Frames a second at which the pictures are replayed, above 0 and at most 1000.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Names of the columns of the CSV file, where they are others than usual.
    #[serde(default)]
    pub columns: Columns,
    /// Only rows whose value in each of these columns is one of those listed, as in
    /// `{ weather = ["clear", "rain"] }`; all when empty.
    #[serde(default)]
    pub only: BTreeMap<String, Vec<String>>,
    /// Which order the pictures are replayed in.
    #[serde(default)]
    pub order: Order,
    /// Class names, by class index (from 0). When empty: the labels of the rows used, sorted.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Leaves out rows whose label is not among `classes`, where it is an error otherwise. A picture
    /// with no other rows is left out with them.
    #[serde(default)]
    pub skip_unknown: bool,
}

fn default_fps() -> f64 {
    5.0
}

impl FolderConfig {
    /// `path` with every default.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            fps: default_fps(),
            columns: Columns::default(),
            only: BTreeMap::new(),
            order: Order::default(),
            classes: Vec::new(),
            skip_unknown: false,
        }
    }
}

/// Names of the columns, so that a CSV file made for something else can be read as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The time in seconds; only the order counts, replay goes by `fps`.
    pub time: String,
    /// Path of the picture (JPEG or PNG), relative to the CSV file.
    pub image: String,
    /// Name of the class.
    pub label: String,
    /// Left edge of the box in pixels. Without the four columns, or with all four empty in a row,
    /// the object is the whole picture.
    pub x1: String,
    /// Upper edge of the box in pixels.
    pub y1: String,
    /// Right edge of the box in pixels.
    pub x2: String,
    /// Lower edge of the box in pixels.
    pub y2: String,
}

impl Default for Columns {
    fn default() -> Self {
        let name = str::to_owned;
        Self {
            time: name("time"),
            image: name("image"),
            label: name("label"),
            x1: name("x1"),
            y1: name("y1"),
            x2: name("x2"),
            y2: name("y2"),
        }
    }
}

/// The order of replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Order {
    /// As listed; a time that goes back is an error.
    #[default]
    Manifest,
    /// By time; rows of the same time as listed.
    Time,
}

/// Frames of a labelled folder.
#[derive(Debug)]
pub struct FolderSource {
    manifest: PathBuf,
    pictures: Vec<Picture>,
    classes: Vec<String>,
    fps: f64,
    position: usize,
    frames: u64,
    undecodable: u64,
}

/// One picture and what the manifest says of it.
#[derive(Debug)]
struct Picture {
    path: PathBuf,
    time: f64,
    /// First line of the manifest that names it.
    line: u64,
    objects: Vec<Labelled>,
}

#[derive(Debug)]
struct Labelled {
    class: usize,
    /// `None` for the whole picture.
    bbox: Option<BBox>,
}

/// One row of the manifest, read but not yet looked up.
struct Row {
    line: u64,
    time: f64,
    image: String,
    label: String,
    bbox: Option<BBox>,
}

impl FolderSource {
    /// Reads the manifest and checks that every picture is there; pictures are decoded one by one
    /// as they are asked for.
    ///
    /// # Errors
    /// [`SourceError::Setting`] for a rate out of range; [`SourceError::File`], with the line, for a
    /// manifest that cannot be read or used, and for missing pictures.
    pub fn open(config: &FolderConfig) -> Result<Self, SourceError> {
        if !(config.fps > 0.0 && config.fps <= 1000.0) {
            let expected = "above 0 and at most 1000 frames a second";
            return Err(SourceError::Setting {
                setting: "fps",
                value: config.fps.to_string(),
                expected,
            });
        }
        let manifest = if config.path.is_dir() {
            config.path.join(MANIFEST)
        } else {
            config.path.clone()
        };
        let read = || -> Result<_, String> {
            let rows = read_rows(&manifest, config)?;
            let classes = classes(&rows, config);
            let mut pictures = pictures(rows, &classes, &manifest, config.skip_unknown)?;
            put_in_order(&mut pictures, config.order)?;
            check_present(&pictures)?;
            Ok((classes, pictures))
        };
        let (classes, pictures) = read().map_err(|reason| file_error(&manifest, reason))?;
        Ok(Self {
            manifest,
            pictures,
            classes,
            fps: config.fps,
            position: 0,
            frames: 0,
            undecodable: 0,
        })
    }

    /// Class names, by class index.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Pictures in the manifest, decodable or not.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.pictures.len()
    }

    /// Pictures left out so far because they could not be decoded.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }
}

impl Source for FolderSource {
    /// Frame times leave a hole where a picture could not be decoded; frame indices do not.
    fn next_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        while let Some(picture) = self.pictures.get(self.position) {
            let at = Duration::from_secs_f64(self.position as f64 / self.fps);
            self.position += 1;
            match decode(&picture.path) {
                Ok(image) => {
                    let truth = objects(picture, &image);
                    let regions = truth.iter().map(|object| object.bbox).collect();
                    let index = self.frames;
                    self.frames += 1;
                    return Ok(Some(Frame {
                        index,
                        at,
                        image: Arc::new(image),
                        regions,
                        truth: Some(truth),
                    }));
                }
                Err(reason) => {
                    self.undecodable += 1;
                    let path = picture.path.display();
                    tracing::warn!(%path, line = picture.line, reason, "picture left out");
                }
            }
        }
        if self.frames == 0 {
            let reason = format!("none of its {} pictures can be decoded", self.undecodable);
            return Err(file_error(&self.manifest, reason));
        }
        Ok(None)
    }

    fn is_live(&self) -> bool {
        false
    }
}

fn file_error(path: &Path, reason: String) -> SourceError {
    SourceError::File {
        path: path.display().to_string(),
        reason,
    }
}

/// Where the columns are in this file.
struct Positions {
    time: usize,
    image: usize,
    label: usize,
    bbox: Option<[usize; 4]>,
    only: Vec<(usize, BTreeSet<String>)>,
}

impl Positions {
    fn find(header: &csv::StringRecord, config: &FolderConfig) -> Result<Self, String> {
        let position = |name: &str| header.iter().position(|column| column.trim() == name);
        let required = |name: &str| {
            position(name).ok_or_else(|| {
                format!(
                    "no column \"{name}\"; it has {}",
                    header.iter().collect::<Vec<_>>().join(", ")
                )
            })
        };
        let columns = &config.columns;
        let sides = [&columns.x1, &columns.y1, &columns.x2, &columns.y2];
        let standard = Columns::default();
        let boxes_named = sides != [&standard.x1, &standard.y1, &standard.x2, &standard.y2];
        let bbox = if boxes_named || sides.iter().any(|name| position(name).is_some()) {
            let [x1, y1, x2, y2] = sides.map(|name| required(name));
            Some([x1?, y1?, x2?, y2?])
        } else {
            None
        };
        let only = config
            .only
            .iter()
            .map(|(name, allowed)| Ok((required(name)?, allowed.iter().cloned().collect())));
        Ok(Self {
            time: required(&columns.time)?,
            image: required(&columns.image)?,
            label: required(&columns.label)?,
            bbox,
            only: only.collect::<Result<_, String>>()?,
        })
    }

    fn wants(&self, record: &csv::StringRecord) -> bool {
        self.only
            .iter()
            .all(|(column, allowed)| allowed.contains(field(record, *column)))
    }

    fn row(&self, record: &csv::StringRecord) -> Result<Row, String> {
        let line = record.position().map_or(0, csv::Position::line);
        let failed = |what: &str, value: &str| format!("line {line}: {what} \"{value}\"");
        let time = field(record, self.time);
        let seconds = time.parse::<f64>().ok().filter(|t| t.is_finite());
        let image = field(record, self.image);
        if image.is_empty() {
            return Err(failed("no picture named:", image));
        }
        Ok(Row {
            line,
            time: seconds.ok_or_else(|| failed("not a time in seconds:", time))?,
            image: image.to_owned(),
            label: field(record, self.label).to_owned(),
            bbox: self
                .bbox(record)
                .map_err(|value| failed("not a box of x1 < x2, y1 < y2:", &value))?,
        })
    }

    /// The box of a row; the text of a bad one as the error.
    fn bbox(&self, record: &csv::StringRecord) -> Result<Option<BBox>, String> {
        let Some(positions) = self.bbox else {
            return Ok(None);
        };
        let texts = positions.map(|column| field(record, column));
        if texts.iter().all(|text| text.is_empty()) {
            return Ok(None);
        }
        let [x1, y1, x2, y2] = texts.map(|text| text.parse().unwrap_or(f32::NAN));
        let fits = [x1, y1, x2, y2].iter().all(|side| side.is_finite()) && x1 < x2 && y1 < y2;
        if fits {
            Ok(Some(BBox { x1, y1, x2, y2 }))
        } else {
            Err(texts.join(","))
        }
    }
}

fn field(record: &csv::StringRecord, column: usize) -> &str {
    record.get(column).unwrap_or("").trim()
}

fn read_rows(manifest: &Path, config: &FolderConfig) -> Result<Vec<Row>, String> {
    let mut reader = csv::Reader::from_path(manifest).map_err(|error| error.to_string())?;
    let positions = Positions::find(reader.headers().map_err(|error| error.to_string())?, config)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        if positions.wants(&record) {
            rows.push(positions.row(&record)?);
        }
    }
    if rows.is_empty() {
        return Err(if config.only.is_empty() {
            "it lists no picture"
        } else {
            "no row passes `only`"
        }
        .to_owned());
    }
    Ok(rows)
}

fn classes(rows: &[Row], config: &FolderConfig) -> Vec<String> {
    if !config.classes.is_empty() {
        return config.classes.clone();
    }
    let labels: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    labels.into_iter().map(str::to_owned).collect()
}

/// Brings the rows of each picture together, in the order in which pictures are first named.
fn pictures(
    rows: Vec<Row>,
    classes: &[String],
    manifest: &Path,
    skip_unknown: bool,
) -> Result<Vec<Picture>, String> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let mut pictures: Vec<Picture> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for row in rows {
        let Some(class) = classes.iter().position(|class| *class == row.label) else {
            if skip_unknown {
                continue;
            }
            return Err(format!(
                "line {}: label \"{}\" is not in `classes`",
                row.line, row.label
            ));
        };
        let object = Labelled {
            class,
            bbox: row.bbox,
        };
        if let Some(&i) = known.get(&row.image) {
            if pictures[i].time != row.time {
                return Err(format!(
                    "line {}: {} has another time on line {}",
                    row.line, row.image, pictures[i].line
                ));
            }
            pictures[i].objects.push(object);
            continue;
        }
        let path = folder.join(&row.image);
        pictures.push(Picture {
            path,
            time: row.time,
            line: row.line,
            objects: vec![object],
        });
        known.insert(row.image, pictures.len() - 1);
    }
    if pictures.is_empty() {
        Err("no label is in `classes`".to_owned())
    } else {
        Ok(pictures)
    }
}

fn put_in_order(pictures: &mut [Picture], order: Order) -> Result<(), String> {
    if order == Order::Time {
        pictures.sort_by(|a, b| a.time.total_cmp(&b.time));
        return Ok(());
    }
    let backwards = |pair: &&[Picture]| pair[1].time < pair[0].time;
    pictures.windows(2).find(backwards).map_or(Ok(()), |pair| {
        Err(format!(
            "line {}: time {} comes after {}; sort the file or set order = \"time\"",
            pair[1].line, pair[1].time, pair[0].time
        ))
    })
}

fn check_present(pictures: &[Picture]) -> Result<(), String> {
    let mut missing = pictures.iter().filter(|picture| !picture.path.is_file());
    let Some(first) = missing.next() else {
        return Ok(());
    };
    let count = 1 + missing.count();
    let path = first.path.display();
    Err(format!(
        "{count} of {} pictures are missing, first {path} (line {})",
        pictures.len(),
        first.line
    ))
}

fn decode(path: &Path) -> Result<Image, String> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let picture = reader
        .map_err(|error| error.to_string())?
        .decode()
        .map_err(|error| error.to_string())?;
    let rgb = picture.into_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Image::new(width, height, rgb.into_raw()).map_err(|error| error.to_string())
}

/// The objects of a picture; boxes are cut at its edges, and those outside it are left out.
fn objects(picture: &Picture, image: &Image) -> Vec<Object> {
    let whole = BBox {
        x1: 0.0,
        y1: 0.0,
        x2: image.width() as f32,
        y2: image.height() as f32,
    };
    let cut = |bbox: BBox| BBox {
        x1: bbox.x1.max(whole.x1),
        y1: bbox.y1.max(whole.y1),
        x2: bbox.x2.min(whole.x2),
        y2: bbox.y2.min(whole.y2),
    };
    let objects = picture.objects.iter().map(|labelled| Object {
        class: labelled.class,
        score: 1.0,
        bbox: labelled.bbox.map_or(whole, cut),
    });
    objects.filter(|object| object.bbox.area() > 0.0).collect()
}
