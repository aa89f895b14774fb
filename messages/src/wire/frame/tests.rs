#![allow(clippy::unwrap_used)]
use std::ops::RangeInclusive;

use super::*;
use crate::PeerId;
use proptest::collection::vec;
use proptest::prelude::*;

fn all(record: impl Into<Bytes>) -> Result<Vec<Frame>, FrameError> {
    let mut reader = FrameReader::new(record.into());
    let mut frames = Vec::new();
    while let Some(frame) = reader.next()? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Ranges as a receiver keeps them: newest first, disjoint, not adjacent.
fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    vec((2..1000u64, 0..1000u64), 1..64).prop_map(|steps| {
        let mut low = 0;
        let mut ranges: Vec<_> = Vec::new();
        for (gap, length) in steps {
            let from = low + gap;
            ranges.push(from..=from + length);
            low = from + length;
        }
        ranges.reverse();
        ranges
    })
}

fn class() -> impl Strategy<Value = MessageClass> {
    (0..5usize).prop_map(|index| MessageClass::from_index(index).unwrap())
}

fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..62u32).prop_map(|(n, shift)| (n & varint::MAX) >> shift)
}

fn text() -> impl Strategy<Value = String> {
    "[a-z0-9:/. ]{0,80}"
}

/// A frame as the writers make it, and its bytes.
fn written() -> impl Strategy<Value = (Frame, BytesMut)> {
    fn encode(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        bytes
    }
    let payload = || vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    prop_oneof![
        Just((Frame::Ping, encode(put_ping))),
        (1..50usize).prop_map(|bytes| (Frame::Padding { bytes }, encode(|b| put_padding(b, bytes)))),
        (any::<u32>(), number(), ranges()).prop_map(|(link, delay_us, ranges)| {
            let bytes = encode(|b| assert_eq!(put_ack(b, LinkId(link), delay_us, ranges.clone()), ranges.len()));
            let mut reader = FrameReader::new(bytes.clone().freeze());
            let frame = reader.next().unwrap().unwrap();
            let Frame::Ack(ack) = &frame else { panic!("{frame:?}") };
            assert_eq!(ack.ranges.clone().collect::<Vec<_>>(), ranges);
            assert_eq!((ack.link, ack.delay_us, ack.largest.0), (LinkId(link), delay_us, *ranges[0].end()));
            assert!(bytes.len() <= ack::ACK_BYTES_MAX);
            (frame, bytes)
        }),
        (any::<u32>(), number(), number()).prop_filter_map("empty", |(channel, a, b)| {
            let (channel, from, until) = (ChannelId(channel), a.min(b), a.max(b));
            (a != b).then(|| (Frame::Skip { channel, from, until }, encode(|out| put_skip(out, channel, from, until))))
        }),
        (any::<u32>(), number(), number()).prop_map(|(channel, next, window)| {
            let channel = ChannelId(channel);
            (Frame::Delivered { channel, next, window }, encode(|b| put_delivered(b, channel, next, window)))
        }),
        (any::<u32>(), any::<u16>()).prop_map(|(link, code)| {
            let (link, reason) = (LinkId(link), LinkDownCode::from_code(code));
            assert_eq!(reason.code(), code);
            (Frame::LinkDown { link, reason }, encode(|b| put_link_down(b, link, reason)))
        }),
        any::<u64>().prop_map(|life| {
            let incarnation = Incarnation(life);
            (Frame::Session { incarnation }, encode(|b| put_session(b, incarnation)))
        }),
        (any::<u32>(), number()).prop_map(|(channel, sequence)| {
            let channel = ChannelId(channel);
            (Frame::Quarantined { channel, sequence }, encode(|b| put_quarantined(b, channel, sequence)))
        }),
        (any::<u16>(), text()).prop_map(|(code, text)| {
            let code = CloseCode::from_code(code);
            let bytes = encode(|b| put_close(b, code, &text));
            (Frame::Close { code, text }, bytes)
        }),
        (any::<[u8; 32]>(), any::<u64>(), vec(text(), 0..32), any::<[u8; 32]>()).prop_map(
            |(peer, version, addresses, half)| {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&half);
                let peer = PeerId::from_bytes(peer);
                let addresses = SignedAddresses { peer, version, addresses, signature };
                let bytes = encode(|b| put_addresses(b, &addresses));
                assert_eq!(bytes.len(), 1 + addresses.bytes());
                assert_eq!(&bytes[1..bytes.len() - 64], &addresses.signed_bytes()[..]);
                (Frame::Addresses(Box::new(addresses)), bytes)
            }
        ),
        (class(), any::<u32>(), number(), payload()).prop_map(|(class, channel, sequence, payload)| {
            let channel = ChannelId(channel);
            let bytes = encode(|b| put_message(b, class, channel, sequence, &payload));
            assert_eq!(bytes.len(), message_bytes(channel, sequence, payload.len()));
            (Frame::Message(MessageFrame { class, channel, sequence, payload }), bytes)
        }),
        (class(), any::<u32>(), number(), number(), vec(any::<u8>(), 1..100)).prop_map(
            |(class, channel, sequence, offset, payload)| {
                let (channel, offset, payload) = (ChannelId(channel), offset / 2, Bytes::from(payload));
                let total = offset + payload.len() as u64;
                let bytes = encode(|b| put_fragment(b, class, channel, sequence, total, offset, &payload));
                assert_eq!(bytes.len(), fragment_bytes(channel, sequence, total, offset, payload.len()));
                (Frame::Fragment(Fragment { class, channel, sequence, total, offset, payload }), bytes)
            }
        ),
        (any::<u8>(), payload()).prop_map(|(concern, payload)| {
            let bytes = encode(|b| put_datagram(b, concern, &payload));
            assert_eq!(bytes.len(), datagram_bytes(payload.len()));
            (Frame::Datagram { concern, payload }, bytes)
        }),
        (number(), number()).prop_map(|(records, delay_us)| {
            let bytes = encode(|b| put_ack_frequency(b, records, delay_us));
            (Frame::AckFrequency { records, delay_us }, bytes)
        }),
        (0x42..5_000_000u64, payload()).prop_map(|(kind, content)| {
            let bytes = encode(|b| put_skippable(b, kind, &content));
            (Frame::Unknown { kind, content }, bytes)
        }),
    ]
}

/// Runs of padding merge when they meet.
fn without_padding(frames: Vec<Frame>) -> Vec<Frame> {
    frames.into_iter().filter(|frame| !matches!(frame, Frame::Padding { .. })).collect()
}

proptest! {
    #[test]
    fn frames_come_back_in_order(frames in vec(written(), 0..20)) {
        let mut record = BytesMut::new();
        frames.iter().for_each(|(_, bytes)| record.extend_from_slice(bytes));
        let expected = without_padding(frames.into_iter().map(|(frame, _)| frame).collect());
        prop_assert_eq!(without_padding(all(record).unwrap()), expected);
    }

    #[test]
    fn a_cut_record_gives_whole_frames_and_then_at_most_one_error(frames in vec(written(), 1..6), keep in 0.0..1.0f64) {
        let mut record = BytesMut::new();
        frames.iter().for_each(|(_, bytes)| record.extend_from_slice(bytes));
        record.truncate((record.len() as f64 * keep) as usize);
        let mut reader = FrameReader::new(record.freeze());
        while let Ok(Some(_)) = reader.next() {}
        prop_assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn mutated_records_are_read_without_a_panic_and_within_their_own_bytes(
        frames in vec(written(), 1..8), edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut record = BytesMut::new();
        frames.iter().for_each(|(_, bytes)| record.extend_from_slice(bytes));
        for (at, byte) in edits {
            let at = at.index(record.len());
            record[at] = byte;
        }
        check_bounds(record.freeze());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_and_within_their_own_bytes(bytes in vec(any::<u8>(), 0..300)) {
        check_bounds(bytes.into());
    }
}

fn check_bounds(record: Bytes) {
    let size = record.len();
    let mut reader = FrameReader::new(record);
    let mut frames = 0;
    while let Ok(Some(frame)) = reader.next() {
        frames += 1;
        match frame {
            Frame::Message(message) => assert!(message.payload.len() < size),
            Frame::Fragment(part) => {
                assert!(part.payload.len() < size && part.offset + part.payload.len() as u64 <= part.total);
            }
            Frame::Ack(ack) => {
                let mut below = u64::MAX;
                let count = ack.ranges.inspect(|range| {
                    assert!(range.start() <= range.end() && *range.end() < below);
                    below = *range.start();
                });
                assert!(count.count() <= ACK_RANGES_MAX);
            }
            Frame::Addresses(addresses) => assert!(addresses.addresses.len() <= ADDRESSES_MAX),
            Frame::Close { text, .. } => assert!(text.chars().count() <= CLOSE_TEXT_BYTES_MAX),
            Frame::Padding { .. }
            | Frame::Ping
            | Frame::Skip { .. }
            | Frame::Delivered { .. }
            | Frame::LinkDown { .. }
            | Frame::Session { .. }
            | Frame::Quarantined { .. }
            | Frame::Datagram { .. }
            | Frame::AckFrequency { .. }
            | Frame::Unknown { .. } => {}
        }
        assert!(frames <= size, "every frame takes at least a byte");
    }
}

#[test]
fn a_wish_for_acknowledgements_has_two_numbers_and_no_more() {
    for content in [&b""[..], b"\x10", b"\x10\x14\x00", b"\x10\x80"] {
        let mut record = BytesMut::new();
        put_skippable(&mut record, types::ACK_FREQUENCY, content);
        assert_eq!(all(record), Err(FrameError::Malformed(types::ACK_FREQUENCY)), "{content:?}");
    }
}

#[test]
fn an_unknown_frame_below_0x40_ends_the_record_and_one_above_is_skipped() {
    for kind in (0x0f..0x10).chain(0x15..0x40) {
        assert_eq!(all(vec![kind, 0, 0, 0]), Err(FrameError::UnknownFrame(kind)));
    }
    let mut record = BytesMut::new();
    put_skippable(&mut record, 0x40, b"new");
    put_ping(&mut record);
    assert_eq!(all(record).unwrap()[1], Frame::Ping);
}

#[test]
fn a_short_type_in_a_long_encoding_is_malformed() {
    assert_eq!(all(vec![0x40, 0x01]), Err(FrameError::Malformed(1)));
}

#[test]
fn a_class_that_does_not_exist_is_an_unknown_frame() {
    assert_eq!(all(vec![0x0f, 0, 0, 0]), Err(FrameError::UnknownFrame(0x0f)));
    assert_eq!(all(vec![0x15, 0, 0, 1, 0, 1, 9]), Err(FrameError::UnknownFrame(0x15)));
}

#[test]
fn a_fragment_beyond_its_message_or_without_bytes_is_malformed() {
    for content in [&[0x10, 0, 0, 4, 2, 3, 9, 9, 9][..], &[0x10, 0, 0, 4, 2, 0]] {
        assert_eq!(all(content.to_vec()), Err(FrameError::Malformed(0x10)));
    }
}

#[test]
fn an_acknowledgement_below_zero_or_of_too_many_ranges_is_malformed() {
    assert_eq!(all(vec![2, 0, 0, 3, 0, 4]), Err(FrameError::Malformed(2)), "first range below zero");
    assert_eq!(all(vec![2, 0, 0, 5, 1, 1, 3, 0]), Err(FrameError::Malformed(2)), "gap below zero");
    let mut endless = vec![2, 0, 0, 0x7f, 0xff, 0x40, 64];
    endless.extend([0; 200]);
    assert_eq!(all(endless), Err(FrameError::Malformed(2)));
}

#[test]
fn more_ranges_than_fit_leave_the_oldest_out() {
    let mut record = BytesMut::new();
    let ranges: Vec<_> = (0..100).rev().map(|n| n * 3..=n * 3).collect();
    assert_eq!(put_ack(&mut record, LinkId(1), 0, ranges.clone()), ACK_RANGES_MAX);
    let frames = all(record).unwrap();
    let Frame::Ack(ack) = &frames[0] else { panic!("{frames:?}") };
    assert_eq!(ack.ranges.clone().collect::<Vec<_>>(), ranges[..ACK_RANGES_MAX]);
}

#[test]
fn a_closing_text_is_cut_at_a_character_and_cannot_drive_a_terminal() {
    let mut record = BytesMut::new();
    put_close(&mut record, CloseCode::Done, &"ä".repeat(200));
    put_close(&mut record, CloseCode::Done, "\x1b[2J");
    let frames = all(record).unwrap();
    let Frame::Close { text, .. } = &frames[0] else { panic!("{frames:?}") };
    assert_eq!(text.len(), 256);
    let Frame::Close { text, .. } = &frames[1] else { panic!("{frames:?}") };
    assert!(!text.contains('\x1b'));
}

#[test]
fn a_payload_shares_the_memory_of_its_record() {
    let mut record = BytesMut::new();
    put_message(&mut record, MessageClass::Bulk, ChannelId(7), 9, b"payload");
    let record = record.freeze();
    let Some(Frame::Message(message)) = FrameReader::new(record.clone()).next().unwrap() else { panic!() };
    assert_eq!(message.payload.as_ptr(), record[record.len() - 7..].as_ptr());
}
