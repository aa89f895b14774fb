//! Whole nodes (gossip, analysis, healing) in the simulated world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bowline_messages::config::TopologyConfig;
use bowline_messages::topology::{HealingStep, LinkFacts, NodeFacts};
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;
use std::rc::Rc;

use super::super::{Healing, HealingOutput};
use crate::topology::link_state::tests::world::{Node, Wish, World, mesh};
use crate::topology::link_state::tests::{Cheap, machine, peer};
use crate::topology::link_state::{LinkState, LiveGraph};
use crate::topology::{Analyser, Shape, Surveyor};

const S: Duration = Duration::from_secs(1);

/// A node as its actor has it.
pub(super) struct Whole {
    link_state: LinkState,
    pub(super) healing: Healing,
    surveyor: Surveyor,
    analyse_at: Instant,
    seen: u64,
    now: Instant,
    neighbours: BTreeMap<PeerId, LinkFacts>,
    pub(super) steps: Vec<(Instant, PeerId, HealingStep)>,
    pub(super) measured: Vec<(f64, f64)>,
    pub(super) load: f64,
    power: f64,
    wishes: VecDeque<Wish>,
    config: TopologyConfig,
}

impl Whole {
    fn new(now: Instant, number: usize, config: &TopologyConfig) -> Self {
        let own = peer(number);
        let healing = Healing::new(now, own, Incarnation(1), config, Rc::new(Cheap(own)), number as u64);
        let mut whole = Self {
            link_state: machine(now, number, &config.link_state),
            healing,
            surveyor: Surveyor::new(config),
            analyse_at: now,
            seen: 0,
            now,
            neighbours: BTreeMap::new(),
            steps: Vec::new(),
            measured: Vec::new(),
            load: 0.0,
            power: 1.0,
            wishes: VecDeque::new(),
            config: config.clone(),
        };
        whole.healing.on_facts(1.0, vec![format!("memory://{number}")]);
        whole.settle(now);
        whole
    }

    fn settle(&mut self, now: Instant) {
        self.now = now;
        if now >= self.analyse_at {
            self.analyse_at = now + self.config.analysis_interval;
            self.seen = self.link_state.graph().version();
            let graph = self.link_state.graph();
            let due = self.healing.to_review(now);
            let survey = self.surveyor.look(now, graph);
            self.healing.on_survey(now, &survey);
            if let Some(links) = due {
                self.healing.on_review(now, &self.surveyor.review(graph, &links));
            }
        } else if self.link_state.graph().version() != self.seen {
            self.analyse_at = self.analyse_at.min(now + self.config.analysis_pause);
        }
        let healing: BTreeSet<PeerId> = self.healing.peers().collect();
        for (peer, facts) in &mut self.neighbours {
            facts.healing = healing.contains(peer);
        }
        self.link_state.on_neighbours(now, &self.neighbours);
        let facts =
            NodeFacts { spare_links: self.healing.spare(), load: self.load, power: self.power, ..NodeFacts::default() };
        self.link_state.on_facts(now, facts);
        while let Some(output) = self.healing.poll_output() {
            match output {
                HealingOutput::Send { to, payload } => self.wishes.push_back(Wish::Send(to, payload)),
                HealingOutput::Connect { peer, addresses } => {
                    assert!(!addresses.is_empty());
                    self.wishes.push_back(Wish::Connect(peer));
                }
                HealingOutput::Release { peer } => self.wishes.push_back(Wish::Release(peer)),
                HealingOutput::Step { peer, step, .. } => self.steps.push((now, peer, step)),
                HealingOutput::Measured { before, after, .. } => self.measured.push((before, after)),
            }
        }
        while let Some(wish) = self.link_state.poll() {
            self.wishes.push_back(wish);
        }
    }
}

impl Node for Whole {
    fn on_neighbours(&mut self, now: Instant, all: &BTreeMap<PeerId, LinkFacts>) {
        self.neighbours.clone_from(all);
        self.healing.on_neighbours(now, all.keys().copied().collect());
        self.settle(now);
    }
    fn on_packet(&mut self, now: Instant, from: PeerId, payload: &Bytes) {
        if payload.first() == Some(&super::super::wire::FORMAT) {
            self.healing.on_packet(now, from, payload);
        } else {
            self.link_state.on_packet(now, from, payload);
        }
        self.settle(now);
    }
    fn on_timeout(&mut self, now: Instant) {
        self.link_state.on_timeout(now);
        self.healing.on_timeout(now);
        self.settle(now);
    }
    fn deadline(&self) -> Option<Instant> {
        [self.link_state.deadline(), self.healing.deadline(), Some(self.analyse_at)].into_iter().flatten().min()
    }
    fn poll(&mut self) -> Option<Wish> {
        self.wishes.pop_front()
    }
    fn live(&self) -> &LiveGraph {
        self.link_state.graph()
    }
}

pub(super) fn world(
    nodes: usize,
    edges: impl IntoIterator<Item = (usize, usize)>,
    config: &TopologyConfig,
    seed: u64,
) -> World<Whole> {
    let mut world = World::new(seed);
    for number in 0..nodes {
        world.add(peer(number), Whole::new(world.now, number, config));
    }
    for (a, b) in edges {
        world.link(peer(a), peer(b));
    }
    world
}

/// The shape of what is really there.
fn shape(world: &World<Whole>) -> Shape {
    let mut graph = petgraph::graph::UnGraph::<(), (), u32>::new_undirected();
    let index: BTreeMap<_, _> = world.nodes.keys().map(|peer| (*peer, graph.add_node(()))).collect();
    for (a, b) in world.links.keys() {
        graph.add_edge(index[a], index[b], ());
    }
    Analyser::new().analyse(&graph).clone()
}

/// Two meshes of so many nodes, and a node between them.
fn barbell(half: usize) -> (usize, Vec<(usize, usize)>) {
    let bridge = 2 * half;
    let other = mesh(half, 4, 2).into_iter().map(|(a, b)| (a + half, b + half));
    let edges = mesh(half, 4, 1).into_iter().chain(other).chain([(0, bridge), (half, bridge)]).collect();
    (bridge + 1, edges)
}

fn steps(world: &World<Whole>, wanted: impl Fn(&HealingStep) -> bool) -> usize {
    world.nodes.values().flat_map(|node| &node.steps).filter(|(_, _, step)| wanted(step)).count()
}

#[test]
fn two_clusters_get_a_second_path_within_half_a_minute_and_survive_the_bridge() {
    for seed in 0..2 {
        let (nodes, edges) = barbell(10);
        let mut world = world(nodes, edges.clone(), &TopologyConfig::default(), seed);
        assert!(shape(&world).separation_risk() > 0.4);
        let took = world.until(S * 30, |world| shape(world).separation_risk() < 0.2);
        println!("a second path after {took:?}");
        assert!(took.is_some());
        world.run(S * 10);
        let added = world.links.len() - edges.len();
        assert!(added <= 2, "{added} links for one bridge node");
        world.kill(peer(nodes - 1));
        world.run(S * 5);
        assert!(shape(&world).is_connected());
        assert!(world.agrees());
        // For two minutes more, nothing that was needed is let go.
        world.run(S * 120);
        assert!(shape(&world).is_connected() && shape(&world).separation_risk() < 0.25);
    }
}

#[test]
fn a_ring_of_64_becomes_short_at_few_links() {
    let mut world = world(64, (0..64).map(|n| (n, (n + 1) % 64)), &TopologyConfig::default(), 1);
    assert_eq!(shape(&world).diameter_largest_component, 32);
    let took = world.until(S * 300, |world| shape(world).diameter_largest_component <= 12);
    println!("diameter {} with {} links after {took:?}", shape(&world).diameter_largest_component, world.links.len());
    assert!(took.is_some());
    world.run(S * 60);
    let after = shape(&world);
    println!("later: diameter {} with {} links", after.diameter_largest_component, after.edges);
    assert!(after.diameter_largest_component <= 12 && after.edges <= 83, "{after:?}");
    let degree = after.max_degree;
    assert!(degree <= 5, "{degree}");
}

#[test]
fn when_the_planned_link_cannot_be_made_others_try() {
    let (nodes, edges) = barbell(8);
    let before: BTreeSet<_> = edges.iter().map(|(a, b)| (peer(*a).min(peer(*b)), peer(*a).max(peer(*b)))).collect();
    let mut planned = world(nodes, edges.clone(), &TopologyConfig::default(), 3);
    assert!(planned.until(S * 30, |world| shape(world).separation_risk() < 0.2).is_some());
    let made: Vec<_> = planned.links.keys().filter(|link| !before.contains(link)).copied().collect();
    // The same once more, but the ends of that link can be reached by nobody.
    let mut world = world(nodes, edges, &TopologyConfig::default(), 3);
    let all: Vec<PeerId> = world.nodes.keys().copied().collect();
    for end in made.iter().flat_map(|(a, b)| [*a, *b]) {
        world.unreachable.extend(all.iter().map(|other| (end.min(*other), end.max(*other))));
    }
    let took = world.until(S * 120, |world| shape(world).separation_risk() < 0.2);
    println!("a second path by others after {took:?}");
    assert!(took.is_some());
    assert!(steps(&world, |step| *step == HealingStep::TimedOut) > 0);
}

#[test]
fn nodes_low_on_power_are_left_out() {
    let (nodes, edges) = barbell(8);
    let mut world = world(nodes, edges, &TopologyConfig::default(), 4);
    let weak: BTreeSet<PeerId> = (0..nodes).filter(|number| number % 2 == 0).map(peer).collect();
    let now = world.now;
    for (own, node) in &mut world.nodes {
        if weak.contains(own) {
            node.power = 0.1;
            node.healing.on_facts(0.1, vec!["memory://weak".into()]);
            node.settle(now);
        }
    }
    assert!(world.until(S * 40, |world| shape(world).separation_risk() < 0.2).is_some());
    let made = |node: &Whole| node.healing.peers().count();
    assert!(world.nodes.iter().all(|(own, node)| !weak.contains(own) || made(node) == 0));
}

#[test]
fn a_link_that_became_useless_is_undone_at_both_ends() {
    let (nodes, edges) = barbell(8);
    let before = edges.len();
    let mut world = world(nodes, edges, &TopologyConfig::default(), 5);
    assert!(world.until(S * 30, |world| shape(world).separation_risk() < 0.2).is_some());
    world.run(S * 20);
    let measured: Vec<(f64, f64)> = world.nodes.values().flat_map(|node| node.measured.clone()).collect();
    assert!(measured.iter().any(|(before, after)| *before > 0.4 && *after < 0.2), "{measured:?}");
    // Somebody builds two more ways for good.
    world.link(peer(3), peer(11));
    world.link(peer(5), peer(13));
    world.run(S * 220);
    assert_eq!(steps(&world, |step| *step == HealingStep::Undone), 2, "once at each end");
    assert_eq!(world.links.len(), before + 2);
    assert!(shape(&world).separation_risk() < 0.2);
    // And it stays so: what was undone is not made again.
    world.run(S * 60);
    assert_eq!(world.links.len(), before + 2);
}

#[test]
fn a_link_that_is_lost_is_replaced() {
    let (nodes, edges) = barbell(8);
    let mut world = world(nodes, edges, &TopologyConfig::default(), 6);
    assert!(world.until(S * 30, |world| shape(world).separation_risk() < 0.2).is_some());
    world.run(S * 5);
    let made = world.nodes.iter().find_map(|(own, node)| Some((*own, node.healing.peers().next()?))).unwrap();
    world.unlink(made.0, made.1);
    assert!(shape(&world).separation_risk() > 0.4);
    assert!(world.until(S * 60, |world| shape(world).separation_risk() < 0.2).is_some());
    assert!(steps(&world, |step| *step == HealingStep::Lost) > 0);
}

#[test]
fn a_busy_bridge_node_is_relieved() {
    // A long chain of meshes has many bridge nodes of little risk each: only the load speaks for another link.
    let mut config = TopologyConfig::default();
    config.watch.separation_recommend = 1.0;
    config.watch.separation_alert = 1.0;
    config.watch.separation_pause = 1.0;
    config.watch.clustering_alert = 0.0;
    let (nodes, edges) = barbell(8);
    let mut world = world(nodes, edges, &config, 7);
    world.run(S * 60);
    assert_eq!(steps(&world, |_| true), 0, "nothing is wrong yet");
    let now = world.now;
    let bridge = world.nodes.get_mut(&peer(nodes - 1)).unwrap();
    bridge.load = 0.95;
    bridge.settle(now);
    world.after(peer(nodes - 1));
    let is_bridge = |world: &World<Whole>| {
        let at = world.nodes.keys().position(|other| *other == peer(nodes - 1)).unwrap();
        shape(world).bridge_nodes.iter().any(|node| node.index() == at)
    };
    assert!(world.until(S * 60, |world| !is_bridge(world)).is_some());
}

#[test]
fn a_network_without_triangles_gets_some_and_no_more_than_it_may() {
    // A torus of 6 by 6: short, without a bridge node, without a triangle.
    let at = |row: usize, column: usize| (row % 6) * 6 + column % 6;
    let cells = (0..36).map(|n| (n / 6, n % 6));
    let edges: Vec<_> = cells.flat_map(|(r, c)| [(at(r, c), at(r, c + 1)), (at(r, c), at(r + 1, c))]).collect();
    let before = edges.len();
    let mut world = world(36, edges, &TopologyConfig::default(), 8);
    assert!(shape(&world).average_clustering_deg2() < 0.01);
    world.run(S * 60);
    let after = shape(&world);
    println!("clustering {:.3} with {} links more", after.average_clustering_deg2(), world.links.len() - before);
    assert!(after.average_clustering_deg2() > 0.05);
    assert!(world.links.len() - before <= 13, "half of three tenths of 72, and what others began meanwhile");
    let links = world.links.len();
    world.run(S * 30);
    assert!(world.links.len() >= links, "what is of use stays");
}
