//! Graphs as Graphviz text and as SVG. Bridge nodes and bridges stand out: they are what the drawing is for.

use std::f64::consts::TAU;
use std::fmt::Write as _;

use petgraph::graph::NodeIndex;
use petgraph::visit::{EdgeRef as _, IntoEdgeReferences, IntoNodeIdentifiers, NodeIndexable};

use super::analysis::Shape;

/// The most nodes an SVG may have: finding places compares every node with every other, again and again.
pub const SVG_NODES_MAX: usize = 2_000;

const BRIDGE_NODE: &str = "#d1495b";
const NODE: &str = "#30638e";
const EDGE: &str = "#8d99ae";
/// Width and height of an SVG.
const SIDE: f64 = 1_000.0;
const MARGIN: f64 = 20.0;
/// How often forces are applied.
const STEPS: u32 = 120;

/// The graph in Graphviz' language; `shape` is what the analyser says of it, `name` what a node is called.
pub fn dot<G>(graph: G, shape: &Shape, name: impl Fn(NodeIndex<u32>) -> String) -> String
where
    G: NodeIndexable + IntoNodeIdentifiers<NodeId = NodeIndex<u32>> + IntoEdgeReferences,
{
    let mut text = format!("graph bowline {{\n  node [shape=circle, color=\"{NODE}\"];\n  edge [color=\"{EDGE}\"];\n");
    // Writing to a string cannot fail.
    for node in graph.node_identifiers() {
        let style =
            if is_bridge_node(shape, node) { format!(" [color=\"{BRIDGE_NODE}\", penwidth=3]") } else { String::new() };
        let _ = writeln!(text, "  \"{}\"{style};", quoted(&name(node)));
    }
    for ([u, v], bridge) in edges(graph, shape) {
        let [u, v] = [u, v].map(|end| quoted(&name(NodeIndex::new(end))));
        let style = if bridge { format!(" [color=\"{BRIDGE_NODE}\", style=dashed]") } else { String::new() };
        let _ = writeln!(text, "  \"{u}\" -- \"{v}\"{style};");
    }
    text.push_str("}\n");
    text
}

/// What may stand between quotation marks in Graphviz' language, and in an SVG.
fn quoted(name: &str) -> String {
    name.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\' | '<' | '>' | '&')).collect()
}

/// The graph as a picture that needs nothing else, or none with more than [`SVG_NODES_MAX`] nodes. Always the same for the same graph.
/// A node says its `name` when it is pointed at.
pub fn svg<G>(graph: G, shape: &Shape, name: impl Fn(NodeIndex<u32>) -> String) -> Option<String>
where
    G: NodeIndexable + IntoNodeIdentifiers<NodeId = NodeIndex<u32>> + IntoEdgeReferences,
{
    let nodes: Vec<_> = graph.node_identifiers().collect();
    if nodes.len() > SVG_NODES_MAX {
        return None;
    }
    let mut rank = vec![0; graph.node_bound()];
    for (at, node) in nodes.iter().enumerate() {
        rank[node.index()] = at;
    }
    let edges: Vec<_> = edges(graph, shape).map(|([u, v], bridge)| ([rank[u], rank[v]], bridge)).collect();
    let places = places(nodes.len(), &edges);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {SIDE} {SIDE}\">\n<rect width=\"{SIDE}\" height=\"{SIDE}\" fill=\"white\"/>\n"
    );
    for ([u, v], bridge) in &edges {
        let [a, b] = [places[*u], places[*v]];
        let style = if *bridge { format!("\"{BRIDGE_NODE}\" stroke-dasharray=\"4 3\"") } else { format!("\"{EDGE}\"") };
        let _ = writeln!(
            text,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke={style}/>",
            a[0], a[1], b[0], b[1]
        );
    }
    for (node, place) in nodes.iter().zip(&places) {
        let fill = if is_bridge_node(shape, *node) { BRIDGE_NODE } else { NODE };
        let degree = shape.by_node.get(node.index()).map_or(0, |node| node.degree);
        let _ = writeln!(
            text,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{:.1}\" fill=\"{fill}\"><title>{}</title></circle>",
            place[0],
            place[1],
            3.0 + f64::from(degree).sqrt(),
            quoted(&name(*node))
        );
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn is_bridge_node(shape: &Shape, node: NodeIndex<u32>) -> bool {
    shape.by_node.get(node.index()).is_some_and(|node| node.pairs_separated > 0)
}

/// Edges, without self loops and repetitions, and which are bridges.
fn edges<G>(graph: G, shape: &Shape) -> impl Iterator<Item = ([usize; 2], bool)>
where
    G: IntoEdgeReferences<NodeId = NodeIndex<u32>>,
{
    let ends = |u: NodeIndex<u32>, v: NodeIndex<u32>| [u.index().min(v.index()), u.index().max(v.index())];
    let mut bridges: Vec<_> = shape.bridges.iter().map(|[u, v]| ends(*u, *v)).collect();
    bridges.sort_unstable();
    let mut all: Vec<_> = graph.edge_references().map(|edge| ends(edge.source(), edge.target())).collect();
    all.retain(|[u, v]| u != v);
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(move |edge| (edge, bridges.binary_search(&edge).is_ok()))
}

/// Where nodes stand: neighbours pull, all push, less and less (Fruchterman and Reingold, 1991).
fn places(count: usize, edges: &[([usize; 2], bool)]) -> Vec<[f64; 2]> {
    // A sunflower's seeds: spread evenly, without randomness.
    let turn = TAU * 0.618_033_988_749_895;
    let seed = |at: usize| {
        let (radius, angle) = ((at as f64 + 0.5).sqrt() / (count as f64).sqrt(), at as f64 * turn);
        [radius * angle.cos(), radius * angle.sin()]
    };
    let mut places: Vec<[f64; 2]> = (0..count).map(seed).collect();
    let rest = 1.0 / (count as f64).max(1.0).sqrt();
    for step in 0..STEPS {
        let mut moves = vec![[0.0; 2]; count];
        for u in 0..count {
            for v in 0..u {
                let [x, y] = [places[u][0] - places[v][0], places[u][1] - places[v][1]];
                let push = rest * rest / (x * x + y * y).max(1e-9);
                // A little towards the middle, so that components do not drift away.
                for (axis, by) in [x * push, y * push].into_iter().enumerate() {
                    moves[u][axis] += by;
                    moves[v][axis] -= by;
                }
            }
        }
        for ([u, v], _) in edges {
            let [x, y] = [places[*u][0] - places[*v][0], places[*u][1] - places[*v][1]];
            let pull = (x * x + y * y).sqrt() / rest;
            for (axis, by) in [x * pull, y * pull].into_iter().enumerate() {
                moves[*u][axis] -= by;
                moves[*v][axis] += by;
            }
        }
        let most = 0.1 * (1.0 - f64::from(step) / f64::from(STEPS));
        for (place, by) in places.iter_mut().zip(&moves) {
            let by = [by[0] - 0.3 * place[0], by[1] - 0.3 * place[1]];
            let length = by[0].hypot(by[1]).max(1e-12);
            let scale = length.min(most) / length;
            *place = [place[0] + by[0] * scale, place[1] + by[1] * scale];
        }
    }
    fit(&mut places);
    places
}

/// Scales places into the picture.
fn fit(places: &mut [[f64; 2]]) {
    for axis in 0..2 {
        let (low, high) =
            places.iter().fold((f64::MAX, f64::MIN), |(l, h), place| (l.min(place[axis]), h.max(place[axis])));
        let width = (high - low).max(1e-9);
        for place in places.iter_mut() {
            place[axis] = MARGIN + (place[axis] - low) / width * (SIDE - 2.0 * MARGIN);
        }
    }
}
