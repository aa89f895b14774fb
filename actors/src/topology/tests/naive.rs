//! The same figures by their definitions, as slowly as it takes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::graph::NodeIndex;
use petgraph::stable_graph::StableUnGraph;
use petgraph::visit::{EdgeRef as _, IntoEdgeReferences as _};

/// Neighbours of every node.
pub(super) type Neighbours = BTreeMap<usize, BTreeSet<usize>>;

pub(super) fn neighbours(graph: &StableUnGraph<(), ()>) -> Neighbours {
    let mut all: Neighbours = graph.node_indices().map(|node| (node.index(), BTreeSet::new())).collect();
    for edge in graph.edge_references() {
        let (u, v) = (edge.source().index(), edge.target().index());
        if u != v {
            all.get_mut(&u).unwrap().insert(v);
            all.get_mut(&v).unwrap().insert(u);
        }
    }
    all
}

pub(super) fn without_node(all: &Neighbours, node: usize) -> Neighbours {
    let rest = all.iter().filter(|(v, _)| **v != node);
    rest.map(|(v, row)| (*v, row.iter().copied().filter(|w| *w != node).collect())).collect()
}

fn without_edge(all: &Neighbours, u: usize, v: usize) -> Neighbours {
    let mut rest = all.clone();
    rest.get_mut(&u).unwrap().remove(&v);
    rest.get_mut(&v).unwrap().remove(&u);
    rest
}

pub(super) fn distances(all: &Neighbours, from: usize) -> BTreeMap<usize, u32> {
    let mut found = BTreeMap::from([(from, 0)]);
    let mut queue = VecDeque::from([from]);
    while let Some(v) = queue.pop_front() {
        for w in &all[&v] {
            if !found.contains_key(w) {
                found.insert(*w, found[&v] + 1);
                queue.push_back(*w);
            }
        }
    }
    found
}

pub(super) fn components(all: &Neighbours) -> Vec<BTreeSet<usize>> {
    let mut left: BTreeSet<usize> = all.keys().copied().collect();
    let mut found = Vec::new();
    while let Some(first) = left.first() {
        let component: BTreeSet<usize> = distances(all, *first).into_keys().collect();
        left.retain(|v| !component.contains(v));
        found.push(component);
    }
    found
}

pub(super) fn diameter(all: &Neighbours, component: &BTreeSet<usize>) -> u32 {
    component.iter().map(|v| distances(all, *v).into_values().max().unwrap()).max().unwrap()
}

pub(super) fn triangles_of(all: &Neighbours, node: usize) -> u32 {
    let row = &all[&node];
    row.iter().map(|v| all[v].intersection(row).count() as u32).sum::<u32>() / 2
}

fn connected_pairs(all: &Neighbours) -> u64 {
    components(all).iter().map(|component| (component.len() as u64) * (component.len() as u64 - 1) / 2).sum()
}

/// Pairs of other nodes that the loss of a node separates.
pub(super) fn pairs_separated(all: &Neighbours, node: usize) -> u64 {
    let own = distances(all, node).len() as u64 - 1;
    connected_pairs(all) - own - connected_pairs(&without_node(all, node))
}

pub(super) fn bridges(all: &Neighbours) -> BTreeSet<[usize; 2]> {
    let count = components(all).len();
    let edges = all.iter().flat_map(|(u, row)| row.iter().filter(move |v| u < v).map(move |v| [*u, *v]));
    edges.filter(|[u, v]| components(&without_edge(all, *u, *v)).len() > count).collect()
}

pub(super) fn node(index: usize) -> NodeIndex<u32> {
    NodeIndex::new(index)
}
