//! What the loss of one node would do.

use petgraph::graph::NodeIndex;
use petgraph::visit::{IntoEdgeReferences, IntoNodeIdentifiers, NodeIndexable};

use super::analysis::Analyser;

/// What the loss of one node would do to the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct WhatIf {
    /// Neighbours it has.
    pub degree: u32,
    /// Components now, it included.
    pub components_before: u32,
    /// Components without it.
    pub components_after: u32,
    /// What its component would fall into: nodes of each piece, the largest first. One piece: nothing is separated; none: it stood alone.
    pub pieces: Vec<u32>,
    /// Pairs of other nodes that are connected now and would not be.
    pub pairs_separated: u64,
    /// The same as a share of all pairs of other nodes, from 0 to 1.
    pub share_separated: f64,
    /// Neighbours of it that would have no neighbour left.
    pub isolated: u32,
    /// The diameter of the largest component now.
    pub diameter_before: u32,
    /// The diameter of the largest component without it.
    pub diameter_after: u32,
}

/// What the loss of a node would do; none if there is no such node.
pub fn what_if<G>(analyser: &mut Analyser, graph: G, lost: NodeIndex<u32>) -> Option<WhatIf>
where
    G: NodeIndexable + IntoNodeIdentifiers<NodeId = NodeIndex<u32>> + IntoEdgeReferences,
{
    graph.node_identifiers().find(|node| *node == lost)?;
    let before = analyser.analyse(graph).clone();
    let after = analyser.analyse_without(graph, Some(lost));
    let node = *before.by_node.get(lost.index())?;
    let others = f64::from(before.nodes - 1);
    let mut sizes = vec![0; after.components as usize];
    for other in graph.node_identifiers().filter(|other| *other != lost) {
        let index = other.index();
        if before.by_node[index].component == node.component {
            sizes[after.by_node[index].component as usize] += 1;
        }
    }
    let mut pieces: Vec<u32> = sizes.into_iter().filter(|size| *size > 0).collect();
    pieces.sort_unstable_by(|a, b| b.cmp(a));
    let pairs = others * (others - 1.0) / 2.0;
    Some(WhatIf {
        degree: node.degree,
        components_before: before.components,
        components_after: after.components,
        pieces,
        pairs_separated: node.pairs_separated,
        share_separated: if pairs > 0.0 { node.pairs_separated as f64 / pairs } else { 0.0 },
        isolated: after.isolated - (before.isolated - u32::from(node.degree == 0)),
        diameter_before: before.diameter_largest_component,
        diameter_after: after.diameter_largest_component,
    })
}
