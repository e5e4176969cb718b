//! `ekya drain` and `ekya stream`: what people have done with the nodes and streams of a site.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use ekya::cluster::{self, Manage};
use ekya::config::ValidConfig;
use ekya_actors::security::Identity;

/// How a person reaches a site.
#[derive(Args)]
pub(crate) struct Reach {
    /// `host:port` of any node of the site.
    #[arg(long, default_value = "127.0.0.1:7443")]
    node: String,
    /// Folder with ca.pem and the certificate.
    #[arg(long, default_value = "certs")]
    certs: PathBuf,
    /// Name in the certificate.
    #[arg(long = "as", default_value = "operator")]
    name: String,
}

/// What to do with a stream.
#[derive(Subcommand)]
pub(crate) enum Stream {
    /// Run the streams of a configuration file, on the node with the fewest.
    Add {
        /// A configuration (TOML), of which only the streams count. Model files are looked for on the node.
        #[arg(long)]
        config: PathBuf,
        /// The node to run them on.
        #[arg(long)]
        on: Option<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// End a stream for good.
    Remove {
        /// Its name.
        stream: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Give a stream to another node, with its student and memory.
    Move {
        /// Its name.
        stream: String,
        /// The node.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        reach: Reach,
    },
}

impl Reach {
    fn identity(&self) -> Result<Identity> {
        let Self { name, certs, .. } = self;
        Identity::load(certs, name).with_context(|| {
            format!(
                "no certificate: `ekya certs issue {name} --role client` makes it, in the site's folder"
            )
        })
    }
}

/// Does it.
///
/// # Errors
/// When the site cannot be reached, or would not.
pub(crate) fn stream(what: Stream) -> Result<()> {
    match what {
        Stream::Add { config, on, reach } => {
            let path = config.display().to_string();
            let config = ValidConfig::load(&config).with_context(|| path.clone())?;
            ensure!(!config.streams.is_empty(), "{path}: it has no streams");
            for stream in &config.streams {
                let what = Manage::Add(serde_json::to_string(stream)?);
                let on = on.as_deref();
                let node = cluster::manage(reach.identity()?, &reach.node, what, on)?;
                println!("{} runs on {node}", stream.name);
            }
        }
        Stream::Remove { stream, reach } => {
            let what = Manage::Remove(stream.clone());
            let node = cluster::manage(reach.identity()?, &reach.node, what, None)?;
            println!("{stream} has ended on {node}");
        }
        Stream::Move { stream, to, reach } => {
            let what = Manage::Move {
                stream: stream.clone(),
                to: to.clone(),
            };
            let from = cluster::manage(reach.identity()?, &reach.node, what, None)?;
            println!("{stream} runs on {to}, no longer on {from}");
        }
    }
    Ok(())
}

/// Takes a node out of service.
///
/// # Errors
/// When it cannot be reached, or does not get rid of its streams.
pub(crate) fn drain(node: &str, reach: &Reach) -> Result<()> {
    let mut before = None;
    let left = cluster::drain(reach.identity()?, &reach.node, node, |left| {
        if before != Some(left.len()) {
            eprintln!("{node} runs {} streams", left.len());
            before = Some(left.len());
        }
    })?;
    if left.is_empty() {
        println!("{node} runs nothing any more and can be taken down");
    } else {
        let left = left.join(", ");
        println!("{node} can be taken down; with it end {left}, which no other node may run");
    }
    Ok(())
}
