//! The graph that this node sees, kept up to date edge by edge.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::topology::{GraphLink, GraphNode, LinkFacts, NetworkGraph, NodeFacts};
use petgraph::graph::NodeIndex;
use petgraph::stable_graph::StableUnGraph;
use petgraph::visit::{EdgeRef as _, IntoEdgeReferences as _};

use crate::topology::Clustering;

/// A node of the graph. How many connections it has is its degree.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeData {
    /// Who it is.
    pub peer: PeerId,
    /// What it says of itself.
    pub facts: NodeFacts,
    /// When its last announcement arrived.
    pub last_seen: Instant,
}

/// An edge of the graph: as bad as the worse of its two ends says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkData {
    /// The greater round trip.
    pub latency: Duration,
    /// The smaller bandwidth, bytes a second; 0: neither end measured it.
    pub bandwidth: u64,
    /// The greater share lost, in millionths.
    pub loss_ppm: u32,
    /// The earlier of the moments at which something last arrived.
    pub last_active: Instant,
    /// The greater cost.
    pub cost: u32,
    /// Whether both ends say that it is there for healing: one alone could use up what the network may spend on that.
    pub healing: bool,
}

impl LinkData {
    /// The share that arrives, 0 to 1.
    pub fn reliability(&self) -> f64 {
        1.0 - f64::from(self.loss_ppm) / 1e6
    }

    /// What both ends say, each with the moment it said so.
    pub(super) fn of_both(one: (&LinkFacts, Instant), other: (&LinkFacts, Instant)) -> Self {
        let ((a, a_at), (b, b_at)) = (one, other);
        let active = |facts: &LinkFacts, at: Instant| at.checked_sub(facts.idle).unwrap_or(at);
        Self {
            latency: a.latency.max(b.latency),
            bandwidth: match (a.bandwidth, b.bandwidth) {
                (0, known) | (known, 0) => known,
                (a, b) => a.min(b),
            },
            loss_ppm: a.loss_ppm.max(b.loss_ppm),
            last_active: active(a, a_at).min(active(b, b_at)),
            cost: a.cost.max(b.cost),
            healing: a.healing && b.healing,
        }
    }
}

/// The graph that this node sees: itself, and every node with at least one link that both of its ends announce. One edge for each pair of nodes.
///
/// Any number of readers may follow it by [`LiveGraph::version`], which grows with every change, and [`LiveGraph::structure`], which
/// grows when nodes or edges come or go.
#[derive(Debug, Clone)]
pub struct LiveGraph {
    own: PeerId,
    graph: StableUnGraph<NodeData, LinkData, u32>,
    index: BTreeMap<PeerId, NodeIndex<u32>>,
    /// Clustering coefficients, which follow every single change.
    clustering: Clustering,
    version: u64,
    structure: u64,
    healing: usize,
}

impl LiveGraph {
    /// The graph of a node that knows nobody.
    pub fn new(own: PeerId, facts: NodeFacts, now: Instant) -> Self {
        let mut graph = StableUnGraph::default();
        let node = graph.add_node(NodeData { peer: own, facts, last_seen: now });
        let (index, clustering) = (BTreeMap::from([(own, node)]), Clustering::default());
        Self { own, graph, index, clustering, version: 1, structure: 1, healing: 0 }
    }

    /// This node.
    pub fn own(&self) -> PeerId {
        self.own
    }

    /// Grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Grows when a node or an edge comes or goes.
    pub fn structure(&self) -> u64 {
        self.structure
    }

    /// The graph itself, for analyses. Indexes stay with their nodes while these are there.
    pub fn graph(&self) -> &StableUnGraph<NodeData, LinkData, u32> {
        &self.graph
    }

    /// A node's place in [`LiveGraph::graph`].
    pub fn index(&self, peer: &PeerId) -> Option<NodeIndex<u32>> {
        self.index.get(peer).copied()
    }

    /// Who is at a place.
    pub fn peer(&self, node: NodeIndex<u32>) -> Option<PeerId> {
        self.graph.node_weight(node).map(|node| node.peer)
    }

    /// Every node, in ascending order.
    pub fn nodes(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.index.keys().copied()
    }

    /// A node's neighbours and what it costs to send to each, in ascending order; nothing for a node that is not there.
    pub fn neighbours(&self, peer: &PeerId) -> Vec<(PeerId, u32)> {
        let Some(node) = self.index(peer) else { return Vec::new() };
        let other = |edge: petgraph::stable_graph::EdgeReference<'_, LinkData, u32>| {
            let end = if edge.source() == node { edge.target() } else { edge.source() };
            Some((self.peer(end)?, edge.weight().cost))
        };
        let mut neighbours: Vec<_> = self.graph.edges(node).filter_map(other).collect();
        neighbours.sort_unstable();
        neighbours
    }

    /// What a node says of itself.
    pub fn node(&self, peer: &PeerId) -> Option<&NodeData> {
        self.graph.node_weight(self.index(peer)?)
    }

    /// What the ends say of a link.
    pub fn link(&self, one: &PeerId, other: &PeerId) -> Option<&LinkData> {
        self.graph.edge_weight(self.graph.find_edge(self.index(one)?, self.index(other)?)?)
    }

    /// The share of pairs of a node's neighbours that are neighbours of each other; 0 for a node that is not there.
    pub fn clustering(&self, peer: &PeerId) -> f64 {
        self.index(peer).map_or(0.0, |node| self.clustering.of_node(node))
    }

    /// All of it, for those who want to look at it. Clusters and proofs are for others to fill in.
    pub fn report(&self, now: Instant) -> NetworkGraph {
        let node = |peer: PeerId| {
            let NodeData { facts, last_seen, .. } = *self.node(&peer)?;
            // This node does not announce itself to itself.
            let last_seen = if peer == self.own { now } else { last_seen };
            Some(GraphNode {
                peer,
                facts,
                last_seen: now.saturating_duration_since(last_seen),
                connections: self.graph.edges(self.index(&peer)?).count() as u32,
                clustering: self.clustering(&peer),
                cluster: None,
            })
        };
        let link = |edge: petgraph::stable_graph::EdgeReference<'_, LinkData, u32>| {
            let LinkData { latency, bandwidth, loss_ppm, last_active, cost, healing } = *edge.weight();
            let mut ends = [self.peer(edge.source())?, self.peer(edge.target())?];
            ends.sort_unstable();
            let last_active = now.saturating_duration_since(last_active);
            Some(GraphLink { ends, latency, bandwidth, loss_ppm, last_active, cost, healing })
        };
        let mut links: Vec<_> = self.graph.edge_references().filter_map(link).collect();
        links.sort_unstable_by_key(|link| link.ends);
        let nodes = self.nodes().filter_map(node).collect();
        NetworkGraph { own: self.own, nodes, links, two_faced: Vec::new() }
    }

    /// How many links are there for healing.
    pub fn healing_links(&self) -> usize {
        self.healing
    }

    /// Takes in what is known of a node; a node without links is not in the graph, this one apart.
    pub(super) fn describe(&mut self, peer: PeerId, facts: NodeFacts, now: Instant) {
        let Some(node) = self.index.get(&peer).and_then(|node| self.graph.node_weight_mut(*node)) else { return };
        if node.facts != facts {
            self.version += 1;
        }
        node.facts = facts;
        node.last_seen = now;
    }

    /// Adds a link or takes new figures of it over. Nodes that are new are described by `about`.
    pub(super) fn connect(&mut self, ends: [PeerId; 2], link: LinkData, about: impl Fn(&PeerId) -> Option<NodeData>) {
        for end in ends {
            if !self.index.contains_key(&end) {
                let Some(data) = about(&end) else { return };
                let node = self.graph.add_node(data);
                self.index.insert(end, node);
            }
        }
        let (Some(one), Some(other)) = (self.index(&ends[0]), self.index(&ends[1])) else { return };
        if let Some(edge) = self.graph.find_edge(one, other).and_then(|edge| self.graph.edge_weight_mut(edge)) {
            self.healing = self.healing + usize::from(link.healing) - usize::from(edge.healing);
            // That a link was used once more is no news to those who follow.
            self.version += u64::from(*edge != LinkData { last_active: edge.last_active, ..link });
            *edge = link;
            return;
        }
        self.graph.add_edge(one, other, link);
        self.clustering.insert(one, other);
        self.healing += usize::from(link.healing);
        self.version += 1;
        self.structure += 1;
    }

    /// Takes a link out if it is there, and nodes that have none left.
    pub(super) fn disconnect(&mut self, ends: [PeerId; 2]) {
        let (Some(one), Some(other)) = (self.index(&ends[0]), self.index(&ends[1])) else { return };
        let Some(edge) = self.graph.find_edge(one, other) else { return };
        if let Some(link) = self.graph.remove_edge(edge) {
            self.healing -= usize::from(link.healing);
            self.clustering.remove(one, other);
        }
        for (peer, node) in [(ends[0], one), (ends[1], other)] {
            if peer != self.own && self.graph.edges(node).next().is_none() {
                self.graph.remove_node(node);
                self.index.remove(&peer);
            }
        }
        self.version += 1;
        self.structure += 1;
    }
}

#[cfg(test)]
impl LiveGraph {
    /// A graph made by hand, as its first node sees it.
    pub(in crate::topology) fn by_hand(
        now: Instant,
        nodes: &[(PeerId, NodeFacts)],
        edges: impl IntoIterator<Item = (usize, usize)>,
    ) -> Self {
        let mut graph = Self::new(nodes[0].0, nodes[0].1, now);
        let facts = (&LinkFacts::default(), now);
        for (one, other) in edges {
            let about = |peer: &PeerId| {
                let (peer, facts) = *nodes.iter().find(|(found, _)| found == peer)?;
                Some(NodeData { peer, facts, last_seen: now })
            };
            graph.connect([nodes[one].0, nodes[other].0], LinkData::of_both(facts, facts), about);
        }
        graph
    }
}
