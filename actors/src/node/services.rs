//! What the actors of one node share: the way to the journal, to the transports and to the application. One thread, so `Rc`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::Recipient;
use bowline_messages::config::SessionConfig;
use bowline_messages::event::EventKind;
use bowline_messages::repair::Symptom;
use bowline_messages::session::{Inbox, Received, SessionEnd};
use bowline_messages::supervision::SupervisionEvent;
use bowline_messages::wire::SignedAddresses;
use bowline_messages::{EndpointAddress, Incarnation, PeerId, TransportKind};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::carrier::Carrier;
use super::journal::Record;
use crate::health::HealthPort;
use crate::session::budgets::BudgetTable;
use crate::session::handshake::{Admission, ResumeTicket};
use crate::session::identity::Identity;
use crate::session::pressure::{MemoryGauge, Pressure};
use crate::session::resume::ResumeStore;
use crate::session::stream::IncomingStream;
use crate::session::trust::{Behaviour, Trust};
use crate::transport::actor::Dial;
use crate::transport::mesh;
use bowline_messages::wire::{Refusal, TicketId};

/// Looks at every message as a session actor hands it over (for audit or accounting). Should it panic, the session actor is restarted; a
/// message over which it panics twice is set aside and reported.
pub type Inspector = Rc<dyn Fn(PeerId, &Received)>;

/// Who gets what peers send.
#[derive(Clone, Default)]
pub struct Application {
    /// Gets messages. Without it they wait, and the peers' windows close.
    pub inbox: Option<Recipient<Inbox>>,
    /// Gets streams. Without it they are reset.
    pub streams: Option<Recipient<IncomingStream>>,
    /// Looks at every message before it is handed over.
    pub inspector: Option<Inspector>,
}

/// What the actors of one node share.
pub struct Services {
    /// Who this node is.
    pub identity: Arc<Identity>,
    /// The life of this process.
    pub incarnation: Incarnation,
    /// How sessions behave.
    pub session: RefCell<Rc<SessionConfig>>,
    /// Tickets by which links attach without signatures.
    pub resume: RefCell<ResumeStore>,
    /// Who is let in.
    pub trust: RefCell<Trust>,
    /// What peers may still have delivered.
    pub(crate) budgets: RefCell<BudgetTable>,
    application: RefCell<Application>,
    journal: RefCell<Option<Recipient<Record>>>,
    supervision_events: RefCell<Option<Recipient<SupervisionEvent>>>,
    dialers: RefCell<BTreeMap<TransportKind, Recipient<Dial>>>,
    health: RefCell<BTreeMap<TransportKind, HealthPort>>,
    migrations: RefCell<Option<Recipient<IncomingStream>>>,
    repairs: RefCell<Option<Recipient<Symptom>>>,
    own_addresses: RefCell<Option<SignedAddresses>>,
    session_ends: RefCell<Option<Recipient<EndSession>>>,
    /// What all sessions hold together.
    pub memory: MemoryGauge,
    /// Datagrams to and from other nodes.
    pub carrier: Rc<Carrier>,
    /// Whether peers can be reached through others.
    mesh: Cell<bool>,
    seed: u64,
    seeds_given: Cell<u64>,
}

/// From a session actor to the actor that knows all sessions: this one is over.
#[derive(Debug, Clone, PartialEq, Eq, actix::Message, serde::Serialize, serde::Deserialize)]
#[rtype(result = "()")]
pub struct EndSession {
    /// With whom.
    pub peer: PeerId,
    /// Which of the sessions with it: a later one goes on.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: SessionEnd,
}

impl Services {
    /// Services without anybody behind them yet. `seed`: the source of all jitter.
    pub fn new(
        identity: Arc<Identity>,
        incarnation: Incarnation,
        session: SessionConfig,
        trust: Trust,
        seed: u64,
    ) -> Self {
        Self {
            identity,
            incarnation,
            session: RefCell::new(Rc::new(session)),
            resume: RefCell::default(),
            trust: RefCell::new(trust),
            budgets: RefCell::default(),
            application: RefCell::default(),
            journal: RefCell::default(),
            supervision_events: RefCell::default(),
            dialers: RefCell::default(),
            health: RefCell::default(),
            migrations: RefCell::default(),
            repairs: RefCell::default(),
            own_addresses: RefCell::default(),
            session_ends: RefCell::default(),
            memory: MemoryGauge::default(),
            carrier: Rc::default(),
            mesh: Cell::new(false),
            seed,
            seeds_given: Cell::new(0),
        }
    }

    /// From now on peers can be reached through others.
    pub(super) fn set_mesh(&self) {
        self.mesh.set(true);
    }

    /// Where a peer is reached through others, if this node takes part in a mesh.
    pub(super) fn through_others(&self, peer: &PeerId) -> Option<EndpointAddress> {
        self.mesh.get().then(|| mesh::address(peer))
    }

    /// This node's name.
    pub fn local(&self) -> PeerId {
        self.identity.peer_id()
    }

    /// A generator of its own for whoever asks, the same for the same order of asking.
    pub fn rng(&self) -> ChaCha8Rng {
        let turn = self.seeds_given.get() + 1;
        self.seeds_given.set(turn);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(turn);
        rng
    }

    /// Lets a peer in because the user or the application named it.
    ///
    /// # Errors
    /// In words, when a deny list or an exclusion forbids it.
    pub fn allow(&self, peer: PeerId) -> Result<(), String> {
        let mut trust = self.trust.borrow_mut();
        trust.allow(peer);
        trust.admit(&peer).map_err(|refusal| refusal.to_string())
    }

    /// Whether a peer may have a session as things stand, without anybody naming it anew. A question: nobody is remembered for it.
    pub fn admits(&self, peer: &PeerId) -> bool {
        self.trust.borrow().standing(peer).is_ok()
    }

    /// Reports something that may need a repair. What finds no room is dropped: it will be seen again.
    pub fn symptom(&self, symptom: Symptom) {
        if let Some(repairs) = &*self.repairs.borrow()
            && repairs.try_send(symptom).is_err()
        {
            metrics::counter!("bowline_symptoms_dropped_total").increment(1);
        }
    }

    pub(super) fn set_repairs(&self, recipient: Recipient<Symptom>) {
        *self.repairs.borrow_mut() = Some(recipient);
    }

    /// Reports what happened.
    pub fn emit(&self, kind: EventKind) {
        if let Some(symptom) = super::repairs::symptom_of(&kind) {
            self.symptom(symptom);
        }
        if let Some(journal) = &*self.journal.borrow() {
            // The journal does nothing but keep and pass on; what it cannot take is counted there, and events are no promise.
            if journal.try_send(Record(kind)).is_err() {
                metrics::counter!("bowline_events_dropped_total").increment(1);
            }
        }
    }

    /// Who gets what peers send.
    pub fn application(&self) -> std::cell::Ref<'_, Application> {
        self.application.borrow()
    }

    /// Sets who gets what peers send.
    pub fn set_application(&self, application: Application) {
        *self.application.borrow_mut() = application;
    }

    pub(super) fn set_journal(&self, journal: Recipient<Record>) {
        *self.journal.borrow_mut() = Some(journal);
    }

    pub(super) fn set_supervision_events(&self, recipient: Recipient<SupervisionEvent>) {
        *self.supervision_events.borrow_mut() = Some(recipient);
    }

    /// Who is told what supervisors do.
    pub(super) fn supervision_events(&self) -> Option<Recipient<SupervisionEvent>> {
        self.supervision_events.borrow().clone()
    }

    /// Adds a transport that can dial.
    pub fn add_dialer(&self, kind: TransportKind, dialer: Recipient<Dial>) {
        self.dialers.borrow_mut().insert(kind, dialer);
    }

    /// The transport of this kind.
    pub fn dialer(&self, kind: &TransportKind) -> Option<Recipient<Dial>> {
        self.dialers.borrow().get(kind).cloned()
    }

    /// Adds the health monitor of a transport.
    pub fn add_health(&self, kind: TransportKind, monitor: HealthPort) {
        self.health.borrow_mut().insert(kind, monitor);
    }

    /// The health monitor of the transport of this kind.
    pub fn health(&self, kind: &TransportKind) -> Option<HealthPort> {
        self.health.borrow().get(kind).cloned()
    }

    pub(super) fn set_migrations(&self, recipient: Recipient<IncomingStream>) {
        *self.migrations.borrow_mut() = Some(recipient);
    }

    /// Who gets the streams of migrations.
    pub fn migrations(&self) -> Option<Recipient<IncomingStream>> {
        self.migrations.borrow().clone()
    }

    /// Where this node can be reached, once it listens.
    pub fn own_addresses(&self) -> Option<SignedAddresses> {
        self.own_addresses.borrow().clone()
    }

    pub(super) fn set_own_addresses(&self, addresses: SignedAddresses) {
        *self.own_addresses.borrow_mut() = Some(addresses);
    }

    pub(super) fn set_session_ends(&self, recipient: Recipient<EndSession>) {
        *self.session_ends.borrow_mut() = Some(recipient);
    }

    /// Says that a session is over.
    pub fn end_session(&self, peer: PeerId, incarnation: Incarnation, reason: SessionEnd) {
        if let Some(recipient) = &*self.session_ends.borrow() {
            // One message in the life of a session; losing it would leave it for ever.
            recipient.do_send(EndSession { peer, incarnation, reason });
        }
    }
}

impl Services {
    /// How full the memory for messages is.
    pub fn pressure(&self) -> Pressure {
        Pressure::of(self.memory.used(), self.session.borrow().memory_bytes)
    }

    /// Excludes a peer for what was proven against it elsewhere; it loses its session.
    pub(super) fn exclude(&self, peer: PeerId, reason: &str) {
        self.trust.borrow_mut().exclude(peer, reason);
        if let Some(incarnation) = self.carrier.incarnation(&peer) {
            self.end_session(peer, incarnation, SessionEnd::Excluded(reason.to_owned()));
        }
    }

    /// Takes note of what a peer did. One that is excluded for it loses its session; whose `incarnation` of this side says which.
    pub fn observe(&self, peer: PeerId, incarnation: Incarnation, behaviour: Behaviour) {
        let excluded = {
            let mut trust = self.trust.borrow_mut();
            trust.observe(&peer, behaviour);
            trust.exclusion(&peer).map(str::to_owned)
        };
        if let Some(reason) = excluded {
            self.end_session(peer, incarnation, SessionEnd::Excluded(reason));
        }
    }
}

/// What inbound handshakes ask of the node.
pub(super) struct Gate(pub(super) Rc<Services>);

impl Admission for Gate {
    fn ticket(&mut self, id: &TicketId) -> Option<ResumeTicket> {
        self.0.resume.borrow().lookup(id, crate::clock::now())
    }

    fn admit(&mut self, peer: &PeerId) -> Result<(), Refusal> {
        // Who has a session has a ticket: it may come back to drain its queue.
        let newcomer = || self.0.resume.borrow().for_peer(peer, crate::clock::now()).is_none();
        if self.0.pressure().refuses_newcomers() && newcomer() {
            return Err(Refusal::Busy);
        }
        self.0.trust.borrow_mut().admit(peer).map_err(|refusal| {
            // The peer learns nothing; whoever runs this node learns whom to name. Bounded by the limits on inbound connections.
            tracing::info!(%peer, "a peer was refused: {refusal}");
            Refusal::from(&refusal)
        })
    }

    fn acceptances(&self) -> u64 {
        self.0.trust.borrow().acceptances()
    }
}
