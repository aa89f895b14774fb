//! What stays here has memory of its own.
//!
//! A payload is a slice of its record, and that one of the buffer that the link reads into. A message that stays would keep all of that,
//! which no window counts: a peer that pads its records could hold many times what it was told. What is handed over at once is not
//! copied.

use bytes::{Bytes, BytesMut};

use super::super::seal::RECORD_FRAMES_BYTES_MAX;
use super::Inbound;

/// Messages that wait for the application share blocks of this size, in bytes: they leave in the order in which they came, so that at
/// most one block is kept for few of them.
const BLOCK_BYTES: usize = 64 * 1024;

/// A payload in memory of its own.
pub(super) fn owned(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(payload)
}

impl Inbound {
    /// Gives messages that could not be handed over memory of their own, each once. To be called when they were to be.
    pub fn own_leftovers(&mut self) {
        let from = std::mem::replace(&mut self.owned, self.deliver.len()).min(self.deliver.len());
        // Longer ones were put together from pieces, in memory of their own.
        let copied = |length: usize| length > 0 && length <= RECORD_FRAMES_BYTES_MAX;
        let lengths = self.deliver.range(from..).map(|message| message.payload.len());
        let mut rest: usize = lengths.filter(|length| copied(*length)).sum();
        let mut block = BytesMut::new();
        for message in self.deliver.range_mut(from..) {
            let length = message.payload.len();
            if !copied(length) {
                continue;
            }
            if block.capacity() < length {
                block = BytesMut::with_capacity(rest.min(BLOCK_BYTES).max(length));
            }
            block.extend_from_slice(&message.payload);
            message.payload = block.split().freeze();
            rest -= length;
        }
    }

    /// Messages that wait for the application in memory that they share with what the peer sent beside them.
    #[cfg(test)]
    pub(crate) fn pinning(&self) -> usize {
        self.deliver.len() - self.owned
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use bowline_messages::{ChannelId, MessageClass};

    use super::super::super::streams::StreamPart;
    use super::super::InboundLimits;
    use super::*;

    /// A record with padding around a payload; the other end of the `Arc` tells how many of them are still in memory.
    struct Record(Vec<u8>, #[allow(dead_code)] Arc<()>);

    impl AsRef<[u8]> for Record {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    fn padded(payload: &[u8], count: &Arc<()>) -> Bytes {
        let mut bytes = vec![0; RECORD_FRAMES_BYTES_MAX];
        bytes[100..100 + payload.len()].copy_from_slice(payload);
        Bytes::from_owner(Record(bytes, count.clone())).slice(100..100 + payload.len())
    }

    fn inbound() -> Inbound {
        let limits =
            InboundLimits { channel_window: 8 << 20, session_window: 32 << 20, message_bytes: 1 << 20, channels: 4 };
        Inbound::new(limits, false)
    }

    #[test]
    fn a_message_behind_a_gap_keeps_nothing_but_itself() {
        let (mut inbound, records) = (inbound(), Arc::new(()));
        for sequence in 1..200 {
            inbound.on_message(ChannelId(0), sequence, MessageClass::Bulk, padded(&[7], &records)).unwrap();
            assert_eq!(Arc::strong_count(&records), 1, "a record is kept for one byte of it");
        }
        inbound.on_skip(ChannelId(0), 0, 1).unwrap();
        assert!(inbound.deliver_with(1000, |batch| {
            assert_eq!(batch.len(), 199);
            assert!(batch.iter().all(|message| message.payload[..] == [7]));
            Ok(())
        }));
    }

    #[test]
    fn a_part_of_a_stream_that_nobody_reads_keeps_nothing_but_itself() {
        let (mut inbound, records) = (inbound(), Arc::new(()));
        let id = inbound.streams.open().unwrap();
        for sequence in 0..200 {
            let part = StreamPart::Data(Bytes::from_static(b"x")).encode();
            inbound.on_message(id, sequence, MessageClass::Bulk, padded(&part, &records)).unwrap();
            assert_eq!(Arc::strong_count(&records), 1, "a record is kept for one byte of it");
        }
    }

    #[test]
    fn what_is_handed_over_at_once_is_not_copied_and_what_stays_keeps_nothing_but_itself() {
        let (mut inbound, records) = (inbound(), Arc::new(()));
        // The first one of a channel makes it.
        inbound.on_message(ChannelId(0), 0, MessageClass::Bulk, Bytes::new()).unwrap();
        let send = |inbound: &mut Inbound, sequence: u64, length: usize| {
            let payload = padded(&vec![sequence as u8; length], &records);
            let at = payload.as_ptr();
            inbound.on_message(ChannelId(0), sequence, MessageClass::Bulk, payload).unwrap();
            at
        };
        let at = send(&mut inbound, 1, 8);
        assert!(inbound.deliver_with(10, |batch| {
            assert_eq!(batch[1].payload.as_ptr(), at, "it was copied");
            Ok(())
        }));
        // The application refuses; what it takes later is what was sent.
        let mut next = 2;
        for round in 0..20 {
            for _ in 0..50 {
                send(&mut inbound, next, (next as usize * 37) % 4000);
                next += 1;
            }
            assert!(!inbound.deliver_with(1000, Err));
            assert!(Arc::strong_count(&records) > 40, "they were copied before it was tried to hand them over");
            inbound.own_leftovers();
            assert_eq!((Arc::strong_count(&records), inbound.pinning()), (1, 0));
            assert!(
                round % 3 > 0
                    || inbound.deliver_with(30, |batch| {
                        assert!(batch.iter().all(|message| {
                            let length = (message.sequence as usize * 37) % 4000;
                            message.payload[..] == vec![message.sequence as u8; length]
                        }));
                        Ok(())
                    })
            );
        }
        inbound.audit();
    }
}
