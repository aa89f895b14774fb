//! What has to hold of a sending half whatever was done with it, for the structured fuzz tests.

use super::*;

impl Outbox {
    /// Counts everything again and compares it with the accounts and the limits.
    pub(crate) fn audit(&self) {
        let (mut messages, mut bytes, mut outstanding) = (0, 0, 0);
        for channel in self.channels.values() {
            messages += channel.entries.len();
            bytes += channel.entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
            let on_wire = channel.entries.iter().filter(|entry| entry.outstanding);
            let cost: u64 = on_wire.map(|entry| window_cost(entry.length as usize)).sum();
            assert_eq!(channel.outstanding, cost);
            outstanding += cost;
            assert!(channel.base <= channel.next_unsent && channel.next_unsent <= channel.end());
        }
        assert_eq!((self.queued_messages, self.queued_bytes, self.outstanding), (messages, bytes, outstanding));
        // The last message of each stream gets past the limit of the queue.
        assert!(messages <= self.limits.queue_messages + self.channels.len());
        assert!(bytes <= self.limits.queue_bytes.max(self.limits.message_bytes) + self.limits.message_bytes);
        assert!(self.expiring.len() <= 3 * self.limits.queue_messages + EXPIRIES_KEPT, "{}", self.expiring.len());
        let ready: Vec<_> = self.ready.iter().flatten().collect();
        let once: BTreeSet<_> = ready.iter().collect();
        assert_eq!(ready.len(), once.len(), "a channel is ready twice: {ready:?}");
    }

    /// How many descriptions of lost messages wait to be sent again.
    pub(crate) fn lost(&self) -> usize {
        self.lost.iter().map(VecDeque::len).sum()
    }
}
