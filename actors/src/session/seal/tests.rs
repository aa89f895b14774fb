#![allow(clippy::unwrap_used)]
use super::*;
use bowline_messages::wire::packet::next_packet;
use proptest::collection::vec;
use proptest::prelude::*;

const LINK: LinkId = LinkId(6);

fn secret(byte: u8) -> TrafficSecret {
    TrafficSecret::new(Zeroizing::new([byte; 32]))
}

fn pair() -> (Sealer, Opener) {
    let sealer = Sealer::new(LINK, secret(1), RotationLimits::default(), crate::clock::now());
    (sealer, Opener::new(LINK, secret(1)))
}

/// Seals frames and gives the packet without its length.
fn seal(sealer: &mut Sealer, frames: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    let start = sealer.begin(&mut buffer);
    buffer.extend_from_slice(frames);
    sealer.finish(&mut buffer, start).unwrap();
    next_packet(&mut buffer).unwrap().unwrap()
}

fn header(packet: &BytesMut) -> RecordHeader {
    RecordHeader::decode(packet).unwrap()
}

#[test]
fn records_share_a_buffer_and_come_back_in_any_order() {
    let (mut sealer, mut opener) = pair();
    let mut buffer = BytesMut::from(&b"before"[..]);
    for n in 0..3u8 {
        let start = sealer.begin(&mut buffer);
        buffer.extend_from_slice(&[n; 100]);
        assert_eq!(start.frames_bytes(&buffer), 100);
        assert_eq!(sealer.finish(&mut buffer, start).unwrap(), RecordNumber(n.into()));
    }
    assert_eq!(buffer.len(), 6 + 3 * (100 + RECORD_OVERHEAD_BYTES));
    let _ = buffer.split_to(6);
    let mut packets: Vec<_> = std::iter::from_fn(|| next_packet(&mut buffer).unwrap()).collect();
    packets.reverse();
    for (packet, n) in packets.into_iter().zip([2u8, 1, 0]) {
        assert_eq!(opener.open(packet).unwrap(), (RecordNumber(n.into()), Bytes::from(vec![n; 100])));
    }
    assert_eq!(opener.rejections().total(), 0);
}

#[test]
fn a_cancelled_record_leaves_no_trace_and_uses_no_number() {
    let (sealer, _) = pair();
    let mut buffer = BytesMut::from(&b"before"[..]);
    let start = sealer.begin(&mut buffer);
    buffer.extend_from_slice(b"frames");
    start.cancel(&mut buffer);
    assert_eq!(&buffer[..], b"before");
    assert_eq!(sealer.next_number(), RecordNumber(0));
}

#[test]
fn too_many_frames_are_refused_and_taken_back() {
    let (mut sealer, mut opener) = pair();
    let full = vec![0; RECORD_FRAMES_BYTES_MAX];
    assert_eq!(opener.open(seal(&mut sealer, &full)).unwrap().1.len(), full.len());
    let mut buffer = BytesMut::new();
    let start = sealer.begin(&mut buffer);
    buffer.resize(buffer.len() + full.len() + 1, 0);
    assert_eq!(sealer.finish(&mut buffer, start), Err(SealError::TooLarge { bytes: full.len() + 1 }));
    assert!(buffer.is_empty());
}

#[test]
fn nonces_rule_no_epoch_and_number_are_used_twice_over_rotations_and_restarts() {
    let limits = RotationLimits { records: 3, ..RotationLimits::default() };
    let mut sealer = Sealer::new(LINK, secret(1), limits, crate::clock::now());
    let mut used = std::collections::BTreeSet::new();
    let mut last = None;
    for n in 0..200 {
        let header = header(&seal(&mut sealer, b"x"));
        assert!(used.insert((header.epoch, header.number)), "{header:?} twice");
        assert!(last < Some(header.number), "numbers go on across epochs");
        last = Some(header.number);
        if n % 10 == 0 {
            // The session actor was restarted; the sealer was kept.
            let before = sealer.epoch();
            sealer.rotate(crate::clock::now()).unwrap();
            assert_eq!(sealer.epoch(), before + 1);
        }
    }
}

#[test]
fn nonces_rule_a_panic_in_the_middle_of_sealing_never_leads_to_a_second_use_of_a_number() {
    let (sealer, _) = pair();
    let kept = std::sync::Mutex::new(sealer);
    let first = header(&seal(&mut kept.lock().unwrap(), b"before"));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut sealer = kept.lock().unwrap();
        let mut buffer = BytesMut::new();
        let start = sealer.begin(&mut buffer);
        buffer.extend_from_slice(b"frames");
        let _ = sealer.finish(&mut buffer, start).unwrap();
        let _second = sealer.begin(&mut buffer);
        panic!("a handler that fails");
    }));
    assert!(panicked.is_err());
    let mut sealer = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sealer.rotate(crate::clock::now()).unwrap();
    let next = header(&seal(&mut sealer, b"after"));
    assert_eq!((first.epoch, first.number), (0, RecordNumber(0)));
    assert_eq!((next.epoch, next.number), (1, RecordNumber(2)));
}

#[test]
fn nonces_rule_the_link_is_part_of_the_nonce() {
    let (mut sealer, _) = pair();
    let mut other = Opener::new(LinkId(LINK.0 + 2), secret(1));
    assert_eq!(other.open(seal(&mut sealer, b"x")), Err(OpenError::Forged(RecordNumber(0))));
}

#[test]
fn nonces_rule_the_epoch_is_in_the_header_and_authenticated() {
    let (mut sealer, mut opener) = pair();
    let mut packet = seal(&mut sealer, b"x");
    packet[2] = 1;
    assert_eq!(opener.open(packet), Err(OpenError::Forged(RecordNumber(0))));
    assert_eq!((opener.epoch(), opener.previous_epoch()), (0, None), "a forged epoch moves nothing");
}

#[test]
fn keys_rule_every_epoch_has_another_key_and_the_old_one_opens_nothing_new() {
    let (mut sealer, _) = pair();
    let old = TrafficSecret::new(secret(1).0);
    sealer.rotate(crate::clock::now()).unwrap();
    let packet = seal(&mut sealer, b"x");
    let (head, body) = packet.split_at(RecordHeader::BYTES);
    assert!(decrypt(&old.key(), LINK, RecordNumber(0), head, &mut body.to_vec()).is_err());
    assert!(decrypt(&old.next().key(), LINK, RecordNumber(0), head, &mut body.to_vec()).is_ok());
    assert_ne!(old.next().0, old.0);
}

#[test]
fn keys_rule_the_previous_epoch_is_kept_until_it_is_forgotten() {
    let (mut sealer, mut opener) = pair();
    let [late, later] = [seal(&mut sealer, b"late"), seal(&mut sealer, b"later")];
    sealer.rotate(crate::clock::now()).unwrap();
    assert!(opener.open(seal(&mut sealer, b"new")).is_ok());
    assert_eq!(opener.previous_epoch(), Some(0));
    assert_eq!(opener.open(late).unwrap().1, "late");
    opener.forget_previous();
    assert_eq!(opener.open(later), Err(OpenError::Epoch { epoch: 0, current: 1 }));
    assert_eq!(opener.rejections().epoch, 1);
}

#[test]
fn keys_rule_the_previous_epoch_is_not_kept_when_nothing_of_it_can_come() {
    let (mut sealer, mut opener) = pair();
    for epoch in 0..3 {
        assert!(opener.open(seal(&mut sealer, b"in order")).is_ok());
        assert_eq!((opener.epoch(), opener.previous_epoch()), (epoch, None));
        sealer.rotate(crate::clock::now()).unwrap();
    }
}

#[test]
fn keys_rule_the_previous_epoch_is_forgotten_after_a_while() {
    let (mut sealer, mut opener) = pair();
    let [late, _] = [seal(&mut sealer, b"late"), seal(&mut sealer, b"later")];
    sealer.rotate(crate::clock::now()).unwrap();
    assert!(opener.open(seal(&mut sealer, b"new")).is_ok());
    let (now, keep) = (crate::clock::now(), Duration::from_secs(15));
    assert_eq!(opener.age_previous(now, keep), Some(now + keep));
    assert_eq!(opener.age_previous(now + keep / 2, keep), Some(now + keep), "from the first time on");
    assert_eq!(opener.open(late).unwrap().1, "late");
    assert_eq!((opener.age_previous(now + keep, keep), opener.previous_epoch()), (None, None));
}

#[test]
fn keys_rule_a_sender_that_moved_on_unheard_is_followed_up_to_a_bound() {
    let (mut sealer, mut opener) = pair();
    for _ in 0..EPOCH_JUMP_MAX {
        sealer.rotate(crate::clock::now()).unwrap();
    }
    assert!(opener.open(seal(&mut sealer, b"x")).is_ok());
    for _ in 0..=EPOCH_JUMP_MAX {
        sealer.rotate(crate::clock::now()).unwrap();
    }
    let epoch = sealer.epoch();
    assert_eq!(opener.open(seal(&mut sealer, b"x")), Err(OpenError::Epoch { epoch, current: EPOCH_JUMP_MAX }));
}

#[test]
fn keys_rule_rotation_is_due_by_records_by_bytes_and_by_age() {
    let now = crate::clock::now();
    let limits = RotationLimits { records: 2, bytes: 100, age: Duration::from_secs(10) };
    let due = |frames: &[&[u8]], after| {
        let mut sealer = Sealer::new(LINK, secret(1), limits, now);
        frames.iter().for_each(|frames| drop(seal(&mut sealer, frames)));
        sealer.should_rotate(now + Duration::from_secs(after))
    };
    assert!(!due(&[], 100), "an idle key is not worn");
    assert!(!due(&[b"x"], 9));
    assert!(due(&[b"x"], 10));
    assert!(due(&[b"x", b"x"], 0));
    assert!(due(&[&[0; 100]], 0));
}

#[test]
fn keys_rule_a_key_is_not_used_beyond_its_limits_even_by_a_caller_that_never_rotates() {
    let limits = RotationLimits { records: 5, ..RotationLimits::default() };
    let mut sealer = Sealer::new(LINK, secret(1), limits, crate::clock::now());
    let mut opener = Opener::new(LINK, secret(1));
    for n in 0..23u16 {
        let packet = seal(&mut sealer, b"x");
        assert_eq!(header(&packet).epoch, n / 5);
        assert!(opener.open(packet).is_ok());
    }
}

#[test]
fn the_last_epoch_ends_the_link_instead_of_starting_again() {
    let (mut sealer, _) = pair();
    sealer.epoch = u16::MAX;
    assert_eq!(sealer.rotate(crate::clock::now()), Err(SealError::Exhausted));
    sealer.next = u64::MAX;
    let mut buffer = BytesMut::new();
    let start = sealer.begin(&mut buffer);
    assert_eq!(sealer.finish(&mut buffer, start), Err(SealError::Exhausted));
    assert!(buffer.is_empty());
}

#[test]
fn neither_half_shows_a_key() {
    let (sealer, opener) = pair();
    let shown = format!("{sealer:?} {opener:?}");
    assert!(!shown.contains("1, 1, 1") && shown.contains("link-6"), "{shown}");
}

/// What may happen to records between two peers.
#[derive(Debug, Clone)]
enum Act {
    Seal(Vec<u8>),
    Rotate,
    Deliver(prop::sample::Index),
    Again(prop::sample::Index),
    Mutate(prop::sample::Index, prop::sample::Index, u8),
    Truncate(prop::sample::Index, usize),
    Extend(prop::sample::Index, Vec<u8>),
    Garbage(Vec<u8>),
    ForgetPrevious,
}

fn act() -> impl Strategy<Value = Act> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => vec(any::<u8>(), 0..60).prop_map(Act::Seal),
        1 => Just(Act::Rotate),
        6 => index().prop_map(Act::Deliver),
        2 => index().prop_map(Act::Again),
        2 => (index(), index(), 1..=255u8).prop_map(|(a, b, c)| Act::Mutate(a, b, c)),
        1 => (index(), 1..40usize).prop_map(|(a, n)| Act::Truncate(a, n)),
        1 => (index(), vec(any::<u8>(), 1..20)).prop_map(|(a, tail)| Act::Extend(a, tail)),
        1 => vec(any::<u8>(), 0..80).prop_map(Act::Garbage),
        1 => Just(Act::ForgetPrevious),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The structured fuzz test of the opener: whatever is forged, replayed, cut, reordered or made longer, exactly the sealed
    /// records come out, each once, everything else is counted, and nothing stalls what comes after.
    #[test]
    fn exactly_what_was_sealed_comes_out_whatever_happens_between(acts in vec(act(), 1..120)) {
        let (mut sealer, mut opener) = pair();
        let mut sealed: Vec<(BytesMut, Vec<u8>, u16)> = Vec::new();
        let mut opened = std::collections::BTreeSet::new();
        let mut rejected = 0;
        for act in acts {
            let pick = |index: &prop::sample::Index| (!sealed.is_empty()).then(|| index.index(sealed.len()));
            let hostile = match act {
                Act::Seal(frames) => {
                    let packet = seal(&mut sealer, &frames);
                    let epoch = sealer.epoch();
                    sealed.push((packet, frames, epoch));
                    continue;
                }
                Act::Rotate => {
                    if sealer.epoch() - opener.epoch() < EPOCH_JUMP_MAX {
                        sealer.rotate(crate::clock::now()).unwrap();
                    }
                    continue;
                }
                Act::ForgetPrevious => { opener.forget_previous(); continue; }
                Act::Deliver(index) | Act::Again(index) => {
                    let Some(n) = pick(&index) else { continue };
                    let (packet, frames, epoch) = &sealed[n];
                    let readable = *epoch >= opener.epoch() || opener.previous_epoch() == Some(*epoch);
                    let result = opener.open(packet.clone());
                    if readable && !opened.contains(&n) {
                        prop_assert_eq!(result, Ok((RecordNumber(n as u64), Bytes::from(frames.clone()))));
                        opened.insert(n);
                    } else {
                        prop_assert!(result.is_err());
                        rejected += 1;
                    }
                    continue;
                }
                Act::Mutate(index, at, by) => {
                    let Some(n) = pick(&index) else { continue };
                    let mut packet = sealed[n].0.clone();
                    let at = at.index(packet.len());
                    packet[at] ^= by;
                    packet
                }
                Act::Truncate(index, by) => {
                    let Some(n) = pick(&index) else { continue };
                    let mut packet = sealed[n].0.clone();
                    packet.truncate(packet.len().saturating_sub(by));
                    packet
                }
                Act::Extend(index, tail) => {
                    let Some(n) = pick(&index) else { continue };
                    let mut packet = sealed[n].0.clone();
                    packet.extend_from_slice(&tail);
                    packet
                }
                Act::Garbage(bytes) => BytesMut::from(&bytes[..]),
            };
            let epochs = (opener.epoch(), opener.previous_epoch());
            prop_assert!(opener.open(hostile).is_err());
            prop_assert_eq!(epochs, (opener.epoch(), opener.previous_epoch()));
            rejected += 1;
        }
        prop_assert_eq!(opener.rejections().total(), rejected);
        prop_assert!(opener.open(seal(&mut sealer, b"after all that")).is_ok());
    }
}

#[test]
fn every_kind_of_rejection_is_counted_as_what_it_is() {
    let (mut sealer, mut opener) = pair();
    let good = seal(&mut sealer, b"x");
    assert!(opener.open(good.clone()).is_ok());
    assert!(opener.open(good.clone()).is_err());
    let mut other = good.clone();
    other[0] = 0x01;
    assert_eq!(opener.open(other), Err(OpenError::NotARecord));
    for length in [0, 5, 10, 11, 26] {
        let mut short = seal(&mut sealer, b"x");
        short.truncate(length);
        assert_eq!(opener.open(short), Err(OpenError::Truncated));
    }
    assert_eq!(opener.open(BytesMut::zeroed(PACKET_BYTES_MAX + 1)), Err(OpenError::Oversized));
    sealer.next += super::super::replay::WINDOW + 10;
    assert!(opener.open(seal(&mut sealer, b"x")).is_ok());
    assert_eq!(opener.open(good), Err(OpenError::TooOld(RecordNumber(0))));
    let mut forged = seal(&mut sealer, b"x");
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(opener.open(forged).is_err());
    let expected =
        Rejections { not_a_record: 1, truncated: 5, oversized: 1, epoch: 0, replayed: 1, too_old: 1, forged: 1 };
    assert_eq!(*opener.rejections(), expected);
}

/// A thousand idle peers hold two of each; the figure in `docs/wire.md` is this one.
#[test]
fn the_keys_of_a_link_take_less_than_three_kilobytes() {
    let (sealer, opener) = (size_of::<Sealer>(), size_of::<Opener>());
    assert!(sealer + opener < 3 * 1024, "sealer {sealer}, opener {opener}");
}
