//! The sending half of a ledger: what was accepted for sending and is not final yet. Pure; survives the session actor.
//!
//! Messages are numbered per channel. A message leaves when the peer says that its application has it (`DELIVERED`), when it is
//! skipped (expired, superseded, sent at most once and lost) or when the session ends. What was put into records is described by
//! [`SentItem`]s, which the session machine keeps per record and gives back as acknowledged or lost.

#[cfg(test)]
mod audit;
mod feedback;
mod filling;
#[cfg(test)]
mod fuzz;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::task::Waker;
use std::time::Instant;

use bowline_messages::network::DATAGRAM_BYTES_MAX;
use bowline_messages::session::{Outgoing, ReceiptState, SendError};
use bowline_messages::wire::frame;
use bowline_messages::wire::hello::HelloParameters;
use bowline_messages::{ChannelId, Delivery, MessageClass, PolicyName};
use bytes::{Bytes, BytesMut};

pub(crate) use super::datagrams::Datagram;
use super::datagrams::{DatagramError, Datagrams};
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
    /// Bytes of datagrams that may wait, with what each costs beside its content.
    pub datagram_bytes: usize,
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
    /// What waits beside the messages.
    pub(super) datagrams: Datagrams,
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
            datagrams: Datagrams::default(),
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
    #[inline]
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

    /// Takes a datagram; says whether the session has to be woken.
    ///
    /// # Errors
    /// [`DatagramError`]; nothing of it is kept then.
    pub(crate) fn push_datagram(
        &mut self,
        now: Instant,
        class: MessageClass,
        datagram: Datagram,
    ) -> Result<bool, DatagramError> {
        if self.closed {
            return Err(DatagramError::NoSession);
        }
        if datagram.payload.len() > DATAGRAM_BYTES_MAX {
            return Err(DatagramError::TooLarge);
        }
        self.datagrams.push(now, class, datagram, self.limits.datagram_bytes)?;
        Ok(std::mem::take(&mut self.idle))
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

    #[inline]
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
        pass_skipped(id, channel, &mut self.lost);
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
        self.head(class)?.policy
    }

    /// Bytes in the next message of a class.
    pub fn head_bytes(&self, class: usize) -> Option<usize> {
        Some(self.head(class)?.length as usize)
    }

    fn head(&self, class: usize) -> Option<&Entry> {
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
        self.channels.get(channel)?.entry(sequence)
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

/// Goes past messages of a channel that are to be skipped and have become the next to be sent: the peer is told now. Not before,
/// because then it would have to remember gaps that no window bounds.
fn pass_skipped(id: ChannelId, channel: &mut TxChannel, lost: &mut [VecDeque<SentItem>; CLASSES]) {
    let passed = channel.pass_skipped();
    if !passed.is_empty() {
        tell_skipped(id, passed, lost);
    }
}

/// Has the peer told that messages will not come.
fn tell_skipped(id: ChannelId, skipped: Range<u64>, lost: &mut [VecDeque<SentItem>; CLASSES]) {
    let queue = &mut lost[MessageClass::Critical.index()];
    match queue.back_mut() {
        Some(SentItem::Skip { channel, until, .. }) if *channel == id && *until == skipped.start => {
            *until = skipped.end
        }
        _ => queue.push_back(SentItem::Skip { channel: id, from: skipped.start, until: skipped.end }),
    }
}

#[cfg(test)]
mod tests;
