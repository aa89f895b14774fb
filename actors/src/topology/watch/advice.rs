//! What could be done, in plain words that name the nodes.

use bowline_messages::PeerId;
use bowline_messages::topology::{Advice, Alert, AlertKind, Recommendation};

use super::NODES_NAMED_MAX;
use crate::topology::healing::plan::{Need, Planned};
use crate::topology::survey::Survey;

/// Advice for the alerts that stand: which links would help was found out when the graph was looked at.
pub(super) fn advice<'a>(alerts: impl Iterator<Item = &'a Alert>, survey: &Survey) -> Vec<Recommendation> {
    let mut advice = Vec::new();
    for alert in alerts {
        let (need, kind) = match alert.kind {
            AlertKind::PartitionRisk | AlertKind::PartitionRiskAhead | AlertKind::ReferencePartitionRisk => {
                let worst = survey.bridge_nodes.first().map(|node| node.peer);
                (worst.map(Need::Redundancy), Advice::AddRedundantConnections)
            }
            AlertKind::HighDiameter => (Some(Need::Shortcut), Advice::AddShortcuts),
            AlertKind::LowClustering => (Some(Need::Local), Advice::AddLocalLinks),
            AlertKind::BridgeOverloaded { peer } => (Some(Need::Relief(peer)), Advice::RebalanceLoad),
            // That something is unusual is no reason to do anything yet.
            AlertKind::AnomalyDetected { .. } => (None, Advice::AddRedundantConnections),
        };
        let Some(need) = need.filter(|_| advice.iter().all(|known: &Recommendation| known.advice != kind)) else {
            continue;
        };
        let links = survey.remedies.iter().find(|(known, _)| *known == need).map_or(&[][..], |(_, links)| &links[..]);
        // The reference's formula gives no share of pairs.
        let value = match alert.kind {
            AlertKind::ReferencePartitionRisk => survey.figures.separation,
            AlertKind::PartitionRisk
            | AlertKind::PartitionRiskAhead
            | AlertKind::HighDiameter
            | AlertKind::LowClustering
            | AlertKind::BridgeOverloaded { .. }
            | AlertKind::AnomalyDetected { .. } => alert.value,
        };
        let soon = alert.kind == AlertKind::PartitionRiskAhead;
        advice.push(sentence(&need, kind, value, soon, links));
        if let (Need::Redundancy(around), false) = (&need, links.is_empty()) {
            advice.push(backup(*around, links));
        }
    }
    // The gravest first: advice is in that order.
    advice.sort_by_key(|known| known.advice);
    advice
}

fn names(links: &[Planned]) -> Vec<PeerId> {
    let mut nodes: Vec<PeerId> = links.iter().flat_map(|link| [link.asks, link.asked]).take(NODES_NAMED_MAX).collect();
    nodes.dedup();
    nodes
}

fn pairs(links: &[Planned]) -> String {
    let pair = |link: &Planned| format!("{} with {}", link.asks.short(), link.asked.short());
    links.iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn per_cent(share: f64) -> f64 {
    (share * 100.0).round()
}

fn sentence(need: &Need, advice: Advice, value: f64, soon: bool, links: &[Planned]) -> Recommendation {
    let mut nodes = names(links);
    let connect = if links.is_empty() { String::new() } else { format!(": connect {}", pairs(links)) };
    let text = match need {
        Need::Redundancy(around) => {
            nodes.insert(0, *around);
            let will = if soon { "will soon" } else { "would" };
            let (around, share) = (around.short(), per_cent(value));
            format!(
                "Add redundant connections around {around}, whose loss {will} separate {share} % of all pairs of nodes{connect}."
            )
        }
        Need::Shortcut => {
            format!("Add shortcuts: the farthest nodes are {value} links apart{connect}.")
        }
        Need::Relief(busy) => {
            nodes.insert(0, *busy);
            let (busy, load) = (busy.short(), per_cent(value));
            format!("Rebalance load: bridge node {busy} is {load} % busy{connect} to lead traffic past it.")
        }
        Need::Local => {
            let clustering = per_cent(value);
            format!(
                "Add local links: only {clustering} % of the pairs of a node's neighbours know each other{connect}."
            )
        }
    };
    nodes.truncate(NODES_NAMED_MAX);
    Recommendation { advice, text, nodes }
}

fn backup(around: PeerId, links: &[Planned]) -> Recommendation {
    let mut nodes = names(links);
    let listed = nodes.iter().map(PeerId::short).collect::<Vec<_>>().join(", ");
    let text = format!("Promote backup bridges: {listed} could take the place of {} once connected.", around.short());
    nodes.insert(0, around);
    nodes.truncate(NODES_NAMED_MAX);
    Recommendation { advice: Advice::PromoteBackupBridges, text, nodes }
}
