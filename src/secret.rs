//! Secrets in files: tokens and passwords.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A secret is a line, not a file.
const SECRET_MAX: u64 = 4096;

/// The first line of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(SECRET_MAX)
        .read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
