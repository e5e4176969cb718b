//! What a stream needs to go on elsewhere, as one piece of bytes: its newest checkpoint and the newest of
//! its labelled frames, as the state folder holds them (a tar archive).
//!
//! What is unpacked is looked through when the stream starts from it: a checkpoint that does not fit its
//! digest is not used.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ekya_models::CheckpointStore;

use crate::keep::StreamFolder;

/// Bytes of a bundle, at most: what a node has in memory while it sends or takes one.
pub(super) const BUNDLE_MAX: usize = 512 << 20;

/// Folders of a bundle.
const CHECKPOINTS: &str = "checkpoints";
const FRAMES: &str = "frames";

/// Packs what a state folder keeps of a stream, with the newest frames as far as they fit into so many
/// bytes.
///
/// # Errors
/// What the system says of a file; a checkpoint that is too large.
pub(super) fn pack(state: &Path, stream: &str, frames_max: u64) -> io::Result<Vec<u8>> {
    let folder = StreamFolder::of(state, stream);
    let mut archive = tar::Builder::new(Vec::new());
    let store = CheckpointStore::open(&folder.checkpoints, 1).map_err(io::Error::other)?;
    let (newest, _) = store.newest().map_err(io::Error::other)?;
    if let Some(newest) = newest {
        if newest.manifest.weights_bytes > (BUNDLE_MAX / 2) as u64 {
            return Err(io::Error::other("its weights are too large to travel"));
        }
        // The manifest last: what has one has its weights.
        for path in [
            newest.weights.clone(),
            newest.weights.with_extension("json"),
        ] {
            append(&mut archive, CHECKPOINTS, &path)?;
        }
    }
    for path in newest_frames(&folder.frames, frames_max)? {
        match append(&mut archive, FRAMES, &path) {
            // The keeper, which does not wait for this, has just let it go. Nothing was written of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            appended => appended?,
        }
    }
    archive.into_inner()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, folder: &str, path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    archive.append_path_with_name(path, Path::new(folder).join(name))
}

/// Files of the newest frames: of each the picture, then the labels.
fn newest_frames(folder: &Path, bytes_max: u64) -> io::Result<Vec<PathBuf>> {
    let mut frames: Vec<(SystemTime, u64, [PathBuf; 2])> = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let labels = entry?.path();
        let picture = labels.with_extension("png");
        // Frames come and go meanwhile.
        if labels
            .extension()
            .is_none_or(|extension| extension != "json")
        {
            continue;
        }
        if let (Ok(of_labels), Ok(of_picture)) = (labels.metadata(), picture.metadata()) {
            let bytes = of_labels.len() + of_picture.len();
            frames.push((of_labels.modified()?, bytes, [picture, labels]));
        }
    }
    frames.sort_by(|a, b| b.cmp(a));
    let mut left = bytes_max;
    let fits = |(_, bytes, files): (_, u64, [PathBuf; 2])| {
        left = left.checked_sub(bytes)?;
        Some(files)
    };
    Ok(frames.into_iter().map_while(fits).flatten().collect())
}

/// Unpacks a bundle into `folder`, whatever was there before, whole or not at all.
///
/// # Errors
/// What the system says; an archive that is none, or holds something else.
pub(super) fn unpack(bundle: &[u8], folder: &Path) -> io::Result<()> {
    let parent = folder.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    let new = tempfile::Builder::new()
        .prefix(".incoming")
        .tempdir_in(parent)?;
    for inside in [CHECKPOINTS, FRAMES] {
        fs::create_dir(new.path().join(inside))?;
    }
    let mut archive = tar::Archive::new(bundle);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if !is_ours(&path) || !entry.header().entry_type().is_file() {
            return Err(io::Error::other(format!("it holds {}", path.display())));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        fs::write(new.path().join(path), bytes)?;
    }
    remove(folder)?;
    fs::rename(new.keep(), folder)
}

/// Whether it is a file of a checkpoint or a frame, and nothing that leads elsewhere.
fn is_ours(path: &Path) -> bool {
    let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
    let Some([folder, file]) = parts.as_deref() else {
        return false;
    };
    let known = [CHECKPOINTS, FRAMES].contains(folder);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
    known && !file.starts_with('.') && file.chars().all(plain)
}

/// Removes a folder, if it is there.
///
/// # Errors
/// What the system says.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state folder in which a stream has frames of so many bytes.
    fn with_frames(state: &Path, sizes: &[usize]) {
        let folder = StreamFolder::of(state, "gate").frames;
        fs::create_dir_all(&folder).unwrap();
        for (index, size) in sizes.iter().enumerate() {
            fs::write(folder.join(format!("{index}.png")), vec![0; *size]).unwrap();
            fs::write(folder.join(format!("{index}.json")), b"").unwrap();
        }
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_packed_is_unpacked_in_the_place_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        with_frames(folder.path(), &[10, 10, 10]);
        let bundle = pack(folder.path(), "gate", 20).unwrap();
        let to = folder.path().join("copies/gate");
        unpack(&bundle, &to).unwrap();
        assert_eq!(files(&to.join("frames")).len(), 4, "two frames fit");
        let none = pack(folder.path(), "yard", 20).unwrap();
        unpack(&none, &to).unwrap();
        assert_eq!(files(&to), ["checkpoints", "frames"]);
        assert!(files(&to.join("frames")).is_empty());
        assert_eq!(
            files(&folder.path().join("copies")),
            ["gate"],
            "nothing is left over"
        );
    }

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("copies/gate");
        for name in ["../x", "frames/../x", "frames/.x", "other/x", "frames"] {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            // Names that `append` itself would refuse.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, &b"x"[..]).unwrap();
            let bundle = archive.into_inner().unwrap();
            unpack(&bundle, &to).unwrap_err();
            assert!(!to.exists() && !folder.path().join("copies/x").exists());
        }
        unpack(
            b"no archive, but longer than a block of one"
                .repeat(20)
                .as_slice(),
            &to,
        )
        .unwrap_err();
        assert!(files(&folder.path().join("copies")).is_empty());
    }
}
