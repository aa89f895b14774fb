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
    /// The outline of a graph without some of its nodes and their links; these nodes are in ascending order.
    pub(in crate::topology) fn of(graph: &LiveGraph, without: &[PeerId]) -> Self {
        let mut peers: Vec<PeerId> = graph.nodes().collect();
        peers.retain(|peer| without.binary_search(peer).is_err());
        let number: BTreeMap<_, u32> = peers.iter().copied().zip(0..).collect();
        let mut neighbours = vec![Vec::new(); peers.len()];
        let (mut edges, mut healing) = (0, 0);
        for edge in graph.graph().edge_references() {
            let end = |node| graph.peer(node).and_then(|peer| number.get(&peer)).copied();
            if let (Some(one), Some(other)) = (end(edge.source()), end(edge.target())) {
                edges += 1;
                healing += usize::from(edge.weight().healing);
                neighbours[one as usize].push(other);
                neighbours[other as usize].push(one);
            }
        }
        neighbours.iter_mut().for_each(|row| row.sort_unstable());
        let facts = |peer: &PeerId| graph.node(peer).map(|node| node.facts).unwrap_or_default();
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

    /// Takes a link that was added into account in distances that were found without it.
    pub(in crate::topology) fn shorten(&self, distance: &mut [u32], one: u32, other: u32) {
        let mut open: VecDeque<u32> = VecDeque::from([one, other]);
        while let Some(node) = open.pop_front() {
            let next = distance[node as usize].saturating_add(1);
            for neighbour in &self.neighbours[node as usize] {
                if next < distance[*neighbour as usize] {
                    distance[*neighbour as usize] = next;
                    open.push_back(*neighbour);
                }
            }
        }
    }

    /// What is left of a node's component without the node: pieces, the largest first, each with its nodes in ascending order.
    pub(in crate::topology) fn pieces_without(&self, lost: u32) -> Vec<Vec<u32>> {
        let mut seen = vec![false; self.len()];
        seen[lost as usize] = true;
        let mut pieces: Vec<Vec<u32>> = Vec::new();
        for start in &self.neighbours[lost as usize] {
            if std::mem::replace(&mut seen[*start as usize], true) {
                continue;
            }
            let mut piece = vec![*start];
            let mut at = 0;
            while let Some(node) = piece.get(at) {
                let fresh = self.neighbours[*node as usize].iter().filter(|next| !seen[**next as usize]);
                let fresh: Vec<u32> = fresh.copied().collect();
                fresh.iter().for_each(|next| seen[*next as usize] = true);
                piece.extend(fresh);
                at += 1;
            }
            piece.sort_unstable();
            pieces.push(piece);
        }
        pieces.sort_by_key(|piece| (usize::MAX - piece.len(), piece.first().copied()));
        pieces
    }

    /// How many links the way from a node to a neighbour has without the link between them; [`FAR`] where there is none.
    pub(in crate::topology) fn way_round(&self, one: &PeerId, other: &PeerId) -> u32 {
        let Some((one, other)) = self.number(one).zip(self.number(other)) else { return FAR };
        let mut without = self.clone();
        for (from, to) in [(one, other), (other, one)] {
            without.neighbours[from as usize].retain(|node| *node != to);
        }
        without.distances(&[one], None)[other as usize]
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use std::time::Instant;

    use bowline_messages::topology::NodeFacts;

    use super::*;
    use crate::topology::link_state::tests::peer;
    use crate::topology::link_state::tests::world::mesh;

    fn outline(nodes: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Outline {
        let all: Vec<_> = (0..nodes).map(|number| (peer(number), NodeFacts::default())).collect();
        Outline::of(&LiveGraph::by_hand(Instant::now(), &all, edges), &[])
    }

    #[test]
    fn distances_that_follow_a_new_link_are_those_of_a_new_search() {
        for seed in 0..20 {
            let row = (1..60).map(|number| (number - 1, number));
            let mut outline = outline(60, row);
            let mut distance = outline.distances(&[7], None);
            for (one, other) in mesh(60, 4, seed).into_iter().take(20) {
                outline.add(one as u32, other as u32);
                outline.shorten(&mut distance, one as u32, other as u32);
                assert_eq!(distance, outline.distances(&[7], None));
            }
        }
    }

    #[test]
    fn pieces_are_what_no_way_leads_between() {
        // Node 0 holds a row of three, a pair and a single one.
        let outline = outline(7, [(0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (0, 6), (5, 0)]);
        let number = |node: usize| outline.number(&peer(node)).unwrap();
        let sorted = |nodes: &[usize]| {
            let mut numbers: Vec<u32> = nodes.iter().map(|node| number(*node)).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(outline.pieces_without(number(0)), [sorted(&[1, 2, 3]), sorted(&[4, 5]), sorted(&[6])]);
    }
}
