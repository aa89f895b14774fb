//! Structured fuzz of the receiving half: any messages, pieces, skips and parts of streams in any order, with an application that
//! takes, refuses and sets aside. What comes out is what was sent, each message once, in order, and the accounts stay right.
#![allow(clippy::unwrap_used)]

use std::task::Waker;

use proptest::prelude::*;

use super::super::streams::StreamPart;
use super::*;

const LIMITS: InboundLimits =
    InboundLimits { channel_window: 3000, session_window: 12_000, message_bytes: 2000, channels: 4 };

#[derive(Debug, Clone)]
enum Act {
    Message(u32, u64, usize),
    /// Channel, sequence, total, offset, length.
    Fragment(u32, u64, usize, u32, usize),
    Skip(u32, u64, u64),
    Part(u32, u64, u8),
    Deliver(usize, bool),
    Reject,
    PeerRestarts,
    ActorRestarts,
    /// The peer is told of so many channels, and knows it or not.
    Announce(usize, bool),
    Withhold(bool),
    Read(u32, usize, bool),
    Own,
}

fn channel() -> impl Strategy<Value = u32> {
    const THEIRS: u32 = ChannelId::STREAM_BASE;
    const OURS: u32 = ChannelId::STREAM_BASE | 1 << 30;
    prop_oneof![6 => 0..3u32, 3 => THEIRS..THEIRS + 6, 2 => OURS..OURS + 3, 1 => any::<u32>()]
}

fn sequence() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..10u64, 5 => 0..200u64, 1 => SEQUENCE_END - 3..SEQUENCE_END + 3, 1 => any::<u64>()]
}

fn act() -> impl Strategy<Value = Act> {
    let length = || prop_oneof![4 => 0..60usize, 1 => 0..2200usize];
    // Nearly always what the message has.
    let total = || prop_oneof![6 => Just(0usize), 1 => 1..2200usize];
    prop_oneof![
        8 => (channel(), sequence(), length()).prop_map(|(a, b, c)| Act::Message(a, b, c)),
        8 => (channel(), sequence(), total(), 0..700u32, 0..300usize).prop_map(|(a, b, c, d, e)| Act::Fragment(a, b, c, d, e)),
        5 => (channel(), sequence(), sequence()).prop_map(|(a, b, c)| Act::Skip(a, b, c)),
        5 => (channel(), 0..6u64, 0..5u8).prop_map(|(a, b, c)| Act::Part(a, b, c)),
        5 => (1..6usize, any::<bool>()).prop_map(|(a, b)| Act::Deliver(a, b)),
        1 => Just(Act::Reject),
        1 => prop_oneof![Just(Act::PeerRestarts), Just(Act::ActorRestarts)],
        3 => (0..5usize, any::<bool>()).prop_map(|(a, b)| Act::Announce(a, b)),
        1 => any::<bool>().prop_map(Act::Withhold),
        3 => (channel(), 1..40usize, any::<bool>()).prop_map(|(a, b, c)| Act::Read(a, b, c)),
        1 => Just(Act::Own),
    ]
}

/// The byte that a message has at a place.
fn byte(channel: u32, sequence: u64, at: usize) -> u8 {
    (u64::from(channel).wrapping_mul(31).wrapping_add(sequence).wrapping_mul(17).wrapping_add(at as u64) % 251) as u8
}

fn content(channel: u32, sequence: u64, range: std::ops::Range<usize>) -> Bytes {
    range.map(|at| byte(channel, sequence, at)).collect()
}

/// The number behind the last message that the application has, by channel.
type Marks = BTreeMap<ChannelId, u64>;

fn check(marks: &mut Marks, messages: &[Received]) {
    for message in messages {
        let mark = marks.entry(message.channel).or_default();
        assert!(message.sequence >= *mark, "{message:?} after {mark}");
        *mark = message.sequence + 1;
        assert_eq!(message.payload, content(message.channel.0, message.sequence, 0..message.payload.len()));
    }
}

/// Applies one step. `marks`: of the life of the peer whose messages are next, and of the one after.
fn apply(inbound: &mut Inbound, marks: &mut [Marks; 2], act: Act) {
    let class = MessageClass::Bulk;
    match act {
        Act::Message(channel, sequence, length) => {
            let _ = inbound.on_message(ChannelId(channel), sequence, class, content(channel, sequence, 0..length));
        }
        Act::Fragment(channel, sequence, total, offset, length) => {
            let total = if total > 0 { total } else { (sequence % 1000) as usize * 90 + 40 };
            let range = offset as usize..offset as usize + length;
            let (total, piece) = (total as u32, content(channel, sequence, range));
            let _ = inbound.on_fragment(ChannelId(channel), sequence, class, total, offset, &piece);
        }
        Act::Skip(channel, from, until) => drop(inbound.on_skip(ChannelId(channel), from, until)),
        Act::Part(channel, sequence, kind) => {
            let part = match kind {
                0 => StreamPart::Open(Bytes::from_static(b"label")).encode(),
                1 => StreamPart::Data(Bytes::from_static(b"some bytes")).encode(),
                2 => StreamPart::Finish.encode(),
                3 => StreamPart::Reset(Bytes::new()).encode(),
                _ => Bytes::from_static(&[200]),
            };
            let id = ChannelId(channel);
            if id.is_stream() {
                let _ = inbound.on_message(id, sequence, class, part);
            }
        }
        Act::Deliver(most, taken) => {
            let stale = inbound.stale > 0;
            let mut got = Vec::new();
            let done = inbound.deliver_with(most, |messages| {
                got.clone_from(&messages);
                if taken { Ok(()) } else { Err(messages) }
            });
            assert_eq!(done, taken || got.is_empty());
            if taken && stale {
                // Of several lives, in which numbers begin again.
                got.iter().for_each(|message| check(&mut Marks::new(), std::slice::from_ref(message)));
            } else if taken {
                check(&mut marks[0], &got);
            }
        }
        Act::Reject => drop(inbound.reject_next()),
        Act::PeerRestarts => {
            inbound.on_peer_restarted();
            *marks = Default::default();
        }
        Act::ActorRestarts => inbound.on_session_restarted(),
        Act::Announce(most, known) => {
            for _ in 0..most {
                let Some((id, next)) = inbound.next_announcement() else { break };
                assert!(marks[0].get(&id).is_none_or(|mark| next >= *mark), "less than was delivered");
                if known {
                    inbound.on_announced(id, next);
                } else {
                    inbound.announce(id);
                }
            }
            while inbound.next_rejection().is_some() {}
        }
        Act::Withhold(withhold) => inbound.withhold_streams(withhold),
        Act::Read(channel, most, close) => {
            let id = ChannelId(channel);
            while inbound.streams.take_opened().is_some() {}
            if let Some(stream) = inbound.stream(id) {
                let (_, consumed) = stream.read(most, Waker::noop());
                inbound.on_stream_consumed(id, consumed);
            }
            if close {
                inbound.close_stream(id);
            }
        }
        Act::Own => drop(inbound.streams.open()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_is_delivered_once_in_order_and_counted(acts in prop::collection::vec(act(), 1..150)) {
        let mut inbound = Inbound::new(LIMITS, true);
        let mut marks = Default::default();
        for act in acts {
            apply(&mut inbound, &mut marks, act);
            inbound.audit();
        }
        apply(&mut inbound, &mut marks, Act::Deliver(usize::MAX, true));
        apply(&mut inbound, &mut marks, Act::Deliver(usize::MAX, true));
        inbound.audit();
        prop_assert!(!inbound.has_deliveries());
    }
}
