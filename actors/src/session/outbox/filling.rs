//! Filling records: which messages, and which pieces of them, go into the next one.

use super::*;

impl Outbox {
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
            pass_skipped(id, channel, &mut self.lost);
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
    pub(super) fn live_entry(&self, channel: ChannelId, sequence: u64) -> Option<&Entry> {
        let entry = self.channels.get(&channel)?.entry(sequence)?;
        entry.is_live().then_some(entry)
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
