//! `bowline topology`: what the shape of a network says of it: the running node's, or one in a file.
//!
//! | file | idea |
//! |---|---|
//! | `file` | a graph file, plain or compressed, read within bounds |
//! | `live` | the running node's network |
//! | `measure` | processor time of one analysis |
//! | `report` | everything about one graph, for programs and for people |

mod file;
mod live;
mod measure;
mod report;

use std::path::{Path, PathBuf};

use bowline_actors::topology::{Analyser, WhatIf, drawing, what_if};
use petgraph::graph::NodeIndex;

use self::file::Network;
use self::report::Report;
use hyper::Method;

use self::live::Live;
use super::Global;
use super::human::harmless;
use super::output::line;
use crate::control::client::Content;
use crate::control::protocol::TopologyReport;
use crate::exit::{Exit, Failure};

/// Analyse the shape of networks: diameter, clustering, bridge nodes, components, the risk that they fall apart
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Edge lists to analyse instead of the running node's network: `u v` a line, optionally `# nodes: N`; gzip as well
    #[arg(long = "graph", num_args = 1.., value_name = "FILE")]
    graphs: Vec<PathBuf>,
    /// Say what the loss of this node would do: a peer, or a node's number in the file
    #[arg(long, value_name = "PEER")]
    what_if: Option<String>,
    /// Print the graph for Graphviz instead
    #[arg(long, conflicts_with_all = ["svg", "json", "what_if"])]
    dot: bool,
    /// Print a picture of the graph instead
    #[arg(long, conflicts_with_all = ["json", "what_if"])]
    svg: bool,
}

/// Runs the command.
///
/// # Errors
/// A file that cannot be read ([`Exit::Usage`], [`Exit::Permission`]) or is no graph ([`Exit::False`]), a node that is in none of it
/// ([`Exit::Usage`]).
pub fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    if args.graphs.is_empty() {
        return run_live(&args, global);
    }
    let wanted = args.what_if.as_ref().map(|node| {
        let number = node.parse::<u32>();
        number.map_err(|_| Failure::new(Exit::Usage, format_args!("`{}` is no number of a node", harmless(node))))
    });
    let wanted = wanted.transpose()?;
    if (args.dot || args.svg) && args.graphs.len() > 1 {
        let failure = Failure::new(Exit::Usage, "a drawing is of one graph, and several were named");
        return Err(failure.hint("draw one after another"));
    }
    let mut analyser = Analyser::new();
    for (at, path) in args.graphs.iter().enumerate() {
        let network = Network::read(path)?;
        if args.dot || args.svg {
            line(draw(&mut analyser, path, &network, args.svg)?.trim_end())?;
            continue;
        }
        let mut report = Report::of(&mut analyser, &network);
        report.measure(&mut analyser);
        if let Some(node) = wanted {
            report.what_if = Some((node, loss(&mut analyser, path, &network, node)?));
        }
        if at > 0 && !global.json {
            line("")?;
        }
        global.output().result("topology", &report.json(), || report.text())?;
    }
    Ok(Exit::Ok)
}

/// The network as the running node sees it.
fn run_live(args: &Args, global: &Global) -> Result<Exit, Failure> {
    let report: TopologyReport = global.call(Method::GET, "/v1/topology", Content::Nothing, None)?;
    let live = Live::new(report);
    if args.dot || args.svg {
        let drawn = live.draw(args.svg).ok_or_else(|| {
            let room = format_args!("a picture has room for {} nodes", drawing::SVG_NODES_MAX);
            Failure::new(Exit::False, room).hint("use `--dot` and Graphviz' `sfdp`")
        })?;
        line(drawn.trim_end())?;
        return Ok(Exit::Ok);
    }
    let lost = args.what_if.as_ref().map(|wanted| live.find(wanted)).transpose()?;
    let loss = lost.and_then(|peer| Some((peer, live.loss(&peer)?)));
    let loss = loss.as_ref().map(|(peer, loss)| (*peer, loss));
    global.output().result("topology", &live.json(loss)?, || live.text(loss))?;
    Ok(Exit::Ok)
}

/// The graph as text for Graphviz, or as a picture.
fn draw(analyser: &mut Analyser, path: &Path, network: &Network, picture: bool) -> Result<String, Failure> {
    let shape = analyser.analyse(&network.graph);
    let number = |node: NodeIndex<u32>| node.index().to_string();
    if !picture {
        return Ok(drawing::dot(&network.graph, shape, number));
    }
    drawing::svg(&network.graph, shape, number).ok_or_else(|| {
        let too_large = format_args!("{}: a picture has room for {} nodes", path.display(), drawing::SVG_NODES_MAX);
        Failure::new(Exit::False, too_large).hint("use `--dot` and Graphviz' `sfdp`")
    })
}

/// What the loss of a node would do.
fn loss(analyser: &mut Analyser, path: &Path, network: &Network, node: u32) -> Result<WhatIf, Failure> {
    what_if(analyser, &network.graph, NodeIndex::new(node as usize)).ok_or_else(|| {
        let none = Failure::new(Exit::Usage, format_args!("{}: there is no node {node}", path.display()));
        match network.list.nodes {
            0 => none.hint("the graph has no nodes"),
            nodes => none.hint(format_args!("its nodes are 0 to {}", nodes - 1)),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;
    use serde_json::Value;

    /// Counts that have to agree exactly.
    const COUNTS: [&str; 15] = [
        "n",
        "m",
        "isolated",
        "max_degree",
        "nodes_deg2plus",
        "components",
        "connected",
        "largest_component_nodes",
        "largest_component_ties",
        "diameter",
        "diameter_largest_component",
        "diameter_max_over_components",
        "triangles",
        "articulation_points",
        "bridge_edges",
    ];
    const SHARES: [&str; 5] =
        ["avg_degree", "avg_local_clustering", "avg_local_clustering_deg2", "transitivity", "partition_risk"];

    fn sorted(edges: &Value) -> Vec<Vec<u64>> {
        let mut edges: Vec<Vec<u64>> = serde_json::from_value(edges.clone()).unwrap();
        for edge in &mut edges {
            edge.sort_unstable();
        }
        edges.sort_unstable();
        edges
    }

    fn compare(name: &str, found: &Value, expected: &Value) {
        for key in COUNTS {
            assert_eq!(found[key], expected[key], "{name}: {key}");
        }
        for key in SHARES {
            let (found, expected) = (found[key].as_f64().unwrap(), expected[key].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-9, "{name}: {key} {found} {expected}");
        }
        // Both miss the best by a little, not by the same.
        let (ours, igraphs) = (found["modularity"].as_f64(), expected["modularity_louvain_igraph"].as_f64());
        assert!(ours.unwrap() > igraphs.unwrap() - 0.01, "{name}: {ours:?} {igraphs:?}");
        if expected["articulation_list"].is_array() {
            assert_eq!(found["articulation_list"], expected["articulation_list"], "{name}");
            assert_eq!(sorted(&found["bridge_edge_list"]), sorted(&expected["bridge_edge_list"]), "{name}");
            let values = |of: &Value| -> Vec<f64> {
                of["betweenness_top10"].as_array().unwrap().iter().map(|entry| entry[1].as_f64().unwrap()).collect()
            };
            assert_eq!(values(found).len(), values(expected).len());
            for (ours, theirs) in values(found).iter().zip(values(expected)) {
                assert!((ours - theirs).abs() < 2e-6 * theirs.max(1.0), "{name}: {ours} {theirs}");
            }
        }
    }

    /// Where the graphs are: `$BOWLINE_GRAPHS`, or `shared/data/graphs` beside the repository or beside the folder that it is in; none without them.
    fn graphs() -> Option<PathBuf> {
        let beside = |above: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(above).join("shared/data/graphs");
        let said = std::env::var_os("BOWLINE_GRAPHS").map(PathBuf::from);
        let places = said.map_or_else(|| vec![beside("../.."), beside("../../..")], |said| vec![said]);
        let found = places.iter().find(|place| place.join("expected.json").is_file()).cloned();
        if found.is_none() {
            // `println!` of a test that passes is kept back.
            let _ = writeln!(std::io::stderr(), "SKIPPED, nothing was compared: no expected.json in {places:?}");
        }
        found
    }

    /// Compares all graphs that are small, or all others.
    fn compare_all(small: bool) {
        let Some(dir) = graphs() else { return };
        let expected = std::fs::read(dir.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let mut analyser = Analyser::new();
        let graphs = expected["graphs"].as_object().unwrap().iter();
        let graphs: Vec<_> = graphs.filter(|(_, graph)| (graph["n"].as_u64().unwrap() < 20_000) == small).collect();
        assert!(graphs.len() > if small { 100 } else { 3 }, "{}", graphs.len());
        for (name, expected) in graphs {
            let network = Network::read(&dir.join(expected["file"].as_str().unwrap())).unwrap();
            compare(name, &Report::of(&mut analyser, &network).json(), expected);
        }
    }

    #[test]
    fn every_small_graph_has_the_values_that_other_libraries_agree_on() {
        compare_all(true);
    }

    #[test]
    fn every_large_graph_has_the_values_that_other_libraries_agree_on() {
        compare_all(false);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("words"), "0 1\nhello world\n").unwrap();
        std::fs::write(path("binary"), [0, 159, 146, 150]).unwrap();
        std::fs::write(path("cut.gz"), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1]).unwrap();
        let failure = |name: &str| Network::read(&path(name)).map(|network| network.list).unwrap_err();
        assert_eq!(failure("absent").exit, Exit::Usage);
        for (name, reason) in [("words", "line 2: expected two"), ("binary", "not text"), ("cut.gz", "gzip")] {
            let failure = failure(name);
            assert_eq!(failure.exit, Exit::False);
            assert!(failure.message.contains(reason), "{failure}");
        }
    }

    #[test]
    fn gzip_is_known_by_its_content() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graph.edges");
        let mut writer =
            flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        writer.write_all(b"# name: two\n# nodes: 3\n0 1\n").unwrap();
        writer.finish().unwrap();
        let network = Network::read(&path).unwrap();
        let mut report = Report::of(&mut Analyser::new(), &network);
        report.measure(&mut Analyser::new());
        let report = report.json();
        assert_eq!((&report["n"], &report["isolated"], &report["name"]), (&3.into(), &1.into(), &"two".into()));
        assert_eq!(report["diameter"], Value::Null);
        assert_eq!(report["file"], "graph.edges");
        assert!(report["cpu_us"].as_f64().unwrap() > 0.0);
    }

    #[test]
    fn a_loss_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("row");
        std::fs::write(&path, "0 1\n1 2\n2 3\n").unwrap();
        let network = Network::read(&path).unwrap();
        let mut analyser = Analyser::new();
        let mut report = Report::of(&mut analyser, &network);
        report.what_if = Some((1, loss(&mut analyser, &path, &network, 1).unwrap()));
        let json = report.json();
        assert_eq!(json["what_if"]["node"], 1);
        assert_eq!(json["what_if"]["pieces"], serde_json::json!([2, 1]));
        assert_eq!(json["what_if"]["pairs_separated"], 2);
        assert!(report.text().contains("without 1"), "{}", report.text());
        let failure = loss(&mut analyser, &path, &network, 4).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().ends_with("there is no node 4; its nodes are 0 to 3"), "{failure}");
    }
}
