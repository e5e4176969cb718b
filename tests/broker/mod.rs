//! A real MQTT broker on the loopback, and who listens to it, for tests.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether there is a broker to test with; says so if not.
pub(crate) fn is_there() -> bool {
    // Debian has it where only root looks.
    let found = program().is_some();
    if !found {
        eprintln!("skipped: there is no mosquitto on the PATH or in /usr/sbin");
    }
    found
}

fn program() -> Option<&'static str> {
    let runs = |program: &&str| {
        let command = Command::new(program)
            .arg("-h")
            .stdout(Stdio::null())
            .status();
        command.is_ok()
    };
    ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(runs)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A broker.
pub(crate) struct Broker {
    process: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

impl Broker {
    /// Starts one at this port, with these lines of configuration, and waits until it listens.
    pub(crate) fn start(port: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        // As root it would become another user, who cannot read the files of tests.
        fs::write(
            &file,
            format!("user root\nlistener {port} 127.0.0.1\n{lines}\n"),
        )
        .unwrap();
        let process = Command::new(program().unwrap())
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        // It says nowhere that it listens.
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "no broker at port {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    /// One that lets in everybody.
    pub(crate) fn open() -> Self {
        Self::start(free_port(), "allow_anonymous true")
    }

    /// Stops it in the middle of whatever it does, for good.
    pub(crate) fn hang(&self) {
        kill(
            Pid::from_raw(self.process.id().cast_signed()),
            Signal::SIGSTOP,
        )
        .unwrap();
    }

    /// Listens to all topics, from now on and to what is retained.
    pub(crate) fn listen(&self) -> Listener {
        Listener::new(self.port, None)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A message that was heard.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) topic: String,
    pub(crate) text: String,
    /// It was told before.
    pub(crate) retained: bool,
}

/// Who listens to all topics.
pub(crate) struct Listener {
    client: Client,
    heard: Receiver<Heard>,
}

impl Listener {
    pub(crate) fn new(port: u16, login: Option<(&str, &str)>) -> Self {
        let mut options = MqttOptions::new(format!("test-{}", free_port()), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe("#", QoS::AtLeastOnce).unwrap();
        let (told, heard) = channel();
        let (subscribed, ready) = channel();
        std::thread::spawn(move || {
            for event in connection.iter().map_while(Result::ok) {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => subscribed.send(()).unwrap(),
                    Event::Incoming(Packet::Publish(message)) => {
                        let message = Heard {
                            topic: message.topic,
                            text: String::from_utf8(message.payload.to_vec()).unwrap(),
                            retained: message.retain,
                        };
                        if told.send(message).is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        ready.recv_timeout(PATIENCE).unwrap();
        Self { client, heard }
    }

    /// Listens until a message is as it should be.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Heard) -> bool) -> Heard {
        let began = Instant::now();
        loop {
            let heard = self.heard.recv_timeout(PATIENCE);
            let heard = heard.unwrap_or_else(|error| panic!("not heard: {what}: {error}"));
            if holds(&heard) {
                return heard;
            }
            assert!(began.elapsed() < PATIENCE, "not heard: {what}");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Its broker may have gone.
        drop(self.client.try_disconnect());
    }
}

/// Makes an authority and a certificate of it for localhost: `ca.pem`, `broker.pem` and `broker.key`. False
/// where there is no openssl.
pub(crate) fn make_certificates(folder: &Path) -> bool {
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let commands = [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout broker.key -out broker.csr -subj /CN=localhost",
        "x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out broker.pem",
    ];
    for arguments in commands {
        let command = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stderr(Stdio::null())
            .status();
        let Ok(status) = command else {
            eprintln!("skipped: there is no openssl on the PATH");
            return false;
        };
        assert!(status.success(), "openssl {arguments}");
    }
    true
}
