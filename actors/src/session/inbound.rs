//! The receiving half of a ledger: what arrived and was not handed to the application yet, and what is known to be a duplicate.
//! Pure; survives the session actor.
//!
//! Each channel hands its messages over in order. A message below the channel's mark is a duplicate and is dropped; everything that
//! waits for a gap to close is counted against the windows that this side announced, so that the peer cannot make it grow.

mod announcing;
#[cfg(test)]
mod audit;
mod bounds;
#[cfg(test)]
mod fuzz;
mod owning;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bowline_messages::session::Received;
use bowline_messages::{ChannelId, MessageClass};
use bytes::{Bytes, BytesMut};

use super::ranges::RangeSet;
use super::skips::Skips;
use super::streams::{Consumed, StreamRx, StreamTable};
use super::tx_channel::{MESSAGE_OVERHEAD_BYTES, window_cost};

pub use bounds::{InboundError, InboundLimits};

/// Messages have lower numbers than this: the next one must still fit a variable-length integer (RFC 9000 §16).
const SEQUENCE_END: u64 = 1 << 61;

/// From so many messages at once on, room for as many is made again beforehand.
const BATCH_RESERVED: usize = 16;

/// The peer is told of progress whenever this part of its window was handed over.
const ANNOUNCE_SHARE: u64 = 8;

/// Something that waits for a gap before it to close.
#[derive(Debug)]
enum Slot {
    Complete(MessageClass, Bytes),
    /// `bytes` has the message up to the last piece that came, with zeros for what is missing before it.
    Partial {
        total: usize,
        bytes: BytesMut,
        have: RangeSet,
    },
}

impl Slot {
    fn len(&self) -> usize {
        match self {
            Self::Complete(_, payload) => payload.len(),
            Self::Partial { total, .. } => *total,
        }
    }
}

/// Messages of one channel that follow each other in a batch.
struct Run {
    channel: ChannelId,
    /// The number of the last one.
    last: u64,
    messages: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct RxChannel {
    /// The next message to be ordered; everything below was queued for the application or skipped.
    next: u64,
    /// Everything below is in the application's hands (or skipped).
    delivered: u64,
    /// Messages queued for the application.
    queued: u64,
    /// Bytes counted against the window.
    held: u64,
    /// Bytes handed over since the peer was last told.
    unannounced: u64,
    /// Whether it is on the list of those of which the peer is to be told.
    to_announce: bool,
    waiting: BTreeMap<u64, Slot>,
    skipped: Skips,
    /// A stream whose reader is done: forgotten once the peer knows.
    closing: bool,
}

impl RxChannel {
    /// Whether this is the next message, with nothing before it that waits or was skipped.
    fn expects(&self, sequence: u64) -> bool {
        sequence == self.next && sequence < SEQUENCE_END && self.waiting.is_empty() && self.skipped.is_empty()
    }
}

/// The receiving half of a ledger.
#[derive(Debug)]
pub struct Inbound {
    limits: InboundLimits,
    channels: BTreeMap<ChannelId, Box<RxChannel>>,
    /// In order within each channel, for the application's mailbox.
    deliver: VecDeque<Received>,
    /// Channels of which the peer is to be told how far they are.
    announce: VecDeque<ChannelId>,
    /// Messages that were set aside and of which the peer is to be told.
    rejected: BTreeSet<(ChannelId, u64)>,
    pub(crate) streams: StreamTable,
    held: u64,
    /// Ranges of skipped messages that channels remember.
    skips: u64,
    /// The application's inspector has seen the message at the front of `deliver`.
    shown: bool,
    /// Messages at the front of `deliver` that pin nothing of what the peer sent beside them.
    owned: usize,
    /// Messages at the front of `deliver` that a life of the peer sent which is over.
    stale: usize,
    duplicates: u64,
    delivered: u64,
    /// Messages that readers took from streams, and their bytes, since this was last asked for.
    read: (u64, u64),
    /// Streams of which the peer is not told for now.
    withheld: Option<Vec<ChannelId>>,
}

impl Inbound {
    /// An empty half, of the side with the larger or the smaller `PeerId`: that tells which stream numbers belong to whom.
    pub fn new(limits: InboundLimits, larger_side: bool) -> Self {
        Self {
            limits,
            channels: BTreeMap::new(),
            deliver: VecDeque::new(),
            announce: VecDeque::new(),
            rejected: BTreeSet::new(),
            streams: StreamTable::new(larger_side),
            held: 0,
            skips: 0,
            shown: false,
            owned: 0,
            stale: 0,
            duplicates: 0,
            delivered: 0,
            read: (0, 0),
            withheld: None,
        }
    }

    /// Takes a whole message.
    ///
    /// # Errors
    /// [`InboundError`] when the peer overstepped.
    pub fn on_message(
        &mut self,
        id: ChannelId,
        sequence: u64,
        class: MessageClass,
        payload: Bytes,
    ) -> Result<(), InboundError> {
        if payload.len() > self.limits.message_bytes {
            return Err(InboundError::MessageSize(payload.len() as u64));
        }
        let cost = window_cost(payload.len());
        if !id.is_stream()
            && let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.expects(sequence))
        {
            // The common case, which has to be fast: in order, nothing waits.
            self.limits.check(self.held, channel.held, cost)?;
            self.held += cost;
            channel.held += cost;
            channel.next += 1;
            channel.queued += 1;
            self.deliver.push_back(Received { channel: id, sequence, class, payload });
            return Ok(());
        }
        if !self.is_new(id, sequence)? {
            return Ok(());
        }
        let known = self.channels.get(&id).and_then(|c| c.waiting.get(&sequence)).map(|slot| window_cost(slot.len()));
        self.hold(id, cost, known.unwrap_or(0))?;
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        let payload = owning::owned(&payload);
        if channel.expects(sequence) {
            channel.next += 1;
            self.order(id, sequence, class, payload);
            return Ok(());
        }
        channel.waiting.insert(sequence, Slot::Complete(class, payload));
        self.advance(id);
        Ok(())
    }

    /// Takes a piece of a message.
    ///
    /// # Errors
    /// [`InboundError`] when the peer overstepped.
    pub fn on_fragment(
        &mut self,
        id: ChannelId,
        sequence: u64,
        class: MessageClass,
        total: u32,
        offset: u32,
        piece: &Bytes,
    ) -> Result<(), InboundError> {
        let total = total as usize;
        if total > self.limits.message_bytes {
            return Err(InboundError::MessageSize(total as u64));
        }
        let range = offset as usize..(offset as usize).saturating_add(piece.len());
        if range.end > total || piece.is_empty() {
            return Err(InboundError::Fragments);
        }
        if !self.is_new(id, sequence)? {
            return Ok(());
        }
        if !self.channels.get(&id).is_some_and(|c| c.waiting.contains_key(&sequence)) {
            // The whole message is counted and reserved at once: the sender counts it whole from its first byte as well.
            self.hold(id, window_cost(total), 0)?;
        }
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        let fresh = || Slot::Partial { total, bytes: BytesMut::with_capacity(total), have: RangeSet::default() };
        let slot = channel.waiting.entry(sequence).or_insert_with(fresh);
        let Slot::Partial { total: known, bytes, have } = slot else { return Ok(()) };
        if *known != total || have.len() > InboundLimits::pieces(total) {
            return Err(InboundError::Fragments);
        }
        if range.start == bytes.len() {
            // In order, as nearly always: nothing has to be zeroed first.
            bytes.extend_from_slice(piece);
        } else {
            bytes.resize(bytes.len().max(range.end), 0);
            if let Some(target) = bytes.get_mut(range.clone()) {
                target.copy_from_slice(piece);
            }
        }
        have.insert(range.start as u64..range.end as u64);
        if have.covers(0..total as u64) {
            let whole = std::mem::take(bytes).freeze();
            channel.waiting.insert(sequence, Slot::Complete(class, whole));
            self.advance(id);
        }
        Ok(())
    }

    /// The sender will not send the messages from `from` up to, not including, `until`.
    ///
    /// # Errors
    /// [`InboundError`] when the peer overstepped.
    pub fn on_skip(&mut self, id: ChannelId, from: u64, until: u64) -> Result<(), InboundError> {
        if from >= until {
            return Err(InboundError::Skip);
        }
        if until > SEQUENCE_END {
            return Err(InboundError::Sequence);
        }
        if !self.open(id)? {
            return Ok(());
        }
        let channels = self.channels.len() as u64;
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        if until <= channel.next {
            return Ok(());
        }
        let before = channel.skipped.len() as u64;
        if from > channel.next {
            self.limits.check_skips(self.skips, channels, before)?;
        }
        channel.skipped.insert(from.max(channel.next)..until);
        self.skips = self.skips - before + channel.skipped.len() as u64;
        self.advance(id);
        Ok(())
    }

    /// Finds or makes a channel. `false`: it is a stream that has ended, so whatever comes for it is a duplicate.
    fn open(&mut self, id: ChannelId) -> Result<bool, InboundError> {
        if self.channels.contains_key(&id) {
            return Ok(true);
        }
        if id.is_stream() && self.streams.is_over(id) {
            return Ok(false);
        }
        // Twice, because a stream is remembered here for a round trip longer than there, and its end may come when no other
        // channel could be opened.
        if self.channels.len() >= self.limits.channels * 2 {
            return Err(InboundError::Channels);
        }
        if id.is_stream() {
            self.streams.admit(id).map_err(|_| InboundError::Channels)?;
        }
        self.channels.insert(id, Box::default());
        Ok(true)
    }

    /// Whether a message was neither handed over nor completed nor skipped before.
    fn is_new(&mut self, id: ChannelId, sequence: u64) -> Result<bool, InboundError> {
        if sequence >= SEQUENCE_END {
            return Err(InboundError::Sequence);
        }
        let open = self.open(id)?;
        let channel = self.channels.get(&id).filter(|_| open);
        let new = channel.is_some_and(|c| {
            sequence >= c.next
                && (c.skipped.is_empty() || !c.skipped.contains(sequence))
                && !matches!(c.waiting.get(&sequence), Some(Slot::Complete(..)))
        });
        self.duplicates += u64::from(!new);
        if !new && open {
            // The peer does not seem to know how far this channel is.
            self.announce(id);
        }
        Ok(new)
    }

    fn hold(&mut self, id: ChannelId, cost: u64, instead_of: u64) -> Result<(), InboundError> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        let held = channel.held - instead_of;
        self.limits.check(self.held, held, cost)?;
        channel.held = held + cost;
        self.held = self.held - instead_of + cost;
        Ok(())
    }

    /// Orders whatever has become contiguous.
    fn advance(&mut self, id: ChannelId) {
        loop {
            let Some(channel) = self.channels.get_mut(&id) else { return };
            let next = channel.next;
            if let Some(Slot::Complete(..)) = channel.waiting.get(&next) {
                if let Some(Slot::Complete(class, payload)) = channel.waiting.remove(&next) {
                    channel.next += 1;
                    self.order(id, next, class, payload);
                }
                continue;
            }
            let Some(end) = channel.skipped.take_from(next) else { break };
            self.skips -= 1;
            self.pass(id, end);
        }
        self.settle(id);
    }

    /// Goes on behind a skip: what waited inside it in part is dropped, what is there as a whole is still handed over.
    fn pass(&mut self, id: ChannelId, until: u64) {
        loop {
            let Some(channel) = self.channels.get_mut(&id) else { return };
            let Some(entry) = channel.waiting.first_entry().filter(|entry| *entry.key() < until) else { break };
            let sequence = *entry.key();
            match entry.remove() {
                Slot::Complete(class, payload) => {
                    channel.next = sequence + 1;
                    self.order(id, sequence, class, payload);
                }
                slot @ Slot::Partial { .. } => {
                    let cost = window_cost(slot.len());
                    channel.held -= cost;
                    self.held -= cost;
                }
            }
        }
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.next = channel.next.max(until);
        }
    }

    /// Queues a message for the application, or for the reader of its stream.
    fn order(&mut self, id: ChannelId, sequence: u64, class: MessageClass, payload: Bytes) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.queued += 1;
        if id.is_stream() {
            let consumed = self.streams.on_message(id, sequence, payload);
            self.on_stream_consumed(id, consumed);
            self.check_stream(id);
        } else {
            self.deliver.push_back(Received { channel: id, sequence, class, payload });
        }
    }

    /// When nothing of a channel waits for the application, everything up to its mark is delivered.
    fn settle(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id)
            && channel.queued == 0
            && channel.delivered < channel.next
        {
            channel.delivered = channel.next;
            self.announce(id);
        }
    }

    /// Gives up to `most` messages to `hand_over`, which either takes them all or gives them back. Says whether it took them.
    pub fn deliver_with(
        &mut self,
        most: usize,
        hand_over: impl FnOnce(Vec<Received>) -> Result<(), Vec<Received>>,
    ) -> bool {
        let most = if self.stale > 0 { most.min(self.stale) } else { most };
        let batch = self.take_batch(most);
        let Some(first) = batch.first() else { return true };
        // Noted before the batch is given away. Nearly always there is only one run.
        let mut run = Run { channel: first.channel, last: first.sequence, messages: 0, bytes: 0 };
        let mut earlier = Vec::new();
        for message in &batch {
            if message.channel != run.channel {
                earlier.push(run);
                run = Run { channel: message.channel, last: message.sequence, messages: 0, bytes: 0 };
            }
            run.last = message.sequence;
            run.messages += 1;
            run.bytes += window_cost(message.payload.len());
        }
        if let Err(refused) = hand_over(batch) {
            for message in refused.into_iter().rev() {
                self.deliver.push_front(message);
            }
            return false;
        }
        for run in earlier.into_iter().chain([run]) {
            self.on_handed_over(run.channel, run.last, run.messages, run.bytes);
        }
        true
    }

    /// Messages that wait for the application, from the first on: as many as are within both bounds, but at least one; and their bytes.
    pub fn next_batch(&self, messages: usize, bytes: u64) -> (usize, u64) {
        let (mut count, mut sum) = (0, 0);
        for message in self.deliver.iter().take(messages) {
            let next = sum + message.payload.len() as u64;
            if count > 0 && next > bytes {
                break;
            }
            (count, sum) = (count + 1, next);
        }
        (count, sum)
    }

    /// Bytes that wait for the application or for a gap to close, with what it takes to remember which messages will not come.
    pub fn held(&self) -> u64 {
        self.held + self.skips * MESSAGE_OVERHEAD_BYTES
    }

    fn take_batch(&mut self, most: usize) -> Vec<Received> {
        let waiting = self.deliver.len();
        if most < waiting {
            return self.deliver.drain(..most).collect();
        }
        // The queue becomes the batch without being copied. Under load the next batch will be about as large.
        let room = if waiting < BATCH_RESERVED { 0 } else { waiting };
        std::mem::replace(&mut self.deliver, VecDeque::with_capacity(room)).into()
    }

    /// Whether the application's inspector has seen the next message for the application, however often it was tried to hand it over.
    pub(crate) fn is_shown(&self) -> bool {
        self.shown
    }

    /// Notes that it has.
    pub(crate) fn set_shown(&mut self) {
        self.shown = !self.deliver.is_empty();
    }

    /// Messages left the queue for the application. Those of a life of the peer that is over concern no channel any more.
    fn on_handed_over(&mut self, id: ChannelId, last: u64, count: u64, bytes: u64) {
        self.shown = false;
        self.owned = self.owned.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        if self.stale > 0 {
            self.stale -= usize::try_from(count).unwrap_or(self.stale).min(self.stale);
            self.delivered += count;
            self.held = self.held.saturating_sub(bytes);
        } else {
            self.on_consumed(id, last, count, bytes);
        }
    }

    fn on_consumed(&mut self, id: ChannelId, last: u64, count: u64, bytes: u64) {
        self.delivered += count;
        self.held = self.held.saturating_sub(bytes);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.held = channel.held.saturating_sub(bytes);
        channel.queued = channel.queued.saturating_sub(count);
        channel.delivered = if channel.queued == 0 { channel.next } else { last + 1 };
        channel.unannounced += bytes;
        // A slow reader's every sip is not worth a record; the sender needs to know before its window closes.
        if channel.queued == 0 || channel.unannounced >= self.limits.channel_window / ANNOUNCE_SHARE {
            self.announce(id);
        }
    }

    /// Notes that messages were taken from the front of a stream.
    pub(crate) fn on_stream_consumed(&mut self, id: ChannelId, consumed: Consumed) {
        if consumed.count == 0 {
            return;
        }
        let Some(delivered) = self.channels.get(&id).map(|c| c.delivered + consumed.count) else { return };
        self.read = (self.read.0 + consumed.count, self.read.1 + consumed.cost);
        self.on_consumed(id, delivered - 1, consumed.count, consumed.cost);
    }

    /// The stream of a channel, if it is one and lives.
    pub(crate) fn stream(&mut self, id: ChannelId) -> Option<&mut StreamRx> {
        self.streams.get(id)
    }

    /// The reader of a stream is done with it, or gone: it is forgotten once its end came and the peer knows that all was taken.
    pub(crate) fn close_stream(&mut self, id: ChannelId) {
        if let Some(stream) = self.streams.get(id) {
            let consumed = stream.abandon();
            self.on_stream_consumed(id, consumed);
        }
        self.check_stream(id);
    }

    fn check_stream(&mut self, id: ChannelId) {
        if self.streams.get(id).is_some_and(|stream| stream.is_done())
            && let Some(channel) = self.channels.get_mut(&id)
        {
            channel.closing = true;
            self.announce(id);
        }
    }

    /// Forgets a stream; its number is remembered as ended.
    fn forget_stream(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.remove(&id) {
            self.held = self.held.saturating_sub(channel.held);
            self.skips -= channel.skipped.len() as u64;
        }
        self.streams.forget(id);
    }

    /// Sets the next message for the application aside; the peer is told.
    pub fn reject_next(&mut self) -> Option<(ChannelId, u64)> {
        let message = self.deliver.pop_front()?;
        let (id, sequence) = (message.channel, message.sequence);
        let stale = self.stale > 0;
        self.on_handed_over(id, sequence, 1, window_cost(message.payload.len()));
        self.delivered -= 1;
        if !stale {
            self.rejected.insert((id, sequence));
        }
        Some((id, sequence))
    }

    /// The next message for the application: its channel, its number.
    pub fn next_delivery(&self) -> Option<&Received> {
        self.deliver.front()
    }

    /// The session actor was restarted: the peer is told once more how far every channel is.
    pub fn on_session_restarted(&mut self) {
        self.withheld = None;
        self.announce = self.channels.keys().copied().collect();
        self.channels.values_mut().for_each(|channel| channel.to_announce = true);
    }

    /// The peer is another process now: nothing it sends is a duplicate of what the old one sent. What is complete is still
    /// handed over; what is not will never be.
    pub fn on_peer_restarted(&mut self) {
        self.channels.clear();
        self.announce.clear();
        self.withheld = None;
        self.rejected.clear();
        self.stale = self.deliver.len();
        self.streams.reset();
        self.skips = 0;
        self.held = self.deliver.iter().map(|message| window_cost(message.payload.len())).sum();
    }

    /// Whether messages wait for the application.
    pub fn has_deliveries(&self) -> bool {
        !self.deliver.is_empty()
    }

    /// Bytes that the peer may have outstanding per channel.
    pub fn channel_window(&self) -> u64 {
        self.limits.channel_window
    }

    /// Messages handed to the application, and duplicates dropped.
    pub fn totals(&self) -> (u64, u64) {
        (self.delivered, self.duplicates)
    }
}
