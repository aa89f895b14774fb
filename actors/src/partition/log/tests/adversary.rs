//! A participant that lies, and bytes that are none.

use proptest::prelude::*;

use super::super::super::state::transfer::{Piece, Want};
use super::super::wire::{Packet, decode, encode};
use super::world::{World, ms, peer};
use super::*;

/// A follower with some committed entries, and its leader.
fn follower() -> (World, PeerId, PeerId) {
    let mut world = World::new(3, 21);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    for n in 0..5 {
        world.propose(leader, &n.to_string()).unwrap();
    }
    world.run(ms(1000));
    let follower = world.nodes.keys().copied().find(|peer| *peer != leader).unwrap();
    (world, follower, leader)
}

#[test]
fn a_lie_about_what_is_committed_changes_nothing() {
    let (mut world, me, leader) = follower();
    let before = world.nodes[&me].log.status();
    let position = |index| Position { term: before.term + 5, index };
    let offer = Offer { position: position(2), membership: Membership::of([peer(1)]), bytes: 10, digest: [0; 32] };
    let nobody = Entry::Membership(Membership::default());
    let append = |prev, entries| Packet::Append { term: before.term + 9, commit: 100, prev, entries };
    let lies = [
        append(position(3), vec![]),
        append(Position::default(), vec![Entry::Term(before.term + 9)]),
        append(before.last, vec![Entry::Term(1)]),
        append(before.last, vec![nobody]),
        append(before.last, vec![Entry::Command(vec![0; 9000].into())]),
        append(Position { term: 1, index: u64::MAX }, vec![Entry::Command(Bytes::new())]),
        Packet::Append { term: u64::MAX, commit: 0, prev: before.last, entries: vec![] },
        Packet::Stand { term: u64::MAX, last: before.last },
        Packet::Vote { term: u64::MAX, granted: true },
        Packet::Appended { term: u64::MAX, last: before.last },
        Packet::Answer { term: 1, granted: false, current: u64::MAX },
        Packet::Offer { term: before.term + 9, offer: offer.clone() },
        Packet::Offer { term: before.term + 9, offer: Offer { bytes: u64::MAX, position: position(1000), ..offer } },
    ];
    for lie in lies {
        let refused = world.with(me, |log, now| log.on_packet(now, leader, &encode(&lie)));
        assert!(matches!(refused, Err(Refused::Impossible(_))), "{lie:?}: {refused:?}");
    }
    let after = world.nodes[&me].log.status();
    assert_eq!((after.term, after.committed, after.last), (before.term, before.committed, before.last));
    assert_eq!(after.refused, 13);
    world.run(ms(2000));
    world.assert_converged();
}

#[test]
fn a_leader_cannot_change_the_content_of_what_is_committed() {
    let (mut world, me, leader) = follower();
    let status = world.nodes[&me].log.status();
    // The same places with other contents, and something new behind them so that it is taken.
    let mut entries = vec![Entry::Term(status.term)];
    entries.extend((0..8).map(|_| Entry::Command(Bytes::from_static(b"forged"))));
    let packet = Packet::Append { term: status.term, commit: 0, prev: Position::default(), entries };
    world.with(me, |log, now| log.on_packet(now, leader, &encode(&packet))).unwrap();
    world.run(ms(300));
    let stored = &world.nodes[&me].stored;
    let forged = |entry: &&Entry| **entry == Entry::Command(Bytes::from_static(b"forged"));
    let committed = usize::try_from(status.committed.index).unwrap();
    assert_eq!(stored.entries[..committed].iter().filter(forged).count(), 0);
}

#[test]
fn strangers_are_not_heard() {
    let (mut world, me, _) = follower();
    let packet = encode(&Packet::Stand { term: 100, last: Position { term: 99, index: 99 } });
    assert_eq!(world.with(me, |log, now| log.on_packet(now, peer(9), &packet)), Err(Refused::Stranger));
    assert_eq!(world.with(me, |log, now| log.on_packet(now, me, &packet)), Err(Refused::Stranger));
    world.with(me, |log, _| log.admit([peer(9)]));
    assert_eq!(world.with(me, |log, now| log.on_packet(now, peer(9), &packet)), Ok(()));
}

fn position() -> impl Strategy<Value = Position> {
    (prop_oneof![0..6_u64, any::<u64>()], prop_oneof![0..30_u64, any::<u64>()])
        .prop_map(|(term, index)| Position { term, index })
}

fn members() -> impl Strategy<Value = Membership> {
    let set = || proptest::collection::btree_set((0..6_u8).prop_map(peer), 0..4);
    (set(), set(), set()).prop_map(|(voters, next_voters, learners)| Membership { voters, next_voters, learners })
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (0..8_u64).prop_map(Entry::Term),
        members().prop_map(Entry::Membership),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Entry::Command(bytes.into())),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let term = || prop_oneof![0..8_u64, any::<u64>()];
    prop_oneof![
        (term(), position()).prop_map(|(term, last)| Packet::Ask { term, last }),
        (term(), any::<bool>(), term()).prop_map(|(term, granted, current)| Packet::Answer { term, granted, current }),
        (term(), position()).prop_map(|(term, last)| Packet::Stand { term, last }),
        (term(), any::<bool>()).prop_map(|(term, granted)| Packet::Vote { term, granted }),
        (term(), 0..40_u64, position(), proptest::collection::vec(entry(), 0..12))
            .prop_map(|(term, commit, prev, entries)| Packet::Append { term, commit, prev, entries }),
        (term(), position()).prop_map(|(term, last)| Packet::Appended { term, last }),
        (term(), position(), members(), 0..100_000_u64).prop_map(|(term, position, membership, bytes)| {
            Packet::Offer { term, offer: Offer { position, membership, bytes, digest: [1; 32] } }
        }),
        (any::<u32>(), proptest::collection::vec(any::<u32>(), 0..30)).prop_map(|(piece_bytes, pieces)| {
            Packet::Want(Want { digest: super::super::digest(b""), piece_bytes, pieces })
        }),
        (0..20_u32, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..50)).prop_map(
            |(index, compressed, data)| {
                Packet::Piece(Piece { digest: [1; 32], index, compressed, data: data.into() })
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { ..ProptestConfig::default() })]

    #[test]
    fn packets_come_back_and_garbage_does_no_harm(packet in packet(), garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(decode(&encode(&packet)), Ok(packet.clone()));
        let _ = decode(&garbage);
        let mut damaged = encode(&packet).to_vec();
        for (place, byte) in garbage.iter().enumerate().take(3) {
            let at = (place * 7 + usize::from(*byte)) % damaged.len();
            damaged[at] ^= byte;
        }
        let _ = decode(&damaged);
    }

    /// Whatever one participant says to a leader or a follower: no panic, bounded, and what was committed stays.
    #[test]
    fn a_liar_undoes_nothing(lies in proptest::collection::vec((packet(), any::<bool>()), 1..40)) {
        let (mut world, me, leader) = follower();
        world.liar = true;
        let before = (world.nodes[&me].applied.clone(), world.nodes[&leader].applied.clone());
        for (lie, to_leader) in lies {
            let (from, to) = if to_leader { (me, leader) } else { (leader, me) };
            let _ = world.with(to, |log, now| log.on_packet(now, from, &encode(&lie)));
            world.with(to, |log, now| if let Some(at) = log.deadline() { log.on_timeout(at.max(now)) });
        }
        for (peer, before) in [(me, before.0), (leader, before.1)] {
            let node = &world.nodes[&peer];
            prop_assert_eq!(&node.applied[..before.len()], &before[..]);
            let mut again = Log::new(world.now, peer, node.stored.clone(), world.config.clone(), 1);
            prop_assert!(again.as_mut().is_ok());
        }
    }
}
