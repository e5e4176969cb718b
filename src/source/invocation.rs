//! The command line of ffmpeg for a video input, and what it is told where others do not see it.
//!
//! Everybody on a machine may read the arguments of its processes, and ffmpeg takes a camera's URL, with
//! its password, from nowhere else. So it is given a script of its concat format on its standard input,
//! which names the URL and its options. Versions before 5 know no options there: for them the URL is an
//! argument.

use std::collections::BTreeMap;

use super::video::{Hwaccel, VideoConfig};

/// Protocols that a script may lead to: those of cameras and what they are carried by, but no files,
/// which a playlist from elsewhere could name.
const PROTOCOLS: &str = "pipe,fd,crypto,data,rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,hls,\
rtmp,rtmps,rtmpt,rtmpts,rtmpe,rtmpte,ffrtmphttp,ffrtmpcrypt,srt,rist,mmsh,mmst";

/// How ffmpeg is started.
pub(super) struct Invocation {
    /// Its arguments.
    pub(super) args: Vec<String>,
    /// What it reads from its standard input; nothing where that is closed.
    pub(super) script: Option<String>,
}

impl Invocation {
    /// For the input of `config`; `scripts` says whether this ffmpeg takes options in a script.
    pub(super) fn new(config: &VideoConfig, scripts: bool) -> Self {
        let mut args = words("-hide_banner -nostdin -loglevel level+warning -threads 2");
        args.extend(config.hwaccel.iter().flat_map(Hwaccel::args));
        let options = options(config);
        let hide = hides_something(config);
        let script = (hide && scripts).then(|| script(config.input.raw(), &options));
        if script.is_some() {
            args.extend(words("-f concat -safe 0 -protocol_whitelist"));
            args.push(PROTOCOLS.to_owned());
            args.extend(words("-fflags +genpts+discardcorrupt -i pipe:0"));
        } else {
            for (name, value) in options {
                args.extend([format!("-{name}"), value]);
            }
            args.extend(input(config));
        }
        args.extend(output(config));
        Self { args, script }
    }
}

/// Whether something must not be seen in the arguments: a URL's credentials, or options, which may
/// hold a header or a key.
pub(super) fn hides_something(config: &VideoConfig) -> bool {
    config.input.scheme().is_some()
        && config.is_live()
        && (config.input.has_secrets() || !config.input_options.0.is_empty())
}

/// Options of the input by name: ours where they fit it, and the configured ones, which win.
fn options(config: &VideoConfig) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: &str| options.insert(name.to_owned(), value.to_owned());
    if config.is_live() {
        // Cameras' clocks jump; arrival does not. Time limits are not left to ffmpeg: their option has
        // other names and meanings from version to version, and some hangs it does not notice.
        set("fflags", "+genpts+discardcorrupt");
        set("use_wallclock_as_timestamps", "1");
    }
    let scheme = config.input.scheme().unwrap_or_default();
    if scheme.starts_with("rtsp") {
        set("rtsp_transport", "tcp");
    }
    options.extend(config.input_options.0.clone());
    options
}

fn input(config: &VideoConfig) -> Vec<String> {
    let input = &config.input;
    match (input.file(), input.device()) {
        // With its protocol named, a file called "a:b.mp4" or "-.mp4" is still a file.
        (Some(path), _) => vec!["-i".to_owned(), format!("file:{}", path.display())],
        (None, Some(device)) => ["-f", "v4l2", "-i", device].map(str::to_owned).to_vec(),
        (None, None) => vec!["-i".to_owned(), input.raw().to_owned()],
    }
}

/// The script that names `url` and its options.
fn script(url: &str, options: &BTreeMap<String, String>) -> String {
    let mut script = format!("ffconcat version 1.0\nfile {}\n", quoted(url));
    for (name, value) in options {
        script += &format!("option {name} {}\n", quoted(value));
    }
    script
}

/// Between quotes everything stands for itself but the quote.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn output(config: &VideoConfig) -> Vec<String> {
    let (fps, width, height) = (config.fps, config.width, config.height);
    let mut args = words("-map 0:v:0 -vf");
    if config.is_live() {
        // Leaves frames out and repeats none: after a silence the filter `fps` would make up for it
        // all at once. `ld(0)` is when the next frame is due; one may come a whole interval early, so
        // that none is lost to a network that delivers unevenly. Numbered anew, the frames are exactly
        // at the rate of `-r`, which then neither repeats nor drops any, in every version.
        args.push(format!(
            "select='if(gte(t,ld(0)-1/{fps}),st(0,max(ld(0),t)+1/{fps}))',\
             setpts=N/({fps}*TB),scale={width}:{height}"
        ));
        args.extend(["-r".to_owned(), fps.to_string()]);
    } else {
        args.push(format!("fps={fps},scale={width}:{height}"));
    }
    args.extend(words("-f rawvideo -pix_fmt rgb24 pipe:1"));
    args
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: &VideoConfig) -> String {
        Invocation::new(config, true).args.join(" ")
    }

    #[test]
    fn input_options_go_only_to_the_inputs_they_fit() {
        let args = |input: &str| args(&VideoConfig::new(input));
        assert!(args("a.mp4").contains("-i file:a.mp4 "));
        assert!(!args("a.mp4").contains("wallclock"));
        assert!(args("rtsp://cam/1").contains("-rtsp_transport tcp"));
        assert!(args("http://cam/1").contains("wallclock"));
        assert!(!args("http://cam/1").contains("rtsp_transport"));
        assert!(args("/dev/video0").contains("-f v4l2 -i /dev/video0 "));
    }

    #[test]
    fn a_password_is_in_the_script_and_in_no_argument() {
        let config = VideoConfig::new("rtsp://admin:s3'cret@cam/1");
        let hidden = Invocation::new(&config, true);
        assert!(!hidden.args.join(" ").contains("cret"));
        let script = hidden.script.unwrap();
        assert!(script.contains(r"file 'rtsp://admin:s3'\''cret@cam/1'"));
        assert!(script.contains("\noption rtsp_transport 'tcp'\n"));
        let old = Invocation::new(&config, false);
        assert!(old.script.is_none() && old.args.join(" ").contains("cret"));
    }

    #[test]
    fn configured_options_win_and_decoding_options_stay_arguments() {
        let mut config = VideoConfig::new("rtsp://cam/1");
        config.hwaccel = Some(Hwaccel::Name("vaapi".to_owned()));
        config.input_options.0 = [("rtsp_transport".to_owned(), "udp".to_owned())].into();
        let invocation = Invocation::new(&config, true);
        assert!(invocation.args.join(" ").contains("-hwaccel vaapi "));
        let script = invocation.script.unwrap();
        assert!(script.contains("option rtsp_transport 'udp'") && !script.contains("tcp"));
        config.hwaccel = Some(Hwaccel::Options(vec!["-c:v".into(), "h264_cuvid".into()]));
        assert!(args(&config).contains("-c:v h264_cuvid "));
    }
}
