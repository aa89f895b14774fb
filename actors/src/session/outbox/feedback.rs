//! What becomes of messages once they were sent: acknowledged, lost, delivered, set aside, expired; the end of a life on either side.

use super::*;

impl Outbox {
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
        pass_skipped(id, channel, &mut self.lost);
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
        // Only a stream's number is never used again: what is sent on another channel later must not begin at 0 anew.
        let gone = id.is_stream() && channel.finished && channel.entries.is_empty();
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
    pub(super) fn forget_expiries(&mut self) {
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
            channel.outcomes.insert(sequence, ReceiptState::Quarantined);
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
        channel.outcomes.insert(sequence, state);
        let wakers = channel.waiters.remove(&sequence).unwrap_or_default();
        if sequence < channel.next_unsent {
            tell_skipped(id, sequence..sequence + 1, &mut self.lost);
        } else {
            pass_skipped(id, channel, &mut self.lost);
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
                    channel.outcomes.insert(channel.base, ReceiptState::Unknown);
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
            if channel.base > 0 {
                tell_skipped(id, 0..channel.base, &mut self.lost);
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
                    // The peer is told of the others when they are the next to be sent.
                    Phase::Skipped if sequence < channel.next_unsent => {
                        again.push(SentItem::Skip { channel: *id, from: sequence, until: sequence + 1 });
                    }
                    Phase::Skipped => {}
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
        self.datagrams.clear();
        self.wake_room();
    }

    /// Makes everything in a channel final; gives how many messages are unknown.
    pub(super) fn end_channel(&mut self, id: ChannelId) -> u64 {
        let Some(channel) = self.channels.get_mut(&id) else { return 0 };
        let mut unknown = 0;
        while let Some(entry) = channel.entries.pop_front() {
            let sequence = channel.base;
            channel.base += 1;
            self.queued_messages -= 1;
            self.queued_bytes -= entry.payload.len();
            if entry.outstanding {
                let cost = window_cost(entry.length as usize);
                channel.outstanding = channel.outstanding.saturating_sub(cost);
                self.outstanding = self.outstanding.saturating_sub(cost);
            }
            let state = if entry.was_on_wire() { ReceiptState::Unknown } else { ReceiptState::NotSent };
            unknown += u64::from(entry.was_on_wire());
            if entry.phase != Phase::Skipped {
                channel.outcomes.insert(sequence, state);
            }
        }
        channel.next_unsent = channel.base;
        channel.take_waiters(u64::MAX).into_iter().for_each(Waker::wake);
        unknown
    }
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
