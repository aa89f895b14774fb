//! The network as the running node sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_actors::topology::{Analyser, WhatIf, drawing, what_if};
use bowline_messages::PeerId;
use bowline_messages::topology::{AlertRecord, GraphLink, NetworkGraph};
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
        if shape.components > 1 {
            text.push_str(&format!("  DISCONNECTED: {} parts\n", shape.components));
        }
        // Of fewer than three nodes the loss of one leaves no pair.
        if nodes > 2 {
            let risk = shape.separation_risk * 100.0;
            text.push_str(&format!("  the loss of one node separates up to {risk:.0} % of the pairs of others"));
            let ahead = shape.separation_risk_ahead.map(|ahead| format!(", soon {:.0} %", ahead * 100.0));
            text.push_str(&ahead.unwrap_or_default());
            text.push('\n');
        }
        if !shape.bridge_nodes.is_empty() {
            let names: Vec<String> = shape.bridge_nodes.iter().map(|peer| self.called(peer)).collect();
            text.push_str(&format!("  bridge nodes ({}): {}\n", shape.bridge_nodes_all, names.join(", ")));
        }
        health.alerts.iter().for_each(|alert| text.push_str(&alert_text(alert)));
        for advice in &health.recommendations {
            text.push_str(&format!("  recommended: {}\n", harmless(&advice.text)));
        }
        text.push_str(&self.links());
        if let Some((peer, loss)) = lost {
            text.push_str(&format!("without {}\n", without(&self.called(&peer), loss)));
        }
        text
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

fn alert_text(AlertRecord { alert, raised_ago, cleared_ago }: &AlertRecord) -> String {
    let words = |ago: &Duration| format!("{} ago", span(*ago));
    let when = cleared_ago
        .as_ref()
        .map_or_else(|| format!("since {}", words(raised_ago)), |ago| format!("over, {}", words(ago)));
    let kind = format!("{:?}", alert.kind);
    let kind = kind.split([' ', '{']).next().unwrap_or_default();
    format!("  {:?}: {kind} {:.2} (limit {:.2}), {when}\n", alert.level, alert.value, alert.limit)
}

/// What is appended to a word for several of its kind.
const fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}
