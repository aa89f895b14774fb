//! What has to hold of a receiving half whatever was done with it, for the structured fuzz tests.

use super::*;

impl Inbound {
    /// Counts everything again and compares it with the accounts and the limits.
    pub(crate) fn audit(&self) {
        let limits = self.limits;
        assert!(self.channels.len() <= limits.channels * 2, "{} channels", self.channels.len());
        let cost = |message: &Received| window_cost(message.payload.len());
        let stale: u64 = self.deliver.iter().take(self.stale).map(cost).sum();
        let (mut held, mut skips) = (stale, 0);
        for (id, channel) in &self.channels {
            channel.audit(limits);
            let waiting: u64 = channel.waiting.values().map(|slot| window_cost(slot.len())).sum();
            let (queued, bytes) = if id.is_stream() {
                self.streams.unread(*id).unwrap_or_default()
            } else {
                let own = || self.deliver.iter().skip(self.stale).filter(|message| message.channel == *id);
                (own().count() as u64, own().map(cost).sum())
            };
            assert_eq!((channel.queued, channel.held), (queued, waiting + bytes), "channel {id:?}");
            held += channel.held;
            skips += channel.skipped.len() as u64;
        }
        assert_eq!((self.held, self.skips), (held, skips));
        let most = limits.session_window + limits.channel_window;
        assert!(self.held <= most + window_cost(limits.message_bytes), "{} bytes", self.held);
        assert!(self.skips * MESSAGE_OVERHEAD_BYTES <= most + limits.channels as u64 * 4 * MESSAGE_OVERHEAD_BYTES);
        let (theirs, opened, gaps) = self.streams.counts();
        assert!(theirs <= self.channels.len() && opened <= theirs && gaps <= 4097, "{theirs} {opened} {gaps}");
    }

    /// How many of the next messages for the application a life of the peer sent that is over.
    pub(crate) fn stale(&self) -> usize {
        self.stale
    }
}

impl RxChannel {
    fn audit(&self, limits: InboundLimits) {
        assert!(self.delivered <= self.next && self.next <= SEQUENCE_END);
        assert!(self.waiting.keys().next().is_none_or(|first| *first >= self.next));
        assert!(self.skipped.first().is_none_or(|first| first > self.next));
        assert!(self.skipped.len() as u64 <= limits.channel_window / MESSAGE_OVERHEAD_BYTES + 2);
        for (sequence, slot) in &self.waiting {
            assert!(slot.len() <= limits.message_bytes);
            match slot {
                Slot::Complete(..) => assert!(*sequence > self.next || self.next == SEQUENCE_END),
                Slot::Partial { total, bytes, have } => {
                    assert!(bytes.len() <= *total && !have.covers(0..*total as u64));
                    assert!(have.len() <= 5 + total / 64, "{} pieces of {total} bytes", have.len());
                }
            }
        }
    }
}
