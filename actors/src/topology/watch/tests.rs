#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::TopologyConfig;
use bowline_messages::topology::{
    Advice, Alert, AlertKind, AlertLevel, Figure, HealthReport, NodeFacts, OverallStatus, TopologySummary,
    TransportHealth,
};

use super::{Watch, WatchOutput};
use crate::topology::Surveyor;
use crate::topology::link_state::LiveGraph;
use crate::topology::link_state::tests::peer;

const S: Duration = Duration::from_secs(1);

struct Seen {
    now: Instant,
    config: TopologyConfig,
    watch: Watch,
}

impl Seen {
    fn new(config: &TopologyConfig) -> Self {
        Self { now: Instant::now(), config: config.clone(), watch: Watch::new(config) }
    }

    fn graph(&self, nodes: usize, edges: &[(usize, usize)], loads: &[(usize, f64)]) -> LiveGraph {
        let load = |number| loads.iter().find(|(node, _)| *node == number).map_or(0.0, |(_, load)| *load);
        let facts = |number| NodeFacts { load: load(number), ..NodeFacts::default() };
        let all: Vec<_> = (0..nodes).map(|number| (peer(number), facts(number))).collect();
        LiveGraph::by_hand(self.now, &all, edges.iter().copied())
    }

    fn look(&mut self, nodes: usize, edges: &[(usize, usize)], loads: &[(usize, f64)]) -> Vec<WatchOutput> {
        let graph = self.graph(nodes, edges, loads);
        self.now += S * 5;
        // Graphs made by hand have no history that a surveyor could go by.
        self.watch.on_survey(self.now, &Surveyor::new(&self.config).look(self.now, &graph))
    }

    fn report(&self) -> HealthReport {
        self.watch.report(self.now, &BTreeMap::new())
    }
}

/// Everybody with everybody.
fn clique(from: usize, to: usize) -> Vec<(usize, usize)> {
    (from..to).flat_map(|a| (a + 1..to).map(move |b| (a, b))).collect()
}

/// Two cliques of so many nodes, held together by node 0 of the first.
fn two(first: usize, second: usize) -> Vec<(usize, usize)> {
    let mut edges = clique(0, first);
    edges.extend(clique(first, first + second));
    edges.extend([(0, first), (0, first + 1)]);
    edges
}

fn raised(outputs: &[WatchOutput]) -> Vec<(AlertKind, AlertLevel)> {
    let alert = |output: &WatchOutput| match output {
        WatchOutput::Raised(alert) => Some((alert.kind, alert.level)),
        WatchOutput::Cleared(_) => None,
    };
    outputs.iter().filter_map(alert).collect()
}

fn cleared(outputs: &[WatchOutput]) -> Vec<AlertKind> {
    let alert = |output: &WatchOutput| match output {
        WatchOutput::Cleared(alert) => Some(alert.kind),
        WatchOutput::Raised(_) => None,
    };
    outputs.iter().filter_map(alert).collect()
}

fn standing(seen: &Seen, kind: AlertKind) -> Option<Alert> {
    seen.watch.alerts().find(|alert| alert.kind == kind).cloned()
}

#[test]
fn a_healthy_network_has_nothing_to_say() {
    let mut seen = Seen::new(&TopologyConfig::default());
    assert_eq!(seen.report().overall, OverallStatus::Unknown);
    assert_eq!(seen.look(10, &clique(0, 10), &[]), []);
    let report = seen.report();
    assert_eq!((report.overall, report.topology.nodes, report.topology.diameter), (OverallStatus::Healthy, 10, 1));
    assert!(report.alerts.is_empty() && report.recommendations.is_empty());
}

#[test]
fn risk_climbs_and_clears_with_hysteresis() {
    let mut seen = Seen::new(&TopologyConfig::default());
    // Of 39 others, so many hang on node 0: 4 of 39 are a risk of 0.189, 5 of 0.23, 6 of 0.267, 12 of 0.437.
    let mut look = |hanging: usize| {
        let outputs = seen.look(40, &two(40 - hanging, hanging), &[]);
        (raised(&outputs), cleared(&outputs), standing(&seen, AlertKind::PartitionRisk).map(|alert| alert.level))
    };
    let risk = |level| vec![(AlertKind::PartitionRisk, level)];
    assert_eq!(look(4), (vec![], vec![], None));
    assert_eq!(look(5), (risk(AlertLevel::Recommend), vec![], Some(AlertLevel::Recommend)));
    assert_eq!(look(5), (vec![], vec![], Some(AlertLevel::Recommend)), "said once");
    let (said, _, level) = look(6);
    assert!(said.contains(&(AlertKind::PartitionRisk, AlertLevel::Alert)));
    assert_eq!(level, Some(AlertLevel::Alert));
    let (said, _, level) = look(12);
    assert!(said.contains(&(AlertKind::PartitionRisk, AlertLevel::Pause)));
    assert_eq!(level, Some(AlertLevel::Pause));
    // 0.23 is within a tenth below 0.25, 0.189 within a tenth below 0.2.
    let (_, _, level) = look(5);
    assert_eq!(level, Some(AlertLevel::Alert));
    let (_, _, level) = look(4);
    assert_eq!(level, Some(AlertLevel::Recommend));
    let (_, over, level) = look(2);
    assert!(over.contains(&AlertKind::PartitionRisk));
    assert_eq!(level, None);
}

#[test]
fn bridge_nodes_are_critical_and_named_by_the_advice() {
    let mut seen = Seen::new(&TopologyConfig::default());
    seen.look(20, &two(10, 10), &[]);
    let report = seen.report();
    assert_eq!((report.overall, report.topology.bridge_nodes.clone()), (OverallStatus::Critical, vec![peer(0)]));
    let advice: Vec<Advice> = report.recommendations.iter().map(|known| known.advice).collect();
    assert_eq!(advice, [Advice::AddRedundantConnections, Advice::PromoteBackupBridges]);
    let [first, _] = &report.recommendations[..] else { panic!() };
    assert!(first.text.contains(&peer(0).short()) && first.text.contains("53 %"), "{}", first.text);
    let cluster = |number: usize| number >= 10;
    let ends: Vec<usize> =
        first.nodes[1..].iter().map(|node| (0..20).find(|number| peer(*number) == *node).unwrap()).collect();
    assert!(ends.len() == 2 && cluster(ends[0]) != cluster(ends[1]), "{ends:?}");
    assert!(ends.iter().all(|end| first.text.contains(&peer(*end).short())));
    seen.look(20, &[two(10, 10), vec![(5, 15)]].concat(), &[]);
    assert_eq!(seen.report().topology.bridge_nodes, []);
}

#[test]
fn a_long_network_is_recommended_against_then_an_alert() {
    let mut seen = Seen::new(&TopologyConfig::default());
    let ring = |nodes: usize| (0..nodes).map(|n| (n, (n + 1) % nodes)).collect::<Vec<_>>();
    let mut level = |nodes| {
        seen.look(nodes, &ring(nodes), &[]);
        standing(&seen, AlertKind::HighDiameter).map(|alert| (alert.level, alert.value as u32, alert.limit as u32))
    };
    assert_eq!(level(12), None);
    assert_eq!(level(14), Some((AlertLevel::Recommend, 7, 6)));
    assert_eq!(level(16), Some((AlertLevel::Recommend, 8, 6)));
    assert_eq!(level(18), Some((AlertLevel::Alert, 9, 8)));
    let advice = seen.report().recommendations;
    let shortcut = advice.iter().find(|known| known.advice == Advice::AddShortcuts).unwrap();
    assert!(shortcut.text.contains("9 links apart") && shortcut.nodes.len() == 2, "{shortcut:?}");
    assert!(standing(&seen, AlertKind::LowClustering).is_some(), "a ring has no triangle");
    assert!(advice.iter().any(|known| known.advice == Advice::AddLocalLinks));
}

#[test]
fn a_handful_of_nodes_without_triangles_is_no_alert() {
    let mut seen = Seen::new(&TopologyConfig::default());
    seen.look(6, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)], &[]);
    assert_eq!(standing(&seen, AlertKind::LowClustering), None);
}

#[test]
fn a_busy_bridge_node_is_an_alert_and_another_busy_node_is_none() {
    let mut seen = Seen::new(&TopologyConfig::default());
    let edges = two(38, 2);
    let outputs = seen.look(40, &edges, &[(0, 0.9), (5, 1.0)]);
    let kind = AlertKind::BridgeOverloaded { peer: peer(0) };
    assert_eq!(raised(&outputs), [(kind, AlertLevel::Alert)]);
    let advice = &seen.report().recommendations[0];
    assert!(advice.advice == Advice::RebalanceLoad && advice.text.contains("90 %"), "{advice:?}");
    assert_eq!(seen.report().overall, OverallStatus::Degraded);
    assert_eq!(cleared(&seen.look(40, &edges, &[(0, 0.75)])), [], "not yet");
    assert_eq!(cleared(&seen.look(40, &edges, &[(0, 0.7)])), [kind]);
}

#[test]
fn what_is_unusual_is_found_and_what_is_usual_is_not() {
    let mut seen = Seen::new(&TopologyConfig::default());
    for round in 0..80 {
        let outputs = seen.look(30 + round % 2, &clique(0, 30 + round % 2), &[]);
        assert_eq!(raised(&outputs), [], "{round}");
    }
    let outputs = seen.look(20, &clique(0, 20), &[]);
    let strange: BTreeSet<AlertKind> = raised(&outputs).into_iter().map(|(kind, _)| kind).collect();
    assert!(strange.contains(&AlertKind::AnomalyDetected { figure: Figure::Nodes }));
    assert!(strange.contains(&AlertKind::AnomalyDetected { figure: Figure::AverageDegree }));
    let outputs = seen.look(30, &clique(0, 30), &[]);
    assert!(cleared(&outputs).contains(&AlertKind::AnomalyDetected { figure: Figure::Nodes }));
}

#[test]
fn a_rising_risk_is_foretold() {
    let mut seen = Seen::new(&TopologyConfig::default());
    let mut foretold = None;
    // One more node hangs on node 0 every five seconds; 0.25 is passed with the tenth of 80.
    for hanging in 3..=16 {
        seen.look(80, &two(80 - hanging, hanging), &[]);
        let now = seen.report().topology.separation_risk;
        if standing(&seen, AlertKind::PartitionRiskAhead).is_some() && foretold.is_none() {
            foretold = Some(now);
        }
        assert!(foretold.is_some() || now < 0.25);
    }
    let foretold = foretold.unwrap();
    assert!(foretold > 0.1 && foretold < 0.2, "{foretold}");
    let advice = seen.report().recommendations;
    assert_eq!(advice[0].advice, Advice::AddRedundantConnections);
}

#[test]
fn a_risk_that_changed_once_is_no_trend() {
    let mut seen = Seen::new(&TopologyConfig::default());
    for hanging in [3, 3, 3, 3, 3, 6, 6, 6, 6, 8, 8, 8] {
        seen.look(80, &two(80 - hanging, hanging), &[]);
        assert_eq!(seen.report().topology.separation_risk_ahead, None);
        assert_eq!(standing(&seen, AlertKind::PartitionRiskAhead), None);
    }
}

#[test]
fn a_network_in_pieces_and_dead_transports_are_critical() {
    let mut seen = Seen::new(&TopologyConfig::default());
    seen.look(10, &clique(0, 10), &[]);
    let apart = [clique(0, 7), clique(7, 10)].concat();
    seen.look(10, &apart, &[]);
    seen.watch.on_members((7..10).map(peer).collect());
    let report = seen.report();
    assert_eq!((report.overall, report.topology.torn, report.topology.missing_all), (OverallStatus::Critical, true, 3));
    // They have been forgotten by the gossip, not by the membership.
    seen.look(7, &clique(0, 7), &[]);
    assert_eq!((seen.report().overall, seen.report().topology.torn), (OverallStatus::Degraded, false));
    // Back again, whatever the membership has heard by now.
    seen.look(10, &clique(0, 10), &[]);
    assert_eq!(seen.report().topology.missing_all, 0);
    let transports = |well| BTreeMap::from([("tcp".to_owned(), TransportHealth { links: 3, well })]);
    assert_eq!(seen.watch.report(seen.now, &transports(3)).overall, OverallStatus::Healthy);
    assert_eq!(seen.watch.report(seen.now, &transports(0)).overall, OverallStatus::Critical);
}

#[test]
fn the_report_remembers_alerts_within_bounds_and_travels() {
    let mut config = TopologyConfig::default();
    config.watch.alerts_kept = 3;
    let mut seen = Seen::new(&config);
    for _ in 0..10 {
        seen.look(20, &two(10, 10), &[]);
        seen.look(20, &clique(0, 20), &[]);
    }
    seen.look(20, &two(10, 10), &[]);
    let report = seen.report();
    let over = report.alerts.iter().filter(|record| record.cleared_ago.is_some()).count();
    assert_eq!(over, 3);
    assert!(report.alerts[0].cleared_ago.is_none(), "those that stand come first");
    // Digits that a number loses on the way are no concern of this test.
    let topology = TopologySummary::default();
    let report = HealthReport { topology, ..report };
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<HealthReport>(&text).unwrap(), report);
}

#[test]
fn names_are_few_however_many_bridge_nodes_there_are() {
    let mut seen = Seen::new(&TopologyConfig::default());
    let row: Vec<_> = (1..200).map(|n| (n - 1, n)).collect();
    seen.look(200, &row, &[]);
    let report = seen.report();
    assert_eq!((report.topology.bridge_nodes.len(), report.topology.bridge_nodes_all), (64, 198));
    let most = |nodes: &Vec<PeerId>| nodes.len() <= 8;
    assert!(report.alerts.iter().all(|record| most(&record.alert.nodes)));
    assert!(report.recommendations.iter().all(|known| most(&known.nodes)));
    assert_eq!(report.topology.bridge_nodes[0], peer(99), "the middle separates most");
}

#[test]
fn a_node_that_lost_everybody_is_not_healthy_until_they_left_or_are_forgotten() {
    let mut seen = Seen::new(&TopologyConfig::default());
    seen.look(5, &clique(0, 5), &[]);
    // Their announcements expire: the graph is this node, connected and without a risk.
    seen.watch.on_members((1..5).map(peer).collect());
    for _ in 0..100 {
        seen.look(1, &[], &[]);
    }
    let report = seen.report();
    assert_eq!((report.topology.nodes, report.topology.components), (1, 1));
    assert_eq!((report.overall, report.topology.missing_all), (OverallStatus::Critical, 4));
    assert_eq!(report.topology.missing.len(), 4);
    seen.watch.on_members(BTreeSet::new());
    assert_eq!(seen.report().overall, OverallStatus::Healthy);
}

#[test]
fn nodes_that_nobody_has_met_change_nothing_but_a_count() {
    // Of 39 others, 12 hang on node 0: a risk of 0.437, beside a large and well-knit island that somebody invented.
    let mut seen = Seen::new(&TopologyConfig::default());
    seen.look(40, &two(28, 12), &[]);
    let before = seen.report();
    let island = clique(40, 140);
    seen.look(140, &[two(28, 12), island.clone()].concat(), &[(40, 1.0)]);
    let after = seen.report();
    assert_eq!((after.topology.components, after.topology.nodes_elsewhere, after.topology.torn), (2, 100, false));
    let own = |report: &HealthReport| (report.topology.nodes, report.topology.edges, report.topology.diameter);
    assert_eq!(own(&after), own(&before));
    assert!((after.topology.separation_risk - before.topology.separation_risk).abs() < 1e-12);
    assert_eq!(standing(&seen, AlertKind::PartitionRisk).map(|alert| alert.level), Some(AlertLevel::Pause));
    assert_eq!(after.recommendations, before.recommendations);
    // And a healthy network stays healthy.
    let mut seen = Seen::new(&TopologyConfig::default());
    seen.look(110, &[clique(0, 10), clique(10, 110)].concat(), &[]);
    assert_eq!((seen.report().overall, seen.report().topology.nodes), (OverallStatus::Healthy, 10));
}

#[test]
fn the_report_says_how_many_clusters_there_are() {
    let mut seen = Seen::new(&TopologyConfig::default());
    seen.look(20, &[two(10, 10), vec![(5, 15)]].concat(), &[]);
    let topology = seen.report().topology;
    assert!(topology.clusters == Some(2) && topology.modularity.is_some_and(|clear| clear > 0.3), "{topology:?}");
}

#[test]
fn what_one_member_invents_changes_nothing_but_a_count() {
    let mut seen = Seen::new(&TopologyConfig::default());
    // A ring with chords of ten members; node 5 links itself to 300 inventions in six bunches of a row.
    let members: Vec<(usize, usize)> = (0..10).flat_map(|n| [(n, (n + 1) % 10), (n, (n + 2) % 10)]).collect();
    let bunches = (0..6).flat_map(|n| clique(10 + n * 50, 60 + n * 50));
    let row = (0..6).map(|n| (if n == 0 { 5 } else { 10 + n * 50 - 1 }, 10 + n * 50));
    let all: Vec<_> = members.iter().copied().chain(bunches).chain(row).collect();
    let graph = seen.graph(310, &all, &[(10, 1.0)]);
    let mut surveyor = Surveyor::new(&seen.config);
    surveyor.meet((0..10).map(peer).collect());
    let survey = surveyor.look(seen.now, &graph);
    seen.watch.on_survey(seen.now, &survey);
    let report = seen.report();
    assert_eq!(
        (report.topology.nodes, report.topology.nodes_elsewhere, report.topology.bridge_nodes_all),
        (10, 300, 0)
    );
    assert_eq!((report.overall, survey.needs.len(), survey.outline.len()), (OverallStatus::Healthy, 0, 10));
    // One that is down by mistake and announces itself is neither missing nor a sign that the network fell apart.
    seen.watch.on_members(BTreeSet::from([peer(10)]));
    assert_eq!((seen.report().overall, seen.report().topology.missing_all), (OverallStatus::Healthy, 0));
    // Whoever becomes a member counts at the next look, though the graph is the same.
    assert!(!surveyor.has_news(seen.now, &graph));
    surveyor.meet((0..11).map(peer).collect());
    assert!(surveyor.has_news(seen.now, &graph));
    assert_eq!(surveyor.look(seen.now, &graph).shape.nodes, 11);
}
