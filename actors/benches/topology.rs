//! What analysing the shape of a network costs, beside petgraph's own functions and rustworkx-core, in one run.
//!
//! `cargo bench -p bowline-actors --bench topology [-- --json] [-- GRAPH…]`: microseconds of processor time, the median of
//! several rounds. The graphs are made here: random geometric ones (meshes, mean degree 6), Barabási–Albert ones (scale-free, two edges a node)
//! and, where `$BOWLINE_GRAPHS` or `shared/data/graphs` beside the repository has it, what is named on the command line.
#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::HashSet;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use bowline_actors::topology::{Analyser, Clustering, EdgeList};
use petgraph::Undirected;
use petgraph::graph::{Graph, NodeIndex};
use petgraph::stable_graph::StableUnGraph;
use petgraph::visit::Bfs;
use rand::{RngExt as _, SeedableRng as _};
use rustworkx_core::shortest_path::distance_matrix;

/// Larger graphs are too much for functions that search from every node.
const ALL_PAIRS_NODES_MAX: usize = 2_000;
/// Rounds, and how long each is at least.
const ROUNDS: usize = 5;
const ROUND_US_MIN: f64 = 2_000.0;

type Live = StableUnGraph<(), ()>;

/// What was measured, in microseconds; `None` where it was not.
struct Row {
    graph: String,
    nodes: usize,
    edges: usize,
    figures: Vec<(&'static str, Option<f64>)>,
    diameter: u32,
    effort: (u32, u32),
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let mut graphs = Vec::new();
    for nodes in [100, 1_000, 10_000, 100_000] {
        graphs.push((format!("mesh-{nodes}"), geometric(nodes)));
        graphs.push((format!("scale-free-{nodes}"), scale_free(nodes)));
    }
    for name in arguments.iter().filter(|argument| !argument.starts_with('-')) {
        match read(name) {
            Some(graph) => graphs.push((name.clone(), graph)),
            None => println!("no graph {name}"),
        }
    }
    let mut head = false;
    for (name, graph) in graphs {
        let row = measure(name, &graph);
        if json {
            let figures =
                row.figures.iter().filter_map(|(name, value)| value.map(|value| format!("\"{name}\":{value:.3}")));
            let figures: Vec<_> = figures.collect();
            let (searches, sweeps) = row.effort;
            println!(
                "{{\"graph\":\"{}\",\"nodes\":{},\"edges\":{},\"diameter\":{},\"searches\":{searches},\"sweeps\":{sweeps},\"us\":{{{}}}}}",
                row.graph,
                row.nodes,
                row.edges,
                row.diameter,
                figures.join(",")
            );
            continue;
        }
        if !std::mem::replace(&mut head, true) {
            let names: Vec<_> = row.figures.iter().map(|(name, _)| format!("{name:>14}")).collect();
            println!("{:<20} {:>7} {:>7} {}", "µs", "nodes", "edges", names.join(" "));
        }
        let cell = |value: &Option<f64>| value.map_or_else(|| format!("{:>14}", "-"), |value| format!("{value:>14.2}"));
        let cells: Vec<_> = row.figures.iter().map(|(_, value)| cell(value)).collect();
        println!("{:<20} {:>7} {:>7} {}", row.graph, row.nodes, row.edges, cells.join(" "));
    }
}

fn measure(graph: String, live: &Live) -> Row {
    let mut analyser = Analyser::new();
    let diameter = analyser.analyse(live).diameter_largest_component;
    let effort = analyser.effort();
    // petgraph's own functions get the plain graph: its articulation points panic on a stable one.
    let plain: Graph<(), (), Undirected> = live.clone().into();
    let few = live.node_count() <= ALL_PAIRS_NODES_MAX;
    let figures = vec![
        ("all of it", Some(microseconds(|| analyser.analyse(black_box(live)).diameter_largest_component))),
        ("one edge", Some(one_edge(live))),
        ("pg cut nodes", Some(microseconds(|| petgraph::algo::articulation_points::articulation_points(&plain)))),
        ("pg bridges", Some(microseconds(|| petgraph::algo::bridges(&plain).count()))),
        ("pg components", Some(microseconds(|| petgraph::algo::connected_components(&plain)))),
        ("pg bfs from all", few.then(|| microseconds(|| searches(&plain)))),
        ("rx cut nodes", Some(microseconds(|| rustworkx_core::connectivity::articulation_points(&plain, None)))),
        ("rx bridges", Some(microseconds(|| rustworkx_core::connectivity::bridges(&plain)))),
        ("rx transitivity", Some(microseconds(|| rustworkx_core::transitivity::graph_transitivity(&plain)))),
        ("rx distances", few.then(|| microseconds(|| distance_matrix(&plain, usize::MAX, false, 0.0)))),
    ];
    Row { graph, nodes: live.node_count(), edges: live.edge_count(), figures, diameter, effort }
}

/// The longest of the searches from every node.
fn searches(graph: &Graph<(), (), Undirected>) -> u32 {
    let mut longest = 0;
    let mut depth = vec![0_u32; graph.node_count()];
    for from in graph.node_indices() {
        depth[from.index()] = 0;
        let mut bfs = Bfs::new(graph, from);
        let mut seen = 1;
        while let Some(v) = bfs.next(graph) {
            let next = depth[v.index()] + 1;
            longest = longest.max(next - 1);
            // Newly discovered are at the back of the queue.
            let found = bfs.stack.len();
            for w in bfs.stack.iter().rev().take((found + 1).saturating_sub(seen)) {
                depth[w.index()] = next;
            }
            seen = found;
        }
    }
    longest
}

/// A link lost and found again: the clustering coefficients follow.
fn one_edge(live: &Live) -> f64 {
    let mut clustering = Clustering::of(live);
    let ends: Vec<_> = live
        .edge_indices()
        .step_by((live.edge_count() / 1_000).max(1))
        .filter_map(|e| live.edge_endpoints(e))
        .collect();
    let nodes = live.node_count() as u32;
    let all = microseconds(|| {
        for (u, v) in &ends {
            clustering.remove(*u, *v);
            black_box((clustering.average(nodes), clustering.average_deg2(), clustering.transitivity()));
            clustering.insert(*u, *v);
            black_box((clustering.average(nodes), clustering.average_deg2(), clustering.transitivity()));
        }
    });
    all / (2.0 * ends.len().max(1) as f64)
}

/// The median of several rounds, each long enough for the clock.
fn microseconds<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut round = |count: u32| {
        let began = process_us();
        for _ in 0..count {
            black_box(work());
        }
        (process_us() - began) / f64::from(count)
    };
    round(1);
    let once = round(1);
    let count = (ROUND_US_MIN / once.max(0.1)).ceil().max(1.0) as u32;
    // What takes a second is not measured five times.
    let rounds = if once > 1e6 { 1 } else { ROUNDS };
    let mut rounds: Vec<f64> = (0..rounds).map(|_| round(count)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// Processor time of all threads: rustworkx-core has some work done by others.
#[cfg(unix)]
fn process_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Where there is no such clock, time as it passes.
#[cfg(not(unix))]
fn process_us() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64() * 1e6
}

fn empty(nodes: usize) -> Live {
    let mut graph = Live::default();
    for _ in 0..nodes {
        graph.add_node(());
    }
    graph
}

/// Random points in a square, linked within a radius that gives a mean degree of six.
fn geometric(nodes: usize) -> Live {
    let mut random = rand::rngs::StdRng::seed_from_u64(42);
    let points: Vec<[f64; 2]> = (0..nodes).map(|_| [random.random(), random.random()]).collect();
    let radius = (6.0 / (std::f64::consts::PI * nodes as f64)).sqrt();
    let side = (1.0 / radius).floor() as usize;
    let cell = |at: f64| ((at * side as f64) as usize).min(side - 1);
    let mut cells = vec![Vec::new(); side * side];
    for (at, [x, y]) in points.iter().enumerate() {
        cells[cell(*x) * side + cell(*y)].push(at);
    }
    let mut graph = empty(nodes);
    for (u, [x, y]) in points.iter().enumerate() {
        let near = |at: usize| at.saturating_sub(1)..=(at + 1).min(side - 1);
        for v in near(cell(*x)).flat_map(|i| near(cell(*y)).map(move |j| i * side + j)).flat_map(|c| cells[c].iter()) {
            if u < *v && (points[*v][0] - x).hypot(points[*v][1] - y) <= radius {
                graph.add_edge(NodeIndex::new(u), NodeIndex::new(*v), ());
            }
        }
    }
    graph
}

/// Every new node links to two others, more likely to those with many links.
fn scale_free(nodes: usize) -> Live {
    let mut random = rand::rngs::StdRng::seed_from_u64(42);
    let mut graph = empty(nodes);
    let mut ends = vec![0, 1];
    for node in 2..nodes {
        let mut chosen = HashSet::new();
        while chosen.len() < 2 {
            chosen.insert(ends[random.random_range(0..ends.len())]);
        }
        let mut chosen: Vec<usize> = chosen.into_iter().collect();
        chosen.sort_unstable();
        for other in chosen {
            graph.add_edge(NodeIndex::new(node), NodeIndex::new(other), ());
            ends.extend([node, other]);
        }
    }
    graph
}

/// A graph of the folder, if it is there and not compressed.
fn read(name: &str) -> Option<Live> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/graphs");
    let dir = std::env::var_os("BOWLINE_GRAPHS").map_or_else(beside, PathBuf::from);
    let text = std::fs::read_to_string(dir.join(format!("{name}.edges"))).ok()?;
    Some(EdgeList::parse(&text).ok()?.graph())
}
