//! What a video source reads, and how it is named without its credentials.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the paths of Video4Linux devices begin.
const DEVICES: [&str; 2] = ["/dev/video", "/dev/v4l/"];

/// A path of a video file, a URL of a camera, or the device of a webcam.
///
/// A camera's URL often carries its password, so the text itself is read only to start the decoder:
/// `Debug` and `Display` show it without user, password and query. Serialised it is whole: for other
/// nodes of the site, and files that nobody else may read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct VideoInput(String);

impl VideoInput {
    /// The text as it was given, credentials included. For the decoder only.
    pub(super) fn raw(&self) -> &str {
        &self.0
    }

    /// The scheme of a URL ("rtsp"), lower case; `None` for a path.
    pub(super) fn scheme(&self) -> Option<String> {
        let (scheme, _) = self.0.split_once("://")?;
        let mut bytes = scheme.bytes();
        let is_scheme = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        is_scheme.then(|| scheme.to_ascii_lowercase())
    }

    /// The device of a webcam, when this names one.
    pub(super) fn device(&self) -> Option<&str> {
        let is_device = DEVICES.iter().any(|prefix| self.0.starts_with(prefix));
        is_device.then_some(&self.0)
    }

    /// The file, when this names one: a path that is no device's, or a `file://` URL.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self.scheme().as_deref() {
            None if self.device().is_some() => None,
            None => Some(PathBuf::from(&self.0)),
            Some("file") => self
                .0
                .split_once("://")
                .map(|(_, path)| PathBuf::from(path)),
            Some(_) => None,
        }
    }

    /// Replaces the text by what `map` makes of it.
    ///
    /// # Errors
    /// Those of `map`; the text stays then.
    pub fn try_map<E>(&mut self, map: impl FnOnce(&str) -> Result<String, E>) -> Result<(), E> {
        self.0 = map(&self.0)?;
        Ok(())
    }

    /// Takes a relative path to be relative to `folder`; URLs and absolute paths stay.
    pub fn resolve(&mut self, folder: &Path) {
        if self.scheme().is_none() {
            self.0 = folder.join(&self.0).display().to_string();
        }
    }

    /// `text` (a line of the decoder) without anything secret of this input.
    pub(super) fn redact(&self, text: &str) -> String {
        if self.file().is_some() {
            return text.to_owned();
        }
        let mut text = text.replace(&self.0, &self.to_string());
        for secret in self.secrets() {
            text = text.replace(&secret, "***");
        }
        strip_user_info(&text)
    }

    /// Whether it has parts that must not be shown.
    pub(super) fn has_secrets(&self) -> bool {
        !self.secrets().is_empty()
    }

    /// The parts that must not be shown, longest first.
    fn secrets(&self) -> Vec<String> {
        let Some((_, rest)) = self.0.split_once("://") else {
            return Vec::new();
        };
        let mut secrets = Vec::new();
        if let Some((user_info, _)) = rest.rsplit_once('@') {
            secrets.push(user_info.to_owned());
            if let Some((_, password)) = user_info.split_once(':') {
                secrets.extend([password.to_owned(), percent_decoded(password)]);
            }
        }
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        secrets.push(query.to_owned());
        let values = query
            .split('&')
            .filter_map(|pair| Some(pair.split_once('=')?.1.to_owned()));
        // Short values are channel numbers and the like; hiding each "1" would garble every line.
        secrets.extend(values.filter(|value| value.len() >= 4));
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

impl From<&str> for VideoInput {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for VideoInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once("://") {
            Some((scheme, rest)) if self.file().is_none() => {
                // The last '@' ends the user info even where a password holds one itself, or a '?'.
                let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                let (place, query) = rest
                    .split_once('?')
                    .map_or((rest, ""), |(place, _)| (place, "?***"));
                write!(f, "{scheme}://{place}{query}")
            }
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for VideoInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Drops the `user:password@` of every URL in `text`: a redirect may name another than ours.
pub(crate) fn strip_user_info(text: &str) -> String {
    let words = text
        .split(' ')
        .map(|word| match (word.find("://"), word.rfind('@')) {
            (Some(scheme), Some(at)) if scheme + 3 <= at => {
                format!("{}{}", &word[..scheme + 3], &word[at + 1..])
            }
            _ => word.to_owned(),
        });
    words.collect::<Vec<_>>().join(" ")
}

/// `text` with its `%41` escapes resolved, where they give UTF-8.
fn percent_decoded(text: &str) -> String {
    let hex = |digit: Option<&u8>| digit.and_then(|d| char::from(*d).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match (bytes[i], hex(bytes.get(i + 1)), hex(bytes.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits fit a byte.
                decoded.push((high * 16 + low) as u8);
                i += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        for (url, shown) in [
            (
                "rtsp://admin:s3cret@10.0.0.7:554/h264",
                "rtsp://10.0.0.7:554/h264",
            ),
            ("rtsp://admin:s3cr@t@cam/1", "rtsp://cam/1"),
            ("rtsp://admin:s3c?et/@cam/1", "rtsp://cam/1"),
            (
                "http://cam/mjpeg?user=a&password=s3cret",
                "http://cam/mjpeg?***",
            ),
            ("rtsp://cam/1", "rtsp://cam/1"),
            ("/videos/a@b.mp4", "/videos/a@b.mp4"),
        ] {
            let input = VideoInput::from(url);
            assert_eq!(input.to_string(), shown);
            assert_eq!(format!("{input:?}"), format!("\"{shown}\""));
        }
    }

    #[test]
    fn what_the_decoder_says_is_redacted() {
        let input = VideoInput::from("rtsp://admin:s3%40cret@cam/1?token=abcd");
        for line in [
            "rtsp://admin:s3%40cret@cam/1?token=abcd: refused",
            "Opening 'rtsp://admin:s3@cret@cam:554/1' for reading",
            "password s3@cret is wrong, token abcd too",
            "moved to http://other:hidden@cam/2",
        ] {
            let redacted = input.redact(line);
            for secret in ["cret", "admin", "abcd", "hidden"] {
                assert!(!redacted.contains(secret), "{redacted}");
            }
        }
        assert_eq!(input.redact("404 Not Found"), "404 Not Found");
    }

    #[test]
    fn paths_and_urls_are_told_apart() {
        assert_eq!(
            VideoInput::from("RTSP://cam/1").scheme().as_deref(),
            Some("rtsp")
        );
        assert_eq!(
            VideoInput::from("file:///a/b.mp4").file(),
            Some("/a/b.mp4".into())
        );
        assert_eq!(
            VideoInput::from("dir/a.mp4").file(),
            Some("dir/a.mp4".into())
        );
        assert_eq!(VideoInput::from("rtsp://cam/1").file(), None);
        let webcam = VideoInput::from("/dev/v4l/by-id/usb-cam");
        assert_eq!((webcam.file(), webcam.device().is_some()), (None, true));
        assert!(VideoInput::from("/dev/shm/a.mp4").file().is_some());
    }
}
