//! What the peer is to be told of how far its channels are, and what is kept from it while it is past its budget. Pure.

use bowline_messages::ChannelId;

use super::Inbound;

impl Inbound {
    /// The next channel of which the peer is to be told something, and what: everything below the number was handed over.
    pub fn next_announcement(&mut self) -> Option<(ChannelId, u64)> {
        while let Some(id) = self.announce.pop_front() {
            // A stream may have been forgotten meanwhile.
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.to_announce = false;
                channel.unannounced = 0;
                return Some((id, channel.delivered));
            }
        }
        None
    }

    /// Puts a channel on the list of those of which the peer is to be told, unless it is there; also when the record that told it
    /// was lost.
    pub fn announce(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id)
            && !std::mem::replace(&mut channel.to_announce, true)
        {
            match &mut self.withheld {
                Some(withheld) if id.is_stream() => withheld.push(id),
                Some(_) | None => self.announce.push_back(id),
            }
        }
    }

    /// Whether the peer is to be told something.
    pub fn has_announcements(&self) -> bool {
        !self.announce.is_empty() || !self.rejected.is_empty()
    }

    /// The peer knows how far a channel is. One that is done is forgotten then.
    pub fn on_announced(&mut self, id: ChannelId, next: u64) {
        if self.channels.get(&id).is_some_and(|c| c.closing && c.delivered == c.next && c.next == next && c.queued == 0)
        {
            self.forget_stream(id);
        }
    }

    /// The next message that was set aside and of which the peer is to be told.
    pub(crate) fn next_rejection(&mut self) -> Option<(ChannelId, u64)> {
        self.rejected.pop_first()
    }

    pub(crate) fn reject_again(&mut self, id: ChannelId, sequence: u64) {
        self.rejected.insert((id, sequence));
    }

    /// What readers took from streams since this was last asked: messages and bytes.
    pub(crate) fn take_read(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.read)
    }

    /// Whether the peer is to be left without news of its streams: when their windows are used up it has to wait.
    pub(crate) fn withhold_streams(&mut self, withhold: bool) {
        if withhold {
            self.withheld.get_or_insert_default();
        } else if let Some(withheld) = self.withheld.take() {
            self.announce.extend(withheld);
        }
    }
}
