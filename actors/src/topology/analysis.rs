//! Everything about a graph in one call.

use petgraph::graph::NodeIndex;
use petgraph::visit::{EdgeRef as _, IntoEdgeReferences, IntoNodeIdentifiers, NodeIndexable};

use super::clustering::{SCALE, scaled_share};
use super::core::Core;
use super::cuts::Cuts;
use super::diameter::Diameter;
use super::layout::Layout;
use super::triangles::Triangles;

/// What one node is to the graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeShape {
    /// Neighbours, each counted once.
    pub degree: u32,
    /// Its component: components are numbered from 0 in the order of their first nodes.
    pub component: u32,
    /// Triangles through it.
    pub triangles: u32,
    /// Pairs of other nodes that its loss separates; 0 unless it is a bridge node.
    pub pairs_separated: u64,
}

impl NodeShape {
    /// The share of pairs of neighbours that are neighbours of each other, from 0 to 1; 0 with fewer than two neighbours.
    pub fn clustering(&self) -> f64 {
        scaled_share(self.triangles, self.degree) as f64 / SCALE
    }
}

/// The node whose loss separates most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Separation {
    /// The share of all pairs of other nodes that its loss separates, above 0 up to 1.
    pub share: f64,
    /// The node.
    pub node: NodeIndex<u32>,
}

/// The shape of an undirected graph. Parallel edges count once and self loops not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// Nodes.
    pub nodes: u32,
    /// Edges.
    pub edges: u32,
    /// Nodes without a neighbour.
    pub isolated: u32,
    /// The highest degree.
    pub max_degree: u32,
    /// Nodes with at least two neighbours.
    pub nodes_deg2plus: u32,
    /// Connected components, isolated nodes included.
    pub components: u32,
    /// Nodes of the largest component.
    pub largest_component_nodes: u32,
    /// Components of that size.
    pub largest_component_ties: u32,
    /// The longest shortest path within the largest component, in edges; the maximum over those tied for it. A disconnected graph has no other
    /// diameter.
    pub diameter_largest_component: u32,
    /// The same, over all components.
    pub diameter_max_over_components: u32,
    /// Triangles.
    pub triangles: u64,
    /// Paths of two edges, closed to a triangle or not.
    pub wedges: u64,
    /// Nodes whose loss disconnects a component, in ascending order.
    pub bridge_nodes: Vec<NodeIndex<u32>>,
    /// Edges whose loss disconnects a component, in no particular order.
    pub bridges: Vec<[NodeIndex<u32>; 2]>,
    /// Every node, by its index in the graph; what stands at an index that is not in use is all zero.
    pub by_node: Vec<NodeShape>,
    /// The sum of the nodes' clustering coefficients, times [`SCALE`].
    clustering_sum: u128,
}

impl Shape {
    /// Whether there is a path between any two nodes.
    pub fn is_connected(&self) -> bool {
        self.components == 1
    }

    /// Neighbours of a node, on average; 0 without nodes.
    pub fn average_degree(&self) -> f64 {
        share(2.0 * f64::from(self.edges), f64::from(self.nodes))
    }

    /// The mean clustering coefficient of all nodes; those with fewer than two neighbours count as 0 (the textbook's variant).
    pub fn average_clustering(&self) -> f64 {
        share(self.clustering_sum as f64 / SCALE, f64::from(self.nodes))
    }

    /// The mean clustering coefficient of nodes with at least two neighbours.
    pub fn average_clustering_deg2(&self) -> f64 {
        share(self.clustering_sum as f64 / SCALE, f64::from(self.nodes_deg2plus))
    }

    /// The share of paths of two edges that are closed to a triangle.
    pub fn transitivity(&self) -> f64 {
        share(3.0 * self.triangles as f64, self.wedges as f64)
    }

    /// The reference risk: share of bridge nodes × max(0, (2 − average degree) ÷ 2). It is 0 for every connected graph with a cycle.
    pub fn partition_risk(&self) -> f64 {
        let bridge_nodes = share(self.bridge_nodes.len() as f64, f64::from(self.nodes));
        bridge_nodes * ((2.0 - self.average_degree()) / 2.0).max(0.0)
    }

    /// The separation risk: the largest share of pairs of nodes that one node's loss separates, out of all pairs of the
    /// other nodes; none when no loss separates any.
    pub fn separation(&self) -> Option<Separation> {
        let pairs = |node: &NodeIndex<u32>| self.by_node.get(node.index()).map_or(0, |node| node.pairs_separated);
        // The first of several.
        let node = *self.bridge_nodes.iter().rev().max_by_key(|node| pairs(node))?;
        let others = f64::from(self.nodes - 1);
        Some(Separation { share: share(pairs(&node) as f64, others * (others - 1.0) / 2.0), node })
    }

    /// What [`Shape::separation`] gives as a plain number: 0 when no loss separates any pair.
    pub fn separation_risk(&self) -> f64 {
        self.separation().map_or(0.0, |separation| separation.share)
    }
}

/// A share of something that may be nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Analyses graphs, one after another; it keeps its buffers between them.
#[derive(Debug, Default)]
pub struct Analyser {
    layout: Layout,
    core: Core,
    triangles: Triangles,
    cuts: Cuts,
    diameter: Diameter,
    shape: Shape,
}

impl Analyser {
    /// An analyser without any buffers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The shape of a graph, directions of edges ignored: a `StableGraph` or a `Graph` as it lives in an actor.
    ///
    /// Time is near linear in the size of the graph but for the diameter, which takes a few to a few dozen searches on real networks and, in
    /// the worst case, one 256th of a search from every node times the depths at which nodes are reached.
    ///
    /// # Panics
    /// With 2³¹ edges or more, for which the graph itself needs 48 GiB.
    pub fn analyse<G>(&mut self, graph: G) -> &Shape
    where
        G: NodeIndexable + IntoNodeIdentifiers<NodeId = NodeIndex<u32>> + IntoEdgeReferences,
    {
        self.analyse_without(graph, None)
    }

    /// How often the diameter of the last graph took a search from one node, and how often one from many at once.
    pub fn effort(&self) -> (u32, u32) {
        (self.diameter.searches, self.diameter.sweeps)
    }

    /// The shape of a graph without one of its nodes.
    pub(super) fn analyse_without<G>(&mut self, graph: G, lost: Option<NodeIndex<u32>>) -> &Shape
    where
        G: NodeIndexable + IntoNodeIdentifiers<NodeId = NodeIndex<u32>> + IntoEdgeReferences,
    {
        let number = |node: NodeIndex<u32>| node.index() as u32;
        let lost = lost.map_or(u32::MAX, number);
        let nodes = graph.node_identifiers().map(number).filter(|node| *node != lost);
        let edges = graph.edge_references().map(|edge| [number(edge.source()), number(edge.target())]);
        let bound = graph.node_bound();
        if lost == u32::MAX {
            self.layout.load(bound, nodes, edges);
        } else {
            self.layout.load(bound, nodes, edges.filter(|ends| !ends.contains(&lost)));
        }
        self.core.find(&self.layout);
        self.triangles.count(&self.core.rows);
        self.cuts.find(&self.core);
        self.describe_nodes(bound);
        self.describe_components();
        self.describe_bridges();
        &self.shape
    }

    /// Degrees, triangles and bridge nodes.
    fn describe_nodes(&mut self, bound: usize) {
        let Self { layout, core, triangles, cuts, shape, .. } = self;
        shape.by_node.clear();
        shape.by_node.resize(bound, NodeShape::default());
        (shape.isolated, shape.max_degree, shape.nodes_deg2plus, shape.wedges) = (0, 0, 0, 0);
        for component in 0..layout.components() {
            for v in layout.part(component) {
                let degree = layout.rows.degree(v);
                shape.isolated += u32::from(degree == 0);
                shape.max_degree = shape.max_degree.max(degree);
                shape.nodes_deg2plus += u32::from(degree > 1);
                shape.wedges += u64::from(degree) * u64::from(degree.saturating_sub(1)) / 2;
                shape.by_node[layout.index[v as usize] as usize] = NodeShape {
                    degree,
                    component: component as u32,
                    triangles: 0,
                    pairs_separated: cuts.pairs[v as usize],
                };
            }
        }
        (shape.triangles, shape.clustering_sum) = (0, 0);
        for (v, count) in core.number.iter().zip(&triangles.of) {
            let node = &mut shape.by_node[layout.index[*v as usize] as usize];
            node.triangles = *count;
            shape.triangles += u64::from(*count);
            shape.clustering_sum += u128::from(scaled_share(*count, node.degree));
        }
        shape.triangles /= 3;
        shape.nodes = layout.index.len() as u32;
        shape.edges = (layout.rows.to.len() / 2) as u32;
    }

    /// Components and diameters.
    fn describe_components(&mut self) {
        let Self { core, diameter, shape, .. } = self;
        let size = |part: &super::core::Part| part.all.end - part.all.start;
        let largest = core.parts.iter().map(size).max().unwrap_or(0);
        shape.components = core.parts.len() as u32;
        shape.largest_component_nodes = largest;
        shape.largest_component_ties = core.parts.iter().filter(|part| size(part) == largest).count() as u32;
        diameter.start(core);
        let mut longest = 0;
        for part in core.parts.iter().filter(|part| size(part) == largest) {
            longest = longest.max(diameter.of(core, part.core.clone(), part.tree_diameter));
        }
        shape.diameter_largest_component = longest;
        // A smaller component can only matter where it has more nodes than the longest path.
        for part in core.parts.iter().filter(|part| size(part) < largest) {
            if size(part) - 1 > longest {
                longest = longest.max(diameter.of(core, part.core.clone(), part.tree_diameter));
            }
        }
        shape.diameter_max_over_components = longest;
    }

    /// Bridge nodes and bridges.
    fn describe_bridges(&mut self) {
        let Self { layout, core, cuts, shape, .. } = self;
        let node = |v: u32| NodeIndex::new(layout.index[v as usize] as usize);
        shape.bridge_nodes.clear();
        let separating = shape.by_node.iter().enumerate().filter(|(_, node)| node.pairs_separated > 0);
        shape.bridge_nodes.extend(separating.map(|(index, _)| NodeIndex::new(index)));
        shape.bridges.clear();
        shape.bridges.extend(core.taken.iter().chain(&cuts.bridges).map(|[u, v]| [node(*u), node(*v)]));
    }
}
