//! Everything about one graph, for programs and for people.

use bowline_actors::topology::betweenness::betweenness;
use bowline_actors::topology::communities::{Communities, communities};
use bowline_actors::topology::{Analyser, Shape, WhatIf};
use serde_json::{Value, json};

use super::file::Network;
use super::measure::analysis_us;
use crate::cli::human::{harmless, micros};

/// From so many nodes on, lists of nodes are left out, and betweenness, which takes a search from every node.
const LISTS_BELOW: u32 = 2_000;
/// Nodes with most shortest paths through them.
const TOP: usize = 10;
/// Pieces that people see.
const PIECES: usize = 8;

/// What there is to say about a graph.
pub(super) struct Report<'a> {
    network: &'a Network,
    shape: Shape,
    communities: Communities,
    /// Nodes with most shortest paths through them, and how many; none in a large graph.
    top: Vec<(usize, f64)>,
    searches: u32,
    sweeps: u32,
    cpu_us: f64,
    /// A node, and what its loss would do.
    pub(super) what_if: Option<(u32, WhatIf)>,
}

impl<'a> Report<'a> {
    /// Analyses a graph. What that costs is measured by [`Report::measure`].
    pub(super) fn of(analyser: &mut Analyser, network: &'a Network) -> Self {
        let shape = analyser.analyse(&network.graph).clone();
        let (searches, sweeps) = analyser.effort();
        let mut top = Vec::new();
        if shape.nodes < LISTS_BELOW {
            top.extend(betweenness(&network.graph).into_iter().enumerate());
            top.sort_by(|(u, a), (v, b)| b.total_cmp(a).then(u.cmp(v)));
            top.truncate(TOP);
        }
        let communities = communities(&network.graph);
        Self { network, shape, communities, top, searches, sweeps, cpu_us: 0.0, what_if: None }
    }

    /// Takes the time of an analysis.
    pub(super) fn measure(&mut self, analyser: &mut Analyser) {
        self.cpu_us = analysis_us(analyser, &self.network.graph);
    }

    /// For programs: the keys of the data's `expected.json`, and more.
    pub(super) fn json(&self) -> Value {
        let (shape, list) = (&self.shape, &self.network.list);
        let separation = shape.separation();
        let mut json = json!({
            "file": self.network.file,
            "name": list.headers.get("name"),
            "source": list.headers.get("source"),
            "licence": list.headers.get("licence"),
            "n": shape.nodes,
            "m": shape.edges,
            "isolated": shape.isolated,
            "avg_degree": shape.average_degree(),
            "max_degree": shape.max_degree,
            "nodes_deg2plus": shape.nodes_deg2plus,
            "components": shape.components,
            "connected": shape.is_connected(),
            "largest_component_nodes": shape.largest_component_nodes,
            "largest_component_ties": shape.largest_component_ties,
            "diameter": shape.is_connected().then_some(shape.diameter_largest_component),
            "diameter_largest_component": shape.diameter_largest_component,
            "diameter_max_over_components": shape.diameter_max_over_components,
            "diameter_by": ["bowline"],
            "diameter_searches": self.searches,
            "diameter_sweeps": self.sweeps,
            "triangles": shape.triangles,
            "avg_local_clustering": shape.average_clustering(),
            "avg_local_clustering_deg2": shape.average_clustering_deg2(),
            "transitivity": shape.transitivity(),
            "articulation_points": shape.bridge_nodes.len(),
            "bridge_edges": shape.bridges.len(),
            "partition_risk": shape.partition_risk(),
            "separation_risk": shape.separation_risk(),
            "separation_node": separation.map(|separation| separation.node.index()),
            "communities": self.communities.count,
            "modularity": self.communities.modularity,
            "cpu_us": (self.cpu_us * 10.0).round() / 10.0,
        });
        if shape.nodes < LISTS_BELOW {
            let bridge_nodes: Vec<usize> = shape.bridge_nodes.iter().map(|node| node.index()).collect();
            let ends =
                |[u, v]: &[petgraph::graph::NodeIndex<u32>; 2]| [u.index().min(v.index()), u.index().max(v.index())];
            let mut bridges: Vec<[usize; 2]> = shape.bridges.iter().map(ends).collect();
            bridges.sort_unstable();
            let rounded = |(node, paths): &(usize, f64)| json!([node, (paths * 1e6).round() / 1e6]);
            json["articulation_list"] = json!(bridge_nodes);
            json["bridge_edge_list"] = json!(bridges);
            json["betweenness_top10"] = self.top.iter().map(rounded).collect();
        }
        if let Some((node, loss)) = &self.what_if {
            json["what_if"] = json!({
                "node": node,
                "degree": loss.degree,
                "components_before": loss.components_before,
                "components_after": loss.components_after,
                "pieces": loss.pieces,
                "pairs_separated": loss.pairs_separated,
                "share_separated": loss.share_separated,
                "isolated": loss.isolated,
                "diameter_before": loss.diameter_before,
                "diameter_after": loss.diameter_after,
            });
        }
        json
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let shape = &self.shape;
        let name = self.network.list.headers.get("name").unwrap_or(&self.network.file);
        let mut rows = vec![
            (
                "nodes",
                format!(
                    "{} with {} edges, {:.2} each on average, {} at most",
                    shape.nodes,
                    shape.edges,
                    shape.average_degree(),
                    shape.max_degree
                ),
            ),
            ("components", self.components()),
            ("diameter", format!("{} edges{}", shape.diameter_largest_component, self.whose_diameter())),
            (
                "clustering",
                format!(
                    "{:.4} (nodes with two neighbours or more {:.4}; transitivity {:.4}; {} triangles)",
                    shape.average_clustering(),
                    shape.average_clustering_deg2(),
                    shape.transitivity(),
                    shape.triangles
                ),
            ),
            ("bridge nodes", format!("{}, and {} bridges", shape.bridge_nodes.len(), shape.bridges.len())),
            ("worst loss", self.worst_loss()),
            ("partition risk", format!("{:.4} (the reference's formula)", shape.partition_risk())),
            ("communities", format!("{}, modularity {:.3}", self.communities.count, self.communities.modularity)),
            ("analysed in", format!("{} of processor time", micros(self.cpu_us.round() as u64))),
        ];
        if let Some((node, loss)) = &self.what_if {
            rows.push(("without", without(&node.to_string(), loss)));
        }
        let rows: String = rows.iter().map(|(label, text)| format!("  {label:<15} {text}\n")).collect();
        format!("{}\n{}", harmless(name), rows.replace("  without         ", "  without "))
    }

    fn components(&self) -> String {
        let shape = &self.shape;
        match shape.components {
            1 => "1: connected".to_owned(),
            count => {
                let (largest, isolated) = (shape.largest_component_nodes, shape.isolated);
                format!("{count}: DISCONNECTED; the largest has {largest} nodes, {isolated} nodes stand alone")
            }
        }
    }

    fn whose_diameter(&self) -> &'static str {
        if self.shape.components > 1 { ", of the largest component" } else { "" }
    }

    fn worst_loss(&self) -> String {
        self.shape.separation().map_or_else(
            || "no loss of one node separates others".to_owned(),
            |worst| {
                let (node, percent) = (worst.node.index(), worst.share * 100.0);
                format!("node {node} separates {percent:.1} % of the pairs of others")
            },
        )
    }
}

/// What the loss of a node would do, in a sentence.
pub(super) fn without(node: &str, loss: &WhatIf) -> String {
    let mut text = match &loss.pieces[..] {
        [] => format!("{node}: it stands alone, nobody would miss it"),
        [rest] => format!("{node}: the other {rest} nodes of its component stay connected"),
        pieces => {
            let mut sizes: Vec<String> = pieces.iter().take(PIECES).map(u32::to_string).collect();
            if pieces.len() > PIECES {
                sizes.push("…".to_owned());
            }
            format!(
                "{node}: its component falls into {} pieces of {} nodes; {} pairs ({:.1} %) lose each other",
                pieces.len(),
                sizes.join(", "),
                loss.pairs_separated,
                loss.share_separated * 100.0
            )
        }
    };
    text.push_str(&format!("; diameter {} → {}", loss.diameter_before, loss.diameter_after));
    text
}
