//! All links of a node over the mesh: who calls and is called, and to which link a packet belongs. Pure but for the wakers of those who
//! wait.
//!
//! ```text
//!   caller                              called
//!   first message, sealed to the name ──▶      keeps little, for a short time, and answers where the message says
//!                     ◀── second message       keys on both sides
//!   PING, and what follows ──────────▶         the caller is where it says: the link is shown to the listener
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::MeshConfig;
use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::connection::{Connection, Failure, Tuning};
use super::seal::{Called, Caller, FIRST_BYTES, Keys, SEAL_BYTES};
use crate::routing::limits::Shares;
use crate::routing::wire::PAYLOAD_BYTES_MAX;
use crate::routing::{ConnectionId, Outgoing};
use crate::session::handshake::Entropy;
use crate::session::identity::Identity;

/// A first message is sent again after so long, doubled every time up to the limit.
const CALL_AGAIN: Duration = Duration::from_millis(300);
const CALL_AGAIN_MAX: Duration = Duration::from_secs(2);
/// Copies of a call that come sooner after an answer are not answered: they took another way, or somebody repeats them. Less than
/// [`CALL_AGAIN`], as the way of the second may be the shorter one.
const ANSWER_AGAIN: Duration = Duration::from_millis(150);
/// A caller that was answered has to show that it got the answer within this time.
const CONFIRM: Duration = Duration::from_secs(5);
/// Links that wait for the listener at most.
const BACKLOG: usize = 128;
/// The ephemeral key at the beginning of a first message names it.
const CALL_BYTES: usize = 32;

struct Calling {
    caller: Caller,
    tries: u8,
    next: Instant,
    unreachable: Option<Instant>,
}

struct Answered {
    second: Bytes,
    /// A repeated call is answered again from then on.
    again: Instant,
    /// Which route the last answer took: another one each time, as the one before may lead over a relay that passes nothing on.
    route: u8,
    until: Instant,
}

struct Live {
    keys: Keys,
    remote: ConnectionId,
    connection: Connection,
}

struct Slot {
    peer: PeerId,
    /// The name of the first message that began it, where it was begun by the peer.
    call: Option<[u8; CALL_BYTES]>,
    calling: Option<Calling>,
    answered: Option<Answered>,
    /// The neighbour that brought what showed that the caller got the answer.
    shown_by: Option<PeerId>,
    live: Option<Live>,
    /// A call that came to nothing.
    failed: Option<Failure>,
    waiting: Vec<Waker>,
    /// Nobody uses it any more.
    released: bool,
    timer: Option<Instant>,
    /// Stands in line to send.
    in_line: bool,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MeshCounters {
    /// Packets that belong to no link, or could not be opened.
    pub stray: u64,
    /// First messages that were not looked at, because there were too many.
    pub calls_refused: u64,
    /// First messages that could not be opened.
    pub calls_malformed: u64,
}

/// The links of a node.
pub(super) struct Endpoint {
    identity: Arc<Identity>,
    config: MeshConfig,
    rng: ChaCha20Rng,
    slots: BTreeMap<ConnectionId, Slot>,
    timers: BTreeSet<(Instant, ConnectionId)>,
    line: VecDeque<ConnectionId>,
    /// What does not belong to a link yet.
    out: VecDeque<Outgoing>,
    /// First messages that were answered, by name.
    calls: BTreeMap<[u8; CALL_BYTES], ConnectionId>,
    /// Those whose caller has not shown yet that it got the answer, with the neighbour that brought it, oldest first.
    unconfirmed: VecDeque<(ConnectionId, PeerId)>,
    /// First messages that may be opened, whether that succeeds or not: it costs the same.
    openings: Shares,
    listening: bool,
    acceptor: Option<Waker>,
    backlog: VecDeque<ConnectionId>,
    counters: MeshCounters,
}

impl Endpoint {
    pub(super) fn new(identity: Arc<Identity>, config: MeshConfig, seed: [u8; 32]) -> Self {
        Self {
            identity,
            rng: ChaCha20Rng::from_seed(seed),
            slots: BTreeMap::new(),
            timers: BTreeSet::new(),
            line: VecDeque::new(),
            out: VecDeque::new(),
            calls: BTreeMap::new(),
            unconfirmed: VecDeque::new(),
            openings: Shares::new(config.openings_per_second),
            listening: false,
            acceptor: None,
            backlog: VecDeque::new(),
            counters: MeshCounters::default(),
            config,
        }
    }

    pub(super) fn local(&self) -> PeerId {
        self.identity.peer_id()
    }

    pub(super) fn counters(&self) -> MeshCounters {
        self.counters
    }

    /// Links, those that are being made included.
    pub(super) fn links(&self) -> usize {
        self.slots.len()
    }

    /// Begins a link to a peer; `None` when there are too many, or the peer's name is no key.
    pub(super) fn call(&mut self, now: Instant, peer: PeerId) -> Option<ConnectionId> {
        if self.slots.len() >= self.config.links {
            return None;
        }
        let id = self.new_id();
        let entropy = Entropy::from_rng(&mut self.rng);
        let caller = Caller::new(self.local(), &peer, id, entropy).ok()?;
        let mut slot = Slot::new(peer);
        slot.calling = Some(Calling { caller, tries: 0, next: now, unreachable: None });
        self.slots.insert(id, slot);
        self.touch(id);
        Some(id)
    }

    /// A packet for this node has come; this neighbour brought it.
    pub(super) fn on_packet(&mut self, now: Instant, by: PeerId, connection: ConnectionId, payload: Bytes) {
        if connection == ConnectionId::NONE {
            return self.on_call(now, by, &payload);
        }
        let Some(slot) = self.slots.get_mut(&connection) else {
            self.counters.stray += 1;
            return;
        };
        if let Some(calling) = &mut slot.calling {
            let Some((remote, keys)) = calling.caller.on_answer(&payload) else {
                self.counters.stray += 1;
                return;
            };
            slot.calling = None;
            let connection = Connection::new(now, Tuning::from(&self.config), false);
            slot.live = Some(Live { keys, remote, connection });
        } else if let Some(live) = &mut slot.live {
            let Some((number, frames)) = live.keys.open(live.connection.next_number(), connection, payload) else {
                self.counters.stray += 1;
                return;
            };
            live.connection.on_packet(now, number, frames);
            if slot.answered.take().is_some() {
                slot.shown_by = Some(by);
                self.unconfirmed.retain(|(id, _)| *id != connection);
                self.show(connection);
            }
        }
        self.wake(connection);
        self.touch(connection);
    }

    fn on_call(&mut self, now: Instant, by: PeerId, first: &[u8]) {
        let Some(call) = first.first_chunk::<CALL_BYTES>().filter(|_| first.len() == FIRST_BYTES) else {
            self.counters.calls_malformed += 1;
            return;
        };
        if let Some(id) = self.calls.get(call).copied() {
            return self.on_call_again(now, by, id);
        }
        if !self.listening || self.slots.len() >= self.config.links || !self.openings.admit(now, by) {
            self.counters.calls_refused += 1;
            return;
        }
        let id = self.new_id();
        let entropy = Entropy::from_rng(&mut self.rng);
        let Ok(Called { caller, connection, second, keys }) = Called::new(&self.identity, first, id, entropy) else {
            self.counters.calls_malformed += 1;
            return;
        };
        if caller == self.local() {
            self.counters.calls_malformed += 1;
            return;
        }
        if self.unconfirmed.len() >= self.config.opening_links
            && let Some(id) = self.gives_way()
        {
            self.remove(id);
        }
        let mut slot = Slot::new(caller);
        let until = now + CONFIRM;
        slot.call = Some(*call);
        slot.answered = Some(Answered { second: second.clone(), again: now + ANSWER_AGAIN, route: 0, until });
        slot.live =
            Some(Live { keys, remote: connection, connection: Connection::new(now, Tuning::from(&self.config), true) });
        self.slots.insert(id, slot);
        self.calls.insert(*call, id);
        self.unconfirmed.push_back((id, by));
        self.answer(by, Outgoing::new(caller, connection, second));
        self.touch(id);
    }

    /// A call that was answered already: the answer may be lost. Anybody can repeat what passed by, so it is answered no oftener than a
    /// caller repeats it, and within the share of the neighbour that brings it.
    fn on_call_again(&mut self, now: Instant, by: PeerId, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let (Some(answered), Some(live)) = (&mut slot.answered, &slot.live) else { return };
        if now < answered.again || !self.openings.admit(now, by) {
            self.counters.calls_refused += 1;
            return;
        }
        answered.again = now + ANSWER_AGAIN;
        answered.route = answered.route.wrapping_add(1);
        let answer = Outgoing::new(slot.peer, live.remote, answered.second.clone());
        let answer = Outgoing { route: answered.route, ..answer };
        self.answer(by, answer);
    }

    /// Sends a second message to whom the first one names, which need not be who sent it: so it is on the account of who brought it.
    fn answer(&mut self, by: PeerId, answer: Outgoing) {
        self.out.push_back(Outgoing { on_behalf_of: Some(by), ..answer });
    }

    /// The oldest call that is not confirmed, of the neighbour that brought the most.
    fn gives_way(&self) -> Option<ConnectionId> {
        let mut brought = BTreeMap::<PeerId, usize>::new();
        self.unconfirmed.iter().for_each(|(_, by)| *brought.entry(*by).or_default() += 1);
        let (most, _) = brought.into_iter().max_by_key(|(_, calls)| *calls)?;
        self.unconfirmed.iter().find(|(_, by)| *by == most).map(|(id, _)| *id)
    }

    /// A caller has shown that it is where it says.
    fn show(&mut self, id: ConnectionId) {
        if !self.listening || self.backlog.len() >= BACKLOG {
            return self.release(id);
        }
        self.backlog.push_back(id);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.wake();
        }
    }

    /// Begins to take calls; false when that is so already.
    pub(super) fn listen(&mut self) -> bool {
        !std::mem::replace(&mut self.listening, true)
    }

    /// Takes no calls any more; those that wait are turned away.
    pub(super) fn stop_listening(&mut self) {
        self.listening = false;
        for id in std::mem::take(&mut self.backlog) {
            self.release(id);
        }
    }

    /// The next link at the listener, with its peer and the neighbour behind which that is.
    pub(super) fn accept(&mut self, cx: &mut Context<'_>) -> Option<(ConnectionId, PeerId, Option<PeerId>)> {
        while let Some(id) = self.backlog.pop_front() {
            if let Some(slot) = self.slots.get(&id) {
                return Some((id, slot.peer, slot.shown_by));
            }
        }
        self.acceptor = Some(cx.waker().clone());
        None
    }

    /// There is no route to a peer.
    pub(super) fn on_unreachable(&mut self, now: Instant, peer: &PeerId) {
        let ids: Vec<ConnectionId> =
            self.slots.iter().filter(|(_, slot)| slot.peer == *peer).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                if let Some(calling) = &mut slot.calling {
                    calling.unreachable.get_or_insert(now);
                } else if let Some(live) = &mut slot.live {
                    live.connection.on_unreachable(now);
                }
            }
            self.touch(id);
        }
    }

    /// Whether a call was answered; an error when it came to nothing.
    pub(super) fn is_established(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let Some(slot) = self.slots.get_mut(&id) else { return Err(Failure::Reset) };
        if let Some(failure) = slot.failed {
            return Err(failure);
        }
        if slot.live.is_none() {
            slot.wait(cx);
        }
        Ok(slot.live.is_some())
    }

    /// The state of a link, for those who read and write it. What is done to it shows after [`Endpoint::touch`].
    pub(super) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(&id).and_then(|slot| slot.live.as_mut()).map(|live| &mut live.connection)
    }

    /// Remembers who waits for news of a link.
    pub(super) fn wait(&mut self, id: ConnectionId, cx: &mut Context<'_>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.wait(cx);
        }
    }

    /// Nobody uses a link any more; unless it ended in an orderly way, the other side is told.
    pub(super) fn release(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            connection.reset();
        }
        self.release_after_end(id);
    }

    /// Nobody uses a link any more, and what was written is still sent.
    pub(super) fn release_after_end(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.released = true;
        }
        self.touch(id);
    }

    /// Does what is due.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.timer = None;
            if slot.answered.as_ref().is_some_and(|answered| answered.until <= now) {
                self.remove(id);
                continue;
            }
            if let Some(calling) = &slot.calling {
                let given_up = calling.unreachable.is_some_and(|since| since + self.config.unreachable_timeout <= now);
                slot.failed = slot.failed.or(given_up.then_some(Failure::NoRoute));
            }
            if let Some(live) = &mut slot.live {
                live.connection.on_timeout(now);
            }
            let news =
                slot.failed.is_some() || slot.live.as_ref().is_some_and(|live| live.connection.failure().is_some());
            if news {
                self.wake(id);
            }
            self.touch(id);
        }
    }

    /// When [`Endpoint::on_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next packet to be sent. Links take turns.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if let Some(packet) = self.out.pop_front() {
            return Some(packet);
        }
        while let Some(id) = self.line.pop_front() {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.in_line = false;
            let packet = slot.poll_transmit(now);
            if packet.is_some() {
                slot.in_line = true;
                self.line.push_back(id);
                return packet;
            }
            self.settle(id);
        }
        None
    }

    /// A link was changed: it may have something to send.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !slot.in_line {
            slot.in_line = true;
            self.line.push_back(id);
        }
    }

    /// Nothing more to send now: sets the timer, or forgets a link that is over.
    fn settle(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let over = slot.live.as_ref().is_none_or(|live| live.connection.is_forgotten());
        if slot.released && over {
            return self.remove(id);
        }
        let deadline = slot.deadline(&self.config);
        if deadline != slot.timer {
            if let Some(old) = slot.timer.take() {
                self.timers.remove(&(old, id));
            }
            slot.timer = deadline;
            self.timers.extend(deadline.map(|at| (at, id)));
        }
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        if let Some(timer) = slot.timer {
            self.timers.remove(&(timer, id));
        }
        if slot.answered.is_some() {
            self.unconfirmed.retain(|(other, _)| *other != id);
        }
        if let Some(call) = slot.call {
            self.calls.remove(&call);
        }
        slot.waiting.into_iter().for_each(Waker::wake);
    }

    fn wake(&mut self, id: ConnectionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.waiting.drain(..).for_each(Waker::wake);
        }
    }

    fn new_id(&mut self) -> ConnectionId {
        loop {
            let id = ConnectionId(self.rng.next_u64().to_be_bytes());
            if id != ConnectionId::NONE && !self.slots.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Slot {
    fn new(peer: PeerId) -> Self {
        Self {
            peer,
            call: None,
            calling: None,
            answered: None,
            shown_by: None,
            live: None,
            failed: None,
            waiting: Vec::new(),
            released: false,
            timer: None,
            in_line: false,
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            // One task uses a link; whoever used it before is gone.
            self.waiting.truncate(1);
            self.waiting.push(cx.waker().clone());
        }
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if let Some(calling) =
            self.calling.as_mut().filter(|calling| calling.next <= now && self.failed.is_none() && !self.released)
        {
            let again = CALL_AGAIN * 2_u32.pow(u32::from(calling.tries.min(8)));
            calling.next = now + again.min(CALL_AGAIN_MAX);
            let packet = Outgoing::new(self.peer, ConnectionId::NONE, calling.caller.first.clone());
            // Whoever is away for a moment is called the moment it is back.
            let packet = Outgoing { route: calling.tries, keep: calling.tries > 0, ..packet };
            calling.tries = calling.tries.saturating_add(1);
            return Some(packet);
        }
        if self.answered.is_some() {
            return None;
        }
        let live = self.live.as_mut()?;
        let (number, frames) = live.connection.poll_transmit(now, PAYLOAD_BYTES_MAX - SEAL_BYTES)?;
        let payload = live.keys.seal(number, live.remote, &frames)?;
        let (route, keep) = (live.connection.route(), live.connection.is_probing());
        Some(Outgoing { route, keep, ..Outgoing::new(self.peer, live.remote, payload) })
    }

    fn deadline(&self, config: &MeshConfig) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        if let Some(calling) = &self.calling {
            let given_up = calling.unreachable.map(|since| since + config.unreachable_timeout);
            return given_up.into_iter().chain([calling.next]).min();
        }
        match &self.answered {
            Some(answered) => Some(answered.until),
            None => self.live.as_ref().and_then(|live| live.connection.deadline()),
        }
    }
}
