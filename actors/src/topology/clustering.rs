//! Clustering coefficients, kept up to date edge by edge.

use petgraph::graph::NodeIndex;
use petgraph::visit::{EdgeRef as _, IntoEdgeReferences, NodeIndexable};

/// What a coefficient of one is as an integer. Sums of integers do not depend on order and do not drift, so that a graph that changed a
/// million times has the same averages, to the last bit, as the same graph analysed anew.
pub(super) const SCALE: f64 = (1_u64 << 62) as f64;

/// The clustering coefficient of a node, times [`SCALE`].
#[inline]
pub(super) fn scaled_share(triangles: u32, degree: u32) -> u64 {
    if degree < 2 {
        return 0;
    }
    let pairs = u64::from(degree) * u64::from(degree - 1);
    ((2 * u64::from(triangles)) as f64 / pairs as f64 * SCALE) as u64
}

/// Clustering coefficients of a graph whose edges come and go. A change costs one look-up for each neighbour of the end that has fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clustering {
    /// Neighbours of each node, in ascending order.
    neighbours: Vec<Vec<u32>>,
    /// Triangles through each node.
    triangles: Vec<u32>,
    nodes_deg2plus: u32,
    triangles_all: u64,
    wedges: u64,
    sum: u128,
}

impl Clustering {
    /// The coefficients of a graph. Parallel edges count once and self loops not at all.
    pub fn of<G>(graph: G) -> Self
    where
        G: NodeIndexable<NodeId = NodeIndex<u32>> + IntoEdgeReferences,
    {
        let mut clustering = Self::default();
        clustering.grow(graph.node_bound());
        for edge in graph.edge_references() {
            clustering.insert(edge.source(), edge.target());
        }
        clustering
    }

    /// Makes room for nodes with indexes below `bound`. Inserting an edge does it as well.
    pub fn grow(&mut self, bound: usize) {
        if bound > self.neighbours.len() {
            self.neighbours.resize_with(bound, Vec::new);
            self.triangles.resize(bound, 0);
        }
    }

    /// Adds an edge; false if it was there, or is a self loop.
    pub fn insert(&mut self, u: NodeIndex<u32>, v: NodeIndex<u32>) -> bool {
        self.grow(u.index().max(v.index()) + 1);
        self.change(u.index(), v.index(), true)
    }

    /// Removes an edge; false if it was not there. Of parallel edges it is the last whose removal has to be told.
    pub fn remove(&mut self, u: NodeIndex<u32>, v: NodeIndex<u32>) -> bool {
        u.index().max(v.index()) < self.neighbours.len() && self.change(u.index(), v.index(), false)
    }

    /// The coefficient of a node.
    pub fn of_node(&self, node: NodeIndex<u32>) -> f64 {
        let degree = self.neighbours.get(node.index()).map_or(0, Vec::len);
        scaled_share(self.triangles_of(node), degree as u32) as f64 / SCALE
    }

    /// Triangles through a node.
    pub fn triangles_of(&self, node: NodeIndex<u32>) -> u32 {
        self.triangles.get(node.index()).copied().unwrap_or(0)
    }

    /// Triangles.
    pub fn triangles(&self) -> u64 {
        self.triangles_all
    }

    /// The mean over so many nodes; those with fewer than two neighbours count as 0. How many there are only the graph knows.
    pub fn average(&self, nodes: u32) -> f64 {
        if nodes == 0 { 0.0 } else { self.sum as f64 / SCALE / f64::from(nodes) }
    }

    /// The mean over the nodes with at least two neighbours.
    pub fn average_deg2(&self) -> f64 {
        self.average(self.nodes_deg2plus)
    }

    /// The share of paths of two edges that are closed to a triangle.
    pub fn transitivity(&self) -> f64 {
        if self.wedges == 0 { 0.0 } else { 3.0 * self.triangles_all as f64 / self.wedges as f64 }
    }

    fn change(&mut self, u: usize, v: usize, insert: bool) -> bool {
        if u == v {
            return false;
        }
        let (few, many) = if self.neighbours[u].len() <= self.neighbours[v].len() { (u, v) } else { (v, u) };
        let found = self.neighbours[few].binary_search(&(many as u32));
        let place = self.neighbours[many].binary_search(&(few as u32));
        self.forget(u);
        self.forget(v);
        let changed = match (found, place) {
            (Err(at), Err(place)) if insert => {
                self.close_triangles(few, many, 1);
                self.neighbours[few].insert(at, many as u32);
                self.neighbours[many].insert(place, few as u32);
                true
            }
            (Ok(at), Ok(place)) if !insert => {
                self.neighbours[few].remove(at);
                self.neighbours[many].remove(place);
                self.close_triangles(few, many, u32::MAX);
                true
            }
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        };
        self.count(u);
        self.count(v);
        changed
    }

    /// Adds `by` (−1 as it wraps) for every triangle that an edge closes.
    fn close_triangles(&mut self, few: usize, many: usize, by: u32) {
        let mut closed = 0_u32;
        for at in 0..self.neighbours[few].len() {
            let common = self.neighbours[few][at];
            if self.neighbours[many].binary_search(&common).is_ok() {
                closed += 1;
                let degree = self.neighbours[common as usize].len() as u32;
                let triangles = &mut self.triangles[common as usize];
                self.sum -= u128::from(scaled_share(*triangles, degree));
                *triangles = triangles.wrapping_add(by);
                self.sum += u128::from(scaled_share(*triangles, degree));
            }
        }
        let by_all = closed.wrapping_mul(by);
        self.triangles[few] = self.triangles[few].wrapping_add(by_all);
        self.triangles[many] = self.triangles[many].wrapping_add(by_all);
        let all = u64::from(closed);
        self.triangles_all = if by == 1 { self.triangles_all + all } else { self.triangles_all - all };
    }

    /// Takes a node whose degree is about to change out of the sums.
    fn forget(&mut self, node: usize) {
        let degree = self.neighbours[node].len() as u32;
        self.sum -= u128::from(scaled_share(self.triangles[node], degree));
        self.wedges -= wedges(degree);
        self.nodes_deg2plus -= u32::from(degree > 1);
    }

    /// Puts it back.
    fn count(&mut self, node: usize) {
        let degree = self.neighbours[node].len() as u32;
        self.sum += u128::from(scaled_share(self.triangles[node], degree));
        self.wedges += wedges(degree);
        self.nodes_deg2plus += u32::from(degree > 1);
    }
}

/// Paths of two edges in whose middle a node of this degree is.
fn wedges(degree: u32) -> u64 {
    u64::from(degree) * u64::from(degree.saturating_sub(1)) / 2
}
