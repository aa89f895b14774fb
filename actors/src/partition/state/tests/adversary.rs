//! Participants that lie, and bytes that are none.

use proptest::prelude::*;

use super::super::transfer::{Fetch, Piece, TransferError, Want, answer, digest};
use super::super::wire::{Packet, decode, encode};
use super::*;

fn summary(committed: Position) -> Summary {
    let version = Version { committed, committed_digest: [7; 32], sequence: 1 << 40, clock: VectorClock::default() };
    Summary { version, bytes: 100, digest: [7; 32], side: 9 }
}

#[test]
fn who_does_not_lead_is_not_obeyed() {
    let mut room = split(21);
    let round = Round { term: 3, number: 9 };
    let old = Round { term: 2, number: 9 };
    let decide = |round| Packet::Decide { round, source: *peer(2).as_bytes(), chosen: summary(at(9, 9)) };
    for (from, packet) in [
        (peer(2), Packet::Call(round)),
        (peer(1), Packet::Call(old)),
        (peer(2), decide(round)),
        (peer(1), decide(old)),
        (peer(2), Packet::Finish(round)),
    ] {
        assert_eq!(room.give(peer(4), from, &encode(&packet)), Err(Refused::Fenced), "{packet:?}");
    }
    room.start();
    room.run(ms(500));
    // What was said for a round before the present one is late.
    assert_eq!(room.give(peer(4), peer(1), &encode(&Packet::Call(Round { term: 3, number: 0 }))), Err(Refused::Fenced));
    assert_eq!(room.nodes[&peer(4)].0.refused(), 6);
}

#[test]
fn a_participant_cannot_have_committed_what_the_leader_has_not() {
    let mut room = split(22);
    let round = room.start();
    let committed = room.sheet(1).version().committed;
    for lie in [summary(at(9, 1001)), summary(committed)] {
        assert_eq!(room.give(peer(1), peer(5), &encode(&Packet::Say(round, lie))), Err(Refused::Impossible));
    }
    let mut large = summary(at(1, 1));
    large.bytes = u64::MAX;
    assert_eq!(room.give(peer(1), peer(5), &encode(&Packet::Say(round, large))), Err(Refused::Bound));
    room.run(ms(8000));
    assert_eq!(room.outcomes().unwrap()[&peer(5)], Outcome::Adopted);
}

#[test]
fn what_is_said_again_costs_the_leader_nothing_and_changes_nothing() {
    let mut room = split(26);
    let round = room.start();
    let version = room.sheet(1).version();
    let said = Summary { version, bytes: 100, digest: [7; 32], side: 1 };
    let (before, packet) = (room.sheet(1).looked.get(), encode(&Packet::Say(round, said)));
    for number in [2, 3, 4, 2, 3, 4] {
        (0..20).for_each(|_| room.give(peer(1), peer(number), &packet).unwrap());
    }
    let other = encode(&Packet::Say(round, summary(at(9, 9999))));
    assert_eq!(room.give(peer(1), peer(2), &other), Ok(()), "what it said once stands");
    assert_eq!(room.sheet(1).looked.get(), before, "it looked when it said itself what it has");
}

#[test]
fn who_seeks_without_end_begins_no_more_than_one_in_a_while() {
    let mut room = split(27);
    for _ in 0..200 {
        room.give(peer(1), peer(5), &encode(&Packet::Seek)).unwrap();
        room.run(ms(100));
    }
    let rounds = room.nodes[&peer(1)].0.rounds;
    // Sixteen at once, and then twenty seconds, where answers are collected for four.
    assert!((16..=21).contains(&rounds), "{rounds}");
    room.give(peer(1), peer(4), &encode(&Packet::Seek)).unwrap();
    assert!(room.nodes[&peer(1)].0.is_coordinating(), "another one does not wait for that");
}

/// Otherwise each node that takes such a state over adds itself to as many as there may be, and nothing that anybody says is within the bounds any more.
#[test]
fn a_clock_with_strangers_in_it_is_not_chosen() {
    let mut room = split(25);
    let round = room.start();
    let mut lie = summary(room.sheet(1).version().committed);
    lie.version.committed_digest = room.sheet(1).version().committed_digest;
    let mut honest = lie.clone();
    (1..=5).for_each(|number| honest.version.clock.tick(peer(number), 5).unwrap());
    lie.version.clock.tick(peer(99), 1).unwrap();
    assert_eq!(room.give(peer(1), peer(5), &encode(&Packet::Say(round, lie))), Err(Refused::Bound));
    // Who was taken out since may have changed something before.
    room.nodes.get_mut(&peer(1)).unwrap().0.on_participants((1..=4).map(peer).collect()).unwrap();
    assert_eq!(room.give(peer(1), peer(4), &encode(&Packet::Say(round, honest))), Ok(()));
}

#[test]
fn a_leader_that_lies_undoes_nothing_that_is_committed() {
    let mut room = split(23);
    room.loss = 1.0;
    let round = Round { term: 3, number: 1 };
    let before = room.sheet(3).snapshot();
    // A state in which other things were committed at the same place.
    let mut forged = sheet::Sheet::default();
    forged.commit(at(2, 6), "forged");
    let bytes = forged.snapshot();
    let chosen = Summary { version: forged.version(), bytes: bytes.len() as u64, digest: digest(&bytes), side: 5 };
    room.give(peer(3), peer(1), &encode(&Packet::Call(round))).unwrap();
    let decide = Packet::Decide { round, source: *peer(2).as_bytes(), chosen };
    room.give(peer(3), peer(1), &encode(&decide)).unwrap();
    for _ in 0..3 {
        let piece = Packet::Piece(Piece { digest: digest(&bytes), index: 0, compressed: false, data: bytes.clone() });
        room.give(peer(3), peer(2), &encode(&piece)).unwrap();
    }
    assert_eq!(room.rollback(3), Some(RollbackReason::Undoes));
    assert_eq!(room.sheet(3).snapshot(), before);
}

#[test]
fn a_transfer_is_bounded_whatever_is_promised() {
    let limits =
        transfer::Limits { bytes_max: 10_000, piece_bytes: 1000, window: 4, retry: ms(100), timeout: ms(1000) };
    let now = Instant::now();
    let large = Fetch::new(now, peer(1), [0; 32], 10_001, limits);
    assert!(matches!(large, Err(TransferError::TooLarge { bytes: 10_001, limit: 10_000 })));
    let bytes: Bytes = (0..9500_u32).map(|n| n as u8).collect::<Vec<_>>().into();
    let of = digest(&bytes);
    let mut fetch = Fetch::new(now, peer(1), of, 9500, limits).unwrap();
    let want = fetch.ask(now).unwrap();
    assert_eq!(want.pieces, [0, 1, 2, 3]);
    assert_eq!(fetch.ask(now), None, "the window is full");
    assert_eq!(fetch.ask(now + ms(100)).unwrap().pieces, [0, 1, 2, 3], "and asked for again");
    let greedy = Want { pieces: (0..100).collect(), ..want.clone() };
    assert_eq!(answer(&bytes, of, &greedy, &limits).len(), 4);
    for piece_bytes in [0, 1001, u32::MAX] {
        assert_eq!(answer(&bytes, of, &Want { piece_bytes, ..want.clone() }, &limits), []);
    }
    let beyond = Want { pieces: vec![10, u32::MAX], ..want };
    assert_eq!(answer(&bytes, of, &beyond, &limits), []);
    let piece = |index| Piece { digest: of, index, compressed: false, data: bytes.slice(0..1000) };
    assert_eq!(fetch.on_piece(now, peer(2), &piece(0)), Ok(None), "not of whom it was asked");
    assert_eq!(fetch.on_piece(now, peer(1), &piece(10)), Ok(None));
    assert_eq!(fetch.on_piece(now, peer(1), &piece(9)), Err(TransferError::Damaged), "the last one is shorter");
    assert!(fetch.is_late(now + ms(1000)));
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let round = || (0..5_u64, 0..4_u32).prop_map(|(term, number)| Round { term, number });
    let any_summary = || {
        (0..4_u64, 0..9_u64, any::<u64>(), 0..2000_u64, any_clock()).prop_map(
            |(term, index, sequence, bytes, clock)| {
                let version = Version { committed: at(term, index), committed_digest: [1; 32], sequence, clock };
                Summary { version, bytes, digest: [2; 32], side: 3 }
            },
        )
    };
    let outcome =
        prop_oneof![Just(Outcome::Same), Just(Outcome::Adopted), Just(Outcome::Ahead), Just(Outcome::RolledBack)];
    prop_oneof![
        Just(Packet::Seek),
        round().prop_map(Packet::Call),
        (round(), any_summary()).prop_map(|(round, summary)| Packet::Say(round, summary)),
        (round(), 1..6_u8, any_summary()).prop_map(|(round, source, chosen)| Packet::Decide {
            round,
            source: [source; 32],
            chosen
        }),
        (round(), outcome).prop_map(|(round, outcome)| Packet::Done(round, outcome)),
        round().prop_map(Packet::Finish),
        round().prop_map(Packet::Busy),
        (any::<u32>(), proptest::collection::vec(any::<u32>(), 0..20))
            .prop_map(|(piece_bytes, pieces)| Packet::Want(Want { digest: [2; 32], piece_bytes, pieces })),
        (0..4_u32, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..600)).prop_map(
            |(index, compressed, data)| Packet::Piece(Piece { digest: [2; 32], index, compressed, data: data.into() })
        ),
    ]
}

proptest! {
    #[test]
    fn packets_come_back_and_garbage_does_no_harm(packet in any_packet(), garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(decode(&encode(&packet)), Ok(packet.clone()));
        let _ = decode(&garbage);
        let mut damaged = encode(&packet).to_vec();
        for (place, byte) in garbage.iter().enumerate().take(3) {
            let at = (place * 7 + usize::from(*byte)) % damaged.len();
            damaged[at] ^= byte;
        }
        let _ = decode(&damaged);
    }

    /// Whatever the leader and another participant say: nothing panics, and nothing committed goes.
    #[test]
    fn liars_undo_nothing(lies in proptest::collection::vec((any_packet(), any::<bool>(), any::<bool>()), 1..60)) {
        let mut room = split(24);
        room.start();
        room.run(ms(60));
        let before: Vec<_> = room.nodes.values().map(|(_, sheet)| sheet.version().committed).collect();
        for (lie, by_leader, to_leader) in lies {
            let from = if by_leader { peer(1) } else { peer(2) };
            let to = if to_leader && !by_leader { peer(1) } else { peer(4) };
            let _ = room.give(to, from, &encode(&lie));
            room.run(ms(20));
        }
        for ((_, sheet), before) in room.nodes.values().zip(before) {
            prop_assert!(sheet.version().committed >= before);
        }
        prop_assert_eq!(&room.nodes[&peer(1)].1.committed()[3..], ["4", "5"]);
    }
}
