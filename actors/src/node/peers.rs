//! Knows all sessions: makes the group of a peer when it is needed, brings links to it, ends it.
//!
//! Child of the root, permanent. The table of groups belongs to its factory, so a restart forgets nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext, Handler, Message, MessageResult, ResponseFuture, WrapFuture as _,
};
use bowline_messages::event::EventKind;
use bowline_messages::link::{Binding, InterfaceChanged};
use bowline_messages::network::Neighbour;
use bowline_messages::session::{Outgoing, SendError, SessionEnd, SessionStatus};
use bowline_messages::supervision::{Down, Monitor, Restart, Strategy, TerminateChild};
use bowline_messages::topology::HealingRequest;
use bowline_messages::wire::SignedAddresses;
use bowline_messages::wire::frame::CloseCode;
use bowline_messages::{EndpointAddress, Incarnation, PeerId};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::services::{EndSession, Services};
use crate::session::actor::{
    AddAddresses, CloseSession, FallbackAddress, GivenAddresses, InterfaceState, OwnAddresses, SessionActor,
    SessionGroup, StatusQuery, TryAtOnce,
};
use crate::session::handle::{Receipt, SessionHandle};
use crate::session::ledger::Ledger;
use crate::supervision::{
    ChildSpec, Context, Intensity, OnExceeded, StartChild, SupervisorActor, SupervisorSpec, call_within,
};
use crate::transport::actor::LinkEstablished;

/// Lives of one peer's group within one life of the process: the lower bits of an incarnation.
const GROUP_BITS: u32 = 20;
/// How long a session actor may take to answer for a report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long after the end of a session that is still wanted the next one is begun.
const RECONNECT_AFTER: Duration = Duration::from_secs(5);
/// The mailbox of a session actor: as many arrivals as the credits of its links allow (two for each), and some messages from elsewhere.
const SESSION_MAILBOX: usize = 64;

/// One peer.
struct PeerEntry {
    session: Addr<SessionActor>,
    ledger: Arc<Ledger>,
    /// Its group's id below the supervisor of all groups.
    group: String,
}

/// All peers with a session; outlives the actor.
#[derive(Default)]
pub struct PeerTable {
    peers: RefCell<BTreeMap<PeerId, PeerEntry>>,
    /// Peers that the user or the application wants to be connected to, and where: a session that ended is made anew.
    wanted: RefCell<BTreeMap<PeerId, Vec<(EndpointAddress, Binding)>>>,
    /// Peers that are wanted for the network's sake, and where.
    for_network: RefCell<BTreeMap<PeerId, Vec<(EndpointAddress, Binding)>>>,
    groups_made: Cell<u64>,
}

impl PeerTable {
    pub(super) fn ledger(&self, peer: &PeerId) -> Option<Arc<Ledger>> {
        self.peers.borrow().get(peer).map(|entry| entry.ledger.clone())
    }

    /// Whether the application has sent anything to a peer, or got anything from it.
    fn is_used(&self, peer: &PeerId) -> bool {
        self.ledger(peer).is_some_and(|ledger| ledger.outbox().totals().0 > 0 || ledger.inbound().totals().0 > 0)
    }

    /// Where a peer is to be sought; `None`: nobody wants it. Where the user said counts alone; who is wanted whatever the way is sought where
    /// the network needs it, too.
    fn sought(&self, peer: &PeerId) -> Option<Vec<(EndpointAddress, Binding)>> {
        let given = self.wanted.borrow().get(peer).cloned();
        let for_network = self.for_network.borrow().get(peer).cloned();
        given.clone().filter(|given| !given.is_empty()).or(for_network).or(given)
    }

    /// Peers with which there is a session that has no link at the moment. Who is neither here nor reached has no session any more: that was
    /// ended, by one side or the other, and says nothing about the peer.
    pub(super) fn silent(&self) -> Vec<PeerId> {
        let peers = self.peers.borrow();
        peers.iter().filter(|(_, entry)| entry.ledger.standing().is_none()).map(|(peer, _)| *peer).collect()
    }

    /// How each peer is reached that is reached at the moment.
    pub(super) fn standings(&self) -> Vec<Neighbour> {
        self.peers.borrow().values().filter_map(|entry| entry.ledger.standing()).collect()
    }
}

/// Finds or makes the session with a peer, which keeps links to these addresses.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Result<SessionHandle, ConnectError>")]
pub struct ConnectPeer {
    /// The peer.
    pub peer: PeerId,
    /// Where it can be reached, each with what the link is to be bound to on this side.
    pub addresses: Vec<(EndpointAddress, Binding)>,
}

/// Seeks a peer at these addresses and at no others, as a configuration says: nobody is accepted by it who is not anyway. Without
/// addresses the peer is not sought any more; a session with it goes on as if the peer had made it.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), ConnectError>")]
pub struct SeekPeer {
    /// The peer.
    pub peer: PeerId,
    /// Where it can be reached, each with what the link is to be bound to on this side.
    pub addresses: Vec<(EndpointAddress, Binding)>,
}

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer is this node itself.
    #[error("that is this node itself")]
    Itself,
    /// The user or the peer's behaviour forbids it.
    #[error("{0}")]
    NotAllowed(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// Ends the session with a peer. The answer says whether there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "bool")]
pub struct DisconnectPeer(pub PeerId);

/// Finds the session with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Option<SessionHandle>")]
pub struct FindPeer(pub PeerId);

/// Reports on all sessions, or on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Vec<SessionStatus>")]
pub struct PeersQuery(pub Option<PeerId>);

/// Sends one message to every peer: best effort, what fails is reported and stops nothing. The payload is shared, not copied.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Vec<(PeerId, Result<Receipt, SendError>)>")]
pub struct Broadcast(pub Outgoing);

/// Ends all sessions in an orderly way; what was accepted is given so long to be delivered. The answer comes when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct DrainSessions(pub Duration);

/// The actor that knows all sessions.
pub struct PeersActor {
    services: Rc<Services>,
    table: Rc<PeerTable>,
    sessions: Addr<SupervisorActor>,
    draining: bool,
}

impl PeersActor {
    /// An actor for a table, which starts groups below `sessions`.
    pub fn new(services: Rc<Services>, table: Rc<PeerTable>, sessions: Addr<SupervisorActor>) -> Self {
        Self { services, table, sessions, draining: false }
    }

    fn find_or_make(&mut self, peer: PeerId, ctx: &mut Context<Self>) -> Addr<SessionActor> {
        let known = self.table.peers.borrow().get(&peer).map(|entry| entry.session.clone());
        known.unwrap_or_else(|| self.make(peer, ctx))
    }

    fn make(&mut self, peer: PeerId, ctx: &mut Context<Self>) -> Addr<SessionActor> {
        let number = self.table.groups_made.get() + 1;
        self.table.groups_made.set(number);
        let incarnation = Incarnation((self.services.incarnation.0 << GROUP_BITS) | number);
        let config = self.services.session.borrow().clone();
        let ledger = Arc::new(Ledger::new(self.services.local(), peer, incarnation, &config));
        let group = Rc::new(SessionGroup::new(ledger.clone(), self.services.clone()));
        let (session_spec, session) = {
            let group = group.clone();
            ChildSpec::new("session", move || SessionActor::new(group.clone()))
        };
        let id = group_id(&peer, number);
        let mut group_spec = SupervisorSpec::new(id.clone(), Strategy::OneForOne);
        if let Some(events) = self.services.supervision_events() {
            group_spec = group_spec.events(events);
        }
        let (spec, supervisor) = group_spec
            .on_exceeded(OnExceeded::EndGroup)
            .intensity(Intensity::default())
            .seed(number)
            .child(session_spec.mailbox(SESSION_MAILBOX))
            .into_child();
        group.set_supervisor(supervisor);
        self.sessions.do_send(StartChild::new(spec.restart(Restart::Temporary)));
        self.sessions.do_send(Monitor { path: id.clone(), recipient: ctx.address().recipient() });
        let entry = PeerEntry { session: session.clone(), ledger, group: id };
        self.table.peers.borrow_mut().insert(peer, entry);
        session
    }

    /// Forgets a session; its receipts become final.
    fn forget(&mut self, peer: &PeerId, reason: SessionEnd) -> Option<PeerEntry> {
        let entry = self.table.peers.borrow_mut().remove(peer)?;
        self.services.resume.borrow_mut().forget_peer(peer);
        entry.ledger.close();
        self.services.emit(EventKind::SessionDown { peer: *peer, reason });
        Some(entry)
    }

    /// Begins a new session after a while, if the user or the application still wants one.
    fn reconnect_later(&self, peer: PeerId, ctx: &mut Context<Self>) {
        if self.draining || self.table.sought(&peer).is_none() {
            return;
        }
        ctx.run_later(RECONNECT_AFTER, move |actor, ctx| {
            if !actor.draining && actor.services.admits(&peer) {
                let whatever_the_way = actor.table.wanted.borrow().get(&peer).is_some_and(Vec::is_empty);
                actor.seek(peer, whatever_the_way, ctx);
            }
        });
    }

    /// Has the session with a wanted peer, made if need be, look where the peer is sought; through others, too, when it is wanted whatever the way.
    fn seek(&mut self, peer: PeerId, whatever_the_way: bool, ctx: &mut Context<Self>) {
        let Some(addresses) = self.table.sought(&peer) else { return };
        let session = self.find_or_make(peer, ctx);
        // All that is known: a session that is made here knows nothing of what an earlier one was told.
        session.do_send(AddAddresses(addresses));
        if let Some(address) = self.services.through_others(&peer).filter(|_| whatever_the_way) {
            session.do_send(FallbackAddress(address));
        }
    }

    /// Ends a session that was there for the network's sake alone, unless the peer keeps it: then it is the peer's to end, and this side does not
    /// seek the peer any more.
    fn release(&self, peer: PeerId, ctx: &mut Context<Self>) {
        let Some((session, incarnation)) =
            self.table.peers.borrow().get(&peer).map(|entry| (entry.session.clone(), entry.ledger.incarnation()))
        else {
            return;
        };
        let report = async move { call_within(&session, StatusQuery, REPORT_TIMEOUT).await };
        ctx.spawn(report.into_actor(self).map(move |report, actor: &mut Self, _| {
            let kept = report.is_ok_and(|status| status.links.iter().any(|link| !link.info.initiator));
            let table = &actor.table;
            let same = table.peers.borrow().get(&peer).is_some_and(|entry| entry.ledger.incarnation() == incarnation);
            if !same || table.sought(&peer).is_some() || table.is_used(&peer) {
                return;
            }
            if !kept {
                actor.end(&peer, SessionEnd::ClosedHere);
            } else if let Some(entry) = table.peers.borrow().get(&peer) {
                // Once for each link that the network does not need any more.
                entry.session.do_send(GivenAddresses(Vec::new()));
            }
        }));
    }

    /// Ends a session: nothing new reaches it, the peer is told, then its group is stopped.
    fn end(&mut self, peer: &PeerId, reason: SessionEnd) -> bool {
        let Some(entry) = self.table.peers.borrow_mut().remove(peer) else { return false };
        self.services.resume.borrow_mut().forget_peer(peer);
        self.services.emit(EventKind::SessionDown { peer: *peer, reason });
        let sessions = self.sessions.clone();
        actix::spawn(async move {
            // The keys go with the ledger, so the goodbye is said first; whether it was or not, the group ends.
            let _ = call_within(&entry.session, CloseSession(CloseCode::Done), REPORT_TIMEOUT).await;
            entry.ledger.close();
            let _ = sessions.send(TerminateChild { id: entry.group }).await;
        });
        true
    }

    fn sessions_of(&self, only: Option<PeerId>) -> Vec<Addr<SessionActor>> {
        let peers = self.table.peers.borrow();
        let wanted = peers.iter().filter(|(peer, _)| only.is_none_or(|only| only == **peer));
        wanted.map(|(_, entry)| entry.session.clone()).collect()
    }
}

/// The id of a peer's group: readable, and never the same for two groups of one peer.
fn group_id(peer: &PeerId, number: u64) -> String {
    format!("{}-{number}", peer.short())
}

impl Actor for PeersActor {
    type Context = Context<Self>;
}

impl Handler<ConnectPeer> for PeersActor {
    type Result = Result<SessionHandle, ConnectError>;

    fn handle(&mut self, connect: ConnectPeer, ctx: &mut Self::Context) -> Self::Result {
        if self.draining {
            return Err(ConnectError::ShuttingDown);
        }
        if connect.peer == self.services.local() {
            return Err(ConnectError::Itself);
        }
        self.services.allow(connect.peer).map_err(ConnectError::NotAllowed)?;
        let asked: Vec<_> = connect.addresses.iter().map(|(address, _)| address.clone()).collect();
        {
            let mut wanted = self.table.wanted.borrow_mut();
            let known = wanted.entry(connect.peer).or_default();
            known.retain(|(address, _)| connect.addresses.iter().all(|(new, _)| new != address));
            known.extend(connect.addresses);
        }
        // A command of the user's, a handful in the life of a session.
        self.seek(connect.peer, asked.is_empty(), ctx);
        let peers = self.table.peers.borrow();
        let entry = peers.get(&connect.peer).ok_or(ConnectError::ShuttingDown)?;
        if !asked.is_empty() {
            entry.session.do_send(TryAtOnce(asked));
        }
        Ok(SessionHandle::new(entry.ledger.clone()))
    }
}

impl Handler<SeekPeer> for PeersActor {
    type Result = Result<(), ConnectError>;

    fn handle(&mut self, SeekPeer { peer, addresses }: SeekPeer, ctx: &mut Self::Context) -> Self::Result {
        if self.draining {
            return Err(ConnectError::ShuttingDown);
        }
        if peer == self.services.local() {
            return Err(ConnectError::Itself);
        }
        if addresses.is_empty() {
            self.table.wanted.borrow_mut().remove(&peer);
        } else {
            let standing = self.services.trust.borrow().standing(&peer);
            standing.map_err(|refusal| ConnectError::NotAllowed(refusal.to_string()))?;
            self.table.for_network.borrow_mut().remove(&peer);
            self.table.wanted.borrow_mut().insert(peer, addresses);
            self.find_or_make(peer, ctx);
        }
        if let Some(entry) = self.table.peers.borrow().get(&peer) {
            // Once for each reload of a configuration.
            entry.session.do_send(GivenAddresses(self.table.sought(&peer).unwrap_or_default()));
        }
        Ok(())
    }
}

/// There is a way through others to a peer with which there is a session: another link, should the direct ones fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct WayThroughOthers(pub PeerId);

impl Handler<WayThroughOthers> for PeersActor {
    type Result = ();

    fn handle(&mut self, WayThroughOthers(peer): WayThroughOthers, _: &mut Self::Context) {
        let peers = self.table.peers.borrow();
        if let Some((entry, address)) = peers.get(&peer).zip(self.services.through_others(&peer)) {
            entry.session.do_send(FallbackAddress(address));
        }
    }
}

/// Links that the network needs: nobody is accepted for that who is not anyway, and what the user or the application wants stays.
impl Handler<HealingRequest> for PeersActor {
    type Result = ();

    fn handle(&mut self, request: HealingRequest, ctx: &mut Self::Context) {
        match request {
            HealingRequest::Connect { peer, addresses } => {
                // Who is sought where the user said is sought nowhere else.
                let given = self.table.wanted.borrow().get(&peer).is_some_and(|given| !given.is_empty());
                if given || self.draining || !self.services.admits(&peer) {
                    return;
                }
                let known = addresses.iter().filter_map(|address| address.parse::<EndpointAddress>().ok());
                let addresses: Vec<_> = known.map(|address| (address, Binding::default())).collect();
                self.table.for_network.borrow_mut().insert(peer, addresses.clone());
                // Bounded by the links that the network may ask of this node.
                self.find_or_make(peer, ctx).do_send(AddAddresses(addresses));
            }
            HealingRequest::Release { peer } => {
                let released = self.table.for_network.borrow_mut().remove(&peer).is_some();
                if released && self.table.sought(&peer).is_none() && !self.table.is_used(&peer) {
                    self.release(peer, ctx);
                }
            }
        }
    }
}

impl Handler<LinkEstablished> for PeersActor {
    type Result = ();

    fn handle(&mut self, link: LinkEstablished, ctx: &mut Self::Context) {
        let established = &link.0.established;
        let known = self.table.peers.borrow().contains_key(&established.peer);
        // An attachment that proves nothing yet does not make a session: the ticket it names belongs to one that is gone.
        // One that was excluded while its handshake went on is turned away as well.
        if self.draining || (!established.confirmed && !known) || !self.services.admits(&established.peer) {
            return;
        }
        let peer = established.peer;
        let session = self.find_or_make(peer, ctx);
        // Bounded by the limits on inbound connections.
        session.do_send(link);
    }
}

impl Handler<DisconnectPeer> for PeersActor {
    type Result = bool;

    fn handle(&mut self, DisconnectPeer(peer): DisconnectPeer, _: &mut Self::Context) -> bool {
        self.table.wanted.borrow_mut().remove(&peer);
        self.table.for_network.borrow_mut().remove(&peer);
        self.end(&peer, SessionEnd::ClosedHere)
    }
}

impl Handler<EndSession> for PeersActor {
    type Result = ();

    fn handle(&mut self, end: EndSession, ctx: &mut Self::Context) {
        let present = self.table.peers.borrow().get(&end.peer).map(|entry| entry.ledger.incarnation());
        if present != Some(end.incarnation) {
            return;
        }
        self.end(&end.peer, end.reason);
        self.reconnect_later(end.peer, ctx);
    }
}

impl Handler<Down> for PeersActor {
    type Result = ();

    /// A group ended. If that was wanted, it is forgotten already.
    fn handle(&mut self, down: Down, ctx: &mut Self::Context) {
        let found = self.table.peers.borrow().iter().find(|(_, e)| e.group == down.path).map(|(peer, _)| *peer);
        if let Some(peer) = found {
            self.forget(&peer, SessionEnd::Failed(down.reason.to_string()));
            self.reconnect_later(peer, ctx);
        }
    }
}

impl Handler<FindPeer> for PeersActor {
    type Result = Option<SessionHandle>;

    fn handle(&mut self, FindPeer(peer): FindPeer, _: &mut Self::Context) -> Self::Result {
        let peers = self.table.peers.borrow();
        peers.get(&peer).map(|entry| SessionHandle::new(entry.ledger.clone()))
    }
}

/// Finds the session actor of a peer: for scripts and tests, which talk to it directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Option<Addr<SessionActor>>")]
pub struct FindSessionActor(pub PeerId);

impl Handler<FindSessionActor> for PeersActor {
    type Result = Option<Addr<SessionActor>>;

    fn handle(&mut self, FindSessionActor(peer): FindSessionActor, _: &mut Self::Context) -> Self::Result {
        self.table.peers.borrow().get(&peer).map(|entry| entry.session.clone())
    }
}

impl Handler<PeersQuery> for PeersActor {
    type Result = ResponseFuture<Vec<SessionStatus>>;

    fn handle(&mut self, PeersQuery(only): PeersQuery, _: &mut Self::Context) -> Self::Result {
        let sessions = self.sessions_of(only);
        Box::pin(async move {
            let reports = sessions.iter().map(|session| call_within(session, StatusQuery, REPORT_TIMEOUT));
            join_all(reports).await.into_iter().flatten().collect()
        })
    }
}

impl Handler<Broadcast> for PeersActor {
    type Result = MessageResult<Broadcast>;

    fn handle(&mut self, Broadcast(message): Broadcast, _: &mut Self::Context) -> Self::Result {
        let peers = self.table.peers.borrow();
        let send = |(peer, entry): (&PeerId, &PeerEntry)| {
            (*peer, SessionHandle::new(entry.ledger.clone()).send(message.clone()))
        };
        MessageResult(peers.iter().map(send).collect())
    }
}

impl Handler<InterfaceChanged> for PeersActor {
    type Result = ();

    fn handle(&mut self, change: InterfaceChanged, ctx: &mut Self::Context) {
        self.handle(InterfaceState { name: change.name, up: change.up }, ctx);
    }
}

impl Handler<InterfaceState> for PeersActor {
    type Result = ();

    fn handle(&mut self, change: InterfaceState, _: &mut Self::Context) {
        for session in self.sessions_of(None) {
            session.do_send(change.clone());
        }
        let InterfaceState { name, up } = change;
        self.services.emit(EventKind::InterfaceChanged { name, up });
    }
}

/// This node can be reached elsewhere now: every session tells its peer.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Advertise(pub SignedAddresses);

impl Handler<Advertise> for PeersActor {
    type Result = ();

    fn handle(&mut self, Advertise(addresses): Advertise, _: &mut Self::Context) {
        self.services.set_own_addresses(addresses.clone());
        for session in self.sessions_of(None) {
            session.do_send(OwnAddresses(addresses.clone()));
        }
    }
}

impl Handler<DrainSessions> for PeersActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, DrainSessions(limit): DrainSessions, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let peers = self.table.peers.borrow();
        let entries: Vec<_> = peers.values().map(|entry| (entry.session.clone(), entry.ledger.clone())).collect();
        Box::pin(async move {
            let settle = entries.iter().map(|(_, ledger)| {
                let handle = SessionHandle::new(ledger.clone());
                async move { handle.settled().await }
            });
            // What is not delivered by then never will be by this process; receipts say so.
            let _ = tokio::time::timeout(limit, join_all(settle)).await;
            let goodbye = CloseSession(CloseCode::ShuttingDown);
            join_all(entries.iter().map(|(session, _)| call_within(session, goodbye, REPORT_TIMEOUT))).await;
            for (_, ledger) in entries {
                ledger.close();
            }
        })
    }
}
