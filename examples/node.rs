//! One node of a site, from a program of one's own: started on each machine, with a certificate that
//! `ekya certs` has made, it finds the others, plans with them and stands in for them.
//!
//! ```console
//! $ cargo run --bin ekya -- certs init
//! $ cargo run --bin ekya -- certs issue edge-1
//! $ cargo run --bin ekya -- certs issue edge-2
//! $ cargo run --example node -- examples/scenes.toml edge-1 127.0.0.1:7443
//! $ cargo run --example node -- examples/scenes.toml edge-2 127.0.0.1:7444 127.0.0.1:7443
//! ```

use std::thread;

use anyhow::{Context as _, Result};
use ekya::config::{ClusterConfig, ValidConfig};
use ekya::node::{self, RunOptions};
use ekya::source::StopFlag;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> Result<()> {
    // Students train in processes that are this program again.
    ekya::worker::serve_if_asked();
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| {
        arguments
            .next()
            .with_context(|| format!("no {what} was given"))
    };
    let file = next("configuration")?;
    let (name, listen) = (next("name")?, next("address to listen at")?);
    let config = ValidConfig::load(file.as_ref())?.with(|config| {
        config.run.state = Some(format!("out/{name}").into());
        config.cluster = Some(ClusterConfig {
            name,
            listen,
            // The others; none for the first one.
            seeds: arguments.collect(),
            ..ClusterConfig::default()
        });
    })?;
    let stop = StopFlag::default();
    let (ctrl_c, mut signals) = (stop.clone(), Signals::new([SIGINT, SIGTERM])?);
    thread::spawn(move || signals.forever().for_each(|_| ctrl_c.set()));
    let options = RunOptions::new()
        .stop(stop)
        .on_window(|done| println!("{done} windows"));
    let record = node::run(&config, options)?;
    for stream in record.streams {
        println!("{}: {:?}", stream.name, stream.frames);
    }
    Ok(())
}
