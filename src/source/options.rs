//! What else may be configured of a video input: options of ffmpeg for reading and for decoding it.
//!
//! What is checked here is that they are options and nothing else; which ones there are, ffmpeg knows.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kinds of hardware decoding that ffmpeg knows on Linux, by its names; `auto` takes what is there.
const HWACCELS: [&str; 9] = [
    "auto", "amf", "cuda", "drm", "qsv", "rkmpp", "vaapi", "vdpau", "vulkan",
];
/// Options at most.
const MAX_OPTIONS: usize = 16;
/// Bytes of a value at most; with all options a script still fits a pipe.
const MAX_BYTES: usize = 1024;
/// A shorter value is a number or a word that hiding would take out of every message.
const SECRET_BYTES: usize = 8;

/// Hardware decoding: a name such as `"vaapi"`, or ffmpeg's options before its input, as in
/// `["-hwaccel", "cuda", "-hwaccel_device", "1"]` or `["-c:v", "h264_cuvid"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "hwaccel must be a name such as \"vaapi\" or a list of ffmpeg's options"
)]
#[non_exhaustive]
pub enum Hwaccel {
    /// One of `auto`, `amf`, `cuda`, `drm`, `qsv`, `rkmpp`, `vaapi`, `vdpau`, `vulkan`.
    Name(String),
    /// Options and their values, as on a command line.
    Options(Vec<String>),
}

impl Hwaccel {
    /// Whether this is a known name, or options only.
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Self::Name(name) => HWACCELS.contains(&name.as_str()),
            Self::Options(args) => are_options(args),
        }
    }

    /// The arguments.
    pub(super) fn args(&self) -> Vec<String> {
        match self {
            Self::Name(name) => vec!["-hwaccel".to_owned(), name.clone()],
            Self::Options(args) => args.clone(),
        }
    }
}

/// For messages: as in a configuration.
impl fmt::Display for Hwaccel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Options(args) => write!(f, "{args:?}"),
        }
    }
}

/// Whether `args` are options with at most one value each, so that none is taken for an input or an
/// output.
fn are_options(args: &[String]) -> bool {
    let is_option = |arg: &String| arg.starts_with('-') && arg.len() > 1 && arg != "-i";
    let is_value = |arg: &String| !arg.starts_with('-') && is_text(arg);
    let starts_well = args.first().is_some_and(is_option);
    let one_value_each = args
        .windows(2)
        .all(|two| is_option(&two[1]) || is_option(&two[0]) && is_value(&two[1]));
    starts_well && one_value_each && args.len() <= 2 * MAX_OPTIONS
}

/// Fits a line of a script and an argument.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_BYTES && !text.contains(char::is_control)
}

/// Options of ffmpeg for reading an input, by name, without the dash: `rtsp_transport = "udp"`,
/// `tls_verify = "0"`, for a webcam `video_size = "1280x720"`. A header may hold a password: `Debug`
/// shows names only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct InputOptions(pub BTreeMap<String, String>);

impl InputOptions {
    /// Whether these are names and values of options.
    pub(super) fn are_valid(&self) -> bool {
        let is_name = |name: &str| {
            let mut chars = name.chars();
            chars.next().is_some_and(|c| c.is_ascii_lowercase())
                && name != "i"
                && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let mut options = self.0.iter();
        self.0.len() <= MAX_OPTIONS && options.all(|(name, value)| is_name(name) && is_text(value))
    }

    /// `text` without those values that could be secret.
    pub(super) fn redact(&self, text: String) -> String {
        let secrets = self.0.values().filter(|value| value.len() >= SECRET_BYTES);
        secrets.fold(text, |text, secret| text.replace(secret, "***"))
    }
}

impl fmt::Debug for InputOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hwaccel(args: &[&str]) -> Hwaccel {
        Hwaccel::Options(args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    fn options(name: &str, value: &str) -> InputOptions {
        InputOptions([(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn hardware_is_named_or_asked_for_by_options_alone() {
        assert!(Hwaccel::Name("cuda".to_owned()).is_valid());
        assert!(!Hwaccel::Name("gpu".to_owned()).is_valid());
        for args in [
            &["-hwaccel", "cuda", "-hwaccel_device", "1"][..],
            &["-c:v", "h264_cuvid"],
            &["-noautorotate", "-hwaccel", "auto"],
        ] {
            assert!(hwaccel(args).is_valid(), "{args:?}");
        }
        for args in [
            &[][..],
            &["cuda"],
            &["-i", "other"],
            &["-y", "cuda", "/etc/passwd"],
            &["-hwaccel", "cuda", "-i"],
            &["-hwaccel", "a\nb"],
        ] {
            assert!(!hwaccel(args).is_valid(), "{args:?}");
        }
    }

    #[test]
    fn input_options_are_names_and_values() {
        assert!(options("rtsp_transport", "udp").are_valid());
        for (name, value) in [
            ("-re", "1"),
            ("i", "x"),
            ("", "x"),
            ("headers", "a\nfile 'b'"),
            ("a b", "x"),
            ("user_agent", ""),
        ] {
            assert!(!options(name, value).are_valid(), "{name} {value}");
        }
    }

    #[test]
    fn values_that_could_be_secret_are_not_shown() {
        let secret = options("headers", "Authorization: Bearer abc");
        assert!(!format!("{secret:?}").contains("abc"));
        let line = secret.redact("bad header 'Authorization: Bearer abc'".to_owned());
        assert_eq!(line, "bad header '***'");
    }
}
