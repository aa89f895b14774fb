//! Random graphs with parallel edges, self loops and gaps, against the definitions.

use petgraph::stable_graph::StableUnGraph;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::naive::{self, node};

/// A graph of up to `nodes` nodes and `edges` edges, from which some nodes were removed again.
fn graphs(nodes: usize, edges: usize) -> impl Strategy<Value = StableUnGraph<(), ()>> {
    (1..=nodes).prop_flat_map(move |count| {
        let ends = vec((0..count, 0..count), 0..=edges);
        (Just(count), ends, vec(0..count, 0..3)).prop_map(|(count, ends, removed)| {
            let mut graph = StableUnGraph::default();
            for _ in 0..count {
                graph.add_node(());
            }
            for (u, v) in ends {
                graph.add_edge(node(u), node(v), ());
            }
            for index in removed {
                graph.remove_node(node(index));
            }
            graph
        })
    })
}

/// A ring of rings, trees on it and chords through it: large diameters, many nodes that look alike.
fn meshes() -> impl Strategy<Value = StableUnGraph<(), ()>> {
    (20..150_usize, vec((0..400_usize, 0..400_usize), 0..40), vec(0..400_usize, 0..90)).prop_map(
        |(count, chords, leaves)| {
            let mut graph = StableUnGraph::default();
            for _ in 0..count {
                graph.add_node(());
            }
            for at in 0..count {
                graph.add_edge(node(at), node((at + 1) % count), ());
            }
            for (u, v) in chords {
                graph.add_edge(node(u % count), node(v % count), ());
            }
            for on in leaves {
                let leaf = graph.add_node(());
                graph.add_edge(leaf, node(on % leaf.index()), ());
            }
            graph
        },
    )
}

/// Compares everything with its definition.
fn check(graph: &StableUnGraph<(), ()>) -> Result<(), TestCaseError> {
    let mut analyser = Analyser::new();
    let shape = analyser.analyse(graph);
    let all = naive::neighbours(graph);
    let components = naive::components(&all);
    let largest = components.iter().map(std::collections::BTreeSet::len).max().unwrap_or(0);
    prop_assert_eq!(shape.nodes as usize, all.len());
    prop_assert_eq!(shape.edges as usize, all.values().map(std::collections::BTreeSet::len).sum::<usize>() / 2);
    prop_assert_eq!(shape.components as usize, components.len());
    prop_assert_eq!(shape.largest_component_nodes as usize, largest);
    let ties = components.iter().filter(|component| component.len() == largest);
    prop_assert_eq!(shape.largest_component_ties as usize, ties.clone().count());
    let diameter = |c: &std::collections::BTreeSet<usize>| naive::diameter(&all, c);
    prop_assert_eq!(shape.diameter_largest_component, ties.map(diameter).max().unwrap_or(0));
    prop_assert_eq!(shape.diameter_max_over_components, components.iter().map(diameter).max().unwrap_or(0));
    let (mut clustering, mut triangles) = (0.0, 0);
    for (&v, row) in &all {
        let found = shape.by_node[v];
        prop_assert_eq!(found.degree as usize, row.len());
        let count = naive::triangles_of(&all, v);
        prop_assert_eq!(found.triangles, count);
        triangles += u64::from(count);
        let pairs = row.len() * row.len().saturating_sub(1) / 2;
        clustering += if pairs > 0 { f64::from(count) / pairs as f64 } else { 0.0 };
        prop_assert_eq!(found.pairs_separated, naive::pairs_separated(&all, v), "node {}", v);
        prop_assert_eq!(shape.bridge_nodes.contains(&node(v)), found.pairs_separated > 0);
        let component = components.iter().position(|component| component.contains(&v));
        prop_assert_eq!(Some(found.component as usize), component);
    }
    prop_assert_eq!(shape.triangles, triangles / 3);
    prop_assert!((shape.average_clustering() * all.len() as f64 - clustering).abs() < 1e-9);
    let bridges = shape.bridges.iter().map(|[u, v]| [u.index().min(v.index()), u.index().max(v.index())]);
    prop_assert_eq!(shape.bridges.len(), naive::bridges(&all).len());
    prop_assert_eq!(bridges.collect::<std::collections::BTreeSet<_>>(), naive::bridges(&all));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn everything_is_as_defined(graph in graphs(24, 40)) {
        check(&graph)?;
    }

    #[test]
    fn what_a_loss_does_is_what_is_left(graph in graphs(16, 30), index in 0..16_usize) {
        let mut analyser = Analyser::new();
        let found = what_if(&mut analyser, &graph, node(index));
        prop_assert_eq!(found.is_some(), graph.contains_node(node(index)));
        if let Some(found) = found {
            let mut left = graph.clone();
            left.remove_node(node(index));
            let after = analyser.analyse(&left);
            prop_assert_eq!(found.components_after, after.components);
            prop_assert_eq!(found.diameter_after, after.diameter_largest_component);
            prop_assert_eq!(found.pairs_separated, naive::pairs_separated(&naive::neighbours(&graph), index));
        }
    }

    /// Edge by edge and from scratch, to the last bit.
    #[test]
    fn clustering_follows_every_change(changes in vec((0..12_usize, 0..12_usize, any::<bool>()), 1..120)) {
        let mut graph = StableUnGraph::<(), ()>::default();
        for _ in 0..12 {
            graph.add_node(());
        }
        let mut clustering = Clustering::default();
        for (u, v, insert) in changes {
            let there = graph.find_edge(node(u), node(v));
            if insert {
                prop_assert_eq!(clustering.insert(node(u), node(v)), there.is_none() && u != v);
                if there.is_none() {
                    graph.add_edge(node(u), node(v), ());
                }
            } else {
                prop_assert_eq!(clustering.remove(node(u), node(v)), there.is_some() && u != v);
                there.map(|edge| graph.remove_edge(edge));
            }
            let mut analyser = Analyser::new();
            let shape = analyser.analyse(&graph);
            prop_assert_eq!(clustering.average(12), shape.average_clustering());
            prop_assert_eq!(clustering.average_deg2(), shape.average_clustering_deg2());
            prop_assert_eq!(clustering.transitivity(), shape.transitivity());
            prop_assert_eq!(clustering.triangles(), shape.triangles);
            for v in 0..12 {
                prop_assert_eq!(clustering.of_node(node(v)), shape.by_node[v].clustering());
            }
        }
        // Made in one go it may have less room, and is otherwise the same.
        let mut anew = Clustering::of(&graph);
        anew.grow(12);
        clustering.grow(12);
        prop_assert_eq!(anew, clustering);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    /// Large enough that sweeps come in.
    #[test]
    fn the_diameter_is_the_longest_of_all_searches(graph in prop_oneof![meshes(), graphs(200, 220), graphs(200, 450)]) {
        let mut analyser = Analyser::new();
        let found = analyser.analyse(&graph).diameter_max_over_components;
        let all = naive::neighbours(&graph);
        let farthest = all.keys().filter_map(|v| naive::distances(&all, *v).into_values().max()).max().unwrap_or(0);
        prop_assert_eq!(found, farthest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn rings_with_trees_have_the_diameter_of_all_searches(count in 3..30_usize, leaves in vec(0..60_usize, 0..40)) {
        let mut graph = StableUnGraph::<(), ()>::default();
        for _ in 0..count {
            graph.add_node(());
        }
        for at in 0..count {
            graph.add_edge(node(at), node((at + 1) % count), ());
        }
        for on in leaves {
            let leaf = graph.add_node(());
            graph.add_edge(leaf, node(on % leaf.index()), ());
        }
        check(&graph)?;
    }
}

/// Random cubic graphs look the same from everywhere, so that bounds settle little and sweeps do the work.
#[test]
fn sweeps_find_the_diameter_where_bounds_do_not() {
    let mut swept = 0;
    for seed in 0..5_usize {
        let count = 300;
        let mut graph = StableUnGraph::<(), ()>::default();
        for _ in 0..count {
            graph.add_node(());
        }
        let mut state = seed as u64 + 1;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % count
        };
        for at in 0..count {
            graph.add_edge(node(at), node((at + 1) % count), ());
            graph.add_edge(node(at), node(random()), ());
        }
        for _ in 0..seed * 20 {
            let leaf = graph.add_node(());
            graph.add_edge(leaf, node(random()), ());
        }
        let mut analyser = Analyser::new();
        let found = analyser.analyse(&graph).diameter_largest_component;
        swept += analyser.effort().1;
        let all = naive::neighbours(&graph);
        let farthest = all.keys().filter_map(|v| naive::distances(&all, *v).into_values().max()).max();
        assert_eq!(Some(found), farthest);
    }
    assert!(swept >= 5, "{swept}");
}

/// Numbers that look random.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(2) + 1;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// A ring with links to the next but one, of which one in `rewired` leads elsewhere: it has no middle.
fn small_world(nodes: usize, rewired: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut random = numbers(seed);
    let mut end = |near: usize| if rewired > 0 && random(rewired) == 0 { random(nodes) } else { near % nodes };
    (0..nodes).flat_map(|v| [(v, end(v + 1)), (v, end(v + 2))]).collect()
}

/// A torus of `nodes` nodes, or one of the next smaller number that is a multiple of its width.
fn torus(nodes: usize, width: usize) -> Vec<(usize, usize)> {
    let nodes = nodes / width * width;
    (0..nodes).flat_map(|v| [(v, v / width * width + (v + 1) % width), (v, (v + width) % nodes)]).collect()
}

/// Trees and tails on a graph of so many nodes.
fn with_tails(mut edges: Vec<(usize, usize)>, nodes: usize, tails: &[usize], seed: u64) -> Vec<(usize, usize)> {
    let mut random = numbers(seed);
    let mut count = nodes;
    for length in tails {
        let mut on = random(count);
        for _ in 0..*length {
            edges.push((on, count));
            on = count;
            count += 1;
        }
    }
    edges
}

/// The longest shortest path by a search from every node.
fn longest(graph: &StableUnGraph<(), ()>) -> u32 {
    let rows: Vec<Vec<usize>> = graph.node_indices().map(|v| graph.neighbors(v).map(|w| w.index()).collect()).collect();
    let mut longest = 0;
    for from in 0..rows.len() {
        let mut distance = vec![u32::MAX; rows.len()];
        distance[from] = 0;
        let mut queue = vec![from];
        let mut head = 0;
        while let Some(&v) = queue.get(head) {
            head += 1;
            longest = longest.max(distance[v]);
            for &w in &rows[v] {
                if distance[w] == u32::MAX {
                    distance[w] = distance[v] + 1;
                    queue.push(w);
                }
            }
        }
    }
    longest
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(30) })]

    /// Large enough, and alike enough from everywhere, that there are more deep nodes than a sweep has room for, so that nets come in. How
    /// long tails are decides how near the first paths found come to the longest.
    #[test]
    fn nets_leave_no_longer_path_out(
        nodes in 1_500..2_500_usize,
        kind in 0..6_usize,
        tails in vec(0..9_usize, 0..30),
        seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        let edges = match kind {
            0 => small_world(nodes, 10, seed),
            1 => small_world(nodes, 4, seed),
            2 => small_world(nodes, 0, seed),
            3 => torus(nodes, 20 + nodes % 7),
            _ => small_world(nodes, 7, seed),
        };
        let mut graph = StableUnGraph::<(), ()>::default();
        let edges = with_tails(edges, nodes, &tails, seed);
        for _ in 0..=edges.iter().map(|(u, v)| *u.max(v)).max().unwrap_or(0) {
            graph.add_node(());
        }
        for (u, v) in edges {
            graph.add_edge(node(u), node(v), ());
        }
        let mut analyser = Analyser::new();
        prop_assert_eq!(analyser.analyse(&graph).diameter_max_over_components, longest(&graph));
    }
}

/// A small world is settled by a net and one more sweep or two, not by a sweep for every 256 of the deep nodes.
#[test]
fn a_small_world_takes_few_sweeps() {
    let mut swept = 0;
    for seed in 0..4 {
        let nodes = 3_000;
        let mut graph = StableUnGraph::<(), ()>::default();
        for _ in 0..nodes {
            graph.add_node(());
        }
        for (u, v) in small_world(nodes, 10, seed) {
            graph.add_edge(node(u), node(v), ());
        }
        let mut analyser = Analyser::new();
        assert_eq!(analyser.analyse(&graph).diameter_max_over_components, longest(&graph));
        swept += analyser.effort().1;
    }
    assert!((4..=12).contains(&swept), "{swept}");
}
