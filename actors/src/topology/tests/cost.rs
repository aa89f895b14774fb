//! What one look at a large graph takes, and how little of that is left for the node's own thread.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::config::TopologyConfig;
use bowline_messages::topology::NodeFacts;

use crate::topology::Surveyor;
use crate::topology::healing::outline::Outline;
use crate::topology::healing::plan::{Need, plan};
use crate::topology::link_state::LiveGraph;
use crate::topology::link_state::tests::peer;
use crate::topology::watch::Watch;

/// A torus of so many nodes squared, which is long and without a triangle: two alerts, and a plan of as many links as there may be.
fn torus(now: Instant, side: usize) -> LiveGraph {
    let facts = NodeFacts { spare_links: 4, ..NodeFacts::default() };
    let nodes: Vec<_> = (0..side * side).map(|number| (peer(number), facts)).collect();
    let at = |row: usize, column: usize| (row % side) * side + column % side;
    let edges = (0..side * side).flat_map(|n| [(n, at(n / side, n % side + 1)), (n, at(n / side + 1, n % side))]);
    LiveGraph::by_hand(now, &nodes, edges)
}

#[test]
fn what_is_left_for_the_nodes_thread_is_a_small_part_of_a_look() {
    let (now, config) = (Instant::now(), TopologyConfig::default());
    let graph = torus(now, 32);
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        println!("{what:<40} {:?}", began.elapsed());
        began.elapsed()
    };
    let mut surveyor = Surveyor::new(&config);
    let mut survey = None;
    let beside = timed("a look: analysis, clusters, plan, advice", &mut || survey = Some(surveyor.look(now, &graph)));
    let survey = survey.unwrap();
    assert!(!surveyor.has_news(now + Duration::from_secs(60), &graph));
    let again = timed("the same once more", &mut || drop(surveyor.look(now, &graph)));
    timed("of it: the outline", &mut || drop(Outline::of(&graph, &[])));
    timed("of it: the plan", &mut || drop(plan(&[Need::Shortcut], &survey.outline, &config.healing)));
    timed("a copy of the graph", &mut || drop(graph.clone()));
    let mut watch = Watch::new(&config);
    let here = timed("the watch, on the node's thread", &mut || drop(watch.on_survey(now, &survey)));
    assert_eq!(watch.report(now, &BTreeMap::new()).recommendations.len(), 2);
    // Not by how much: other work goes on beside tests.
    assert!(here < beside / 4 && again < beside / 4, "{here:?} and {again:?} of {beside:?}");
}
