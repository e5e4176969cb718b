//! A node that runs takes a changed configuration: streams come, go and begin anew.

use std::time::Duration;

use super::build::Node;
use crate::config::{Config, StreamConfig};

impl Node {
    /// Does what a configuration wants otherwise than the one that runs, as far as that goes without a
    /// restart, and says what does not.
    pub(super) fn reload(&mut self, config: &Config) {
        let restart = needs_restart(&self.config, config);
        if !restart.is_empty() {
            let sections = restart.join(", ");
            tracing::warn!(sections, "these have changed, and need a restart");
        }
        if let (Some(cluster), Some(config)) = (&self.cluster, &self.config.cluster) {
            cluster.renew(config);
            tracing::warn!(
                "streams of a cluster are not taken from a file while it runs: \
                 `ekya stream add`, `remove` and `move` change them"
            );
            return;
        }
        let Changes { gone, come } = changes(&self.configured, &config.streams);
        let (removed, added) = (gone.len(), come.len());
        let (before, stay) = std::mem::take(&mut self.configured)
            .into_iter()
            .partition::<Vec<_>, _>(|stream| gone.contains(&stream.name));
        self.configured = stay;
        for name in gone {
            self.remove_stream(&name);
        }
        for stream in come {
            let name = stream.name.clone();
            if !self.takes_on(stream)
                && let Some(before) = before.iter().find(|before| before.name == name)
            {
                self.takes_on(before.clone());
            }
        }
        self.show_streams();
        tracing::info!(removed, added, "the configuration was read again");
    }

    fn takes_on(&mut self, stream: StreamConfig) -> bool {
        match self.add_stream(&stream, Duration::ZERO) {
            Ok(()) => {
                self.configured.push(stream);
                true
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::error!(stream = stream.name, "the stream cannot come: {error:#}");
                false
            }
        }
    }
}

/// What becomes of streams.
#[derive(Debug, PartialEq)]
struct Changes {
    /// Names of those that go: also those that come in another form.
    gone: Vec<String>,
    come: Vec<StreamConfig>,
}

fn changes(before: &[StreamConfig], after: &[StreamConfig]) -> Changes {
    let stays = |stream: &StreamConfig, others: &[StreamConfig]| others.contains(stream);
    let gone = before.iter().filter(|stream| !stays(stream, after));
    let come = after.iter().filter(|stream| !stays(stream, before));
    Changes {
        gone: gone.map(|stream| stream.name.clone()).collect(),
        come: come.cloned().collect(),
    }
}

/// Sections that differ and that a running node does not take.
fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let sections = [
        ("[run]", before.run != after.run),
        ("[[device]]", before.devices != after.devices),
        ("[learning]", before.learning != after.learning),
        ("[cluster]", before.cluster != after.cluster),
        ("[serve]", before.serve != after.serve),
        ("[[output]]", before.outputs != after.outputs),
    ];
    let differ = sections.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(section, _)| section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OutputConfig, OutputTo, ValidConfig};

    fn config(names: &[(&str, f64)], window: f64) -> ValidConfig {
        let mut text = format!("[run]\nwindow_seconds = {window:?}\n");
        for (name, weight) in names {
            text += &format!(
                "[[stream]]\nname = {name:?}\nweight = {weight:?}\nteacher = \"scene\"\n\
                 source = {{ scene = {{ fps = 10.0 }} }}\n\
                 student = {{ classifier = {{ weights = \"scene\" }} }}\n"
            );
        }
        ValidConfig::parse(&text).unwrap()
    }

    fn stdout() -> OutputConfig {
        OutputConfig {
            name: None,
            to: OutputTo::Stdout,
            streams: None,
        }
    }

    #[test]
    fn only_what_differs_changes() {
        let before = config(&[("a", 1.0), ("b", 1.0), ("c", 1.0)], 10.0);
        let after = config(&[("d", 1.0), ("a", 1.0), ("b", 2.0)], 20.0);
        let Changes { gone, come } = changes(&before.streams, &after.streams);
        assert_eq!(gone, ["b", "c"]);
        let come: Vec<_> = come.iter().map(|stream| stream.name.as_str()).collect();
        assert_eq!(come, ["d", "b"]);
        assert_eq!(needs_restart(&before, &after), ["[run]"]);
        assert!(needs_restart(&before, &before).is_empty());
        let output = |config: &mut Config| config.outputs = vec![stdout()];
        let after = before.clone().with(output).unwrap();
        assert_eq!(needs_restart(&before, &after), ["[[output]]"]);
    }
}
