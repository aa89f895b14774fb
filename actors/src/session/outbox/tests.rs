#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::*;

const WINDOW: u64 = 1 << 20;

fn outbox() -> Outbox {
    let limits = OutboxLimits {
        queue_bytes: 1 << 20,
        queue_messages: 1000,
        message_bytes: 1 << 16,
        channels: 4,
        datagram_bytes: 0,
    };
    Outbox::new(limits, WINDOW)
}

fn on(channel: u32) -> Outgoing {
    Outgoing::new(MessageClass::Critical, vec![1; 8]).on(ChannelId(channel))
}

/// Puts everything that waits into records.
fn send_all(outbox: &mut Outbox) {
    while outbox.has_ready(MessageClass::Critical.index()) {
        outbox.fill(MessageClass::Critical.index(), 16_000, &mut BytesMut::new(), &mut Vec::new());
    }
}

#[test]
fn expiries_of_messages_that_were_delivered_are_not_kept_until_their_time() {
    let (mut outbox, now) = (outbox(), Instant::now());
    for turn in 0..50u64 {
        for _ in 0..100 {
            outbox.push(on(0), Some(now + Duration::from_secs(3600))).unwrap();
        }
        let waits = outbox.push(on(1), Some(now + Duration::from_secs(60 + turn))).unwrap().sequence;
        send_all(&mut outbox);
        outbox.on_delivered(ChannelId(0), (turn + 1) * 100, WINDOW).unwrap();
        let (queued, _) = outbox.queued();
        assert_eq!(queued as u64, turn + 1);
        assert!(outbox.expiring.len() <= 2 * queued + EXPIRIES_KEPT, "{} for {queued}", outbox.expiring.len());
        assert_eq!(outbox.state(ChannelId(1), waits), ReceiptState::OnWire);
    }
    outbox.on_timeout(now + Duration::from_secs(84));
    let states = |of: ReceiptState| (0..50).filter(|s| outbox.state(ChannelId(1), *s) == of).count();
    assert_eq!((states(ReceiptState::Unknown), states(ReceiptState::OnWire)), (25, 25), "those that wait still expire");
}

#[test]
fn the_end_of_a_stream_gets_past_a_full_queue_once() {
    let mut outbox = outbox();
    let stream = ChannelId(ChannelId::STREAM_BASE);
    outbox.push(on(stream.0), None).unwrap();
    while outbox.push(on(0), None).is_ok() {}
    let end = outbox.push_last(on(stream.0)).unwrap().sequence;
    assert_eq!(outbox.push_last(on(stream.0)), Err(SendError::Closed), "there is one last message");
    // It is enough that the channel is new, and that there would be none for a message.
    let others = ChannelId::STREAM_BASE + 1..ChannelId::STREAM_BASE + 10;
    assert!(others.into_iter().all(|id| outbox.push_last(on(id)).is_ok()));
    send_all(&mut outbox);
    assert_eq!(outbox.state(stream, end), ReceiptState::OnWire);
    outbox.on_delivered(stream, end + 1, WINDOW).unwrap();
    assert!(!outbox.channels.contains_key(&stream), "and then nothing is left of it");
}
