//! Which nodes of the graph count: those of this node's part that somebody answers for.
//!
//! Anybody can invent nodes that link each other, and a member can link itself to them. So strangers count as far as they lie between nodes that
//! do: who trusts fewer than others do may have its only way to a member lead through nodes that are none here. What hangs on a single one is
//! its word alone.

use std::collections::BTreeSet;

use bowline_messages::PeerId;
use petgraph::graph::NodeIndex;
use petgraph::visit::NodeIndexable as _;

use super::link_state::LiveGraph;

/// Everything but this node's part of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Parts that no way leads between, this node's own included. Strangers that hang on one node make none: anybody can invent them.
    pub(super) parts: u32,
    /// The nodes of the others that no way leads to, in ascending order.
    pub(super) nodes: Vec<PeerId>,
    /// Strangers that hang on one node, in ascending order.
    pub(super) strangers: Vec<PeerId>,
}

impl Elsewhere {
    /// All nodes that do not count.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() + self.strangers.len()
    }

    /// All nodes that do not count, in ascending order.
    pub(super) fn all(&self) -> Vec<PeerId> {
        let mut all = [&self.nodes[..], &self.strangers[..]].concat();
        all.sort_unstable();
        all
    }
}

/// Which nodes count, by their places; and the rest. Those that are neither `members` nor neighbours nor this node are strangers; without `members`
/// there are none.
pub(super) fn own_part(graph: &LiveGraph, members: Option<&BTreeSet<PeerId>>) -> (Vec<bool>, Elsewhere) {
    let mut here = vec![false; graph.graph().node_bound()];
    if let Some(own) = graph.index(&graph.own()) {
        reach(graph, own, &mut here);
    }
    let mut elsewhere = Elsewhere { parts: 1, ..Elsewhere::default() };
    let mut seen = here.clone();
    for peer in graph.nodes() {
        let Some(node) = graph.index(&peer).filter(|node| !here[node.index()]) else { continue };
        elsewhere.nodes.push(peer);
        if !seen[node.index()] {
            elsewhere.parts += 1;
            reach(graph, node, &mut seen);
        }
    }
    if let Some(members) = members {
        leave_out_strangers(graph, members, &mut here, &mut elsewhere);
    }
    (here, elsewhere)
}

/// Marks everything that ways lead to from a node.
fn reach(graph: &LiveGraph, from: NodeIndex<u32>, seen: &mut [bool]) {
    let mut open = vec![from];
    seen[from.index()] = true;
    while let Some(node) = open.pop() {
        let next = graph.graph().neighbors(node);
        open.extend(next.filter(|next| !std::mem::replace(&mut seen[next.index()], true)));
    }
}

/// Takes away what is linked, in this part, to one node that counts and to none beside it.
fn leave_out_strangers(graph: &LiveGraph, members: &BTreeSet<PeerId>, here: &mut [bool], elsewhere: &mut Elsewhere) {
    let network = graph.graph();
    // Looked at: nodes that count, so that no search passes them, and strangers that were found.
    let mut seen = vec![false; here.len()];
    let known = graph.nodes().filter(|peer| members.contains(peer)).filter_map(|peer| graph.index(&peer));
    let own = graph.index(&graph.own());
    for node in known.chain(own).chain(own.into_iter().flat_map(|own| network.neighbors(own))) {
        seen[node.index()] = true;
    }
    let counts = seen.clone();
    for peer in graph.nodes() {
        let Some(start) = graph.index(&peer).filter(|node| here[node.index()] && !seen[node.index()]) else { continue };
        let (mut bunch, mut at, mut ends) = (vec![start], 0, BTreeSet::new());
        seen[start.index()] = true;
        while let Some(node) = bunch.get(at).copied() {
            at += 1;
            for next in network.neighbors(node) {
                if counts[next.index()] {
                    // Whether it is one or more is all that matters.
                    if ends.len() < 2 {
                        ends.insert(next);
                    }
                } else if !std::mem::replace(&mut seen[next.index()], true) {
                    bunch.push(next);
                }
            }
        }
        if ends.len() < 2 {
            elsewhere.strangers.extend(bunch.iter().filter_map(|node| graph.peer(*node)));
            bunch.iter().for_each(|node| here[node.index()] = false);
        }
    }
    elsewhere.strangers.sort_unstable();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]
    use std::time::Instant;

    use bowline_messages::topology::NodeFacts;

    use super::*;
    use crate::topology::link_state::tests::peer;

    /// How many of so many nodes count for node 0 if those up to a number are members, and in how many parts they are.
    fn counted(nodes: usize, members: usize, edges: &[(usize, usize)]) -> (usize, u32) {
        let all: Vec<_> = (0..nodes).map(|number| (peer(number), NodeFacts::default())).collect();
        let graph = LiveGraph::by_hand(Instant::now(), &all, edges.iter().copied());
        let members = (0..members).map(peer).collect();
        let (here, elsewhere) = own_part(&graph, Some(&members));
        let counted = here.iter().filter(|here| **here).count();
        assert_eq!(counted + elsewhere.len(), graph.nodes().count());
        assert!(elsewhere.all().is_sorted());
        (counted, elsewhere.parts)
    }

    #[test]
    fn what_hangs_on_one_member_is_its_word_alone() {
        let inventions = [(2, 3), (3, 4), (4, 2), (3, 5), (2, 6)];
        assert_eq!(counted(7, 3, &[&[(0, 1), (1, 2), (2, 0)][..], &inventions].concat()), (3, 1));
    }

    #[test]
    fn strangers_between_members_count() {
        // 0 – 3 – 4 – 1: this node's only way to member 1, and 2 beyond it; 5 hangs on a stranger that counts.
        assert_eq!(counted(6, 3, &[(0, 3), (3, 4), (4, 1), (1, 2), (4, 5)]), (6, 1));
    }

    #[test]
    fn neighbours_count_whoever_they_are() {
        assert_eq!(counted(4, 1, &[(0, 1), (0, 2), (2, 3)]), (3, 1));
    }

    #[test]
    fn what_no_way_leads_to_does_not_count_though_it_were_members() {
        assert_eq!(counted(5, 5, &[(0, 1), (1, 2), (3, 4)]), (3, 2));
    }
}
