//! `ekya status`: what the nodes of a site are doing, as a table.

use std::path::Path;

use anyhow::{Context as _, Result};
use ekya::cluster::{Answered, Survey, Surveyed, survey};
use ekya_actors::security::Identity;

/// Prints it.
///
/// # Errors
/// When the certificate cannot be read, or the first node does not answer.
pub(crate) fn status(node: &str, certs: &Path, name: &str, json: bool) -> Result<()> {
    let identity = Identity::load(certs, name).with_context(|| {
        format!("no certificate: `ekya certs issue {name} --role observer` makes it, in the site's folder")
    })?;
    let survey = survey(identity, node)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&survey)?);
    } else {
        print!("{}", table(&survey));
    }
    Ok(())
}

fn table(survey: &Survey) -> String {
    let mut text = format!("{}\n", leader(survey));
    for (name, surveyed) in &survey.nodes {
        match surveyed {
            Surveyed::Answered(node) => text += &of_node(name, node),
            Surveyed::Silent { reason } => text += &format!("\n{name}: {reason}\n"),
        }
    }
    text
}

/// Whom all follow, or who follows whom.
fn leader(survey: &Survey) -> String {
    let follows = |surveyed: &Surveyed| match surveyed {
        Surveyed::Answered(node) => Some(node.overview.leader.clone()),
        Surveyed::Silent { .. } => None,
    };
    let mut leaders: Vec<_> = survey.nodes.values().filter_map(follows).collect();
    leaders.sort();
    leaders.dedup();
    let of = |leader: &Option<ekya::cluster::Leader>| {
        leader.as_ref().map_or_else(
            || "nobody (each node plans for itself)".to_owned(),
            |leader| format!("{} in term {}", leader.name, leader.term),
        )
    };
    let leaders: Vec<_> = leaders.iter().map(of).collect();
    format!("leader: {}", leaders.join("; "))
}

fn of_node(name: &str, node: &Answered) -> String {
    let draining = if node.overview.claim.drains {
        ", draining"
    } else {
        ""
    };
    let mut text = format!("\n{name} ({}{draining})\n", node.address);
    for device in &node.devices {
        text += &format!("  device {}\n", device.name);
        for job in &device.jobs {
            text += &format!(
                "    {:<32} granted {:>5.3}  used {:>5.3}\n",
                job.name, job.granted, job.used
            );
        }
    }
    for stream in &node.overview.streams {
        let training = match (&stream.trained_on, stream.retrains) {
            (_, false) => String::new(),
            (None, true) => ", retraining".to_owned(),
            (Some(place), true) => format!(", retraining on {} of {}", place.device, place.node),
        };
        text += &format!(
            "  stream {} on {}: accuracy {:.1} %{training}\n",
            stream.name,
            stream.device,
            stream.accuracy * 100.0
        );
    }
    text
}
