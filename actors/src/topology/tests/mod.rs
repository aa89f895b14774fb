//! The analyser against definitions, on graphs of every kind, and against values that two other libraries agree on.

mod cost;
mod naive;
mod properties;

use petgraph::Graph;
use petgraph::Undirected;
use petgraph::stable_graph::StableUnGraph;

use super::*;
use naive::node;

fn graph(nodes: usize, edges: &[(u32, u32)]) -> StableUnGraph<(), ()> {
    let mut graph = StableUnGraph::default();
    for _ in 0..nodes {
        graph.add_node(());
    }
    for (u, v) in edges {
        graph.add_edge(node(*u as usize), node(*v as usize), ());
    }
    graph
}

fn ring(nodes: u32) -> Vec<(u32, u32)> {
    (0..nodes).map(|v| (v, (v + 1) % nodes)).collect()
}

fn shape(graph: &StableUnGraph<(), ()>) -> Shape {
    Analyser::new().analyse(graph).clone()
}

#[test]
fn nothing_and_next_to_nothing() {
    let nothing = shape(&graph(0, &[]));
    assert_eq!((nothing.nodes, nothing.components, nothing.diameter_largest_component), (0, 0, 0));
    assert_eq!((nothing.average_degree(), nothing.average_clustering(), nothing.partition_risk()), (0.0, 0.0, 0.0));
    assert!(!nothing.is_connected() && nothing.separation().is_none());
    let alone = shape(&graph(1, &[(0, 0)]));
    assert_eq!((alone.nodes, alone.edges, alone.isolated, alone.components), (1, 0, 1, 1));
    let pair = shape(&graph(2, &[(0, 1)]));
    assert_eq!((pair.diameter_largest_component, pair.bridges.len(), pair.bridge_nodes.len()), (1, 1, 0));
    assert_eq!(pair.separation_risk(), 0.0);
}

#[test]
fn a_link_that_both_sides_dialled_is_one_link() {
    let shape = shape(&graph(3, &[(0, 1), (1, 0), (1, 2), (2, 2)]));
    assert_eq!((shape.edges, shape.bridges.len()), (2, 2));
    assert_eq!((shape.bridge_nodes, shape.by_node[1].degree), (vec![node(1)], 2));
}

#[test]
fn a_star_hangs_on_its_middle() {
    let shape = shape(&graph(6, &[(5, 0), (5, 1), (5, 2), (5, 3), (5, 4)]));
    assert_eq!((shape.diameter_largest_component, &shape.bridge_nodes[..]), (2, &[node(5)][..]));
    assert_eq!(shape.separation().map(|s| (s.share, s.node)), Some((1.0, node(5))));
    // 1 / 6 × (2 − 10 / 6) / 2.
    assert!((shape.partition_risk() - 1.0 / 36.0).abs() < 1e-12);
}

#[test]
fn two_clusters_on_one_bridge_node_are_half_separated() {
    // Two triangles that share node 0: 2 × 2 of the 6 pairs of others.
    let shape = shape(&graph(5, &[(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0)]));
    assert_eq!(shape.separation().map(|s| (s.share, s.node)), Some((4.0 / 6.0, node(0))));
    assert_eq!((shape.partition_risk(), shape.bridges.len(), shape.triangles), (0.0, 0, 2));
    assert!((shape.by_node[0].clustering() - 1.0 / 3.0).abs() < 1e-15);
    assert!((shape.transitivity() - 6.0 / 10.0).abs() < 1e-15);
}

#[test]
fn the_diameter_of_a_disconnected_graph_is_that_of_its_largest_component() {
    // Three nodes in a triangle twice, four in a row: the row is largest; a longer path in a smaller component cannot be.
    let mut edges = vec![(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)];
    edges.extend([(6, 7), (7, 8), (8, 9)]);
    let row = shape(&graph(10, &edges));
    assert_eq!((row.diameter_largest_component, row.components, row.largest_component_ties), (3, 3, 1));
    // A complete graph of five beside a row of four.
    let mut edges: Vec<_> = (0..5).flat_map(|u| (0..u).map(move |v| (u, v))).collect();
    edges.extend([(5, 6), (6, 7), (7, 8)]);
    let dense = shape(&graph(9, &edges));
    assert_eq!((dense.diameter_largest_component, dense.diameter_max_over_components), (1, 3));
    assert_eq!(dense.largest_component_nodes, 5);
}

#[test]
fn rings_and_what_hangs_on_them() {
    for nodes in [3, 4, 63, 64, 65, 1000] {
        assert_eq!(shape(&graph(nodes as usize, &ring(nodes))).diameter_largest_component, nodes / 2);
    }
    // A ring of ten; a row of three hangs on node 0 and one of seven on node 1: the longest path leads from end to end.
    let mut edges = ring(10);
    edges.extend([(0, 10), (10, 11), (11, 12), (1, 13)]);
    edges.extend((13..19).map(|v| (v, v + 1)));
    let shape = shape(&graph(20, &edges));
    assert_eq!((shape.diameter_largest_component, shape.bridges.len()), (3 + 1 + 7 + 1, 10));
}

#[test]
fn a_hundred_thousand_in_a_row_need_no_deep_stack() {
    let edges: Vec<_> = (0..99_999).map(|v| (v, v + 1)).collect();
    assert_eq!(shape(&graph(100_000, &edges)).diameter_largest_component, 99_999);
    let round = shape(&graph(100_000, &ring(100_000)));
    assert_eq!((round.diameter_largest_component, round.bridge_nodes.len()), (50_000, 0));
}

#[test]
fn every_kind_of_graph_gives_the_same() {
    let edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)];
    let stable = shape(&graph(5, &edges));
    let plain = Graph::<(), (), Undirected>::from_edges(edges);
    assert_eq!(*Analyser::new().analyse(&plain), stable);
    let directed = Graph::<(), ()>::from_edges(edges);
    assert_eq!(*Analyser::new().analyse(&directed), stable);
}

#[test]
fn indexes_that_are_not_in_use_are_nobody() {
    let mut graph = graph(6, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
    graph.remove_node(node(0));
    graph.remove_node(node(3));
    let shape = shape(&graph);
    assert_eq!((shape.nodes, shape.edges, shape.components, shape.isolated), (4, 2, 2, 0));
    assert_eq!((shape.by_node.len(), shape.by_node[3]), (6, NodeShape::default()));
    assert_eq!(what_if(&mut Analyser::new(), &graph, node(3)), None);
}

#[test]
fn buffers_of_a_large_graph_do_not_show_in_a_small_one() {
    let mut analyser = Analyser::new();
    let small = graph(5, &[(0, 1), (1, 2), (2, 3), (3, 0)]);
    let alone = analyser.analyse(&small).clone();
    let mut edges = ring(500);
    edges.extend((0..250).map(|v| (v, 499 - v)));
    analyser.analyse(&graph(500, &edges));
    assert_eq!(*analyser.analyse(&small), alone);
}

#[test]
fn what_a_loss_does() {
    let mut analyser = Analyser::new();
    let clusters = graph(7, &[(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (4, 0), (0, 5)]);
    let loss = what_if(&mut analyser, &clusters, node(0)).unwrap();
    assert_eq!((loss.components_before, loss.components_after, loss.pieces), (2, 4, vec![2, 2, 1]));
    assert_eq!((loss.pairs_separated, loss.isolated, loss.degree), (8, 1, 5));
    assert_eq!((loss.diameter_before, loss.diameter_after), (2, 1));
    assert!((loss.share_separated - 8.0 / 15.0).abs() < 1e-15);
    let harmless = what_if(&mut analyser, &clusters, node(1)).unwrap();
    assert_eq!((harmless.pieces, harmless.pairs_separated), (vec![5], 0));
    let alone = what_if(&mut analyser, &clusters, node(6)).unwrap();
    assert_eq!((alone.pieces, alone.components_after, alone.isolated), (vec![], 1, 0));
}

#[test]
fn communities_of_cliques_are_the_cliques() {
    let clique = |first: u32| (first..first + 5).flat_map(move |u| (first..u).map(move |v| (u, v)));
    let mut edges: Vec<_> = (0..4).flat_map(|c| clique(c * 5)).collect();
    edges.extend([(0, 5), (5, 10), (10, 15), (15, 0)]);
    let found = communities::communities(&graph(21, &edges));
    assert_eq!(found.count, 5);
    for v in 0..20 {
        assert_eq!(found.of[v], found.of[v / 5 * 5]);
    }
    // Of 44 edges 40 are inside; every clique has 22 of the 88 ends.
    assert!((found.modularity - (40.0 / 44.0 - 4.0 * 0.0625)).abs() < 1e-12);
    assert_eq!(communities::communities(&graph(3, &[])).modularity, 0.0);
}

#[test]
fn edge_lists() {
    let list = EdgeList::parse("# name: x\n# nodes: 4\n\n0 1\n1\t2 0.5\n2 2\n0 1\n").unwrap();
    assert_eq!((list.nodes, list.edges.len(), list.self_loops), (4, 3, 1));
    assert_eq!(list.headers["name"], "x");
    assert_eq!(shape(&list.graph()).isolated, 1);
    assert_eq!(EdgeList::parse("0 1\n5 2").unwrap().nodes, 6);
    assert_eq!(EdgeList::parse("").unwrap().nodes, 0);
    let error = |text: &str| EdgeList::parse(text).unwrap_err().to_string();
    assert_eq!(error("0 1\nzero one"), "line 2: expected two node numbers, as in `0 1`, and found `zero one`");
    assert_eq!(error("1 -2"), "line 1: expected two node numbers, as in `0 1`, and found `1 -2`");
    assert_eq!(error("# nodes: many"), "line 1: `# nodes:` must be a number");
    assert!(error("# nodes: 2\n0 1\n1 2").starts_with("line 3: there is no node 2"));
    assert!(error("# nodes: 4000000000").contains("16777216 nodes at most"));
    assert!(error("0 4000000000").contains("16777216 nodes at most"));
}

#[test]
fn drawings_show_what_matters() {
    let graph = graph(4, &[(0, 1), (1, 2), (2, 0), (2, 3), (3, 2)]);
    let shape = shape(&graph);
    let text = drawing::dot(&graph, &shape, |node| node.index().to_string());
    assert!(text.starts_with("graph bowline {") && text.ends_with("}\n"));
    assert_eq!(
        (text.matches(" -- ").count(), text.matches("dashed").count(), text.matches("penwidth").count()),
        (4, 1, 1)
    );
    let picture = drawing::svg(&graph, &shape, |node| node.index().to_string()).unwrap();
    assert_eq!((picture.matches("<circle").count(), picture.matches("<line").count()), (4, 4));
    assert!(!picture.contains("NaN"));
    let crowd = super::tests::graph(drawing::SVG_NODES_MAX + 1, &[]);
    assert_eq!(drawing::svg(&crowd, &shape, |node| node.index().to_string()), None);
}

/// Graphs that are copied here with their sources and licences in their heads (MIT and CC0), and values on which networkx, igraph and
/// networkit agree. All the others are gone through in the command's test, where the folder with them is there.
mod real {
    use super::*;

    fn of(text: &str) -> (EdgeList, Shape, f64) {
        let list = EdgeList::parse(text).unwrap();
        let graph = list.graph();
        (list, shape(&graph), communities::communities(&graph).modularity)
    }

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value} {expected}");
    }

    #[test]
    fn routers_of_a_provider() {
        let (_, shape, modularity) = of(include_str!("mrinfo-as3292.edges"));
        let counts = (shape.nodes, shape.edges, shape.isolated, shape.components, shape.largest_component_nodes);
        assert_eq!(counts, (92, 160, 0, 1, 92));
        assert_eq!((shape.diameter_largest_component, shape.triangles), (14, 67));
        assert_eq!((shape.bridge_nodes.len(), shape.bridges.len()), (15, 19));
        near(shape.average_clustering(), 0.5600101531528753);
        near(shape.average_clustering_deg2(), 0.6440116761258066);
        near(shape.transitivity(), 0.17135549872122763);
        near(shape.partition_risk(), 0.0);
        assert!(modularity > 0.746172 - 0.02, "{modularity}");
    }

    #[test]
    fn a_community_mesh() {
        let (_, shape, modularity) = of(include_str!("freifunk-ulm.edges"));
        let counts = (shape.nodes, shape.edges, shape.isolated, shape.components, shape.largest_component_nodes);
        assert_eq!(counts, (217, 447, 0, 1, 217));
        assert_eq!((shape.diameter_largest_component, shape.triangles), (4, 39));
        assert_eq!((shape.bridge_nodes.len(), shape.bridges.len()), (0, 0));
        near(shape.average_clustering(), 0.09017085519876153);
        near(shape.average_clustering_deg2(), 0.09017085519876156);
        near(shape.transitivity(), 0.009918616480162767);
        near(shape.partition_risk(), 0.0);
        assert!(modularity > 0.598547 - 0.02, "{modularity}");
    }

    #[test]
    fn a_mesh_in_pieces() {
        let (_, shape, modularity) = of(include_str!("gen-rgg6-100.edges"));
        let counts = (shape.nodes, shape.edges, shape.isolated, shape.components, shape.largest_component_nodes);
        assert_eq!(counts, (100, 251, 1, 3, 94));
        assert_eq!((shape.diameter_largest_component, shape.triangles), (24, 241));
        assert_eq!((shape.bridge_nodes.len(), shape.bridges.len()), (12, 9));
        near(shape.average_clustering(), 0.5621926406926406);
        near(shape.average_clustering_deg2(), 0.5856173340548341);
        near(shape.transitivity(), 0.5724465558194775);
        near(shape.partition_risk(), 0.0);
        assert!(modularity > 0.743314 - 0.02, "{modularity}");
    }

    #[test]
    fn nodes_by_name() {
        let graph = EdgeList::parse(include_str!("mrinfo-as3292.edges")).unwrap().graph();
        let bridge_nodes: Vec<_> = shape(&graph).bridge_nodes.iter().map(|node| node.index()).collect();
        assert_eq!(bridge_nodes, [1, 7, 8, 17, 19, 29, 34, 37, 51, 54, 56, 58, 63, 86, 88]);
        let through = betweenness::betweenness(&graph);
        for (node, expected) in [(55, 2349.133333), (8, 1886.0), (68, 1700.0), (54, 1434.0)] {
            assert!((through[node] - expected).abs() < 1e-5, "{node}: {}", through[node]);
        }
    }
}
