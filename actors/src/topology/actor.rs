//! The topology of one node: takes what neighbours say to the gossip, has the graph looked at when it changed, and
//! carries out what watch and healing make of that. They look at figures every few seconds, new or not: trends and time-outs are theirs.
//!
//! Permanent child of a supervisor that is given up when it fails for good: whatever happens here ends no session. The gossip and
//! the links made for healing belong to [`TopologyState`], which outlives a restart; a restart forgets alerts and learns them anew.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::fut::ActorFutureExt as _;
use actix::{Actor, AsyncContext as _, Handler, MessageResult, Recipient, WrapFuture as _};
use bowline_messages::config::TopologyConfig;
use bowline_messages::event::EventKind;
use bowline_messages::network::{Concern, ExcludedChanged, GroupPacket};
use bowline_messages::topology::{
    Equivocation, GraphQuery, HealingRequest, HealthQuery, LinkFacts, MembersSeen, NeighboursChanged, NodeFacts,
    OwnFacts, SignedBytes, TransportHealth, TransportsSeen,
};
use bowline_messages::{Incarnation, PeerId};
use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::healing::{Healing, HealingOutput};
use super::link_state::{Authority, IsMember, LinkState, LinkStateOutput, LiveGraph, SIGNATURE_BYTES, wire};
use super::survey::{Review, Survey, Surveyor};
use super::watch::{Watch, WatchOutput};
use crate::clock;
use crate::pump::{self, Pump, Pumped};
use crate::session::identity::{Identity, SigningContext};
use crate::supervision::Context;

/// How long new figures (load, spare links, costs) wait to be looked at. Who is linked to whom is looked at sooner.
const FIGURES_PAUSE: Duration = Duration::from_secs(1);
/// Proofs against two-faced nodes that are kept, one a node: some 16 KiB each.
const PROOFS_KEPT: usize = 16;

/// What outlives a restart of the actor: the gossip with its graph, and the links made for healing. Others on the node's thread look at the
/// graph here.
pub struct TopologyState {
    link_state: RefCell<LinkState>,
    healing: RefCell<Healing>,
    proofs: RefCell<VecDeque<Equivocation>>,
}

impl TopologyState {
    /// A node that knows nobody yet. `seed`: the source of jitter and of the salts of comparisons, which others should not know.
    pub fn new(
        config: &TopologyConfig,
        identity: Arc<Identity>,
        incarnation: Incarnation,
        is_member: IsMember,
        seed: u64,
    ) -> Self {
        let (now, own) = (clock::now(), identity.peer_id());
        let signer = |context| Rc::new(Signer { identity: Arc::clone(&identity), context });
        let gossip = signer(SigningContext::LinkState);
        let link_state = LinkState::new(now, own, incarnation, config.link_state.clone(), gossip, is_member, seed);
        let requests = signer(SigningContext::Healing);
        let healing = Healing::new(now, own, incarnation, config, requests, seed.wrapping_add(1));
        Self { link_state: RefCell::new(link_state), healing: RefCell::new(healing), proofs: RefCell::default() }
    }

    /// Keeps a proof; whether the node is one against which there was none.
    fn keep(&self, proof: Equivocation) -> bool {
        let mut proofs = self.proofs.borrow_mut();
        let fresh = proofs.iter().all(|known| known.peer != proof.peer);
        if fresh {
            proofs.push_back(proof);
            if proofs.len() > PROOFS_KEPT {
                proofs.pop_front();
            }
        }
        fresh
    }

    /// Looks at the graph as it is known now. Not from within `changed` of [`TopologyParts`], nor from what that calls.
    pub fn graph<R>(&self, look: impl FnOnce(&LiveGraph) -> R) -> R {
        look(self.link_state.borrow().graph())
    }
}

impl fmt::Debug for TopologyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopologyState").finish_non_exhaustive()
    }
}

/// Signs with the node's key for one of the two concerns.
struct Signer {
    identity: Arc<Identity>,
    context: SigningContext,
}

impl Authority for Signer {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.identity.sign(self.context, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Identity::verify(peer, self.context, bytes, signature).is_ok()
    }
}

/// What the actor is made from, again after every restart.
#[derive(Clone)]
pub struct TopologyParts {
    /// How it behaves.
    pub config: TopologyConfig,
    /// What outlives it.
    pub state: Rc<TopologyState>,
    /// Sends a datagram to a neighbour, once.
    pub send: Rc<dyn Fn(PeerId, Concern, Bytes)>,
    /// Makes and ends sessions for healing.
    pub links: Recipient<HealingRequest>,
    /// Is told that the graph is another one.
    pub changed: Rc<dyn Fn()>,
    /// Is told what happened.
    pub events: Rc<dyn Fn(EventKind)>,
}

/// The topology of one node.
pub struct TopologyActor {
    parts: TopologyParts,
    watch: Watch,
    /// None while it looks at the graph on another thread.
    surveyor: Option<Surveyor>,
    look_at: Instant,
    /// What it saw last.
    survey: Survey,
    /// The version of the graph that others were told of.
    told: u64,
    neighbours: BTreeMap<PeerId, LinkFacts>,
    facts: NodeFacts,
    transports: BTreeMap<String, TransportHealth>,
    pump: Pump,
}

impl TopologyActor {
    /// An actor that has seen nothing yet.
    pub fn new(parts: TopologyParts) -> Self {
        Self {
            watch: Watch::new(&parts.config),
            surveyor: Some(Surveyor::new(&parts.config)),
            look_at: clock::now(),
            survey: Survey::default(),
            told: 0,
            neighbours: BTreeMap::new(),
            facts: NodeFacts::default(),
            transports: BTreeMap::new(),
            pump: Pump::new(),
            parts,
        }
    }

    /// Carries out what the machines want, and moves the timer.
    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        self.tell_gossip(now);
        while let Some(output) = self.next_of_healing() {
            self.heal(output);
        }
        while let Some(output) = self.next_of_gossip() {
            match output {
                LinkStateOutput::Send { to, payload } => (self.parts.send)(to, Concern::LinkState, payload),
                LinkStateOutput::TwoFaced { origin, first, second } => {
                    let signed = |said: &wire::Signed| SignedBytes {
                        body: HEXLOWER.encode(&said.body),
                        signature: HEXLOWER.encode(&said.signature()),
                    };
                    let proof = Equivocation { peer: origin, first: signed(&first), second: signed(&second) };
                    // Once for each node that is remembered is enough: whoever wants to could go on for ever.
                    if self.parts.state.keep(proof) {
                        (self.parts.events)(EventKind::TwoFaced { peer: origin });
                    }
                }
            }
        }
        let (version, structure) = self.parts.state.graph(|graph| (graph.version(), graph.structure()));
        if version != self.told {
            self.told = version;
            (self.parts.changed)();
        }
        if structure != self.survey.structure {
            self.look_at = self.look_at.min(now + self.parts.config.analysis_pause);
        } else if version != self.survey.version {
            self.look_at = self.look_at.min(now + FIGURES_PAUSE.min(self.parts.config.analysis_interval));
        }
        let state = &self.parts.state;
        let waiting = self.surveyor.is_some().then_some(self.look_at);
        let deadlines = [state.link_state.borrow().deadline(), state.healing.borrow().deadline(), waiting];
        pump::arm(self, ctx, deadlines.into_iter().flatten().min());
    }

    fn next_of_gossip(&self) -> Option<LinkStateOutput> {
        self.parts.state.link_state.borrow_mut().poll_output()
    }

    fn next_of_healing(&self) -> Option<HealingOutput> {
        self.parts.state.healing.borrow_mut().poll_output()
    }

    /// What is announced depends on which links are for healing, and how many more there may be.
    fn tell_gossip(&mut self, now: Instant) {
        let healing = self.parts.state.healing.borrow();
        let made: BTreeSet<PeerId> = healing.peers().collect();
        self.facts.spare_links = healing.spare();
        for (peer, facts) in &mut self.neighbours {
            facts.healing = made.contains(peer);
        }
        let mut link_state = self.parts.state.link_state.borrow_mut();
        link_state.on_facts(now, self.facts);
        link_state.on_neighbours(now, &self.neighbours);
    }

    fn heal(&self, output: HealingOutput) {
        match output {
            HealingOutput::Send { to, payload } => (self.parts.send)(to, Concern::Healing, payload),
            // As few as links for healing are allowed, so a full mailbox is no reason to lose one.
            HealingOutput::Connect { peer, addresses } => {
                self.parts.links.do_send(HealingRequest::Connect { peer, addresses });
            }
            HealingOutput::Release { peer } => self.parts.links.do_send(HealingRequest::Release { peer }),
            HealingOutput::Step { peer, purpose, step } => {
                (self.parts.events)(EventKind::HealingLink { peer, purpose, step });
            }
            HealingOutput::Measured { peer, purpose, before, after } => {
                (self.parts.events)(EventKind::HealingMeasured { peer, purpose, before, after });
            }
        }
    }

    /// Looks at the graph: here, or on another thread when it is large and there is something to find out.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let Some(mut surveyor) = self.surveyor.take() else { return };
        let (now, state) = (clock::now(), Rc::clone(&self.parts.state));
        let links = state.healing.borrow().to_review(now);
        let nothing_due = links.as_ref().is_none_or(Vec::is_empty);
        let look = move |surveyor: &mut Surveyor, graph: &LiveGraph| {
            let survey = surveyor.look(now, graph);
            (survey, links.map(|links| surveyor.review(graph, &links)))
        };
        let idle = nothing_due && !state.graph(|graph| surveyor.has_news(now, graph));
        let size = state.graph(|graph| graph.graph().node_count() + graph.graph().edge_count());
        if idle || size < self.parts.config.beside_from {
            let (survey, review) = state.graph(|graph| look(&mut surveyor, graph));
            self.surveyor = Some(surveyor);
            self.on_look(survey, review);
            return;
        }
        let graph = state.graph(LiveGraph::clone);
        let work = tokio::task::spawn_blocking(move || {
            let seen = look(&mut surveyor, &graph);
            (surveyor, seen)
        });
        ctx.spawn(work.into_actor(self).map(|done, own: &mut Self, ctx: &mut Context<Self>| {
            if let Ok((surveyor, (survey, review))) = done {
                own.surveyor = Some(surveyor);
                own.on_look(survey, review);
            } else {
                own.surveyor = Some(Surveyor::new(&own.parts.config));
                own.look_at = clock::now() + own.parts.config.analysis_interval;
            }
            own.carry_out(ctx);
        }));
    }

    fn on_look(&mut self, survey: Survey, review: Option<Review>) {
        let now = clock::now();
        self.look_at = now + self.parts.config.analysis_interval;
        for output in self.watch.on_survey(now, &survey) {
            match output {
                WatchOutput::Raised(alert) => (self.parts.events)(EventKind::TopologyAlertRaised { alert }),
                WatchOutput::Cleared(alert) => (self.parts.events)(EventKind::TopologyAlertCleared { alert }),
                WatchOutput::Critical(nodes) => {
                    metrics::gauge!("bowline_topology_bridge_nodes").set(nodes.len() as f64);
                }
            }
        }
        let mut healing = self.parts.state.healing.borrow_mut();
        healing.on_survey(now, &survey);
        if let Some(review) = review {
            healing.on_review(now, &review);
        }
        drop(healing);
        measure(&survey);
        self.survey = survey;
    }

    /// What was refused, as metrics.
    fn count(&self) {
        for (refusal, count) in self.parts.state.link_state.borrow().refusals().iter() {
            let reason = format!("{refusal:?}").to_lowercase();
            metrics::counter!("bowline_link_state_refused_total", "reason" => reason).absolute(count);
        }
        for (refused, count) in self.parts.state.healing.borrow().refused() {
            let reason = format!("{refused:?}").to_lowercase();
            metrics::counter!("bowline_healing_refused_total", "reason" => reason).absolute(*count);
        }
    }
}

/// What was seen, as metrics.
fn measure(Survey { shape, elsewhere, clusters, .. }: &Survey) {
    metrics::gauge!("bowline_topology_nodes").set(f64::from(shape.nodes));
    metrics::gauge!("bowline_topology_links").set(f64::from(shape.edges));
    metrics::gauge!("bowline_topology_components").set(f64::from(elsewhere.parts));
    metrics::gauge!("bowline_topology_nodes_elsewhere").set(elsewhere.nodes.len() as f64);
    metrics::gauge!("bowline_topology_diameter").set(f64::from(shape.diameter_largest_component));
    metrics::gauge!("bowline_topology_clustering").set(shape.average_clustering_deg2());
    metrics::gauge!("bowline_topology_separation_risk").set(shape.separation_risk());
    if let Some(clusters) = clusters {
        metrics::gauge!("bowline_topology_clusters").set(f64::from(clusters.count));
    }
}

impl Actor for TopologyActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.carry_out(ctx);
    }
}

impl Pumped for TopologyActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        let now = clock::now();
        self.parts.state.link_state.borrow_mut().on_timeout(now);
        self.parts.state.healing.borrow_mut().on_timeout(now);
        if now >= self.look_at {
            self.count();
            self.look(ctx);
        }
        self.carry_out(ctx);
    }
}

impl Handler<NeighboursChanged> for TopologyActor {
    type Result = ();

    fn handle(&mut self, changed: NeighboursChanged, ctx: &mut Self::Context) {
        self.neighbours = changed.neighbours;
        let peers = self.neighbours.keys().copied().collect();
        self.parts.state.healing.borrow_mut().on_neighbours(clock::now(), peers);
        self.carry_out(ctx);
    }
}

impl Handler<ExcludedChanged> for TopologyActor {
    type Result = ();

    fn handle(&mut self, changed: ExcludedChanged, ctx: &mut Self::Context) {
        self.parts.state.link_state.borrow_mut().on_excluded(clock::now(), &changed.excluded);
        self.carry_out(ctx);
    }
}

impl Handler<OwnFacts> for TopologyActor {
    type Result = ();

    fn handle(&mut self, own: OwnFacts, ctx: &mut Self::Context) {
        self.parts.state.healing.borrow_mut().on_facts(own.facts.power, own.addresses);
        self.facts = own.facts;
        self.carry_out(ctx);
    }
}

impl Handler<GroupPacket> for TopologyActor {
    type Result = ();

    fn handle(&mut self, packet: GroupPacket, ctx: &mut Self::Context) {
        let (now, state) = (clock::now(), &self.parts.state);
        match packet.concern {
            Concern::LinkState => state.link_state.borrow_mut().on_packet(now, packet.from, &packet.payload),
            Concern::Healing => state.healing.borrow_mut().on_packet(now, packet.from, &packet.payload),
            // Ports of other concerns are not here.
            Concern::Membership
            | Concern::Mesh
            | Concern::Partition
            | Concern::Log
            | Concern::State
            | Concern::Command => return,
        }
        self.carry_out(ctx);
    }
}

impl Handler<TransportsSeen> for TopologyActor {
    type Result = ();

    fn handle(&mut self, seen: TransportsSeen, _: &mut Self::Context) {
        self.transports = seen.transports;
    }
}

impl Handler<MembersSeen> for TopologyActor {
    type Result = ();

    fn handle(&mut self, seen: MembersSeen, _: &mut Self::Context) {
        self.watch.on_members(seen.down);
    }
}

impl Handler<GraphQuery> for TopologyActor {
    type Result = MessageResult<GraphQuery>;

    fn handle(&mut self, _: GraphQuery, _: &mut Self::Context) -> Self::Result {
        let now = clock::now();
        let mut report = self.parts.state.graph(|graph| graph.report(now));
        if let Some(clusters) = &self.survey.clusters {
            for node in &mut report.nodes {
                node.cluster = clusters.of.get(&node.peer).copied();
            }
        }
        report.two_faced = self.parts.state.proofs.borrow().iter().cloned().collect();
        MessageResult(Box::new(report))
    }
}

impl Handler<HealthQuery> for TopologyActor {
    type Result = MessageResult<HealthQuery>;

    fn handle(&mut self, _: HealthQuery, _: &mut Self::Context) -> Self::Result {
        MessageResult(Box::new(self.watch.report(clock::now(), &self.transports)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use actix::Addr;
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
        let node = |number: u8| {
            let identity = Arc::new(Identity::from_seed(&[number + 1; 32]));
            let own = identity.peer_id();
            let state = Rc::new(TopologyState::new(config, identity, Incarnation(1), Rc::new(|_| true), number.into()));
            let (sends, told) = (Rc::clone(plane), Rc::clone(plane));
            let parts = TopologyParts {
                config: config.clone(),
                state,
                send: Rc::new(move |to, concern, payload| sends.carry(own, to, concern, payload)),
                links: Context::run(16, Dialler(own, Rc::clone(plane))).recipient(),
                changed: Rc::new(|| {}),
                events: Rc::new(move |event| told.events.borrow_mut().push(event)),
            };
            let actor = Context::run(64, TopologyActor::new(parts));
            actor.do_send(OwnFacts { facts: NodeFacts::default(), addresses: vec![format!("memory://{number}")] });
            plane.nodes.borrow_mut().insert(own, actor);
            own
        };
        (0..count).map(node).collect()
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

    #[actix::test]
    async fn a_large_graph_is_analysed_on_another_thread() {
        let plane = Rc::new(Plane::default());
        let config = TopologyConfig { beside_from: 0, ..TopologyConfig::default() };
        let peers = start(&plane, 3, &config);
        plane.link(peers[0], peers[1]);
        plane.link(peers[1], peers[2]);
        until(&plane, &peers[2], |report| report.topology.nodes == 3 && report.topology.diameter == 2).await;
        let report = report(&plane, &peers[2]).await;
        assert_eq!(report.topology.clusters, Some(1));
    }
}
