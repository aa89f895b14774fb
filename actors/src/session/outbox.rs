//! The sending half of a ledger: what was accepted for sending and is not final yet. Pure; survives the session actor.
//!
//! Messages are numbered per channel. A message leaves when the peer says that its application has it (`DELIVERED`), when it is
//! skipped (expired, superseded, sent at most once and lost) or when the session ends. What was put into records is described by
//! [`SentItem`]s, which the session machine keeps per record and gives back as acknowledged or lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;
use std::time::Instant;

use bowline_messages::session::{Outgoing, ReceiptState, SendError};
use bowline_messages::wire::frame;
use bowline_messages::wire::hello::HelloParameters;
use bowline_messages::{ChannelId, Delivery, MessageClass, PolicyName};
use bytes::{Bytes, BytesMut};

use super::ledger::SESSION_WINDOW_CHANNELS;
use super::pressure::Pressure;
use super::ranges::RangeSet;
use super::tx_channel::{Entry, Phase, TxChannel, window_cost};

/// Classes there are.
pub(crate) const CLASSES: usize = MessageClass::ALL.len();
/// The smallest piece worth a fragment of its own when a record is nearly full, in bytes.
const FRAGMENT_BYTES_MIN: usize = 256;
/// Expiries of messages that are final are not worth being looked for below this number.
const EXPIRIES_KEPT: usize = 64;
/// Room that the head of a fragment (or a whole skip frame) takes at most, in bytes: type, channel, sequence, total, offset,
/// length.
const FRAGMENT_HEAD_BYTES: usize = 1 + 5 * 8;

/// Bounds of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of payload that may wait.
    pub queue_bytes: usize,
    /// Messages that may wait.
    pub queue_messages: usize,
    /// Bytes in one message.
    pub message_bytes: usize,
    /// Channels, streams included.
    pub channels: usize,
}

/// What the peer takes, as it says in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLimits {
    /// Bytes per channel that may be outstanding; [`SESSION_WINDOW_CHANNELS`] times as many in all.
    pub channel_window: u64,
    /// Bytes in one message.
    pub message_bytes: usize,
    /// Channels, streams included.
    pub channels: usize,
}

impl PeerLimits {
    fn session_window(&self) -> u64 {
        self.channel_window.saturating_mul(SESSION_WINDOW_CHANNELS)
    }
}

impl From<&HelloParameters> for PeerLimits {
    fn from(parameters: &HelloParameters) -> Self {
        Self {
            channel_window: parameters.channel_window.into(),
            message_bytes: parameters.message_bytes_max as usize,
            channels: parameters.channels_max as usize,
        }
    }
}

/// What a record carries of the outbox: enough to mark it acknowledged or to send it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentItem {
    /// Whole messages with consecutive numbers.
    Messages {
        /// Their channel.
        channel: ChannelId,
        /// The first one.
        first: u64,
        /// How many.
        count: u32,
    },
    /// A piece of a message.
    Fragment {
        /// Its channel.
        channel: ChannelId,
        /// The message.
        sequence: u64,
        /// Where the piece begins.
        offset: u32,
        /// Its length.
        length: u32,
    },
    /// The news that messages will not come.
    Skip {
        /// Their channel.
        channel: ChannelId,
        /// The first one.
        from: u64,
        /// The one behind the last.
        until: u64,
    },
}

impl SentItem {
    /// How many messages it concerns.
    pub fn messages(&self) -> u64 {
        match self {
            Self::Messages { count, .. } => u64::from(*count),
            Self::Fragment { offset: 0, .. } => 1,
            Self::Fragment { .. } | Self::Skip { .. } => 0,
        }
    }
}

/// The peer claims something that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer says that message {next} of channel {channel} was delivered, which was never sent", channel = channel.0)]
pub struct FalseDelivery {
    channel: ChannelId,
    next: u64,
}

/// The sending half of a ledger.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    channels: BTreeMap<ChannelId, Box<TxChannel>>,
    ready: [VecDeque<ChannelId>; CLASSES],
    lost: [VecDeque<SentItem>; CLASSES],
    expiring: BTreeSet<(Instant, ChannelId, u64)>,
    peer: PeerLimits,
    outstanding: u64,
    queued_bytes: usize,
    queued_messages: usize,
    accepted: u64,
    acknowledged: u64,
    closed: bool,
    /// How full the whole node is.
    pressure: Pressure,
    /// Whether the session found nothing to send and has to be woken for the next message.
    idle: bool,
    room_waiters: Vec<Waker>,
    settled_waiters: Vec<Waker>,
}

/// What became of a `push`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The message's number in its channel.
    pub sequence: u64,
    /// Whether the session has to be woken.
    pub wake: bool,
}

impl Outbox {
    /// An empty outbox for a peer of which only the window is guessed.
    pub fn new(limits: OutboxLimits, channel_window: u64) -> Self {
        Self {
            limits,
            channels: BTreeMap::new(),
            ready: Default::default(),
            lost: Default::default(),
            expiring: BTreeSet::new(),
            peer: PeerLimits { channel_window, message_bytes: usize::MAX, channels: usize::MAX },
            outstanding: 0,
            queued_bytes: 0,
            queued_messages: 0,
            accepted: 0,
            acknowledged: 0,
            closed: false,
            pressure: Pressure::Calm,
            idle: true,
            room_waiters: Vec::new(),
            settled_waiters: Vec::new(),
        }
    }

    /// Accepts a message.
    ///
    /// # Errors
    /// [`SendError`]; nothing of the message is kept then.
    pub fn push(&mut self, message: Outgoing, expires: Option<Instant>) -> Result<Pushed, SendError> {
        let bytes = message.payload.len();
        if self.closed {
            return Err(SendError::Closed);
        }
        if bytes > self.message_bytes() {
            return Err(SendError::TooLarge { bytes, limit: self.message_bytes() });
        }
        if !self.has_room(message.class, bytes) {
            return Err(SendError::Full { bytes: self.queued_bytes });
        }
        let limit = self.limits.channels.min(self.peer.channels);
        if self.channels.len() >= limit && !self.channels.contains_key(&message.channel) {
            return Err(SendError::TooManyChannels { limit });
        }
        self.accept(message, expires)
    }

    /// The largest message that both sides take, in bytes.
    pub fn message_bytes(&self) -> usize {
        self.limits.message_bytes.min(self.peer.message_bytes)
    }

    /// Accepts the last message of a stream, its end or its reset, whatever the queue holds: nobody else would tell the peer. There is
    /// one for each stream, so that their number bounds what is accepted beyond the limits.
    ///
    /// # Errors
    /// [`SendError::Closed`]: the session or the channel has ended.
    pub(crate) fn push_last(&mut self, message: Outgoing) -> Result<Pushed, SendError> {
        if self.closed {
            return Err(SendError::Closed);
        }
        let id = message.channel;
        let pushed = self.accept(message, None)?;
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.finished = true;
        }
        Ok(pushed)
    }

    fn accept(&mut self, message: Outgoing, expires: Option<Instant>) -> Result<Pushed, SendError> {
        let bytes = message.payload.len();
        let id = message.channel;
        let window = self.peer.channel_window;
        let channel = self.channels.entry(id).or_insert_with(|| Box::new(TxChannel::new(window)));
        if channel.finished {
            return Err(SendError::Closed);
        }
        let sequence = channel.end();
        let superseded = (message.delivery == Delivery::LatestOnly && sequence > channel.next_unsent)
            .then(|| sequence - 1)
            .filter(|before| channel.entry(*before).is_some_and(|e| e.delivery == Delivery::LatestOnly && e.sent == 0));
        channel.entries.push_back(Entry {
            length: bytes as u32,
            payload: message.payload,
            sent: 0,
            class: message.class,
            delivery: message.delivery,
            policy: message.policy,
            phase: Phase::Waiting,
            outstanding: false,
            fragments: None,
        });
        self.queued_bytes += bytes;
        self.queued_messages += 1;
        self.accepted += 1;
        let waits = channel.queued;
        if let Some(at) = expires {
            self.expiring.insert((at, id, sequence));
        }
        if let Some(before) = superseded {
            self.skip(id, before, ReceiptState::NotSent);
        }
        if !waits {
            self.enqueue(id);
        }
        Ok(Pushed { sequence, wake: std::mem::take(&mut self.idle) })
    }

    /// Puts a channel into the ready queue of its next message's class, if it has one that may go.
    fn enqueue(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.queued {
            return;
        }
        let Some(head) = channel.head() else { return };
        let (class, length, begun) = (head.class, head.length, head.sent > 0);
        if begun || channel.has_room(length) {
            channel.queued = true;
            self.ready[class.index()].push_back(id);
        }
    }

    /// Whether a message of a class waits to be put on a wire.
    pub fn has_ready(&self, class: usize) -> bool {
        !self.lost[class].is_empty()
            || (!self.ready[class].is_empty()
                && (self.outstanding < self.peer.session_window() || self.outstanding == 0))
    }

    /// The policy that the next message of a class asks for, if it asks for one.
    pub fn head_policy(&self, class: usize) -> Option<PolicyName> {
        let (channel, sequence) = match self.lost[class].front() {
            Some(
                SentItem::Messages { channel, first: sequence, .. } | SentItem::Fragment { channel, sequence, .. },
            ) => (channel, *sequence),
            Some(SentItem::Skip { .. }) => return None,
            None => {
                let id = self.ready[class].front()?;
                (id, self.channels.get(id)?.next_unsent)
            }
        };
        self.channels.get(channel)?.entry(sequence)?.policy
    }

    /// Fills a record with messages of one class, lost ones first, until `budget` bytes are used or nothing is left. What was
    /// written is appended to `items`.
    pub fn fill(&mut self, class: usize, budget: usize, out: &mut BytesMut, items: &mut Vec<SentItem>) {
        let end = out.len() + budget;
        while let Some(item) = self.lost[class].pop_front() {
            let rest = self.write_item(item, end.saturating_sub(out.len()), out, items);
            if let Some(rest) = rest {
                self.lost[class].push_front(rest);
                return;
            }
        }
        let policy = self.head_policy(class);
        while let Some(&id) = self.ready[class].front() {
            if self.outstanding >= self.peer.session_window() && self.outstanding > 0 {
                return;
            }
            match self.fill_from(id, class, policy, end, out, items) {
                Next::RecordFull => {
                    // Channels of one class take turns, record by record.
                    self.ready[class].rotate_left(1);
                    return;
                }
                Next::OtherPolicy => return,
                Next::ChannelDone => {
                    self.ready[class].pop_front();
                    if let Some(channel) = self.channels.get_mut(&id) {
                        channel.queued = false;
                    }
                    self.enqueue(id);
                }
            }
        }
    }

    fn fill_from(
        &mut self,
        id: ChannelId,
        class: usize,
        policy: Option<PolicyName>,
        end: usize,
        out: &mut BytesMut,
        items: &mut Vec<SentItem>,
    ) -> Next {
        let Some(channel) = self.channels.get_mut(&id) else { return Next::ChannelDone };
        loop {
            let window_open = {
                let (outstanding, window) = (channel.outstanding, channel.window);
                move |length: u32| outstanding == 0 || outstanding + window_cost(length as usize) <= window
            };
            let Some(head) = channel.head() else { return Next::ChannelDone };
            if head.class.index() != class || (head.sent == 0 && !window_open(head.length)) {
                return Next::ChannelDone;
            }
            if head.policy != policy {
                return Next::OtherPolicy;
            }
            let sequence = channel.next_unsent;
            let Some(entry) = channel.entries.get_mut((sequence - channel.base) as usize) else {
                return Next::ChannelDone;
            };
            let budget = end.saturating_sub(out.len());
            if entry.sent == 0 {
                if frame::message_bytes(id, sequence, entry.payload.len()) <= budget {
                    frame::put_message(out, entry.class, id, sequence, &entry.payload);
                    note_message(items, id, sequence);
                    entry.sent = entry.length;
                    entry.phase = Phase::InFlight;
                    entry.outstanding = true;
                    channel.outstanding += window_cost(entry.length as usize);
                    self.outstanding += window_cost(entry.length as usize);
                    channel.next_unsent += 1;
                    continue;
                }
                // A message that a fresh record could hold waits for one; larger ones are cut.
                if entry.payload.len() + FRAGMENT_HEAD_BYTES <= FRAGMENT_BYTES_MIN || budget < FRAGMENT_BYTES_MIN {
                    return Next::RecordFull;
                }
                entry.outstanding = true;
                channel.outstanding += window_cost(entry.length as usize);
                self.outstanding += window_cost(entry.length as usize);
            }
            let Some(piece) = put_piece(entry, id, sequence, entry.sent, entry.length, budget, out) else {
                return Next::RecordFull;
            };
            items.push(SentItem::Fragment { channel: id, sequence, offset: entry.sent, length: piece });
            entry.sent += piece;
            if entry.sent == entry.length {
                entry.phase = Phase::InFlight;
                channel.next_unsent += 1;
            }
        }
    }

    /// Writes again what an item describes, as far as it is still needed and fits. Gives back what did not fit.
    pub fn write_item(
        &mut self,
        item: SentItem,
        budget: usize,
        out: &mut BytesMut,
        items: &mut Vec<SentItem>,
    ) -> Option<SentItem> {
        let end = out.len() + budget;
        match item {
            SentItem::Messages { channel, first, count } => {
                for sequence in first..first + u64::from(count) {
                    let rest = SentItem::Messages {
                        channel,
                        first: sequence,
                        count: (first + u64::from(count) - sequence) as u32,
                    };
                    let Some(entry) = self.live_entry(channel, sequence) else { continue };
                    let room = end.saturating_sub(out.len());
                    if frame::message_bytes(channel, sequence, entry.payload.len()) <= room {
                        frame::put_message(out, entry.class, channel, sequence, &entry.payload);
                        note_message(items, channel, sequence);
                    } else if count == 1 && room >= FRAGMENT_BYTES_MIN {
                        let whole = SentItem::Fragment { channel, sequence, offset: 0, length: entry.length };
                        return self.write_item(whole, room, out, items);
                    } else if sequence == first && room >= FRAGMENT_BYTES_MIN {
                        // Does not fit, perhaps into no record of this link: cut this one, the others stay as they are.
                        let whole = SentItem::Fragment { channel, sequence, offset: 0, length: entry.length };
                        let class = entry.class.index();
                        self.lost[class].push_front(SentItem::Messages { channel, first: first + 1, count: count - 1 });
                        return self.write_item(whole, room, out, items);
                    } else {
                        return Some(rest);
                    }
                }
                None
            }
            SentItem::Fragment { channel, sequence, offset, length } => {
                let entry = self.live_entry(channel, sequence)?;
                let until = offset.saturating_add(length).min(entry.length);
                let mut at = offset;
                while at < until {
                    let room = end.saturating_sub(out.len());
                    let Some(piece) = put_piece(entry, channel, sequence, at, until, room, out) else {
                        return Some(SentItem::Fragment { channel, sequence, offset: at, length: until - at });
                    };
                    items.push(SentItem::Fragment { channel, sequence, offset: at, length: piece });
                    at += piece;
                }
                None
            }
            SentItem::Skip { channel, from, until } => {
                if until <= self.channels.get(&channel)?.confirmed {
                    return None;
                }
                if FRAGMENT_HEAD_BYTES > end.saturating_sub(out.len()) {
                    return Some(item);
                }
                frame::put_skip(out, channel, from, until);
                items.push(item);
                None
            }
        }
    }

    /// The class of what an item describes, while it is still here.
    pub fn class_of(&self, item: SentItem) -> Option<usize> {
        let (channel, sequence) = match item {
            SentItem::Messages { channel, first: sequence, .. } | SentItem::Fragment { channel, sequence, .. } => {
                (channel, sequence)
            }
            SentItem::Skip { .. } => return None,
        };
        Some(self.channels.get(&channel)?.entry(sequence)?.class.index())
    }

    /// A message that was put on a wire and that the peer's session does not have yet, as far as is known.
    fn live_entry(&self, channel: ChannelId, sequence: u64) -> Option<&Entry> {
        let entry = self.channels.get(&channel)?.entry(sequence)?;
        entry.is_live().then_some(entry)
    }

    /// Notes that the peer's session has what an item describes. Gives how many messages became complete there.
    pub fn on_acknowledged(&mut self, item: SentItem) -> u64 {
        let mut complete = 0;
        match item {
            SentItem::Messages { channel: id, first, count } => {
                let Some(channel) = self.channels.get_mut(&id) else { return 0 };
                for sequence in first.max(channel.base)..first + u64::from(count) {
                    complete += u64::from(receive(channel, sequence, &mut self.queued_bytes));
                }
            }
            SentItem::Fragment { channel: id, sequence, offset, length } => {
                let Some(channel) = self.channels.get_mut(&id) else { return 0 };
                let Some(entry) = channel.entry_mut(sequence) else { return 0 };
                let have = entry.fragments.get_or_insert_with(Box::<RangeSet>::default);
                have.insert(u64::from(offset)..u64::from(offset) + u64::from(length));
                if have.covers(0..u64::from(entry.length)) {
                    complete += u64::from(receive(channel, sequence, &mut self.queued_bytes));
                }
            }
            SentItem::Skip { .. } => {}
        }
        self.wake_room();
        complete
    }

    /// Takes back what an item describes, to be sent again over another link; messages sent at most once are skipped instead.
    pub fn on_lost(&mut self, item: SentItem) {
        let (id, first, count) = match item {
            SentItem::Messages { channel, first, count } => (channel, first, u64::from(count)),
            SentItem::Fragment { channel, sequence, .. } => (channel, sequence, 1),
            SentItem::Skip { channel, until, .. } => {
                if self.channels.get(&channel).is_some_and(|c| c.confirmed < until) {
                    self.lost[MessageClass::Critical.index()].push_back(item);
                }
                return;
            }
        };
        let mut class = None;
        for sequence in first..first + count {
            let Some(entry) = self.live_entry(id, sequence) else { continue };
            if entry.delivery == Delivery::ExactlyOnce {
                class = Some(entry.class.index());
            } else {
                self.skip(id, sequence, ReceiptState::Unknown);
            }
        }
        if let Some(class) = class {
            self.lost[class].push_back(item);
        }
    }

    /// Notes that the peer handed every message of a channel below `next` to its application, and how much it allows from there.
    /// Gives how many messages became final.
    ///
    /// # Errors
    /// [`FalseDelivery`] when a message in question was never sent; nothing changes then.
    pub fn on_delivered(&mut self, id: ChannelId, next: u64, window: u64) -> Result<u64, FalseDelivery> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(0) };
        // Messages that were skipped in another order than their own are passed over first.
        channel.head();
        if next > channel.next_unsent {
            return Err(FalseDelivery { channel: id, next });
        }
        let before = channel.base;
        while channel.base < next {
            let Some(entry) = channel.entries.pop_front() else { break };
            channel.base += 1;
            if entry.outstanding {
                channel.outstanding = channel.outstanding.saturating_sub(window_cost(entry.length as usize));
                self.outstanding = self.outstanding.saturating_sub(window_cost(entry.length as usize));
            }
            self.queued_messages -= 1;
            self.queued_bytes -= entry.payload.len();
            self.acknowledged += u64::from(entry.phase != Phase::Skipped);
        }
        channel.window = window;
        channel.confirmed = channel.confirmed.max(next);
        let finalised = channel.base - before;
        let wakers = channel.take_waiters(channel.base);
        let gone = channel.finished && channel.entries.is_empty();
        if gone {
            self.channels.remove(&id);
        } else {
            self.enqueue(id);
        }
        self.forget_expiries();
        wakers.into_iter().for_each(Waker::wake);
        self.wake_room();
        Ok(finalised)
    }

    /// Forgets when messages expire that are final, once they are more than the others: what is remembered is bounded by what is
    /// queued, at a cost that is constant per message on the average.
    fn forget_expiries(&mut self) {
        if self.expiring.len() > 2 * self.queued_messages + EXPIRIES_KEPT {
            let channels = &self.channels;
            self.expiring.retain(|(_, id, sequence)| channels.get(id).is_some_and(|c| c.entry(*sequence).is_some()));
        }
    }

    /// The peer's session set a message aside. It is passed over there like one that was delivered.
    pub fn on_quarantined(&mut self, id: ChannelId, sequence: u64) {
        if let Some(channel) = self.channels.get_mut(&id)
            && channel.entry(sequence).is_some_and(|entry| entry.was_on_wire())
        {
            channel.outcomes.insert(sequence..sequence + 1, ReceiptState::Quarantined);
            channel.waiters.remove(&sequence).unwrap_or_default().into_iter().for_each(Waker::wake);
        }
    }

    /// Sets a message aside: its outcome is `state` and the peer will be told to go on without it.
    pub fn skip(&mut self, id: ChannelId, sequence: u64, state: ReceiptState) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        let Some(entry) = channel.entry_mut(sequence) else { return };
        if matches!(entry.phase, Phase::Skipped | Phase::Received) {
            return;
        }
        entry.phase = Phase::Skipped;
        let freed = std::mem::take(&mut entry.payload);
        self.queued_bytes -= freed.len();
        channel.outcomes.insert(sequence..sequence + 1, state);
        let wakers = channel.waiters.remove(&sequence).unwrap_or_default();
        if channel.next_unsent == sequence {
            channel.next_unsent += 1;
        }
        let queue = &mut self.lost[MessageClass::Critical.index()];
        match queue.back_mut() {
            Some(SentItem::Skip { channel, until, .. }) if *channel == id && *until == sequence => *until += 1,
            _ => queue.push_back(SentItem::Skip { channel: id, from: sequence, until: sequence + 1 }),
        }
        wakers.into_iter().for_each(Waker::wake);
        self.wake_room();
    }

    /// The next moment at which a message expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.expiring.first().map(|(at, _, _)| *at)
    }

    /// Skips the messages whose time has run out: `Expired` if they were never on a wire, `Unknown` otherwise.
    pub fn on_timeout(&mut self, now: Instant) {
        while let Some(&(at, id, sequence)) = self.expiring.first() {
            if at > now {
                return;
            }
            self.expiring.pop_first();
            let sent = self.channels.get(&id).and_then(|c| c.entry(sequence)).is_some_and(Entry::was_on_wire);
            self.skip(id, sequence, if sent { ReceiptState::Unknown } else { ReceiptState::Expired });
        }
    }

    /// The peer is another process now, with other windows. What was on a wire to the old one becomes `Unknown`; the rest is sent
    /// to the new one, which is told where each channel begins. `reused` says which streams' numbers the new one may give again.
    /// Gives how many messages became unknown.
    pub fn on_peer_restarted(&mut self, limits: PeerLimits, reused: impl Fn(ChannelId) -> bool) -> u64 {
        self.peer = limits;
        self.lost.iter_mut().for_each(VecDeque::clear);
        self.ready.iter_mut().for_each(VecDeque::clear);
        let mut unknown = 0;
        let ids: Vec<_> = self.channels.keys().copied().collect();
        for id in ids {
            if id.is_stream() {
                // A stream's bytes make no sense to a process that did not see its beginning.
                unknown += self.end_channel(id);
                // A handle of the old life must not be in the way of a new stream with its number.
                if reused(id) {
                    self.channels.remove(&id);
                }
                // Its outcomes stay until its handle lets go of it; nothing more can be written.
                if let Some(channel) = self.channels.get_mut(&id) {
                    channel.finished = true;
                    channel.queued = false;
                }
                continue;
            }
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            let mut wakers = Vec::new();
            while let Some(entry) = channel.entries.front() {
                if !entry.was_on_wire() && entry.phase != Phase::Skipped {
                    break;
                }
                if entry.phase != Phase::Skipped {
                    channel.outcomes.insert(channel.base..channel.base + 1, ReceiptState::Unknown);
                    unknown += 1;
                }
                self.queued_bytes -= entry.payload.len();
                self.queued_messages -= 1;
                channel.entries.pop_front();
                channel.base += 1;
            }
            wakers.append(&mut channel.take_waiters(channel.base));
            channel.next_unsent = channel.base;
            channel.confirmed = 0;
            channel.outstanding = 0;
            channel.window = limits.channel_window;
            channel.queued = false;
            let skipped = channel.entries.iter().enumerate().filter(|(_, entry)| entry.phase == Phase::Skipped);
            for (at, _) in skipped {
                let from = channel.base + at as u64;
                let skip = SentItem::Skip { channel: id, from, until: from + 1 };
                self.lost[MessageClass::Critical.index()].push_back(skip);
            }
            if channel.base > 0 {
                let skip = SentItem::Skip { channel: id, from: 0, until: channel.base };
                self.lost[MessageClass::Critical.index()].push_back(skip);
            }
            self.enqueue(id);
            wakers.into_iter().for_each(Waker::wake);
        }
        self.outstanding = 0;
        self.set_peer_limits(limits);
        self.forget_expiries();
        self.wake_room();
        unknown
    }

    /// The peer says what it takes. Of what was accepted before it did, the excess is given up: it would break every link.
    pub fn set_peer_limits(&mut self, limits: PeerLimits) {
        self.peer = limits;
        let ids: Vec<_> = self.channels.keys().copied().collect();
        for (at, id) in ids.into_iter().enumerate() {
            if at >= limits.channels {
                self.end_channel(id);
            }
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            // One that was ended stays for its receipts.
            channel.finished |= at >= limits.channels;
            channel.window = limits.channel_window;
            let numbered = (channel.base..).zip(&channel.entries);
            let excess: Vec<_> =
                numbered.filter(|(_, e)| e.length as usize > limits.message_bytes).map(|(number, _)| number).collect();
            for sequence in excess {
                self.skip(id, sequence, ReceiptState::NotSent);
            }
            self.enqueue(id);
        }
    }

    /// The session actor was restarted and forgot which records were in flight: everything the peer may not have is sent again.
    pub fn on_session_restarted(&mut self) {
        self.lost.iter_mut().for_each(VecDeque::clear);
        let mut again = Vec::new();
        for (id, channel) in &self.channels {
            if channel.confirmed < channel.base {
                again.push(SentItem::Skip { channel: *id, from: 0, until: channel.base });
            }
            for (at, entry) in channel.entries.iter().enumerate() {
                let sequence = channel.base + at as u64;
                match entry.phase {
                    Phase::Skipped => again.push(SentItem::Skip { channel: *id, from: sequence, until: sequence + 1 }),
                    Phase::InFlight | Phase::Waiting if entry.is_live() => {
                        again.push(SentItem::Fragment { channel: *id, sequence, offset: 0, length: entry.sent });
                    }
                    Phase::InFlight | Phase::Waiting | Phase::Received => {}
                }
            }
        }
        for item in again {
            match item {
                SentItem::Fragment { channel, sequence, length, .. } => {
                    let whole = self.live_entry(channel, sequence).is_some_and(|e| e.length == length);
                    self.on_lost(if whole { SentItem::Messages { channel, first: sequence, count: 1 } } else { item });
                }
                SentItem::Messages { .. } | SentItem::Skip { .. } => self.on_lost(item),
            }
        }
    }

    /// Ends the session: whatever is not final becomes `NotSent` or, if it was on a wire, `Unknown`.
    pub fn close(&mut self) {
        self.closed = true;
        self.lost.iter_mut().for_each(VecDeque::clear);
        self.ready.iter_mut().for_each(VecDeque::clear);
        self.expiring.clear();
        let ids: Vec<_> = self.channels.keys().copied().collect();
        for id in ids {
            self.end_channel(id);
        }
        self.outstanding = 0;
        self.wake_room();
    }

    /// Makes everything in a channel final; gives how many messages are unknown.
    fn end_channel(&mut self, id: ChannelId) -> u64 {
        let Some(channel) = self.channels.get_mut(&id) else { return 0 };
        let mut unknown = 0;
        while let Some(entry) = channel.entries.pop_front() {
            let sequence = channel.base;
            channel.base += 1;
            self.queued_messages -= 1;
            self.queued_bytes -= entry.payload.len();
            let state = if entry.was_on_wire() { ReceiptState::Unknown } else { ReceiptState::NotSent };
            unknown += u64::from(entry.was_on_wire());
            if entry.phase != Phase::Skipped {
                channel.outcomes.insert(sequence..sequence + 1, state);
            }
        }
        channel.next_unsent = channel.base;
        channel.take_waiters(u64::MAX).into_iter().for_each(Waker::wake);
        unknown
    }

    /// No further message will come on a channel; it is forgotten once everything on it is final.
    pub fn finish_channel(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.finished = true;
            if channel.entries.is_empty() {
                self.channels.remove(&id);
            }
        }
    }

    /// The state of a message.
    pub fn state(&self, id: ChannelId, sequence: u64) -> ReceiptState {
        match self.channels.get(&id) {
            Some(channel) => channel.state(sequence),
            // A finished stream: everything on it was delivered, unless the session ended first.
            None if self.closed => ReceiptState::Unknown,
            None => ReceiptState::Acknowledged,
        }
    }

    /// Has a waker called once a message is final. A message that is final already is not waited for.
    pub fn wait_final(&mut self, id: ChannelId, sequence: u64, waker: &Waker) {
        if let Some(channel) = self.channels.get_mut(&id) {
            let waiting = channel.waiters.entry(sequence).or_default();
            if !waiting.iter().any(|known| known.will_wake(waker)) {
                waiting.push(waker.clone());
            }
        }
    }

    /// Has a waker called once there may be room for more.
    pub fn wait_room(&mut self, waker: &Waker) {
        if !self.room_waiters.iter().any(|known| known.will_wake(waker)) {
            self.room_waiters.push(waker.clone());
        }
    }

    /// Whether a message of so many bytes would be accepted.
    pub fn has_room(&self, class: MessageClass, bytes: usize) -> bool {
        !self.pressure.refuses(class)
            && self.queued_messages < self.limits.queue_messages
            && (self.queued_bytes + bytes <= self.limits.queue_bytes || self.queued_bytes == 0)
    }

    /// The node got fuller, or emptier.
    pub fn set_pressure(&mut self, pressure: Pressure) {
        if std::mem::replace(&mut self.pressure, pressure) > pressure {
            self.room_waiters.drain(..).for_each(Waker::wake);
        }
    }

    /// Has a waker called once everything is final.
    pub fn wait_settled(&mut self, waker: &Waker) {
        if !self.settled_waiters.iter().any(|known| known.will_wake(waker)) {
            self.settled_waiters.push(waker.clone());
        }
    }

    fn wake_room(&mut self) {
        if !self.settled_waiters.is_empty() && (self.closed || self.queued_messages == 0) {
            self.settled_waiters.drain(..).for_each(Waker::wake);
        }
        if !self.room_waiters.is_empty() && (self.closed || self.queued_bytes <= self.limits.queue_bytes / 2) {
            self.room_waiters.drain(..).for_each(Waker::wake);
        }
    }

    /// Notes that the session found nothing (more) that it could send: the next `push` wakes it.
    pub fn set_idle(&mut self) {
        self.idle = true;
    }

    /// Messages accepted, and those of them that the peer's application has.
    pub fn totals(&self) -> (u64, u64) {
        (self.accepted, self.acknowledged)
    }

    /// Messages and bytes that are not final.
    pub fn queued(&self) -> (usize, usize) {
        (self.queued_messages, self.queued_bytes)
    }

    /// Whether nothing waits for anything: all was delivered or is otherwise final.
    pub fn is_settled(&self) -> bool {
        self.queued_messages == 0
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

/// Why filling a record from a channel stopped.
enum Next {
    /// There is more, for another record.
    RecordFull,
    /// The next message wants another policy, hence another record.
    OtherPolicy,
    /// The channel has nothing more of this class that may go now.
    ChannelDone,
}

/// Extends the last item by a message, or begins a new one.
fn note_message(items: &mut Vec<SentItem>, id: ChannelId, sequence: u64) {
    if let Some(SentItem::Messages { channel, first, count }) = items.last_mut()
        && *channel == id
        && *first + u64::from(*count) == sequence
    {
        *count += 1;
        return;
    }
    items.push(SentItem::Messages { channel: id, first: sequence, count: 1 });
}

/// Writes as much of `from..until` of a message as fits and is worth it; gives its length.
fn put_piece(
    entry: &Entry,
    channel: ChannelId,
    sequence: u64,
    from: u32,
    until: u32,
    budget: usize,
    out: &mut BytesMut,
) -> Option<u32> {
    let wanted = until.checked_sub(from)?;
    let room = u32::try_from(budget.checked_sub(FRAGMENT_HEAD_BYTES)?).unwrap_or(u32::MAX);
    let piece = wanted.min(room);
    if piece == 0 || (piece < wanted && budget < FRAGMENT_BYTES_MIN) {
        return None;
    }
    let bytes = entry.payload.get(from as usize..(from + piece) as usize)?;
    frame::put_fragment(out, entry.class, channel, sequence, entry.length.into(), from.into(), bytes);
    Some(piece)
}

/// Marks a message as being in the peer's ledger. Says whether that is news.
fn receive(channel: &mut TxChannel, sequence: u64, queued_bytes: &mut usize) -> bool {
    let Some(entry) = channel.entry_mut(sequence) else { return false };
    if !matches!(entry.phase, Phase::InFlight) {
        return false;
    }
    entry.phase = Phase::Received;
    entry.fragments = None;
    let freed: Bytes = std::mem::take(&mut entry.payload);
    *queued_bytes -= freed.len();
    true
}

#[cfg(test)]
mod tests;
