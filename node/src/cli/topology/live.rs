//! The network as the running node sees it.

use std::collections::BTreeMap;

use bowline_actors::topology::{Analyser, WhatIf, drawing, what_if};
use bowline_messages::PeerId;
use bowline_messages::topology::{AlertLevel, AlertRecord, GraphLink, NetworkGraph, TopologySummary};
use petgraph::graph::NodeIndex;
use petgraph::stable_graph::StableUnGraph;
use serde_json::{Value, json};

use super::report::without;
use crate::cli::human::{harmless, micros, span};
use crate::control::protocol::TopologyReport;
use crate::exit::{Exit, Failure};

/// Links that people see.
const LINKS_SHOWN: usize = 20;

/// What the node told, and the graph made of it.
pub(super) struct Live {
    report: TopologyReport,
    graph: StableUnGraph<PeerId, ()>,
    index: BTreeMap<PeerId, NodeIndex<u32>>,
}

impl Live {
    pub(super) fn new(report: TopologyReport) -> Self {
        let mut graph = StableUnGraph::default();
        let index: BTreeMap<_, _> =
            report.graph.nodes.iter().map(|node| (node.peer, graph.add_node(node.peer))).collect();
        for GraphLink { ends: [one, other], .. } in &report.graph.links {
            if let (Some(one), Some(other)) = (index.get(one), index.get(other)) {
                graph.add_edge(*one, *other, ());
            }
        }
        Self { report, graph, index }
    }

    /// What the user calls a peer, or the beginning of its id.
    fn called(&self, peer: &PeerId) -> String {
        let name = self.report.names.get(peer).cloned().unwrap_or_else(|| peer.short().to_string());
        if *peer == self.report.graph.own { format!("{name} (this node)") } else { name }
    }

    /// The peer that a user means: a name, an id, or the beginning of one that only one node has.
    ///
    /// # Errors
    /// [`Exit::Usage`].
    pub(super) fn find(&self, wanted: &str) -> Result<PeerId, Failure> {
        let named = self.report.names.iter().find(|(_, name)| *name == wanted).map(|(peer, _)| *peer);
        let mut like = self.index.keys().filter(|peer| peer.to_string().starts_with(wanted));
        match (named, like.next(), like.next()) {
            (Some(peer), ..) => Ok(peer),
            (None, Some(peer), None) => Ok(*peer),
            (None, Some(_), Some(_)) => {
                Err(Failure::new(Exit::Usage, format_args!("several nodes begin with `{}`", harmless(wanted))))
            }
            (None, None, _) => {
                Err(Failure::new(Exit::Usage, format_args!("no node of the network is `{}`", harmless(wanted))))
            }
        }
    }

    /// What the loss of a node would do.
    pub(super) fn loss(&self, peer: &PeerId) -> Option<WhatIf> {
        what_if(&mut Analyser::new(), &self.graph, *self.index.get(peer)?)
    }

    /// The graph as text for Graphviz, or as a picture; none when it is too large for that.
    pub(super) fn draw(&self, picture: bool) -> Option<String> {
        let mut analyser = Analyser::new();
        let shape = analyser.analyse(&self.graph);
        let name =
            |node: NodeIndex<u32>| self.graph.node_weight(node).map_or_else(String::new, |peer| self.called(peer));
        if picture { drawing::svg(&self.graph, shape, name) } else { Some(drawing::dot(&self.graph, shape, name)) }
    }

    pub(super) fn json(&self, lost: Option<(PeerId, &WhatIf)>) -> Result<Value, Failure> {
        let mut value = serde_json::to_value(&self.report).map_err(|error| Failure::new(Exit::GaveUp, error))?;
        if let Some((peer, loss)) = lost {
            value["what_if"] = json!({
                "peer": peer,
                "components_after": loss.components_after,
                "pieces": loss.pieces,
                "pairs_separated": loss.pairs_separated,
                "share_separated": loss.share_separated,
                "diameter_before": loss.diameter_before,
                "diameter_after": loss.diameter_after,
            });
        }
        Ok(value)
    }

    pub(super) fn text(&self, lost: Option<(PeerId, &WhatIf)>) -> String {
        let (health, shape) = (&self.report.health, &self.report.health.topology);
        let overall = format!("{:?}", health.overall).to_lowercase();
        let (nodes, links) = (shape.nodes, shape.edges);
        let mut text = format!(
            "network {overall}: {nodes} node{}, {links} link{}, diameter {}, clustering {:.2}\n",
            plural(nodes),
            plural(links),
            shape.diameter,
            shape.clustering
        );
        text.push_str(&self.beside(shape));
        // Of fewer than three nodes the loss of one leaves no pair.
        if nodes > 2 {
            let risk = shape.separation_risk * 100.0;
            text.push_str(&format!("  the loss of one node separates up to {risk:.0} % of the pairs of others"));
            let ahead = shape.separation_risk_ahead.map(|ahead| format!(", soon {:.0} %", ahead * 100.0));
            text.push_str(&ahead.unwrap_or_default());
            text.push('\n');
        }
        if let Some(clusters) = shape.clusters.filter(|clusters| *clusters > 1) {
            text.push_str(&format!("  {clusters} clusters, modularity {:.2}\n", shape.modularity.unwrap_or(0.0)));
        }
        if !shape.bridge_nodes.is_empty() {
            let names: Vec<String> = shape.bridge_nodes.iter().map(|peer| self.called(peer)).collect();
            text.push_str(&format!("  bridge nodes ({}): {}\n", shape.bridge_nodes_all, names.join(", ")));
        }
        for (name, transport) in &health.transports {
            let (links, well) = (transport.links, transport.well);
            text.push_str(&format!("  over {}: {links} link{}, {well} of them well\n", harmless(name), plural(links)));
        }
        health.alerts.iter().for_each(|alert| text.push_str(&self.alert(alert)));
        for advice in &health.recommendations {
            text.push_str(&format!("  recommended: {}\n", harmless(&advice.text)));
        }
        text.push_str(&self.links());
        if let Some((peer, loss)) = lost {
            text.push_str(&format!("without {}\n", without(&self.called(&peer), loss)));
        }
        text
    }

    /// What is not in this node's part of the network: members that are missing, and nodes that announce themselves without a way to them.
    fn beside(&self, shape: &TopologySummary) -> String {
        let mut text = String::new();
        if shape.torn {
            text.push_str(&format!("  DISCONNECTED: {} parts\n", shape.components));
        }
        if shape.missing_all > 0 {
            let names: Vec<String> = shape.missing.iter().map(|peer| self.called(peer)).collect();
            let more = if (names.len() as u32) < shape.missing_all { ", …" } else { "" };
            text.push_str(&format!("  missing, without a word ({}): {}{more}\n", shape.missing_all, names.join(", ")));
        }
        if shape.nodes_elsewhere > 0 && !shape.torn {
            let (nodes, parts) = (shape.nodes_elsewhere, shape.components.saturating_sub(1));
            let parts = if parts > 0 { format!(" in {parts} part{}", plural(parts)) } else { String::new() };
            let other = format!("  {nodes} other node{}{parts}", plural(nodes));
            text.push_str(&format!("{other} that no way leads to, or that hang on one node alone\n"));
        }
        text
    }

    fn alert(&self, AlertRecord { alert, raised_ago, cleared_ago }: &AlertRecord) -> String {
        let when = cleared_ago
            .as_ref()
            .map_or_else(|| format!("for {}", span(*raised_ago)), |ago| format!("over since {}", span(*ago)));
        let grave = match alert.level {
            AlertLevel::Recommend => "could be better",
            AlertLevel::Alert => "alert",
            AlertLevel::Pause => "alert, work that can wait should wait",
        };
        format!("  {grave}: {} ({when})\n", alert.sentence(|peer| self.called(peer)))
    }

    fn links(&self) -> String {
        let NetworkGraph { links, .. } = &self.report.graph;
        let mut text = String::new();
        for GraphLink { ends: [one, other], latency, loss_ppm, healing, .. } in links.iter().take(LINKS_SHOWN) {
            let healing = if *healing { ", for healing" } else { "" };
            let loss =
                if *loss_ppm > 0 { format!(", {:.1} % lost", f64::from(*loss_ppm) / 1e4) } else { String::new() };
            text.push_str(&format!(
                "  {} - {}: {}{loss}{healing}\n",
                self.called(one),
                self.called(other),
                micros(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))
            ));
        }
        if links.len() > LINKS_SHOWN {
            text.push_str(&format!(
                "  … and {} more links; --json, --dot and --svg have all\n",
                links.len() - LINKS_SHOWN
            ));
        }
        text
    }
}

/// What is appended to a word for several of its kind.
const fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use bowline_messages::topology::{
        Alert, AlertKind, Figure, GraphNode, HealthReport, NodeFacts, OverallStatus, TransportHealth,
    };

    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes([number; 32])
    }

    /// Nodes 1 to so many in a row, as the first one sees them; the second is called `bob`.
    fn live(nodes: u8, health: HealthReport) -> Live {
        let about = |number| GraphNode {
            peer: peer(number),
            facts: NodeFacts::default(),
            last_seen: Duration::from_secs(1),
            connections: 2,
            clustering: 0.0,
            cluster: None,
        };
        let link = |number: u8| GraphLink {
            ends: [peer(number), peer(number + 1)],
            latency: Duration::from_millis(20),
            bandwidth: 0,
            loss_ppm: 0,
            last_active: Duration::ZERO,
            cost: 1,
            healing: false,
        };
        let (nodes, links) = ((1..=nodes).map(about).collect(), (1..nodes).map(link).collect());
        let graph = NetworkGraph { own: peer(1), nodes, links, two_faced: Vec::new() };
        Live::new(TopologyReport { health, graph, names: BTreeMap::from([(peer(2), "bob".to_owned())]) })
    }

    fn record(kind: AlertKind, level: AlertLevel, value: f64, limit: f64, cleared: Option<u64>) -> AlertRecord {
        let alert = Alert { kind, level, value, limit, nodes: vec![peer(2)] };
        let cleared_ago = cleared.map(Duration::from_secs);
        AlertRecord { alert, raised_ago: Duration::from_secs(30), cleared_ago }
    }

    #[test]
    fn people_read_sentences_with_names_and_every_transport() {
        let alerts = vec![
            record(AlertKind::PartitionRisk, AlertLevel::Pause, 1.0, 0.4, None),
            record(AlertKind::BridgeOverloaded { peer: peer(2) }, AlertLevel::Alert, 0.9, 0.8, None),
            record(AlertKind::AnomalyDetected { figure: Figure::Nodes }, AlertLevel::Alert, 3.0, 5.0, Some(5)),
        ];
        let health = |links, well| TransportHealth { links, well };
        let transports = BTreeMap::from([("ble".to_owned(), health(1, 0)), ("tcp".to_owned(), health(3, 2))]);
        let text = live(3, HealthReport { alerts, transports, ..HealthReport::default() }).text(None);
        for line in [
            "  over ble: 1 link, 0 of them well\n",
            "  over tcp: 3 links, 2 of them well\n",
            "  alert, work that can wait should wait: the loss of one node would separate 100 % of all pairs of nodes (limit 40 %); bridge nodes, the worst \
             first: bob (for 30s)\n",
            "  alert: bridge node bob is 90 % busy passing on for others (limit 80 %) (for 30s)\n",
            "  alert: the number of nodes is 3, unusually less: as a rule it stays within 5 (over since 5s)\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn what_is_beside_the_network_is_told_apart() {
        let shape = |nodes_elsewhere, missing: Vec<PeerId>, torn| TopologySummary {
            nodes: 1,
            components: 2,
            nodes_elsewhere,
            missing_all: missing.len() as u32,
            missing,
            torn,
            ..TopologySummary::default()
        };
        let text = |topology| {
            live(1, HealthReport { topology, overall: OverallStatus::Critical, ..HealthReport::default() }).text(None)
        };
        let strange = text(shape(2, Vec::new(), false));
        assert!(strange.contains("2 other nodes in 1 part that no way leads to") && !strange.contains("DISCONNECTED"));
        let hanging = text(TopologySummary { components: 1, ..shape(3, Vec::new(), false) });
        assert!(
            hanging.contains("  3 other nodes that no way leads to, or that hang on one node alone\n"),
            "{hanging}"
        );
        let torn = text(shape(2, vec![peer(2)], true));
        assert!(torn.contains("DISCONNECTED: 2 parts") && torn.contains("missing, without a word (1): bob"), "{torn}");
    }
}
