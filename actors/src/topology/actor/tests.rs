//! Actors that build the graph together, raise alerts, heal, and are restarted.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use actix::{Addr, Message};
use bowline_messages::topology::{AlertKind, HealthReport, NetworkGraph, OverallStatus};

use super::*;
use crate::topology::link_state::{Announcement, Stamp};

/// Actors that send each other datagrams through a table of addresses, over links that are told to them.
#[derive(Default)]
struct Plane {
    nodes: RefCell<BTreeMap<PeerId, Addr<TopologyActor>>>,
    links: RefCell<BTreeSet<(PeerId, PeerId)>>,
    events: RefCell<Vec<EventKind>>,
}

impl Plane {
    fn link(&self, one: PeerId, other: PeerId) {
        self.links.borrow_mut().extend([(one, other), (other, one)]);
        self.tell();
    }

    fn tell(&self) {
        for (own, node) in &*self.nodes.borrow() {
            let links = self.links.borrow();
            let of = links.iter().filter(|(from, _)| from == own).map(|(_, to)| (*to, LinkFacts::default()));
            node.do_send(NeighboursChanged { neighbours: of.collect() });
        }
    }

    fn carry(&self, from: PeerId, to: PeerId, concern: Concern, payload: Bytes) {
        if let Some(node) = self.nodes.borrow().get(&to).filter(|_| self.links.borrow().contains(&(from, to))) {
            node.do_send(GroupPacket { from, concern, payload });
        }
    }
}

/// Makes the sessions that one node asks for.
struct Dialler(PeerId, Rc<Plane>);

impl Actor for Dialler {
    type Context = Context<Self>;
}

impl Handler<HealingRequest> for Dialler {
    type Result = ();

    fn handle(&mut self, request: HealingRequest, _: &mut Self::Context) {
        match request {
            HealingRequest::Connect { peer, .. } => self.1.link(self.0, peer),
            HealingRequest::Release { .. } => {}
        }
    }
}

fn start(plane: &Rc<Plane>, count: u8, config: &TopologyConfig) -> Vec<PeerId> {
    start_with_parts(plane, count, config).0
}

fn start_with_parts(plane: &Rc<Plane>, count: u8, config: &TopologyConfig) -> (Vec<PeerId>, Vec<TopologyParts>) {
    start_knowing(plane, count, config, &(Rc::new(|_: &PeerId| true) as IsMember))
}

fn start_knowing(
    plane: &Rc<Plane>,
    count: u8,
    config: &TopologyConfig,
    is_member: &IsMember,
) -> (Vec<PeerId>, Vec<TopologyParts>) {
    let node = |number: u8| {
        let identity = Arc::new(Identity::from_seed(&[number + 1; 32]));
        let own = identity.peer_id();
        let members = Rc::clone(is_member);
        let state = Rc::new(TopologyState::new(config, identity, Incarnation(1), members, number.into()));
        let (sends, told) = (Rc::clone(plane), Rc::clone(plane));
        let parts = TopologyParts {
            config: config.clone(),
            state,
            send: Rc::new(move |to, concern, payload| sends.carry(own, to, concern, payload)),
            links: Context::run(16, Dialler(own, Rc::clone(plane))).recipient(),
            changed: Rc::new(|| {}),
            events: Rc::new(move |event| told.events.borrow_mut().push(event)),
        };
        let actor = Context::run(64, TopologyActor::new(parts.clone()));
        actor.do_send(OwnFacts { facts: NodeFacts::default(), addresses: vec![format!("memory://{number}")] });
        plane.nodes.borrow_mut().insert(own, actor);
        (own, parts)
    };
    (0..count).map(node).unzip()
}

async fn report(plane: &Plane, peer: &PeerId) -> HealthReport {
    let node = plane.nodes.borrow().get(peer).cloned().unwrap();
    *node.send(HealthQuery).await.unwrap()
}

/// Lets simulated time pass until something holds of a report.
async fn until(plane: &Plane, peer: &PeerId, holds: impl Fn(&HealthReport) -> bool) -> HealthReport {
    for _ in 0..600 {
        let report = report(plane, peer).await;
        if holds(&report) {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not come to that: {:?}", report(plane, peer).await)
}

#[actix::test]
async fn actors_build_the_graph_raise_alerts_and_heal_it() {
    tokio::time::pause();
    let plane = Rc::new(Plane::default());
    let peers = start(&plane, 6, &TopologyConfig::default());
    for pair in peers.windows(2) {
        plane.link(pair[0], pair[1]);
    }
    let torn = until(&plane, &peers[0], |report| report.topology.nodes == 6).await;
    assert_eq!((torn.topology.edges, torn.topology.components, torn.topology.bridge_nodes_all), (5, 1, 4));
    assert_eq!(torn.overall, OverallStatus::Critical);
    let whole = until(&plane, &peers[3], |report| report.topology.bridge_nodes_all == 0).await;
    assert!(whole.topology.edges >= 6, "{whole:?}");
    let events = plane.events.borrow();
    let risk = |event: &EventKind| matches!(event, EventKind::TopologyAlertRaised { alert } if alert.kind == AlertKind::PartitionRisk);
    assert!(events.iter().any(risk));
    assert!(events.iter().any(|event| matches!(event, EventKind::HealingLink { .. })));
}

async fn graph(plane: &Plane, peer: &PeerId) -> NetworkGraph {
    let node = plane.nodes.borrow().get(peer).cloned().unwrap();
    *node.send(GraphQuery).await.unwrap()
}

#[actix::test]
async fn a_node_that_lost_everybody_says_so_when_the_gossip_has_forgotten_them() {
    tokio::time::pause();
    let plane = Rc::new(Plane::default());
    let peers = start(&plane, 3, &TopologyConfig::default());
    plane.link(peers[0], peers[1]);
    plane.link(peers[1], peers[2]);
    plane.link(peers[2], peers[0]);
    let whole = until(&plane, &peers[0], |report| report.topology.edges == 3).await;
    assert_eq!(whole.overall, OverallStatus::Healthy);
    // Both others are gone, and the membership has found that out.
    plane.links.borrow_mut().clear();
    plane.tell();
    let node = plane.nodes.borrow().get(&peers[0]).cloned().unwrap();
    node.do_send(MembersSeen { down: peers[1..].iter().copied().collect() });
    let alone = until(&plane, &peers[0], |report| report.topology.nodes == 1).await;
    assert_eq!((alone.overall, alone.topology.missing_all), (OverallStatus::Critical, 2));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let later = report(&plane, &peers[0]).await;
    assert_eq!((later.topology.components, later.overall), (1, OverallStatus::Critical));
}

#[actix::test]
async fn the_graph_says_of_nodes_and_links_what_is_known() {
    tokio::time::pause();
    let plane = Rc::new(Plane::default());
    let mut config = TopologyConfig::default();
    config.healing.enabled = false;
    let peers = start(&plane, 4, &config);
    for (a, b) in [(0, 1), (1, 2), (2, 0), (2, 3)] {
        plane.link(peers[a], peers[b]);
    }
    until(&plane, &peers[0], |report| report.topology.clusters.is_some() && report.topology.edges == 4).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    let seen = graph(&plane, &peers[0]).await;
    let node = |number: usize| seen.nodes.iter().find(|node| node.peer == peers[number]).unwrap();
    assert_eq!((node(2).connections, node(3).connections), (3, 1));
    assert!((node(2).clustering - 1.0 / 3.0).abs() < 1e-12 && (node(0).clustering - 1.0).abs() < 1e-12);
    assert!(seen.nodes.iter().all(|node| node.cluster.is_some()), "{seen:?}");
    assert!(node(0).last_seen.is_zero() && node(3).last_seen > Duration::from_secs(2), "{seen:?}");
    assert!(seen.links.iter().all(|link| link.last_active < Duration::from_secs(60)));
}

#[actix::test]
async fn who_says_one_thing_here_and_another_there_is_proven_by_what_was_signed() {
    tokio::time::pause();
    let plane = Rc::new(Plane::default());
    let peers = start(&plane, 1, &TopologyConfig::default());
    let liar = Identity::from_seed(&[99; 32]);
    let from = liar.peer_id();
    let node = plane.nodes.borrow().get(&peers[0]).cloned().unwrap();
    node.do_send(NeighboursChanged { neighbours: BTreeMap::from([(from, LinkFacts::default())]) });
    let say = |sequence, links: &[PeerId]| {
        let links = links.iter().map(|peer| (*peer, LinkFacts::default())).collect();
        let stamp = Stamp { incarnation: 1, sequence };
        let lifetime = Duration::from_secs(100);
        let said = Announcement { origin: from, stamp, lifetime, facts: NodeFacts::default(), links };
        let body = wire::encode_body(&said);
        let signature = liar.sign(SigningContext::LinkState, &body);
        let payload = wire::encode(&wire::Message::Announcements(vec![wire::Signed::new(body, &signature, 90)]));
        node.do_send(GroupPacket { from, concern: Concern::LinkState, payload });
    };
    for sequence in 5..8 {
        say(sequence, &[peers[0]]);
        say(sequence, &[]);
    }
    let proofs = graph(&plane, &peers[0]).await.two_faced;
    let [proof] = &proofs[..] else { panic!("{proofs:?}") };
    assert_ne!(proof.first.body, proof.second.body);
    for said in [&proof.first, &proof.second] {
        let (body, signature) = (HEXLOWER.decode(said.body.as_bytes()), HEXLOWER.decode(said.signature.as_bytes()));
        let signature: [u8; SIGNATURE_BYTES] = signature.unwrap().try_into().unwrap();
        assert!(Identity::verify(&from, SigningContext::LinkState, &body.unwrap(), &signature).is_ok());
    }
    let told = plane.events.borrow().iter().filter(|event| matches!(event, EventKind::TwoFaced { .. })).count();
    assert_eq!((proof.peer, told), (from, 1));
}

/// On which thread an actor looked last; none while it looks.
#[derive(Message)]
#[rtype(result = "Option<ThreadId>")]
struct LookedOn;

impl Handler<LookedOn> for TopologyActor {
    type Result = Option<ThreadId>;

    fn handle(&mut self, _: LookedOn, _: &mut Self::Context) -> Self::Result {
        self.surveyor.as_ref().and_then(|surveyor| surveyor.looked_on)
    }
}

#[actix::test]
async fn a_large_graph_is_analysed_on_another_thread() {
    let plane = Rc::new(Plane::default());
    // Long enough that what was looked at last is new: without news there is nothing to do elsewhere.
    let analysis_interval = Duration::from_secs(600);
    let config = TopologyConfig { beside_from: 0, analysis_interval, ..TopologyConfig::default() };
    let peers = start(&plane, 3, &config);
    plane.link(peers[0], peers[1]);
    plane.link(peers[1], peers[2]);
    until(&plane, &peers[2], |report| report.topology.nodes == 3 && report.topology.diameter == 2).await;
    let report = report(&plane, &peers[2]).await;
    assert_eq!(report.topology.clusters, Some(1));
    let node = plane.nodes.borrow().get(&peers[2]).cloned().unwrap();
    let on = loop {
        if let Some(on) = node.send(LookedOn).await.unwrap() {
            break on;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_ne!(on, std::thread::current().id());
}

/// What a node announces of itself and its links, as its neighbours know it.
async fn announced(plane: &Plane, by: &PeerId, of: &PeerId) -> (Option<f64>, usize) {
    let seen = graph(plane, by).await;
    let node = seen.nodes.iter().find(|node| node.peer == *of);
    (node.map(|node| node.facts.power), node.map_or(0, |node| node.connections as usize))
}

#[actix::test]
async fn a_restarted_actor_goes_on_with_what_it_was_told() {
    tokio::time::pause();
    let plane = Rc::new(Plane::default());
    let mut config = TopologyConfig::default();
    config.healing.enabled = false;
    let (peers, parts) = start_with_parts(&plane, 3, &config);
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        plane.link(peers[a], peers[b]);
    }
    let node = plane.nodes.borrow().get(&peers[1]).cloned().unwrap();
    let facts = NodeFacts { power: 0.4, ..NodeFacts::default() };
    node.do_send(OwnFacts { facts, addresses: Vec::new() });
    until(&plane, &peers[0], |report| report.topology.edges == 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(announced(&plane, &peers[0], &peers[1]).await, (Some(0.4), 2));
    // What it is like is not told again, since that is the same; neighbours are, half a second later.
    let again = Context::run(64, TopologyActor::new(parts[1].clone()));
    plane.nodes.borrow_mut().insert(peers[1], again);
    for round in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if round == 5 {
            plane.tell();
        }
        assert_eq!(announced(&plane, &peers[0], &peers[1]).await, (Some(0.4), 2));
    }
}

#[actix::test]
async fn a_node_on_the_word_of_one_counts_once_the_membership_knows_it() {
    tokio::time::pause();
    let plane = Rc::new(Plane::default());
    let mut config = TopologyConfig::default();
    config.healing.enabled = false;
    let members: Rc<RefCell<BTreeSet<PeerId>>> = Rc::default();
    let known = Rc::clone(&members);
    let (peers, _) =
        start_knowing(&plane, 4, &config, &(Rc::new(move |peer: &PeerId| known.borrow().contains(peer)) as IsMember));
    members.borrow_mut().extend(&peers[..3]);
    for pair in peers.windows(2) {
        plane.link(pair[0], pair[1]);
    }
    let counted = |report: &HealthReport| (report.topology.nodes, report.topology.nodes_elsewhere);
    until(&plane, &peers[0], |report| counted(report) == (3, 1)).await;
    members.borrow_mut().insert(peers[3]);
    until(&plane, &peers[0], |report| counted(report) == (4, 0)).await;
    // It gets its place in a cluster, too, although nothing changes any more.
    tokio::time::sleep(2 * config.analysis_interval).await;
    let node = plane.nodes.borrow()[&peers[0]].clone();
    let graph = node.send(GraphQuery).await.unwrap();
    assert!(graph.nodes.iter().all(|node| node.cluster.is_some()), "{:?}", graph.nodes);
}

/// What metrics show, by their names with the labels.
#[derive(Default)]
pub(crate) struct Shown(RefCell<BTreeMap<String, Arc<AtomicU64>>>);

impl Shown {
    fn cell(&self, key: &metrics::Key) -> Arc<AtomicU64> {
        let labels: Vec<&str> = key.labels().map(metrics::Label::value).collect();
        let name = [&[key.name()][..], &labels].concat().join(" ");
        Arc::clone(self.0.borrow_mut().entry(name).or_default())
    }

    pub(crate) fn gauge(&self, name: &str) -> Option<f64> {
        self.0.borrow().get(name).map(|cell| f64::from_bits(cell.load(Ordering::Relaxed)))
    }

    pub(crate) fn counter(&self, name: &str) -> Option<u64> {
        self.0.borrow().get(name).map(|cell| cell.load(Ordering::Relaxed))
    }
}

impl metrics::Recorder for Shown {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.cell(key))
    }
    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.cell(key))
    }
    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[actix::test]
async fn metrics_tell_how_the_network_is_and_what_was_done_for_it() {
    tokio::time::pause();
    let shown = Shown::default();
    let _guard = metrics::set_default_local_recorder(&shown);
    let plane = Rc::new(Plane::default());
    let peers = start(&plane, 1, &TopologyConfig::default());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(shown.gauge("bowline_topology_bridge_nodes"), Some(0.0), "shown though there are none");
    assert_eq!(shown.gauge("bowline_topology_status"), Some(0.0));
    assert_eq!(shown.gauge("bowline_topology_alerts partition_risk pause"), Some(0.0));
    let node = plane.nodes.borrow().get(&peers[0]).cloned().unwrap();
    node.send(MembersSeen { down: BTreeSet::from([PeerId::from_bytes([9; 32])]) }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(shown.gauge("bowline_topology_missing_members"), Some(1.0));
    assert_eq!(shown.gauge("bowline_topology_status"), Some(2.0));
    // A row of five: its nodes between the ends are bridge nodes, until links are made for that.
    let more = start(&plane, 5, &TopologyConfig::default());
    for pair in more.windows(2) {
        plane.link(pair[0], pair[1]);
    }
    until(&plane, &more[0], |report| report.topology.edges == 4).await;
    until(&plane, &more[0], |report| report.topology.bridge_nodes_all == 0).await;
    let healed = shown.0.borrow().iter().any(|(name, count)| {
        name.starts_with("bowline_healing_links_total redundancy linked") && count.load(Ordering::Relaxed) > 0
    });
    assert!(healed, "{:?}", shown.0.borrow().keys());
}

#[actix::test]
async fn metrics_do_not_go_on_showing_a_network_that_was_given_up() {
    tokio::time::pause();
    let shown = Shown::default();
    let _guard = metrics::set_default_local_recorder(&shown);
    let plane = Rc::new(Plane::default());
    let (peers, parts) = start_with_parts(&plane, 1, &TopologyConfig::default());
    let node = plane.nodes.borrow().get(&peers[0]).cloned().unwrap();
    node.send(MembersSeen { down: BTreeSet::from([PeerId::from_bytes([9; 32])]) }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let figures = ["bowline_topology_nodes", "bowline_topology_missing_members"].map(|name| shown.gauge(name));
    assert_eq!((figures, shown.gauge("bowline_topology_status")), ([Some(1.0); 2], Some(2.0)));
    drop(TopologyActor::new(parts[0].clone()));
    let figures = ["bowline_topology_nodes", "bowline_topology_missing_members"].map(|name| shown.gauge(name));
    assert_eq!(figures, [Some(0.0); 2]);
    assert!(shown.gauge("bowline_topology_status").is_some_and(f64::is_nan), "neither well nor ill: nobody knows");
}
