//! Labelled folders: manifests of our own and of others, good and bad.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use ekya::source::folder::{FolderConfig, FolderSource, Order};
use ekya::source::{Frame, Source};
use ekya_models::BBox;
use image::{Rgb, RgbImage};

/// A folder with pictures of 8×6 pixels, each of one grey, and a manifest.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(pictures: &[(&str, u8)], manifest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, grey) in pictures {
            RgbImage::from_pixel(8, 6, Rgb([*grey; 3]))
                .save(dir.path().join(name))
                .unwrap();
        }
        fs::write(dir.path().join("manifest.csv"), manifest).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self) -> FolderConfig {
        FolderConfig::new(self.path())
    }

    fn open(&self) -> FolderSource {
        FolderSource::open(&self.config()).unwrap()
    }

    /// What is wrong with it.
    fn refused(&self, config: &FolderConfig) -> String {
        let text = FolderSource::open(config).unwrap_err().to_string();
        assert!(text.contains("manifest.csv"), "{text}");
        text
    }
}

fn frames(source: &mut FolderSource) -> Vec<Frame> {
    std::iter::from_fn(|| source.next_frame().unwrap()).collect()
}

fn grey(frame: &Frame) -> u8 {
    frame.image.rgb()[0]
}

const AB: [(&str, u8); 2] = [("a.png", 10), ("b.png", 200)];

#[test]
fn whole_pictures_are_replayed_with_their_labels() {
    let folder = Folder::new(&AB, "time,image,label\n0.5,a.png,van\n7,b.png,bus\n");
    let mut source = FolderSource::open(&FolderConfig {
        fps: 2.0,
        ..folder.config()
    })
    .unwrap();
    assert_eq!(source.classes(), ["bus", "van"]);
    let frames = frames(&mut source);
    assert_eq!(frames.iter().map(grey).collect::<Vec<_>>(), [10, 200]);
    assert_eq!(frames[1].index, 1);
    assert_eq!(frames[1].at, Duration::from_millis(500));
    let truth = frames[0].truth.as_ref().unwrap();
    assert_eq!((truth.len(), truth[0].class, truth[0].score), (1, 1, 1.0));
    assert_eq!(
        frames[0].regions,
        [BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 8.0,
            y2: 6.0
        }]
    );
}

#[test]
fn rows_of_one_picture_are_one_frame_with_boxes_cut_at_the_edge() {
    let folder = Folder::new(
        &AB,
        "time,image,label,x1,y1,x2,y2\n0,a.png,car,1,1,3,3\n0,b.png,car,,,,\n0,a.png,bus,-5,2,4,60\n0,a.png,bus,20,20,30,30\n",
    );
    let frames = frames(&mut folder.open());
    assert_eq!(frames.len(), 2);
    let boxes = [
        BBox {
            x1: 1.0,
            y1: 1.0,
            x2: 3.0,
            y2: 3.0,
        },
        BBox {
            x1: 0.0,
            y1: 2.0,
            x2: 4.0,
            y2: 6.0,
        },
    ];
    assert_eq!(frames[0].regions, boxes);
    assert_eq!(
        frames[0]
            .truth
            .as_ref()
            .unwrap()
            .iter()
            .map(|o| o.class)
            .collect::<Vec<_>>(),
        [1, 0]
    );
    assert_eq!(
        frames[1].regions,
        [BBox {
            x1: 0.0,
            y1: 0.0,
            x2: 8.0,
            y2: 6.0
        }]
    );
}

#[test]
fn a_foreign_file_is_read_by_its_own_columns_and_filtered() {
    let folder = Folder::new(
        &AB,
        "file,camera,t_s,teacher_class\na.png,north,3,car\nb.png,south,1,bus\n",
    );
    let toml = format!(
        "path = {:?}\nclasses = [\"car\", \"bus\"]\nonly = {{ camera = [\"south\", \"east\"] }}\n\
         columns = {{ time = \"t_s\", image = \"file\", label = \"teacher_class\" }}",
        folder.path().join("manifest.csv")
    );
    let config: FolderConfig = toml::from_str(&toml).unwrap();
    let frames = frames(&mut FolderSource::open(&config).unwrap());
    assert_eq!(frames.iter().map(grey).collect::<Vec<_>>(), [200]);
    assert_eq!(frames[0].truth.as_ref().unwrap()[0].class, 1);
    assert!(toml::from_str::<FolderConfig>(&format!("{toml}\nfsp = 3")).is_err());
}

#[test]
fn time_that_goes_back_is_named_or_sorted() {
    let folder = Folder::new(&AB, "time,image,label\n5,a.png,car\n1,b.png,car\n");
    assert!(folder.refused(&folder.config()).contains("line 3"));
    let sorted = FolderConfig {
        order: Order::Time,
        ..folder.config()
    };
    let frames = frames(&mut FolderSource::open(&sorted).unwrap());
    assert_eq!(frames.iter().map(grey).collect::<Vec<_>>(), [200, 10]);
}

#[test]
fn unknown_labels_are_named_or_skipped() {
    let folder = Folder::new(&AB, "time,image,label\n0,a.png,car\n1,b.png,tram\n");
    let config = FolderConfig {
        classes: vec!["car".to_owned()],
        ..folder.config()
    };
    let error = folder.refused(&config);
    assert!(
        error.contains("line 3") && error.contains("tram"),
        "{error}"
    );
    let skipping = FolderConfig {
        skip_unknown: true,
        ..config
    };
    assert_eq!(frames(&mut FolderSource::open(&skipping).unwrap()).len(), 1);
}

#[test]
fn missing_pictures_are_counted_at_open() {
    let folder = Folder::new(
        &AB,
        "time,image,label\n0,a.png,car\n1,x.png,car\n2,y.png,car\n",
    );
    let error = folder.refused(&folder.config());
    assert!(
        error.contains("2 of 3") && error.contains("x.png") && error.contains("line 3"),
        "{error}"
    );
}

#[test]
fn a_picture_that_does_not_decode_is_left_out() {
    let folder = Folder::new(
        &AB,
        "time,image,label\n0,a.png,car\n1,bad.png,car\n2,b.png,car\n",
    );
    fs::write(folder.path().join("bad.png"), "no picture").unwrap();
    let mut source = folder.open();
    let frames = frames(&mut source);
    assert_eq!(
        frames.iter().map(|frame| frame.index).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(frames[1].at, Duration::from_millis(400));
    assert_eq!(source.undecodable(), 1);

    let only_bad = FolderConfig {
        only: [("image".to_owned(), vec!["bad.png".to_owned()])].into(),
        ..folder.config()
    };
    let mut source = FolderSource::open(&only_bad).unwrap();
    assert!(
        source
            .next_frame()
            .unwrap_err()
            .to_string()
            .contains("none of its 1 pictures")
    );
}

#[test]
fn bad_manifests_are_refused_with_the_line() {
    for (manifest, wrong) in [
        ("time,image,label\n", "lists no picture"),
        ("time,picture,label\n0,a.png,car\n", "no column \"image\""),
        ("time,image,label\nnoon,a.png,car\n", "line 2: not a time"),
        ("time,image,label\n0,,car\n", "line 2: no picture"),
        ("time,image,label\n0,a.png\n", "line: 2"),
        (
            "time,image,label,x1,y1,x2\n0,a.png,car,1,2,3\n",
            "no column \"y2\"",
        ),
        (
            "time,image,label,x1,y1,x2,y2\n0,a.png,car,3,1,1,3\n",
            "line 2: not a box",
        ),
        (
            "time,image,label,x1,y1,x2,y2\n0,a.png,car,1,1,3,\n",
            "line 2: not a box",
        ),
        (
            "time,image,label\n0,a.png,car\n1,a.png,car\n",
            "line 3: a.png has another time on line 2",
        ),
    ] {
        let folder = Folder::new(&AB, manifest);
        let error = folder.refused(&folder.config());
        assert!(error.contains(wrong), "{error}");
    }
    let folder = Folder::new(&AB, "time,image,label\n0,a.png,car\n");
    let nothing = FolderConfig {
        only: [("label".to_owned(), vec!["bus".to_owned()])].into(),
        ..folder.config()
    };
    assert!(folder.refused(&nothing).contains("`only`"));
    fs::remove_file(folder.path().join("manifest.csv")).unwrap();
    assert!(folder.refused(&folder.config()).contains("No such file"));
    let rate = FolderConfig {
        fps: 0.0,
        ..folder.config()
    };
    assert!(
        FolderSource::open(&rate)
            .unwrap_err()
            .to_string()
            .starts_with("fps = 0")
    );
}
