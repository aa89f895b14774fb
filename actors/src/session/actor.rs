//! The session actor: carries bytes, time and the application's wishes to the session machine and its outputs out.
//!
//! Child of its peer's group, permanent. A restart keeps the ledger, the links, and what is known of the peer's addresses and
//! of the ways to it (all captured by the factory) and forgets estimates and verdicts: everything unacknowledged is sent again under a new epoch of every link's keys.

mod delivery;
mod dialling;
mod handlers;
mod health;
mod requests;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::prelude::SendError as MailboxRefusal;
use actix::{
    Actor, ActorFuture, ActorFutureExt, Addr, AsyncContext, Handler, Message, MessageResult, ResponseFuture, WrapFuture,
};
use bowline_messages::event::EventKind;
use bowline_messages::link::{Arrived, Binding, CloseLink, LinkDown, LinkFailure, LinkInfo, Transmit};
use bowline_messages::repair::{Repair, RepairPath, Symptom};
use bowline_messages::session::{Inbox, SessionEnd, SessionStatus};
use bowline_messages::supervision::{Down, Monitor};
use bowline_messages::wire::frame::CloseCode;
use bowline_messages::wire::{Refusal, SignedAddresses, TicketId};
use bowline_messages::{EndpointAddress, LinkId};
use serde::{Deserialize, Serialize};

pub use requests::{
    AddAddresses, CloseSession, FallbackAddress, FindLinkActor, GivenAddresses, InterfaceState, OwnAddresses,
    StatusQuery, TryAtOnce,
};

use super::budgets::Budgets;
use super::handle::SessionHandle;
use super::handshake::{HandshakeError, ResumeTicket};
use super::identity::Identity;
use super::keeper::{DialOrder, Keeper, Source};
use super::ledger::{InHand, Ledger};
use super::limits::PeerBudget;
use super::machine::{LinkJoin, LinkKeys, Output, Parts, Session};
use super::outbox::PeerLimits;
use super::pressure::{Pressure, RECHECK};
use super::stream::{IncomingStream, SessionStream};
use super::trust::Behaviour;
use super::ways::KnownWays;
use crate::clock;
use crate::link::{AwaitEnd, LinkActor, LinkObserver};
use crate::node::Services;
use crate::pump::{self, Pump, Pumped};
use crate::supervision::{ChildSpec, Context, StartChild, SupervisorActor};
use crate::transport::actor::{ConnectionGuard, Dial, DialError, DialMode, EstablishedLink, LinkEstablished};

/// Assumed round-trip time of a link whose handshake did not measure it (RFC 9002 §6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(333);
/// What counts as a good hour of a session.
const GOOD_HOUR: Duration = Duration::from_secs(3600);
/// A session has so many times the links that are wanted at most: both sides may dial as many, and a known peer no more.
const LINKS_PER_WANTED: usize = 2;

/// One link as the group knows it, whichever life of the session actor is the present one.
struct LinkSlot {
    /// The actor's name below the group's supervisor.
    name: String,
    address: Addr<LinkActor>,
    join: LinkJoin,
    /// The next ticket, until the peer has proven that it has it too.
    ticket: Option<(ResumeTicket, Option<TicketId>)>,
    /// Counts against the transport's limits until it is dropped.
    _guard: ConnectionGuard,
}

/// What a peer's group keeps for its session actor.
pub struct SessionGroup {
    /// What must not be lost.
    pub ledger: Arc<Ledger>,
    services: Rc<Services>,
    supervisor: RefCell<Option<Addr<SupervisorActor>>>,
    links: RefCell<BTreeMap<LinkId, Box<LinkSlot>>>,
    links_made: Cell<u64>,
    /// Links that were closed here and have not said yet that they ended, by number.
    closing: RefCell<BTreeMap<LinkId, u32>>,
    /// What the node's gauge was told last.
    memory: Cell<u64>,
    keeper: RefCell<Keeper>,
    /// Failures and lateness by way, and records of links that died.
    ways: KnownWays,
    /// What the peer may still have delivered, where that is limited. Kept with the peer, or one over whose messages the actor panics,
    /// or whose session ends, would get a new budget each time.
    budgets: Option<Rc<RefCell<Budgets>>>,
}

impl SessionGroup {
    /// A group without links.
    pub fn new(ledger: Arc<Ledger>, services: Rc<Services>) -> Self {
        let wanted = services.session.borrow().links;
        let budgets = services.budgets.borrow_mut().of(ledger.peer(), &services.session.borrow(), clock::now());
        let keeper = Keeper::new(wanted, ledger.local() > ledger.peer(), services.rng());
        Self {
            ledger,
            services,
            supervisor: RefCell::default(),
            links: RefCell::default(),
            links_made: Cell::new(0),
            closing: RefCell::default(),
            memory: Cell::new(0),
            keeper: RefCell::new(keeper),
            ways: KnownWays::default(),
            budgets,
        }
    }

    /// Sets the supervisor below which links are started.
    pub fn set_supervisor(&self, supervisor: Addr<SupervisorActor>) {
        *self.supervisor.borrow_mut() = Some(supervisor);
    }
}

impl Drop for SessionGroup {
    fn drop(&mut self) {
        self.services.memory.replace(self.memory.get(), 0);
    }
}

/// The session actor.
pub struct SessionActor {
    group: Rc<SessionGroup>,
    machine: Session,
    pump: Pump,
    /// The link that brought something last.
    via: Option<Arc<LinkInfo>>,
    /// The application had no room; it is tried again at this time.
    retry_at: Option<Instant>,
    /// The application's actor was not there when it was last looked for, and that was said.
    application_gone: bool,
    /// Since when there is no link.
    alone_since: Option<Instant>,
    /// When the keeper may want something next; looked at again only when something it goes by has changed.
    keeper_at: Option<Instant>,
    /// Whether all links were silent when that was set.
    stuck_seen: bool,
    keeper_changed: bool,
    /// Since when a direct link works.
    reached_since: Option<Instant>,
    /// The set of links that the keeper saw last.
    links_seen: u64,
    over: bool,
    /// How full the node is.
    pressure: Pressure,
    /// Until when the peer is not told of its streams.
    withheld_until: Option<Instant>,
    /// Since when there are links, or the last hour of that began.
    good_since: Instant,
    /// Messages were handed to the application, which may answer at once.
    handed_over: bool,
    /// The work was put off for that, once.
    put_off: bool,
    /// How many messages had been handled when it was last done; `None`: never.
    worked_at: Option<u64>,
    /// The link through others that this side made while no direct link worked.
    fallback: Option<LinkId>,
}

impl SessionActor {
    /// An actor for a group.
    pub fn new(group: Rc<SessionGroup>) -> Self {
        let ledger = &group.ledger;
        let config = group.services.session.borrow().clone();
        let machine = Session::new(ledger.peer(), ledger.incarnation(), ledger.peer_incarnation(), config.clone())
            .with_ways(Rc::clone(&group.ways));
        Self {
            machine,
            pump: Pump::new(),
            via: None,
            retry_at: None,
            application_gone: false,
            alone_since: None,
            keeper_at: None,
            stuck_seen: false,
            keeper_changed: true,
            reached_since: None,
            links_seen: 0,
            over: false,
            pressure: Pressure::Calm,
            withheld_until: None,
            good_since: clock::now(),
            handed_over: false,
            put_off: false,
            worked_at: None,
            fallback: None,
            group,
        }
    }

    /// The keeper, for a change: it is asked again what to dial.
    fn keeper(&mut self) -> RefMut<'_, Keeper> {
        self.keeper_changed = true;
        self.group.keeper.borrow_mut()
    }

    fn services(&self) -> &Rc<Services> {
        &self.group.services
    }

    /// Lets the machine work on the ledger.
    fn with_machine<R>(&mut self, work: impl FnOnce(&mut Session, &mut Parts<'_>) -> R) -> R {
        let ledger = self.group.ledger.clone();
        let (mut outbox, mut inbound, mut keys) = (ledger.outbox(), ledger.inbound(), ledger.keys());
        let mut parts = Parts { outbox: &mut outbox, inbound: &mut inbound, keys: &mut keys };
        work(&mut self.machine, &mut parts)
    }

    /// A life after a panic: what is in the ledger goes on.
    fn resume(&mut self) {
        let ledger = self.group.ledger.clone();
        {
            let mut strikes = ledger.strikes();
            if let Some(message) = strikes.in_hand.take() {
                *strikes.counts.entry(message).or_default() += 1;
            }
        }
        ledger.outbox().on_session_restarted();
        ledger.inbound().on_session_restarted();
        let now = clock::now();
        // A link whose epochs are used up cannot be sealed for any more; the machine finds out and closes it.
        for keys in ledger.keys().values_mut() {
            let _ = keys.sealer.rotate(now);
        }
        // Its ticket is there until a record of the peer's opened on a link.
        let join =
            |slot: &LinkSlot| LinkJoin { confirmed: slot.join.confirmed || slot.ticket.is_none(), ..slot.join.clone() };
        let links: Vec<_> = self.group.links.borrow().values().map(|slot| join(slot)).collect();
        self.via = self.group.links.borrow().values().next().map(|slot| slot.join.info.clone());
        for join in links {
            self.machine.on_link_up(now, ledger.local(), join);
        }
    }

    /// Takes a link into the session, or says why not.
    fn join(
        &mut self,
        link: EstablishedLink,
        dialled: Option<&EndpointAddress>,
        ctx: &mut Context<Self>,
    ) -> Result<(), String> {
        let EstablishedLink { link, buffers, established, ends, handshake_rtt, guard } = link;
        let id = established.link;
        let info = Arc::new(LinkInfo {
            id,
            transport: ends.remote.kind().clone(),
            local: ends.local,
            remote: dialled.cloned().unwrap_or(ends.remote),
            interface: ends.interface,
            initiator: established.initiator,
        });
        let parameters = established.parameters.parameters;
        let join = LinkJoin {
            info: info.clone(),
            lanes: ends.lanes,
            handshake_rtt: handshake_rtt.unwrap_or(INITIAL_RTT),
            ack_delay_max: Duration::from_micros(parameters.ack_delay_max_us.into()),
            confirmed: established.confirmed,
            peer_limits: PeerLimits::from(&parameters),
        };
        let taken = self.group.links.borrow().contains_key(&id);
        if taken && !join.confirmed {
            // It may be a replay: a link that lives is not given up for one that has proven nothing.
            return Err(format!("link {id} lives, and the new one of that number has proven nothing"));
        }
        let most = self.services().session.borrow().links * LINKS_PER_WANTED;
        if !taken && self.group.links.borrow().len() >= most {
            let reason = format!("the session has {most} links");
            if dialled.is_none() {
                self.emit(EventKind::ConnectionRefused { from: info.remote.to_string(), reason: reason.clone() });
            }
            return Err(reason);
        }
        self.forget_link(id, "replaced by a link of the same number");
        let own = ctx.address();
        let observer = LinkObserver { arrived: own.clone().recipient(), down: own.recipient() };
        let made = self.group.links_made.get();
        self.group.links_made.set(made + 1);
        let again = if taken { format!(".{made}") } else { String::new() };
        let name = format!("link-{}-{}{again}", info.transport, id.0);
        let (spec, address) = ChildSpec::once(name.clone(), move || LinkActor::new(id, link, buffers, observer));
        if let Some(supervisor) = &*self.group.supervisor.borrow() {
            let path = name.clone();
            supervisor.do_send(StartChild::new(spec));
            supervisor.do_send(Monitor { path, recipient: ctx.address().recipient() });
        }
        let keys = LinkKeys { sealer: established.sealer, opener: established.opener };
        self.group.ledger.keys().insert(id, Box::new(keys));
        let ticket = Some((established.ticket, established.replaces));
        let slot = LinkSlot { name, address, join: join.clone(), ticket, _guard: guard };
        self.group.links.borrow_mut().insert(id, Box::new(slot));
        if let Some(addresses) = self.services().own_addresses() {
            self.machine.on_own_addresses(addresses);
        }
        let now = clock::now();
        self.machine.on_link_up(now, self.group.ledger.local(), join);
        // A duplicate that gave way to it leaves messages behind.
        self.with_machine(|machine, parts| machine.on_timeout(now, parts));
        self.alone_since = None;
        Ok(())
    }

    /// Whether an end that a link reports is that of one which was closed here.
    fn was_closed(&self, id: LinkId) -> bool {
        let mut closing = self.group.closing.borrow_mut();
        let Some(count) = closing.get_mut(&id) else { return false };
        *count -= 1;
        if *count == 0 {
            closing.remove(&id);
        }
        true
    }

    fn forget_link(&mut self, id: LinkId, reason: &str) {
        self.group.ledger.keys().remove(&id);
        if let Some(slot) = self.group.links.borrow_mut().remove(&id) {
            // Its actor will still say that it ended; that is not about another link that gets its number.
            *self.group.closing.borrow_mut().entry(id).or_default() += 1;
            slot.address.do_send(CloseLink { reason: reason.to_owned() });
        }
    }

    /// Everything there is to do now, in the order in which it hurts least to be late.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        self.deliver(now);
        self.transmit(now);
        self.carry_out(ctx);
        self.dial(now, ctx);
        self.check_alone(now);
        self.weigh();
        let deadline = self.deadline(now);
        pump::arm(self, ctx, deadline);
    }

    /// Tells the node what the session holds, and the outbox how full the node is.
    fn weigh(&mut self) {
        let group = &self.group;
        let mut outbox = group.ledger.outbox();
        let held = outbox.queued().1 as u64 + group.ledger.inbound().held();
        group.services.memory.replace(group.memory.replace(held), held);
        self.pressure = group.services.pressure();
        outbox.set_pressure(self.pressure);
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.over {
            return None;
        }
        let lost = self.alone_since.and_then(|since| {
            let lost_after = self.services().session.borrow().peer_lost_after;
            (!lost_after.is_zero()).then(|| since + lost_after)
        });
        let expiry = self.group.ledger.outbox().deadline();
        let recheck = (self.pressure > Pressure::Calm).then(|| now + RECHECK);
        let fallback = self.fallback_until();
        [
            self.machine.deadline(now),
            fallback,
            // New links are dialled from that moment on, and not when something else is due.
            self.machine.stuck_at().filter(|at| *at > now),
            self.machine.failed_deadline(),
            self.keeper_at,
            self.retry_at,
            self.withheld_until,
            lost,
            expiry,
            recheck,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn transmit(&mut self, now: Instant) {
        let group = self.group.clone();
        let links = group.links.borrow();
        self.with_machine(|machine, parts| {
            while let Some(transmit) = machine.poll_transmit(now, parts) {
                if let Some(slot) = links.get(&transmit.link) {
                    // What may wait there is bounded by the link's window.
                    slot.address.do_send(Transmit { lane: transmit.lane, data: transmit.data });
                }
            }
        });
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        let mut changed = false;
        while let Some(output) = self.machine.poll_output() {
            changed |= !matches!(output, Output::Datagram(..));
            match output {
                Output::Emit(kind) => self.emit(kind),
                Output::LastWords(id, data) => {
                    if let Some(slot) = self.group.links.borrow().get(&id) {
                        slot.address.do_send(Transmit { lane: 0, data });
                    }
                }
                Output::CloseLink(id, reason) => {
                    if let LinkFailure::Refused(refusal) = &reason {
                        self.on_refused(id, refusal);
                    }
                    self.forget_link(id, &reason.to_string());
                }
                Output::LinkProven(id) => {
                    self.observe(Behaviour::Linked);
                    let (ticket, dialled) = match self.group.links.borrow_mut().get_mut(&id) {
                        Some(slot) => (slot.ticket.take(), slot.join.info.initiator.then(|| slot.join.info.clone())),
                        None => (None, None),
                    };
                    if let Some(info) = dialled {
                        self.keeper().on_proven(clock::now(), &info.remote);
                    }
                    if let Some((ticket, replaces)) = ticket {
                        self.services().resume.borrow_mut().confirm(ticket, replaces, clock::now());
                    }
                }
                Output::Observed(behaviour) => self.observe(behaviour),
                Output::PeerKnown(incarnation) => self.group.ledger.set_peer_incarnation(incarnation),
                Output::PeerAddresses(addresses) => self.learn(&addresses),
                Output::WantSpare => self.want_spare(),
                Output::Seen(seen) => self.report_seen(seen, ctx),
                Output::Turned(kind, turn) => self.report_turn(&kind, turn),
                Output::Datagram(concern, payload) => self.take_datagram(concern, &payload),
                Output::ClosedByPeer(code, text) => {
                    tracing::debug!(peer = ?self.group.ledger.peer(), ?code, text, "the peer ends the session");
                    self.end(SessionEnd::ClosedByPeer);
                }
            }
        }
        if changed {
            self.group.ledger.set_standing(self.machine.standing());
        }
    }

    fn emit(&self, kind: EventKind) {
        self.services().emit(kind);
    }

    fn observe(&self, behaviour: Behaviour) {
        let ledger = &self.group.ledger;
        self.services().observe(ledger.peer(), ledger.incarnation(), behaviour);
    }

    fn learn(&mut self, addresses: &SignedAddresses) {
        if Identity::verify_addresses(addresses).is_err() {
            return;
        }
        // Another machine's loopback addresses lead to ourselves.
        let local = self.machine.links().any(|link| is_loopback(&link.remote));
        let usable = addresses.endpoints().filter(|address| local || !is_loopback(address));
        self.keeper().set_learnt(clock::now(), usable);
    }

    fn check_alone(&mut self, now: Instant) {
        if self.machine.links().next().is_some() {
            self.alone_since = None;
            if now.saturating_duration_since(self.good_since) >= GOOD_HOUR {
                self.good_since = now;
                self.observe(Behaviour::GoodHour);
            }
            return;
        }
        self.good_since = now;
        let since = *self.alone_since.get_or_insert(now);
        let lost_after = self.services().session.borrow().peer_lost_after;
        if !lost_after.is_zero() && now.saturating_duration_since(since) >= lost_after {
            self.end(SessionEnd::PeerLost);
        }
    }

    /// Asks for the end of the group, once.
    fn end(&mut self, reason: SessionEnd) {
        if !std::mem::replace(&mut self.over, true) {
            let ledger = &self.group.ledger;
            self.services().end_session(ledger.peer(), ledger.incarnation(), reason);
        }
    }
}

fn is_loopback(address: &EndpointAddress) -> bool {
    address.ip().is_some_and(|ip| ip.is_loopback()) || address.host() == "localhost"
}

/// Polled whenever the actor is: after its mailbox, and when the ledger wakes it. Works once for everything that came in.
struct Worker;

impl ActorFuture<SessionActor> for Worker {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut SessionActor,
        ctx: &mut Context<SessionActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.group.ledger.set_waker(cx.waker());
        // Timers of the actor work themselves, and are no reason to do it again.
        let handled = ctx.handled();
        let woken = actor.group.ledger.take_woken();
        if !woken && !actor.put_off && actor.worked_at == Some(handled) {
            return Poll::Pending;
        }
        // The application has its turn before the work is done, so that its answer leaves in one record with the acknowledgement.
        // Never twice in a row, or a steady stream would put it off for ever.
        if std::mem::take(&mut actor.handed_over) && !actor.put_off {
            actor.put_off = true;
            cx.waker().wake_by_ref();
        } else {
            actor.put_off = false;
            actor.worked_at = Some(handled);
            actor.work(ctx);
        }
        Poll::Pending
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if ctx.restarts() > 0 {
            self.resume();
        }
        ctx.spawn(Worker);
    }
}

impl Pumped for SessionActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        let now = clock::now();
        self.doubt_lateness(now);
        self.with_machine(|machine, parts| machine.on_timeout(now, parts));
        self.machine.age_failed(now);
        self.group.ledger.set_standing(self.machine.standing());
        // The worker may have been polled already in this turn.
        self.work(ctx);
    }
}
