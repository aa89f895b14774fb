//! The graph reduced to what plans need, the same for every node that sees the same graph.

use std::collections::{BTreeMap, VecDeque};

use bowline_messages::PeerId;
use petgraph::visit::{EdgeRef as _, IntoEdgeReferences as _};

use crate::topology::link_state::LiveGraph;

/// A distance that there is none of.
pub(in crate::topology) const FAR: u32 = u32::MAX;

/// Nodes numbered in the order of their names, and their neighbours in ascending order.
#[derive(Debug, Clone, Default)]
pub(in crate::topology) struct Outline {
    pub(in crate::topology) peers: Vec<PeerId>,
    pub(in crate::topology) neighbours: Vec<Vec<u32>>,
    /// Links that each would take on.
    pub(in crate::topology) spare: Vec<u8>,
    pub(in crate::topology) load: Vec<f64>,
    /// Links, and those of them that are there for healing.
    pub(in crate::topology) edges: usize,
    pub(in crate::topology) healing: usize,
}

impl Outline {
    pub(in crate::topology) fn of(graph: &LiveGraph) -> Self {
        let peers: Vec<PeerId> = graph.nodes().collect();
        let number: BTreeMap<_, u32> = peers.iter().copied().zip(0..).collect();
        let mut neighbours = vec![Vec::new(); peers.len()];
        for edge in graph.graph().edge_references() {
            let end = |node| graph.peer(node).and_then(|peer| number.get(&peer)).copied();
            if let (Some(one), Some(other)) = (end(edge.source()), end(edge.target())) {
                neighbours[one as usize].push(other);
                neighbours[other as usize].push(one);
            }
        }
        neighbours.iter_mut().for_each(|row| row.sort_unstable());
        let facts = |peer: &PeerId| graph.node(peer).map(|node| node.facts).unwrap_or_default();
        let (edges, healing) = (graph.graph().edge_count(), graph.healing_links());
        Self {
            neighbours,
            spare: peers.iter().map(|peer| facts(peer).spare_links).collect(),
            load: peers.iter().map(|peer| facts(peer).load).collect(),
            edges,
            healing,
            peers,
        }
    }

    pub(in crate::topology) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(in crate::topology) fn number(&self, peer: &PeerId) -> Option<u32> {
        self.peers.binary_search(peer).ok().map(|at| at as u32)
    }

    pub(in crate::topology) fn degree(&self, node: u32) -> usize {
        self.neighbours[node as usize].len()
    }

    pub(in crate::topology) fn linked(&self, one: u32, other: u32) -> bool {
        self.neighbours[one as usize].binary_search(&other).is_ok()
    }

    /// Adds a link that is planned, at the cost of a spare one at both ends.
    pub(in crate::topology) fn add(&mut self, one: u32, other: u32) {
        for (from, to) in [(one, other), (other, one)] {
            let row = &mut self.neighbours[from as usize];
            if let Err(at) = row.binary_search(&to) {
                row.insert(at, to);
            }
            let spare = &mut self.spare[from as usize];
            *spare = spare.saturating_sub(1);
        }
    }

    /// How far every node is from the nearest of some, `without` one node; [`FAR`] where no way leads.
    pub(in crate::topology) fn distances(&self, from: &[u32], without: Option<u32>) -> Vec<u32> {
        let mut distance = vec![FAR; self.len()];
        let mut open: VecDeque<u32> = VecDeque::new();
        for start in from {
            distance[*start as usize] = 0;
            open.push_back(*start);
        }
        while let Some(node) = open.pop_front() {
            let next = distance[node as usize] + 1;
            for neighbour in &self.neighbours[node as usize] {
                if distance[*neighbour as usize] == FAR && Some(*neighbour) != without {
                    distance[*neighbour as usize] = next;
                    open.push_back(*neighbour);
                }
            }
        }
        distance
    }

    /// What is left of a node's component without the node: pieces, the largest first, each with its nodes in ascending order.
    pub(in crate::topology) fn pieces_without(&self, lost: u32) -> Vec<Vec<u32>> {
        let mut piece_of = vec![FAR; self.len()];
        let mut pieces: Vec<Vec<u32>> = Vec::new();
        for start in &self.neighbours[lost as usize] {
            if piece_of[*start as usize] != FAR {
                continue;
            }
            let distance = self.distances(&[*start], Some(lost));
            let piece: Vec<u32> = (0..self.len() as u32).filter(|node| distance[*node as usize] != FAR).collect();
            piece.iter().for_each(|node| piece_of[*node as usize] = pieces.len() as u32);
            pieces.push(piece);
        }
        pieces.sort_by_key(|piece| (usize::MAX - piece.len(), piece.first().copied()));
        pieces
    }

    /// A way with the fewest links from one node to another, both included.
    pub(in crate::topology) fn path(&self, from: u32, to: u32) -> Option<Vec<u32>> {
        let distance = self.distances(&[to], None);
        let mut path = vec![from];
        let mut at = from;
        while at != to {
            let closer = |next: &&u32| distance[**next as usize] < distance[at as usize];
            at = *self.neighbours[at as usize].iter().find(closer)?;
            path.push(at);
        }
        Some(path)
    }
}
