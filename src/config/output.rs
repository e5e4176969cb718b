//! Where the results of frames go, beside the folder of a run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::flaw::Flaws;
use super::near::did_you_mean;

/// Environment variable with the password for MQTT brokers, in place of a file.
pub const MQTT_PASSWORD_VARIABLE: &str = "EKYA_MQTT_PASSWORD";

/// Smaller files would be begun anew every few seconds.
const ROTATE_BYTES_MIN: u64 = 64 << 10;
/// Files that may be kept: all have to be renamed for each new one.
const KEEP_MAX: usize = 1000;
/// What a socket's path may be long, by the system's address of one, with room for the name under which
/// it is made.
const SOCKET_PATH_MAX: usize = 100;
/// Longest name, in bytes.
const NAME_MAX: usize = 64;
/// Longest prefix of topics, in bytes: a topic has 65,535 at most.
const TOPIC_MAX: usize = 1024;

/// A place that results go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// Name in logs and metrics; that of its kind where it is left out.
    pub name: Option<String>,
    /// Where results go.
    pub to: OutputTo,
    /// Names of the streams whose results go there; all where it is left out.
    pub streams: Option<BTreeSet<String>>,
}

/// Kinds of places that results go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputTo {
    /// A file of JSON lines, which is begun anew when it has grown.
    File(FileOutputConfig),
    /// JSON lines on standard output.
    Stdout,
    /// JSON lines for whoever connects to a Unix socket.
    Socket(SocketOutputConfig),
    /// An MQTT broker.
    Mqtt(MqttOutputConfig),
}

/// A file of JSON lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOutputConfig {
    /// The file. It is gone on with when a node starts again.
    pub path: PathBuf,
    /// Size that the file does not grow beyond, in bytes, at least 65,536: it becomes `PATH.1`, which
    /// becomes `PATH.2`, and so on.
    #[serde(default = "rotate_bytes")]
    pub rotate_bytes: u64,
    /// Full files that are kept, 1 to 1000; older ones are removed.
    #[serde(default = "keep")]
    pub keep: usize,
}

/// A Unix socket that the node listens at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SocketOutputConfig {
    /// The socket. Its owner and group may connect.
    pub path: PathBuf,
}

/// An MQTT broker and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttOutputConfig {
    /// `mqtt://HOST[:PORT]`, or with TLS `mqtts://HOST[:PORT]`; ports 1883 and 8883 where none is named.
    pub broker: String,
    /// What all topics begin with. Each node of a broker needs one of its own.
    #[serde(default = "topic")]
    pub topic: String,
    /// Name to log in with.
    pub user: Option<String>,
    /// File whose first line is the password; `EKYA_MQTT_PASSWORD` in the environment does as well.
    pub password_file: Option<PathBuf>,
    /// Certificates in PEM of the authorities that may vouch for the broker; with `mqtts://` only.
    pub ca: Option<PathBuf>,
    /// Whether every frame's result is published, too, beside counts and events.
    #[serde(default)]
    pub results: bool,
}

fn rotate_bytes() -> u64 {
    100_000_000
}

fn keep() -> usize {
    5
}

fn topic() -> String {
    "ekya".to_owned()
}

impl OutputConfig {
    /// Its name in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(match self.to {
            OutputTo::File(_) => "file",
            OutputTo::Stdout => "stdout",
            OutputTo::Socket(_) => "socket",
            OutputTo::Mqtt(_) => "mqtt",
        })
    }

    /// Paths in it that are relative to the configuration's file.
    pub(super) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match &mut self.to {
            OutputTo::File(file) => vec![&mut file.path],
            OutputTo::Stdout => vec![],
            OutputTo::Socket(socket) => vec![&mut socket.path],
            OutputTo::Mqtt(mqtt) => {
                let files = [&mut mqtt.password_file, &mut mqtt.ca];
                files.into_iter().flatten().collect()
            }
        }
    }
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Name or address, that of IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it is spoken to through TLS.
    pub tls: bool,
}

impl MqttOutputConfig {
    /// Where the broker is, or why that cannot be told. Nothing of a URL with a password is quoted.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn address(&self) -> Result<BrokerAddress, String> {
        let expected = || "mqtt://HOST[:PORT] or mqtts://HOST[:PORT]".to_owned();
        let (scheme, rest) = self.broker.split_once("://").ok_or_else(expected)?;
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(expected()),
        };
        if rest.contains('@') {
            return Err(format!(
                "a URL stands in process lists and logs: put the name under user, and the password into \
                 password_file or {MQTT_PASSWORD_VARIABLE}"
            ));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let usual = if tls { 8883 } else { 1883 };
        let (host, port) = host_and_port(rest, usual).ok_or_else(expected)?;
        let odd = |one: char| one.is_whitespace() || "/?#".contains(one);
        if host.is_empty() || host.contains(odd) || port == 0 {
            return Err(expected());
        }
        if tls && host.contains(':') {
            return Err("with mqtts:// name the host as its certificate does".to_owned());
        }
        let host = host.to_owned();
        Ok(BrokerAddress { host, port, tls })
    }
}

fn host_and_port(text: &str, usual: u16) -> Option<(&str, u16)> {
    if let Some(v6) = text.strip_prefix('[') {
        let (host, rest) = v6.split_once(']')?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if rest.is_empty() => usual,
            None => return None,
        };
        return Some((host, port));
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((text, usual)),
    }
}

/// Checks what can be checked without opening anything.
pub(super) fn check(config: &Config, flaws: &mut Flaws) {
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (index, output) in config.outputs.iter().enumerate() {
        let key = |part: &str| format!("output.{index}.{part}");
        let name = output.name();
        flaws.require(
            (1..=NAME_MAX).contains(&name.len()) && !name.contains(char::is_control),
            &key("name"),
            format!("a name has 1 to {NAME_MAX} bytes without control characters, got {name:?}"),
        );
        flaws.require(
            names.insert(name),
            &key("name"),
            format!("'{name}' names two outputs; give one of them another name"),
        );
        streams(output, config, &key("streams"), flaws);
        let place = match &output.to {
            OutputTo::File(one) => {
                file(one, &key, flaws);
                Some(("to.file.path", one.path.as_path()))
            }
            OutputTo::Stdout => Some(("to", Path::new("/dev/stdout"))),
            OutputTo::Socket(one) => {
                socket(one, &key, flaws);
                Some(("to.socket.path", one.path.as_path()))
            }
            OutputTo::Mqtt(one) => {
                mqtt(one, &key, flaws);
                None
            }
        };
        if let Some((part, place)) = place {
            let message = "two outputs go there: name all streams in one of them";
            flaws.require(places.insert(place), &key(part), message);
        }
    }
}

/// Without a cluster, all streams are in the configuration: any other name is one misspelt.
fn streams(output: &OutputConfig, config: &Config, key: &str, flaws: &mut Flaws) {
    let Some(streams) = &output.streams else {
        return;
    };
    let message = "name at least one stream, or leave the key out for all";
    flaws.require(!streams.is_empty(), key, message);
    let known: BTreeSet<&String> = config.streams.iter().map(|one| &one.name).collect();
    let unknown = streams.iter().find(|name| !known.contains(name));
    if let Some(name) = unknown.filter(|_| config.cluster.is_none()) {
        let near = did_you_mean(name, known.iter().map(|name| name.as_str()));
        let known = known.into_iter().cloned().collect::<Vec<_>>().join(", ");
        flaws.add(key, format!("no stream '{name}'; there are {known}{near}"));
    }
}

fn file(file: &FileOutputConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    flaws.require(
        file.path.file_name().is_some(),
        &key("to.file.path"),
        "name a file",
    );
    flaws.require(
        file.rotate_bytes >= ROTATE_BYTES_MIN,
        &key("to.file.rotate_bytes"),
        format!(
            "a file grows to {ROTATE_BYTES_MIN} bytes or more, got {}",
            file.rotate_bytes
        ),
    );
    flaws.require(
        (1..=KEEP_MAX).contains(&file.keep),
        &key("to.file.keep"),
        format!("keep 1 to {KEEP_MAX} full files, got {}", file.keep),
    );
}

fn socket(socket: &SocketOutputConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    let length = socket.path.as_os_str().len();
    flaws.require(
        (1..=SOCKET_PATH_MAX).contains(&length),
        &key("to.socket.path"),
        format!("the path of a socket has 1 to {SOCKET_PATH_MAX} bytes, this one has {length}"),
    );
}

fn mqtt(mqtt: &MqttOutputConfig, key: &dyn Fn(&str) -> String, flaws: &mut Flaws) {
    let address = mqtt.address();
    let flaw = address.as_ref().err().cloned().unwrap_or_default();
    flaws.require(address.is_ok(), &key("to.mqtt.broker"), flaw);
    let tls = address.is_ok_and(|address| address.tls);
    flaws.require(
        tls == mqtt.ca.is_some(),
        &key("to.mqtt.ca"),
        if tls {
            "name a file with the certificates of the authorities that may vouch for the broker; \
             for public ones that is /etc/ssl/certs/ca-certificates.crt on many systems"
        } else {
            "certificates are for mqtts:// only"
        },
    );
    let topic = &mqtt.topic;
    let levels_are_there = !topic.is_empty() && !topic.starts_with('/') && !topic.ends_with('/');
    let odd = |one: char| "+#".contains(one) || one.is_control();
    flaws.require(
        levels_are_there
            && !topic.starts_with('$')
            && !topic.contains(odd)
            && topic.len() <= TOPIC_MAX,
        &key("to.mqtt.topic"),
        format!(
            "topics begin with 1 to {TOPIC_MAX} bytes without +, # and control characters, with neither $ \
             nor / in front and no / behind, such as site/edge-1; got {topic:?}"
        ),
    );
    flaws.require(
        mqtt.user.is_some() || mqtt.password_file.is_none(),
        &key("to.mqtt.password_file"),
        "a password goes with a user",
    );
}

#[cfg(test)]
mod tests {
    use super::super::ValidConfig;
    use super::*;

    fn parse(output: &str) -> Result<ValidConfig, String> {
        let text = format!(
            "[[stream]]\nname = \"gate\"\nteacher = \"scene\"\nsource = {{ scene = {{ fps = 10.0 }} }}\n\
             student = {{ classifier = {{ weights = \"scene\" }} }}\n[[output]]\n{output}\n"
        );
        ValidConfig::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn outputs_have_defaults() {
        let config = parse(
            "to = { file = { path = \"a\" } }\n[[output]]\nto = \"stdout\"\nstreams = [\"gate\"]\n\
             [[output]]\nto = { socket = { path = \"s\" } }\n[[output]]\nto = { mqtt = { broker = \"mqtt://h\" } }",
        );
        let outputs = &config.unwrap().outputs;
        let names: Vec<_> = outputs.iter().map(OutputConfig::name).collect();
        assert_eq!(names, ["file", "stdout", "socket", "mqtt"]);
        let OutputTo::File(file) = &outputs[0].to else {
            panic!("{outputs:?}");
        };
        assert_eq!((file.rotate_bytes, file.keep), (100_000_000, 5));
    }

    #[test]
    fn senseless_outputs_name_line_and_key() {
        let broker = |more: &str| format!("to = {{ mqtt = {{ broker = \"mqtt://h\", {more} }} }}");
        let file = |more: &str| format!("to = {{ file = {{ path = \"a\", {more} }} }}");
        let twice = |one: &str| format!("{one}\n[[output]]\n{one}");
        let named = |name: &str, one: &str| format!("name = \"{name}\"\n{one}");
        let socket = "to = { socket = { path = \"s\" } }";
        for (output, expected) in [
            ("to = { fil = { path = \"a\" } }".to_owned(), "line 7"),
            (
                "to = { file = { path = \"a\", keeep = 2 } }".to_owned(),
                "keeep",
            ),
            (
                "to = { file = { path = \"\" } }".to_owned(),
                "line 7: output[0].to.file.path",
            ),
            (file("keep = 0"), "line 7: output[0].to.file.keep"),
            (
                file("rotate_bytes = 1"),
                "line 7: output[0].to.file.rotate_bytes",
            ),
            (
                "to = \"stdout\"\nstreams = []".to_owned(),
                "line 8: output[0].streams",
            ),
            (
                "to = \"stdout\"\nstreams = [\"gat\"]".to_owned(),
                "line 8: output[0].streams: no stream 'gat'; there are gate",
            ),
            (
                named("\\u0000", "to = \"stdout\""),
                "line 7: output[0].name: a name has 1 to 64 bytes",
            ),
            (
                twice("to = \"stdout\""),
                "output[1].name: 'stdout' names two outputs",
            ),
            (
                format!(
                    "to = \"stdout\"\n[[output]]\n{}",
                    named("b", "to = \"stdout\"")
                ),
                "line 10: output[1].to: two outputs go there",
            ),
            (
                format!("{socket}\n[[output]]\n{}", named("b", socket)),
                "line 10: output[1].to.socket.path: two outputs go there",
            ),
            (
                format!("to = {{ socket = {{ path = \"{}\" }} }}", "s".repeat(101)),
                "has 1 to 100 bytes, this one has 101",
            ),
            (broker("topic = \"a/+\""), "line 7: output[0].to.mqtt.topic"),
            (broker("topic = \"a/\""), "line 7: output[0].to.mqtt.topic"),
            (
                broker("topic = \"$SYS\""),
                "line 7: output[0].to.mqtt.topic",
            ),
            (
                broker("ca = \"x\""),
                "line 7: output[0].to.mqtt.ca: certificates are for mqtts",
            ),
            (
                broker("password_file = \"x\""),
                "line 7: output[0].to.mqtt.password_file",
            ),
            (
                "to = { mqtt = { broker = \"mqtts://[::1]\", ca = \"x\" } }".to_owned(),
                "output[0].to.mqtt.broker: with mqtts://",
            ),
            (
                "to = { mqtt = { broker = \"mqtts://h\" } }".to_owned(),
                "output[0].to.mqtt.ca: name a file",
            ),
        ] {
            let error = parse(&output).unwrap_err();
            assert!(error.contains(expected), "{error}\nexpected {expected}");
        }
    }

    #[test]
    fn brokers_are_found_and_their_passwords_not_quoted() {
        let address = |broker: &str| {
            let config = parse(&format!("to = {{ mqtt = {{ broker = \"{broker}\" }} }}"))?;
            let OutputTo::Mqtt(mqtt) = &config.outputs[0].to else {
                panic!("{:?}", config.outputs);
            };
            mqtt.address().map(|one| (one.host, one.port))
        };
        for (broker, host, port) in [
            ("mqtt://localhost", "localhost", 1883),
            ("mqtt://10.0.0.1:1884/", "10.0.0.1", 1884),
            ("mqtt://[::1]", "::1", 1883),
            ("mqtt://[::1]:9", "::1", 9),
        ] {
            assert_eq!(address(broker), Ok((host.to_owned(), port)), "{broker}");
        }
        for broker in [
            "localhost",
            "http://h",
            "mqtt://",
            "mqtt://h:0",
            "mqtt://h:x",
            "mqtt://h/a",
        ] {
            let error = address(broker).unwrap_err();
            assert!(error.contains("mqtt://HOST[:PORT]"), "{broker}: {error}");
        }
        let error = address("mqtt://me:secret@host").unwrap_err();
        assert!(
            error.contains("password_file") && !error.contains("secret"),
            "{error}"
        );
    }
}
