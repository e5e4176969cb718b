//! What is wrong with a camera, told from how its decoder ended and what that said last.
//!
//! It goes by words that ffmpeg has used in its messages from version 4 to 9; words it does not know
//! make the general [`Fault::Decoder`], never an error.

use std::fmt;

/// Why a camera gives no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It refuses the user or the password.
    Login,
    /// There is no such stream, device or host.
    Address,
    /// Nobody answers at its address.
    Unreachable,
    /// ffmpeg does not know an option, or lacks the hardware that `hwaccel` names.
    Settings,
    /// No frame came for as long as it may be silent.
    Silent,
    /// It has ended the stream.
    Ended,
    /// The decoder failed for another reason, or was killed.
    Decoder,
}

/// Words of ffmpeg and what they tell, the most telling first: a refused login may be followed by an
/// end of the connection.
const WORDS: [(Fault, &[&str]); 4] = [
    (
        Fault::Login,
        &[
            "401 Unauthorized",
            "401 (Unauthorized)",
            "403 Forbidden",
            "403 (Forbidden)",
        ],
    ),
    (
        Fault::Settings,
        &[
            "Unrecognized option",
            "Option not found",
            "Unknown keyword",
            "Device creation failed",
            "No device available for decoder",
            "Unrecognized hwaccel",
            "Unable to parse option value",
            "Error setting option",
        ],
    ),
    (
        Fault::Address,
        &[
            "404 Not Found",
            "404 (Not Found)",
            "454 Session Not Found",
            "Failed to resolve hostname",
            "Protocol not found",
            "No such file or directory",
            "No such device",
        ],
    ),
    (
        Fault::Unreachable,
        &[
            "Connection refused",
            "Connection timed out",
            "No route to host",
            "Network is unreachable",
            "Host is down",
        ],
    ),
];

impl Fault {
    /// What `lines` of a decoder tell, if they tell anything.
    pub(super) fn told_by<'a>(lines: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let said = |words: &[&str]| {
            let mut lines = lines.clone();
            lines.any(|line| words.iter().any(|word| line.contains(word)))
        };
        let found = WORDS.iter().find(|(_, words)| said(words));
        found.map(|(fault, _)| *fault)
    }

    /// A short name that stays the same, for metrics and interfaces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Address => "address",
            Self::Unreachable => "unreachable",
            Self::Settings => "settings",
            Self::Silent => "silent",
            Self::Ended => "ended",
            Self::Decoder => "decoder",
        }
    }
}

/// What is wrong, and what to do about it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Login => "it refuses user or password: check those in the input",
            Self::Address => "there is no such camera or stream: check host and path of the input",
            Self::Unreachable => "nobody answers: is the camera on and its address and port right?",
            Self::Settings => "ffmpeg cannot do what hwaccel or input_options ask for: check these",
            Self::Silent => {
                "no frame came: a camera that sends on motion only needs a longer silent_seconds"
            }
            Self::Ended => "the camera ended the stream",
            Self::Decoder => "the decoder failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffmpeg_says_is_told_apart() {
        for (lines, fault) in [
            (
                &[
                    "[error] method DESCRIBE failed: 401 (Unauthorized)",
                    "[error] End of file",
                ][..],
                Some(Fault::Login),
            ),
            (
                &["[in#0] [error] Error opening input: Server returned 404 Not Found"],
                Some(Fault::Address),
            ),
            (
                &["[error] Failed to resolve hostname cam: Name or service not known"],
                Some(Fault::Address),
            ),
            (
                &["[error] Cannot open video device /dev/video7: No such file or directory"],
                Some(Fault::Address),
            ),
            (
                &[
                    "[error] Connection to tcp://127.0.0.1:8559?timeout=0 failed: Connection refused",
                ],
                Some(Fault::Unreachable),
            ),
            (
                &["[error] Unrecognized option 'nonsense'."],
                Some(Fault::Settings),
            ),
            (
                &[
                    "[error] No device available for decoder: device type cuda needed for codec h264.",
                ],
                Some(Fault::Settings),
            ),
            (&["[warning] corrupt decoded frame"], None),
            (&[], None),
        ] {
            assert_eq!(Fault::told_by(lines.iter().copied()), fault, "{lines:?}");
        }
    }
}
