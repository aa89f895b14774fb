//! What could be done, in plain words that name the nodes.

use bowline_messages::PeerId;
use bowline_messages::config::HealingConfig;
use bowline_messages::topology::{Advice, Alert, AlertKind, Recommendation};

use super::NODES_NAMED_MAX;
use crate::topology::Shape;
use crate::topology::healing::outline::Outline;
use crate::topology::healing::plan::{Need, Planned, plan};
use crate::topology::link_state::LiveGraph;

/// Pieces that a sentence names.
const PIECES_NAMED: usize = 3;

/// Advice for the alerts that stand.
pub(super) fn advice<'a>(
    alerts: impl Iterator<Item = &'a Alert>,
    shape: &Shape,
    graph: &LiveGraph,
    healing: &HealingConfig,
) -> Vec<Recommendation> {
    let mut advice = Vec::new();
    let mut outline = None;
    for alert in alerts {
        let (need, kind) = match alert.kind {
            AlertKind::PartitionRisk | AlertKind::PartitionRiskAhead | AlertKind::ReferencePartitionRisk => {
                let worst = shape.separation().and_then(|separation| graph.peer(separation.node));
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
        let outline = outline.get_or_insert_with(|| willing(graph));
        let links = plan(std::slice::from_ref(&need), outline, healing);
        advice.push(sentence(&need, kind, alert, &links));
        if let (Need::Redundancy(around), true) = (&need, !links.is_empty()) {
            advice.push(backup(*around, &links));
        }
    }
    // The gravest first: advice is in that order.
    advice.sort_by_key(|known| known.advice);
    advice
}

/// The graph, where everybody would take on a link: advice is for people, who can change that.
fn willing(graph: &LiveGraph) -> Outline {
    let mut outline = Outline::of(graph);
    outline.spare.iter_mut().for_each(|spare| *spare = u8::MAX);
    outline
}

fn names(links: &[Planned]) -> Vec<PeerId> {
    let mut nodes: Vec<PeerId> = links.iter().flat_map(|link| [link.asks, link.asked]).take(NODES_NAMED_MAX).collect();
    nodes.dedup();
    nodes
}

fn pairs(links: &[Planned]) -> String {
    let pair = |link: &Planned| format!("{} with {}", link.asks.short(), link.asked.short());
    links.iter().take(PIECES_NAMED).map(pair).collect::<Vec<_>>().join(", ")
}

fn per_cent(share: f64) -> f64 {
    (share * 100.0).round()
}

fn sentence(need: &Need, advice: Advice, alert: &Alert, links: &[Planned]) -> Recommendation {
    let mut nodes = names(links);
    let connect = if links.is_empty() { String::new() } else { format!(": connect {}", pairs(links)) };
    let text = match need {
        Need::Redundancy(around) => {
            nodes.insert(0, *around);
            let will = if alert.kind == AlertKind::PartitionRiskAhead { "will soon" } else { "would" };
            let (around, share) = (around.short(), per_cent(alert.value));
            format!(
                "Add redundant connections around {around}, whose loss {will} separate {share} % of all pairs of nodes{connect}."
            )
        }
        Need::Shortcut => {
            format!("Add shortcuts: the farthest nodes are {} links apart{connect}.", alert.value)
        }
        Need::Relief(busy) => {
            nodes.insert(0, *busy);
            let (busy, load) = (busy.short(), per_cent(alert.value));
            format!("Rebalance load: bridge node {busy} is {load} % busy{connect} to lead traffic past it.")
        }
        Need::Local => {
            let clustering = per_cent(alert.value);
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
