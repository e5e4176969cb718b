//! What the nodes of a site have logged about plans.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::site::Site;

/// A line about a plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// In Unix seconds.
    pub(crate) at: f64,
    pub(crate) node: usize,
    pub(crate) term: u64,
    pub(crate) plan: u64,
    /// Whether the plan was made here, or what it says of a node has come there.
    pub(crate) made: bool,
}

/// All such lines, in order of time.
pub(crate) fn lines(site: &Site) -> Vec<Line> {
    let nodes = 0..site.nodes.len();
    let mut lines: Vec<_> = nodes
        .flat_map(|node| {
            let log = site.log(node);
            let of_node = log.lines().filter_map(|line| parse(line, node));
            of_node.collect::<Vec<_>>()
        })
        .collect();
    lines.sort_by(|a, b| a.at.total_cmp(&b.at));
    lines
}

fn parse(line: &str, node: usize) -> Option<Line> {
    let made = line.contains("planned for all");
    if !made && !line.contains("decided for this node") {
        return None;
    }
    let at = OffsetDateTime::parse(line.split_whitespace().next()?, &Rfc3339).ok()?;
    let field = |name: &str| {
        let (_, after) = line.split_once(&format!(" {name}="))?;
        after.split_whitespace().next()?.parse().ok()
    };
    Some(Line {
        at: at.unix_timestamp_nanos() as f64 / 1e9,
        node,
        term: field("term")?,
        plan: field("plan")?,
        made,
    })
}

/// When a plan was made, and when each node has heard of it.
#[derive(Default)]
struct Spread {
    made: Option<f64>,
    heard: BTreeMap<usize, f64>,
}

/// Seconds from a plan to the last node that has heard of it, for every plan that all of `nodes` have
/// heard of.
pub(crate) fn seconds_to_all(lines: &[Line], nodes: usize) -> Vec<f64> {
    let mut plans: BTreeMap<(u64, u64), Spread> = BTreeMap::new();
    for line in lines {
        let plan = plans.entry((line.term, line.plan)).or_default();
        if line.made {
            plan.made = Some(line.at);
        } else {
            plan.heard.entry(line.node).or_insert(line.at);
        }
    }
    let seconds = plans.into_values().filter_map(|Spread { made, heard }| {
        let last = heard.values().copied().reduce(f64::max)?;
        (heard.len() == nodes).then_some(last - made?)
    });
    seconds.collect()
}

/// How often a node has heeded a term below one that it had heeded before.
pub(crate) fn steps_back(lines: &[Line]) -> usize {
    let mut highest: BTreeMap<usize, u64> = BTreeMap::new();
    let heeded = lines.iter().filter(|line| !line.made);
    let back = heeded.filter(|line| {
        let known = highest.entry(line.node).or_default();
        *known = line.term.max(*known);
        line.term < *known
    });
    back.count()
}
