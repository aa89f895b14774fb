//! The topology of one node: takes what neighbours say to the gossip, has the graph looked at when it changed, and
//! carries out what watch and healing make of that. They look at figures every few seconds, new or not: trends and time-outs are theirs.
//!
//! Permanent child of a supervisor that is given up when it fails for good: whatever happens here ends no session. The gossip and
//! the links made for healing belong to [`TopologyState`], as does what this node was told of itself and its neighbours: that outlives a restart. A
//! restart forgets alerts and learns them anew.

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

use super::gauges;
use super::healing::{Healing, HealingOutput};
use super::link_state::{Authority, IsMember, LinkState, LinkStateOutput, LiveGraph, SIGNATURE_BYTES, wire};
use super::looks::Looks;
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

/// What outlives a restart of the actor: the gossip with its graph, the links made for healing, and what the gossip says of this node. Others
/// on the node's thread look at the graph here.
pub struct TopologyState {
    link_state: RefCell<LinkState>,
    healing: RefCell<Healing>,
    proofs: RefCell<VecDeque<Equivocation>>,
    own: RefCell<Own>,
    is_member: IsMember,
}

/// What this node was told of itself and its links. It is told again only when it changes: an actor that forgot it would take back what was
/// announced.
#[derive(Debug, Default)]
struct Own {
    neighbours: BTreeMap<PeerId, LinkFacts>,
    facts: NodeFacts,
}

impl TopologyState {
    /// A node that knows nobody yet. `is_member`: whom the membership knows; where there is none, everybody. `seed`: the source of jitter and of
    /// the salts of comparisons, which others should not know.
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
        let members = Rc::clone(&is_member);
        let link_state = LinkState::new(now, own, incarnation, config.link_state.clone(), gossip, members, seed);
        let requests = signer(SigningContext::Healing);
        let healing = Healing::new(now, own, incarnation, config, requests, seed.wrapping_add(1));
        Self {
            link_state: RefCell::new(link_state),
            healing: RefCell::new(healing),
            proofs: RefCell::default(),
            own: RefCell::default(),
            is_member,
        }
    }

    /// The members among the nodes of the graph.
    fn members(&self) -> BTreeSet<PeerId> {
        self.graph(|graph| graph.nodes().filter(|peer| (self.is_member)(peer)).collect())
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
    looks: Looks,
    /// What it saw last.
    survey: Survey,
    /// The version of the graph that others were told of.
    told: u64,
    transports: BTreeMap<String, TransportHealth>,
    pump: Pump,
}

impl TopologyActor {
    /// An actor that has seen nothing yet.
    pub fn new(parts: TopologyParts) -> Self {
        Self {
            watch: Watch::new(&parts.config),
            surveyor: Some(Surveyor::new(&parts.config)),
            looks: Looks::new(clock::now()),
            survey: Survey::default(),
            told: 0,
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
            self.looks.by(now + self.parts.config.analysis_pause);
        } else if version != self.survey.version {
            self.looks.by(now + FIGURES_PAUSE.min(self.parts.config.analysis_interval));
        }
        let state = &self.parts.state;
        let waiting = self.surveyor.is_some().then_some(self.looks.at());
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
    fn tell_gossip(&self, now: Instant) {
        let mut own = self.parts.state.own.borrow_mut();
        let healing = self.parts.state.healing.borrow();
        let made: BTreeSet<PeerId> = healing.peers().collect();
        own.facts.spare_links = healing.spare();
        for (peer, facts) in &mut own.neighbours {
            facts.healing = made.contains(peer);
        }
        let mut link_state = self.parts.state.link_state.borrow_mut();
        link_state.on_facts(now, own.facts);
        link_state.on_neighbours(now, &own.neighbours);
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
                gauges::count_step(purpose, step);
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
        surveyor.meet(state.members());
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
            self.on_look(now, survey, review);
            return;
        }
        let graph = state.graph(LiveGraph::clone);
        let work = tokio::task::spawn_blocking(move || {
            let seen = look(&mut surveyor, &graph);
            (surveyor, seen)
        });
        ctx.spawn(work.into_actor(self).map(move |done, own: &mut Self, ctx: &mut Context<Self>| {
            if let Ok((surveyor, (survey, review))) = done {
                own.surveyor = Some(surveyor);
                own.on_look(now, survey, review);
            } else {
                own.surveyor = Some(Surveyor::new(&own.parts.config));
                own.looks.failed(clock::now(), own.parts.config.analysis_interval);
            }
            own.carry_out(ctx);
        }));
    }

    /// A look that began at some moment is over.
    fn on_look(&mut self, began: Instant, survey: Survey, review: Option<Review>) {
        let now = clock::now();
        self.looks.done(now, now.saturating_duration_since(began), self.parts.config.analysis_interval);
        for output in self.watch.on_survey(now, &survey) {
            match output {
                WatchOutput::Raised(alert) => (self.parts.events)(EventKind::TopologyAlertRaised { alert }),
                WatchOutput::Cleared(alert) => (self.parts.events)(EventKind::TopologyAlertCleared { alert }),
            }
        }
        let mut healing = self.parts.state.healing.borrow_mut();
        healing.on_survey(now, &survey);
        if let Some(review) = review {
            healing.on_review(now, &review);
        }
        drop(healing);
        gauges::measure(&survey);
        gauges::judge(&self.watch.report(now, &self.transports), self.watch.alerts());
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

impl Drop for TopologyActor {
    /// However it ends, by a panic or since the network is given up, too: figures do not show for ever what it saw last.
    fn drop(&mut self) {
        gauges::tell_gone();
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
        if now >= self.looks.at() {
            self.count();
            self.look(ctx);
        }
        self.carry_out(ctx);
    }
}

impl Handler<NeighboursChanged> for TopologyActor {
    type Result = ();

    fn handle(&mut self, changed: NeighboursChanged, ctx: &mut Self::Context) {
        let peers = changed.neighbours.keys().copied().collect();
        self.parts.state.own.borrow_mut().neighbours = changed.neighbours;
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
        self.parts.state.own.borrow_mut().facts = own.facts;
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
pub(crate) mod tests;
