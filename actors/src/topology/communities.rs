//! Groups of nodes with more links inside than between them (Blondel and others, "Fast unfolding of communities in large networks", 2008).
//!
//! There is no fast way to the best partition: this finds a good one, always the same for the same graph.

use petgraph::graph::NodeIndex;
use petgraph::visit::{EdgeRef as _, IntoEdgeReferences, IntoNodeIdentifiers, NodeIndexable};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;

use super::layout::Layout;

/// Rounds over all nodes of one level, and levels: where it always ends by itself long before, on anything tried.
const ROUNDS_MAX: usize = 100;
/// Below so many nodes several orders of moving them are tried, which gives better partitions of small graphs.
const ORDERS_BELOW: usize = 2_000;
const ORDERS: u64 = 8;
/// Gains below this are rounding, not improvement.
const GAIN_MIN: f64 = 1e-12;

/// A partition of a graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Communities {
    /// The community of every node, from 0, by index; indexes that are not in use have 0.
    pub of: Vec<u32>,
    /// How many there are; isolated nodes are communities of one.
    pub count: u32,
    /// Modularity (Newman and Girvan, 2004): the share of edges inside communities less what it would be at random; −1/2 to 1.
    pub modularity: f64,
}

/// Finds communities.
pub fn communities<G>(graph: G) -> Communities
where
    G: NodeIndexable + IntoNodeIdentifiers<NodeId = NodeIndex<u32>> + IntoEdgeReferences,
{
    let mut layout = Layout::default();
    let number = |node: NodeIndex<u32>| node.index() as u32;
    let edges = graph.edge_references().map(|edge| [number(edge.source()), number(edge.target())]);
    layout.load(graph.node_bound(), graph.node_identifiers().map(number), edges);
    let base = Level::of(&layout);
    let orders = if layout.index.len() < ORDERS_BELOW { ORDERS } else { 1 };
    let tries = (0..orders).map(|seed| base.partition(seed));
    // The first of several equals, so that the answer is always the same.
    let best = tries.reduce(|best, next| if next.1 > best.1 { next } else { best });
    let (member, modularity) = best.unwrap_or_default();
    let mut of = vec![0; graph.node_bound()];
    for (v, community) in member.iter().enumerate() {
        of[layout.index[v] as usize] = *community;
    }
    let count = member.iter().max().map_or(0, |last| last + 1);
    Communities { of, count, modularity }
}

/// A graph with weights, whose nodes are communities of the level below.
struct Level {
    start: Vec<usize>,
    /// Neighbours and how much leads to them.
    to: Vec<(u32, f64)>,
    /// Twice the weight inside each node.
    inside: Vec<f64>,
    /// The weight at each node, what is inside included.
    degree: Vec<f64>,
    /// Twice all weight.
    total: f64,
}

impl Level {
    fn of(layout: &Layout) -> Self {
        let nodes = layout.index.len();
        Self {
            start: layout.rows.start.iter().map(|start| *start as usize).collect(),
            to: layout.rows.to.iter().map(|w| (*w, 1.0)).collect(),
            inside: vec![0.0; nodes],
            degree: (0..nodes as u32).map(|v| f64::from(layout.rows.degree(v))).collect(),
            total: layout.rows.to.len() as f64,
        }
    }

    /// Groups of the nodes, and the modularity: level after level, and then node by node from what came out, as long as it helps.
    fn partition(&self, seed: u64) -> (Vec<u32>, f64) {
        let nodes = self.inside.len();
        let mut member: Vec<u32> = (0..nodes as u32).collect();
        let mut modularity = f64::NEG_INFINITY;
        for _ in 0..ROUNDS_MAX {
            let (refined, _) = self.unfold(&member, seed);
            let mut level = self.fold(&refined);
            let mut next = refined;
            for _ in 0..ROUNDS_MAX {
                let alone: Vec<u32> = (0..level.inside.len() as u32).collect();
                let (group, moved) = level.unfold(&alone, seed);
                if !moved {
                    break;
                }
                for member in &mut next {
                    *member = group[*member as usize];
                }
                level = level.fold(&group);
            }
            let found = level.modularity();
            if found <= modularity + GAIN_MIN {
                break;
            }
            (member, modularity) = (next, found);
        }
        (member, modularity)
    }

    /// The nodes in an order that depends on the seed; 0 is as they are.
    fn order(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.inside.len()).collect();
        if seed > 0 {
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            order.shuffle(&mut random);
        }
        order
    }

    /// Moves nodes between groups as long as it helps; returns their groups, numbered without gaps, and whether any moved.
    fn unfold(&self, from: &[u32], seed: u64) -> (Vec<u32>, bool) {
        let nodes = self.inside.len();
        let mut group = from.to_vec();
        let mut weight = vec![0.0; nodes];
        for (group, degree) in group.iter().zip(&self.degree) {
            weight[*group as usize] += degree;
        }
        let order = self.order(seed);
        let mut links = vec![0.0; nodes];
        let mut near: Vec<u32> = Vec::new();
        let mut moved = false;
        for _ in 0..ROUNDS_MAX {
            let mut moves = 0;
            for &v in &order {
                let home = group[v];
                near.clear();
                near.push(home);
                for &(w, link) in &self.to[self.start[v]..self.start[v + 1]] {
                    let there = group[w as usize];
                    if links[there as usize] == 0.0 && there != home {
                        near.push(there);
                    }
                    links[there as usize] += link;
                }
                weight[home as usize] -= self.degree[v];
                let gain =
                    |there: u32| links[there as usize] - self.degree[v] * weight[there as usize] / self.total.max(1.0);
                let mut best = (gain(home) + GAIN_MIN * self.total, home);
                for &there in &near[1..] {
                    if gain(there) > best.0 {
                        best = (gain(there), there);
                    }
                }
                for there in &near {
                    links[*there as usize] = 0.0;
                }
                weight[best.1 as usize] += self.degree[v];
                group[v] = best.1;
                moves += usize::from(best.1 != home);
            }
            if moves == 0 {
                break;
            }
            moved = true;
        }
        let mut names = vec![u32::MAX; nodes];
        let mut count = 0;
        for group in &mut group {
            let name = &mut names[*group as usize];
            if *name == u32::MAX {
                *name = count;
                count += 1;
            }
            *group = *name;
        }
        (group, moved)
    }

    /// The level above: every group is a node.
    fn fold(&self, group: &[u32]) -> Self {
        let count = group.iter().max().map_or(0, |last| *last as usize + 1);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (v, group) in group.iter().enumerate() {
            members[*group as usize].push(v);
        }
        let mut above = Self {
            start: vec![0],
            to: Vec::new(),
            inside: vec![0.0; count],
            degree: vec![0.0; count],
            total: self.total,
        };
        let mut links = vec![0.0; count];
        let mut near = Vec::new();
        for (home, members) in members.iter().enumerate() {
            for &v in members {
                above.inside[home] += self.inside[v];
                above.degree[home] += self.degree[v];
                for &(w, link) in &self.to[self.start[v]..self.start[v + 1]] {
                    let there = group[w as usize] as usize;
                    if there == home {
                        above.inside[home] += link;
                    } else {
                        if links[there] == 0.0 {
                            near.push(there);
                        }
                        links[there] += link;
                    }
                }
            }
            for there in near.drain(..) {
                above.to.push((there as u32, links[there]));
                links[there] = 0.0;
            }
            above.start.push(above.to.len());
        }
        above
    }

    fn modularity(&self) -> f64 {
        if self.total == 0.0 {
            return 0.0;
        }
        let part = |(inside, degree): (&f64, &f64)| inside / self.total - (degree / self.total).powi(2);
        self.inside.iter().zip(&self.degree).map(part).sum()
    }
}
