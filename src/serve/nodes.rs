//! All nodes of the site, as this one sees them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::live::Live;
use crate::cluster::{Leader, StreamOverview, Surveyed, SurveyedDevice, survey_from};

/// The nodes of a site; none on a node that is alone.
#[derive(Debug, Serialize)]
pub(super) struct NodesView {
    nodes: BTreeMap<String, OneView>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum OneView {
    Answered {
        address: String,
        leader: Option<Leader>,
        draining: bool,
        streams: Vec<StreamOverview>,
        devices: Vec<SurveyedDevice>,
    },
    Silent {
        silent: String,
    },
}

/// Asks all of them; takes a second, in which what devices do is measured.
pub(super) async fn nodes(live: &Live) -> NodesView {
    let Some((node, _)) = &live.cluster else {
        return NodesView {
            nodes: BTreeMap::new(),
        };
    };
    let survey = survey_from(node).await;
    let nodes = survey.nodes.into_iter();
    NodesView {
        nodes: nodes.map(|(name, one)| (name, one.into())).collect(),
    }
}

impl From<Surveyed> for OneView {
    fn from(surveyed: Surveyed) -> Self {
        match surveyed {
            Surveyed::Answered(node) => Self::Answered {
                address: node.address,
                leader: node.overview.leader,
                draining: node.overview.claim.drains,
                streams: node.overview.streams,
                devices: node.devices,
            },
            Surveyed::Silent { reason } => Self::Silent { silent: reason },
        }
    }
}
