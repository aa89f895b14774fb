//! The session machine: which records go over which link, and which links are believed to live. Pure.
//!
//! It owns what may be forgotten: estimates, what is in flight on each link, verdicts. What may not be forgotten (messages, marks,
//! keys) is in the ledger and is passed in. When the session actor is restarted, a fresh machine sends again whatever the ledger
//! says is not acknowledged.
//!
//! This file has the state and the verbs for links and time; `receive.rs` acts on records, `transmit.rs` builds them, `liveness.rs`
//! judges links.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::config::SessionConfig;
use bowline_messages::event::EventKind;
use bowline_messages::health::{Advice, Evidence, LinkObserved, LinkTurn, Turn};
use bowline_messages::link::{LinkFailure, LinkInfo, LinkState, LinkStep};
use bowline_messages::wire::SignedAddresses;
use bowline_messages::wire::frame::{CloseCode, LinkDownCode};
use bowline_messages::{Incarnation, LinkId, MessageClass, PeerId, PolicyName, TransportKind};

use bytes::Bytes;

use super::evidence::turn_of;
use super::inbound::Inbound;
use super::link_map::LinkMap;
use super::outbox::{Outbox, PeerLimits, SentItem};
use super::path::{Path, RecordItem};
use super::policy::gradual::Gradual;
use super::policy::{Candidate, Choice, Chooser, Damping, Health, Needs, Wanted};
use super::room;
use super::scheduler::Scheduler;
use super::seal::{Opener, Sealer};
use super::trust::Behaviour;
use super::watch::Watch;
use super::ways::{KnownWays, Route};
use super::window::WindowConfig;
use crate::transport::registry::is_secured;

/// The keys of one link.
#[derive(Debug)]
pub struct LinkKeys {
    /// For what is sent on it.
    pub sealer: Sealer,
    /// For what arrives on it.
    pub opener: Opener,
}

/// The keys of every link of a session. Boxed, because a node of a B-tree has room for eleven values and most sessions have few.
pub type KeyRing = BTreeMap<LinkId, Box<LinkKeys>>;

/// The ledger's parts, held by the caller for the time of one call.
pub struct Parts<'a> {
    /// What is to be sent.
    pub outbox: &'a mut Outbox,
    /// What arrived.
    pub inbound: &'a mut Inbound,
    /// The keys of each link.
    pub keys: &'a mut KeyRing,
}

/// A link that joins the session.
#[derive(Debug, Clone)]
pub struct LinkJoin {
    /// What does not change.
    pub info: Arc<LinkInfo>,
    /// Its lanes.
    pub lanes: u8,
    /// How long its handshake took to be answered: the first guess of its round-trip time.
    pub handshake_rtt: Duration,
    /// Longest time the peer holds an acknowledgement back.
    pub ack_delay_max: Duration,
    /// Whether its handshake proves that the peer takes part now; else the link carries nothing before a record of the peer's opened.
    pub confirmed: bool,
    /// Bytes per channel that the peer allows to be outstanding.
    pub peer_limits: PeerLimits,
}

/// What the session wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Something happened that others want to know.
    Emit(EventKind),
    /// The last record on a link, before it is closed on purpose.
    LastWords(LinkId, Bytes),
    /// Close a link's connection; the machine has forgotten it.
    CloseLink(LinkId, LinkFailure),
    /// The first record of the peer's opened on a link.
    LinkProven(LinkId),
    /// The peer, or somebody between, did something that says what the peer is worth.
    Observed(Behaviour),
    /// The peer's life is known now: for the first time, or anew because its process was restarted.
    PeerKnown(Incarnation),
    /// The peer can be reached here.
    PeerAddresses(SignedAddresses),
    /// A link is about to fail and there is no other to take over: one is wanted now.
    WantSpare,
    /// Something became of a link that the monitor of its transport should know.
    Turned(TransportKind, LinkTurn),
    /// What was seen of links, for the monitors of their transports.
    Seen(Vec<(TransportKind, LinkObserved)>),
    /// A datagram came: the number of whose concern it is, and its content, which shares memory with the whole record.
    Datagram(u8, Bytes),
    /// The peer ends the session.
    ClosedByPeer(CloseCode, String),
}

/// One failover that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failover {
    pub(super) from: LinkId,
    pub(super) since: Instant,
    pub(super) moved: u64,
}

/// The session machine.
pub struct Session {
    pub(super) peer: PeerId,
    /// The life of this side that the session belongs to, and that of the peer's side once known.
    pub(super) incarnation: Incarnation,
    pub(super) peer_incarnation: Option<Incarnation>,
    pub(super) config: Rc<SessionConfig>,
    pub(super) chooser: Chooser,
    pub(super) paths: LinkMap<Box<Path>>,
    /// What outlives the links, and this machine.
    pub(super) ways: KnownWays,
    pub(super) scheduler: Scheduler,
    /// How many bytes more datagrams had than messages of late, while both waited.
    pub(super) datagrams_ahead: i64,
    pub(super) outputs: VecDeque<Output>,
    /// What dead links carried, until the outbox takes it back.
    pub(super) orphans: Vec<RecordItem>,
    /// Items to be copied to another link than the one they are on, with that one.
    pub(super) hedges: VecDeque<(LinkId, SentItem)>,
    /// Copies to be sent, with the link that carries each.
    pub(super) copies: VecDeque<(LinkId, SentItem)>,
    /// Links of which the peer is to be told that they are dead, on every other link.
    pub(super) notices: BTreeMap<LinkId, Vec<(LinkId, LinkDownCode)>>,
    /// This side's addresses, and whether each link has yet to carry them.
    pub(super) addresses: Option<SignedAddresses>,
    pub(super) addresses_due: bool,
    pub(super) peer_addresses_version: u64,
    pub(super) peer_limits: Option<PeerLimits>,
    pub(super) local: PeerId,
    pub(super) failover: Option<Failover>,
    pub(super) failovers: u64,
    links_version: u64,
    /// When a message was last sent or received on any link.
    pub(super) busy_at: Option<Instant>,
    /// The link over which a message came last.
    pub(super) received_on: Option<LinkId>,
    /// When the links' silence was last forgiven because this process was not running.
    pub(super) forgiven_at: Option<Instant>,
    pub(super) close: Option<(CloseCode, String)>,
    /// Links on which the end was said already.
    pub(super) close_said: BTreeSet<LinkId>,
    /// When the present second of records that bring nothing began, and how many there were.
    pub(super) idle_records: Option<(Instant, u64)>,
    pub(super) record_items: Vec<RecordItem>,
    /// Traffic that moves to another link just now, or was moved back.
    pub(super) gradual: Option<Box<Gradual>>,
    /// When all links, and not one of them, were last found silent.
    pub(super) all_silent_at: Option<Instant>,
    /// What the health monitors are told and say, while there is traffic.
    pub(super) watch: Option<Box<Watch>>,
}

impl Session {
    /// A session without links. `peer_incarnation`: what the ledger knows of the peer's life.
    pub fn new(
        peer: PeerId,
        incarnation: Incarnation,
        peer_incarnation: Option<Incarnation>,
        config: Rc<SessionConfig>,
    ) -> Self {
        let damping = Damping {
            margin: config.switch_margin,
            dwell: config.switch_dwell,
            half_life: config.penalty_half_life,
            ..Damping::default()
        };
        let needs = Needs::new(&config.requirements, &config.weights);
        Self {
            peer,
            incarnation,
            peer_incarnation,
            config,
            chooser: Chooser::new(damping, needs, incarnation.0),
            paths: LinkMap::default(),
            ways: KnownWays::default(),
            scheduler: Scheduler::default(),
            datagrams_ahead: 0,
            outputs: VecDeque::new(),
            orphans: Vec::new(),
            hedges: VecDeque::new(),
            copies: VecDeque::new(),
            notices: BTreeMap::new(),
            addresses: None,
            addresses_due: false,
            peer_addresses_version: 0,
            peer_limits: None,
            local: peer,
            failover: None,
            failovers: 0,
            links_version: 0,
            busy_at: None,
            received_on: None,
            forgiven_at: None,
            close: None,
            close_said: BTreeSet::new(),
            idle_records: None,
            record_items: Vec::new(),
            gradual: None,
            all_silent_at: None,
            watch: None,
        }
    }

    /// The same with what an earlier life has learnt of the ways to the peer, and learns for a later one.
    pub(super) fn with_ways(self, ways: KnownWays) -> Self {
        Self { ways, ..self }
    }

    /// The next thing the session wants done.
    pub fn poll_output(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() && self.outputs.capacity() > 0 {
            // There is hardly ever any: thousands of idle sessions are not to keep room for them.
            self.outputs = VecDeque::new();
        }
        next
    }

    /// A link joined. Once the peer has shown that it let this side in, it is up; a duplicate of another (same transport and interface
    /// pair) replaces it then or is closed again: the one dialled by the smaller `PeerId` stays, and among two dialled by the same
    /// side the newer.
    pub fn on_link_up(&mut self, now: Instant, local: PeerId, join: LinkJoin) {
        let id = join.info.id;
        self.local = local;
        let window = WindowConfig {
            max_bytes: self.config.in_flight_bytes,
            queue_delay: self.config.queue_delay,
            ..WindowConfig::default()
        };
        let mut path = Path::new(now, join.info, join.lanes, join.handshake_rtt, join.ack_delay_max, window);
        path.multiplier = self.config.multipliers.get(path.info.transport.as_str()).copied().unwrap_or(1.0);
        if let Some(known) = self.ways.borrow().lateness(&route(&path.info)) {
            path.patience = known;
        }
        if join.confirmed {
            // A fresh path is in `Initializing`, from where this step is possible.
            let _ = path.step(LinkStep::Connected);
            self.peer_limits = Some(join.peer_limits);
        } else {
            // What an unproven attachment says may be an echo of long ago.
            path.limits = Some(Box::new(join.peer_limits));
        }
        // The side that dialled speaks first: the other may be waiting for its proof.
        path.probe_due = join.confirmed;
        // A peer that lost its memory numbers its links anew.
        self.remove(now, id, LinkFailure::ClosedHere("replaced by a link of the same number".into()), false);
        self.addresses_due = self.addresses.is_some();
        self.links_version += 1;
        self.paths.insert(id, Box::new(path));
        if join.confirmed {
            self.on_recovered(now, id);
        }
    }

    /// A record of the peer's opened on a new link: it is up, unless it is a duplicate of one that stays.
    pub(super) fn settle_twins(&mut self, now: Instant, local: PeerId, newcomer: LinkId, parts: &mut Parts<'_>) {
        let Some(new) = self.paths.get(&newcomer).map(|path| path.info.clone()) else { return };
        let living = self.paths.values().filter(|p| p.state.is_usable() && p.proven && p.info.id != newcomer);
        let twin = living.map(|p| &p.info).find(|info| same_way(info, &new)).cloned();
        let by_smaller = |info: &LinkInfo| info.initiator == (local < self.peer);
        if twin.as_ref().is_some_and(|twin| by_smaller(twin) && !by_smaller(&new)) {
            self.take_leave(now, newcomer, parts);
            if let Some(mut path) = self.paths.remove(&newcomer) {
                self.links_version += 1;
                self.notices.remove(&newcomer);
                self.orphans.extend(path.lose_all());
            }
            let reason = LinkFailure::ClosedHere("a duplicate of another link".into());
            self.outputs.push_back(Output::CloseLink(newcomer, reason));
            return;
        }
        self.outputs.push_back(Output::Emit(EventKind::LinkUp { peer: self.peer, link: LinkInfo::clone(&new) }));
        if let Some(twin) = twin {
            self.take_leave(now, twin.id, parts);
            self.remove(now, twin.id, LinkFailure::ClosedHere("replaced by a duplicate".into()), true);
        }
    }

    /// A link's connection is gone, or its actor.
    pub fn on_link_down(&mut self, now: Instant, id: LinkId, reason: LinkFailure, parts: &mut Parts<'_>) {
        if self.paths.contains_key(&id) {
            self.remove(now, id, reason, false);
        }
        self.reroute(now, parts);
        parts.keys.remove(&id);
    }

    /// Takes a link out of the session. What was in flight on it is sent again over another; the peer is told on all others.
    pub(super) fn remove(&mut self, now: Instant, id: LinkId, reason: LinkFailure, close: bool) {
        let carried = self.carries_traffic(id);
        let Some(mut path) = self.paths.remove(&id) else { return };
        let never_up = path.state == LinkState::Initializing;
        self.links_version += 1;
        // The peer settles duplicates as this side does, and may be done with it earlier.
        let duplicate = || self.paths.values().any(|other| same_way(&other.info, &path.info));
        let on_purpose = match reason {
            // A link that the peer refuses was never up: it has not failed, and its way is none that flaps.
            LinkFailure::ClosedHere(_) | LinkFailure::Refused(_) => true,
            LinkFailure::ClosedByPeer => path.let_go || duplicate(),
            LinkFailure::Transport(_)
            | LinkFailure::Unacknowledged(_)
            | LinkFailure::Stalled(_)
            | LinkFailure::Silent(_)
            | LinkFailure::InterfaceDown(_)
            | LinkFailure::PeerReported
            | LinkFailure::Worsening(..)
            | LinkFailure::ActorPanicked
            | LinkFailure::Protocol(_) => false,
        };
        let steps: &[LinkStep] = match (on_purpose, path.state) {
            (true, _) => &[LinkStep::Closed],
            (false, LinkState::Failing) => &[LinkStep::FailureConfirmed],
            (false, _) => &[LinkStep::CriticalError, LinkStep::FailureConfirmed],
        };
        for step in steps {
            if let Ok(from) = path.step(*step) {
                self.emit_step(now, &path, from, *step, Some(reason.clone()));
            }
        }
        if never_up {
            self.on_recovery_failed(now, &path.info, &reason);
        } else if !on_purpose {
            self.remember_failed(now, &path.info, &reason);
        }
        if let Some(watch) = &mut self.watch {
            watch.forget(id);
        }
        // What was found to be failing has been penalised for it.
        if !on_purpose && !path.rerouted {
            self.penalise(now, &path.info);
        }
        if path.stats.records_rejected > 0 {
            self.outputs.push_back(Output::Observed(Behaviour::BadRecord));
        }
        if carried && !on_purpose && !path.rerouted {
            self.begin_failover(now, id, &reason);
        }
        self.ways.borrow_mut().remember_lateness(now, route(&path.info), path.patience);
        self.orphans.extend(path.lose_all());
        self.notices.remove(&id);
        self.notify_peer(id, down_code(&reason));
        self.received_on = self.received_on.filter(|link| *link != id);
        self.chooser.forget(id);
        self.shift_died(now, id);
        if close {
            self.outputs.push_back(Output::CloseLink(id, reason));
        }
    }

    /// A link's interface changed state.
    pub fn on_interface_down(&mut self, now: Instant, name: &str, parts: &mut Parts<'_>) {
        let over = |p: &Path| p.info.interface.as_ref().is_some_and(|interface| interface.name == name);
        let dead: Vec<_> = self.paths.values().filter(|path| over(path)).map(|path| path.info.id).collect();
        for id in dead {
            self.remove(now, id, LinkFailure::InterfaceDown(name.to_owned()), true);
        }
        self.reroute(now, parts);
    }

    /// This side can be reached elsewhere now.
    pub fn on_own_addresses(&mut self, addresses: SignedAddresses) {
        self.addresses = Some(addresses);
        self.addresses_due = true;
    }

    /// Ends the session in an orderly way: says so on every link.
    pub fn on_close(&mut self, code: CloseCode, text: &str) {
        self.close = Some((code, text.to_owned()));
    }

    /// Closes every link without a word: the session is gone.
    pub fn abandon(&mut self, reason: &LinkFailure) {
        self.links_version += 1;
        for (id, path) in std::mem::take(&mut self.paths) {
            self.turned(&path.info, Turn::Gone);
            self.outputs.push_back(Output::CloseLink(id, reason.clone()));
        }
    }

    /// Reports a step that a link has taken, and from what it was concluded.
    pub(super) fn emit_step(
        &mut self,
        now: Instant,
        path: &Path,
        from: LinkState,
        step: LinkStep,
        reason: Option<LinkFailure>,
    ) -> Option<Box<Evidence>> {
        let (link, to) = (path.info.id, path.state);
        if let Some(turn) = turn_of(step, reason.as_ref()) {
            self.turned(&path.info, turn);
        }
        let times = (path.probe_timeout(), self.borne(now, path));
        // Nothing was concluded when it was somebody's will.
        let concluded = reason.as_ref().filter(|_| step != LinkStep::Closed);
        let evidence = concluded.and_then(|reason| self.evidence_for(now, link, reason, times));
        let kept = evidence.clone();
        self.outputs.push_back(Output::Emit(EventKind::LinkStep {
            peer: self.peer,
            link,
            from,
            to,
            step,
            reason,
            evidence,
            successor: None,
        }));
        kept
    }

    pub(super) fn penalise(&mut self, now: Instant, info: &LinkInfo) {
        self.ways.borrow_mut().penalise(now, route(info), self.chooser.damping());
    }

    /// How often the way of a link failed of late, the older the less.
    pub(super) fn failures(&self, now: Instant, info: &LinkInfo) -> f64 {
        self.ways.borrow().failures(now, &info.transport, info.remote.host(), self.chooser.damping())
    }

    /// The usable links, to be given back to [`room`].
    pub(super) fn gather_candidates(&self, now: Instant, class: usize) -> Vec<Candidate> {
        let mut candidates = room::candidates();
        // The memory of a life of the peer that may be over must not go to the one behind a new link: it has to say who it is first.
        let known = self.peer_incarnation.is_some();
        for path in self.paths.values().filter(|p| p.state.is_usable() && (p.proven || !known)) {
            candidates.push(self.candidate(now, path, class));
        }
        candidates
    }

    pub(super) fn candidate(&self, now: Instant, path: &Path, class: usize) -> Candidate {
        let in_flight = path.window.in_flight() as f64;
        let rate = path.window.rate().filter(|rate| *rate > 0.0);
        let delay = path
            .rtt
            .is_measured()
            .then(|| path.rtt.smoothed().as_secs_f64() / 2.0 + path.rtt.variation().as_secs_f64() * 2.0);
        let room = path.room(class, self.urgent_extra());
        let failures = self.failures(now, &path.info);
        Candidate {
            delay,
            backlog: rate.map_or(in_flight / 1e6, |rate| in_flight / rate),
            room,
            load: Some(in_flight / (in_flight + room as f64).max(1.0)),
            suspected: path.suspicions > 0,
            leaving: path.advice == Advice::Leave,
            failures,
            health: health(path, failures),
            bandwidth: path.window.bandwidth(),
            bandwidth_is_old: path.window.is_old(now),
            medium: path.info.interface.as_ref().map(|interface| interface.medium).unwrap_or_default(),
            security: Some(security(&path.info)),
            multiplier: path.multiplier,
            ..Candidate::unmeasured(path.info.id)
        }
        .with_forecast(&path.forecast)
    }

    /// How far urgent classes may overstep a link's window: one record.
    pub(super) fn urgent_extra(&self) -> usize {
        super::transmit::RECORD_BYTES
    }

    /// The links for a message of a class now, with the rule. `own`: the policy that the message asks for.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        class: usize,
        own: Option<PolicyName>,
        bytes: Option<usize>,
    ) -> Choice {
        let candidates = self.gather_candidates(now, class);
        let wanted = self.wanted(MessageClass::from_index(class).unwrap_or_default(), own, bytes);
        let (chosen, left) = self.chooser.choose(now, wanted, &candidates);
        if let (Some(from), Some(to)) = (left, chosen.links[0]) {
            self.on_preferred(now, from, to, wanted.class, chosen.rule);
            // What may not go over the link before does not stay on it for a while.
            if !self.chooser.bars(wanted, from, &candidates) {
                self.begin_shift(now, from, to, wanted.class, wanted.policy);
            }
        }
        let chosen = if wanted.apart { chosen } else { self.steer(wanted, chosen, &candidates) };
        room::give_candidates(candidates);
        chosen
    }

    /// What a link is wanted for.
    pub(super) fn wanted(&self, class: MessageClass, own: Option<PolicyName>, bytes: Option<usize>) -> Wanted {
        let usual = self.config.policies.of(class);
        let policy = own.unwrap_or(usual);
        Wanted { policy, class, bytes, apart: policy != usual }
    }

    /// Links of the session, with what does not change.
    pub fn links(&self) -> impl Iterator<Item = &LinkInfo> + '_ {
        self.paths.values().map(|path| &*path.info)
    }

    /// Whether a link may carry new messages.
    pub fn has_usable_link(&self) -> bool {
        self.paths.values().any(|path| path.state.is_usable())
    }

    /// What does not change of a link.
    pub fn link(&self, id: LinkId) -> Option<&LinkInfo> {
        self.paths.get(&id).map(|path| &*path.info)
    }

    /// Grows with every link that joins or leaves.
    pub fn links_version(&self) -> u64 {
        self.links_version
    }

    /// How many failovers there were.
    pub fn failovers(&self) -> u64 {
        self.failovers
    }
}

/// Whether two links run over the same transport and the same pair of interfaces, as far as that is known: such a pair falls together.
fn same_way(a: &LinkInfo, b: &LinkInfo) -> bool {
    let (dialled, accepted) = match (a.initiator, b.initiator) {
        (true, false) => (a, b),
        (false, true) => (b, a),
        // Two dialled from the same side are wanted both, unless they are the same address from the same address.
        _ => return a.transport == b.transport && a.remote == b.remote && a.local.host() == b.local.host(),
    };
    dialled.transport == accepted.transport
        && dialled.local.host() == accepted.local.host()
        && dialled.remote.host() == accepted.remote.host()
}

/// How a link is doing, as policies see it.
fn health(path: &Path, failures: f64) -> Health {
    /// As one failure is, two half-lives later.
    const OPTIMAL_BELOW: f64 = 0.25;
    match path.state {
        LinkState::Active | LinkState::Degraded if path.suspicions > 0 => Health::Critical,
        LinkState::Active if failures < OPTIMAL_BELOW && path.rtt.is_measured() => Health::Optimal,
        LinkState::Active => Health::Good,
        LinkState::Degraded => Health::Degraded,
        LinkState::Failing => Health::Critical,
        LinkState::Initializing | LinkState::Failed | LinkState::Recovering | LinkState::Closed => Health::Failed,
    }
}

/// The security of a link: the transport's own security and the strength of the encryption, averaged. The trust of the endpoint is the same for all
/// links of a session.
fn security(info: &LinkInfo) -> f64 {
    /// Every record is sealed under keys of its link, whatever carries it.
    const SEALED: f64 = 1.0;
    f64::midpoint(SEALED, if is_secured(&info.transport) { 1.0 } else { 0.0 })
}

pub(super) fn route(info: &LinkInfo) -> Route {
    (info.transport.clone(), info.remote.host().to_owned())
}

/// What the peer is told about a dead link.
pub(super) fn down_code(reason: &LinkFailure) -> LinkDownCode {
    match reason {
        LinkFailure::Transport(_) | LinkFailure::ClosedByPeer | LinkFailure::PeerReported => LinkDownCode::Transport,
        LinkFailure::ClosedHere(_) => LinkDownCode::Closed,
        // The second is no reason to call a link dead.
        LinkFailure::Unacknowledged(_) | LinkFailure::Worsening(..) => LinkDownCode::Unacknowledged,
        LinkFailure::Stalled(_) => LinkDownCode::Stalled,
        LinkFailure::Silent(_) => LinkDownCode::Silent,
        LinkFailure::InterfaceDown(_) => LinkDownCode::InterfaceDown,
        LinkFailure::ActorPanicked => LinkDownCode::Failed,
        LinkFailure::Protocol(_) => LinkDownCode::Protocol,
        // The peer refused it and has forgotten it.
        LinkFailure::Refused(_) => LinkDownCode::Closed,
    }
}
