//! A participant that lies, and bytes that are none.

use proptest::prelude::*;

use super::super::super::state::transfer::{Piece, Want};
use super::super::super::terms::LEAP_MAX;
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
}

/// Somebody leads, and what it proposes is committed.
fn goes_on(world: &mut World) -> bool {
    (0..120).any(|n| {
        world.run(ms(500));
        let proposed =
            world.leader().and_then(|leader| Some((leader, world.propose(leader, &format!("goes on {n}")).ok()?)));
        world.run(ms(1000));
        proposed.is_some_and(|(leader, id)| world.nodes[&leader].log.fate(id) == Fate::Committed)
    })
}

#[test]
fn no_participant_uses_the_terms_up() {
    let (mut world, me, leader) = follower();
    world.liar = true;
    let liar = (1..=3).map(peer).find(|peer| ![me, leader].contains(peer)).unwrap();
    let far = wire::NUMBER_MAX - 1;
    for n in 0..2_000 {
        let (term, last) = (far, Position { term: far, index: 1 << 40 });
        let offer = Offer { position: last, membership: Membership::of((1..=3).map(peer)), bytes: 10, digest: [0; 32] };
        let asked = world.nodes[&me].log.status().term + 1;
        for lie in [
            Packet::Answer { term: asked, granted: false, current: far },
            Packet::Vote { term, granted: false },
            Packet::Stand { term, last },
            Packet::Append { term, commit: 0, prev: last, entries: vec![] },
            Packet::Appended { term, last },
            Packet::Offer { term, offer },
        ] {
            for to in [me, leader] {
                let _ = world.with(to, |log, now| log.on_packet(now, liar, &encode(&lie)));
            }
        }
        if n % 100 == 0 {
            world.run(ms(100));
        }
    }
    world.crash(liar);
    assert!(goes_on(&mut world), "two of three are enough");
    assert!(world.nodes[&me].log.status().term < LEAP_MAX * 200);
}

#[test]
fn a_log_that_a_leader_filled_with_what_is_not_committed_commits_again() {
    let (mut world, me, liar) = follower();
    world.liar = true;
    let third = world.nodes.keys().copied().find(|peer| *peer != me && *peer != liar).unwrap();
    let term = world.nodes[&me].log.status().term + 1;
    for to in [me, third] {
        let mut before = Position::default();
        while world.nodes[&to].log.status().last != before {
            before = world.nodes[&to].log.status().last;
            let entries = vec![Entry::Command(Bytes::from_static(b"never committed")); 20];
            let packet = Packet::Append { term, commit: 0, prev: before, entries };
            world.with(to, |log, now| log.on_packet(now, liar, &encode(&packet))).unwrap();
        }
        let status = world.nodes[&to].log.status();
        assert_eq!(status.last.index - status.snapshot.index, world.config.entries_max as u64);
    }
    world.crash(liar);
    assert!(goes_on(&mut world), "the two that do not lie are a majority");
}

#[test]
fn who_raises_terms_as_fast_as_it_may_leaves_the_others_theirs() {
    let (mut world, me, leader) = follower();
    world.liar = true;
    let liar = (1..=3).map(peer).find(|peer| ![me, leader].contains(peer)).unwrap();
    let last = world.nodes[&me].log.status().last;
    let append = |term| encode(&Packet::Append { term, commit: 0, prev: last, entries: vec![] });
    let next = |world: &World| world.nodes[&me].log.status().term + 1;
    let mut refused = None;
    for _ in 0..100 {
        let packet = append(next(&world));
        refused = world.with(me, |log, now| log.on_packet(now, liar, &packet)).err();
    }
    assert!(refused.is_some(), "terms rise too fast");
    let packet = append(next(&world));
    assert_eq!(world.with(me, |log, now| log.on_packet(now, leader, &packet)), Ok(()));
}

#[test]
fn an_answer_that_nobody_asked_for_deposes_nobody() {
    let (mut world, me, leader) = follower();
    let term = world.nodes[&leader].log.status().term;
    for lie in [
        Packet::Answer { term: term + 1, granted: false, current: term + 1 },
        Packet::Vote { term: term + 1, granted: false },
    ] {
        for to in [me, leader] {
            let from = if to == me { leader } else { me };
            world.with(to, |log, now| log.on_packet(now, from, &encode(&lie))).unwrap();
            assert_eq!(world.nodes[&to].log.status().term, term, "{lie:?}");
        }
    }
    assert!(world.nodes[&leader].log.is_leader());
}

#[test]
fn who_is_far_behind_comes_up_in_steps() {
    let mut world = World::new(3, 22);
    world.liar = true;
    let ahead = Stored { term: 40 * LEAP_MAX, ..Stored::new(Membership::of((1..=3).map(peer))) };
    world.start(peer(1), ahead.clone());
    world.start(peer(2), ahead);
    world.run(ms(4000));
    assert!(world.nodes[&peer(3)].log.status().term < 40 * LEAP_MAX);
    world.run(ms(20_000));
    assert!(goes_on(&mut world));
    world.run(ms(3000));
    world.assert_converged();
    assert!(world.nodes[&peer(3)].log.status().term > 40 * LEAP_MAX);
}

#[test]
fn a_leader_takes_nobody_out_against_whom_nothing_is_proven() {
    for proven in [false, true] {
        let (mut world, me, leader) = follower();
        let gone = (1..=3).map(peer).find(|peer| ![me, leader].contains(peer)).unwrap();
        for peer in [me, leader, gone] {
            world.with(peer, |log, _| log.loses_only(if proven { [gone].into() } else { BTreeSet::new() }));
        }
        let kept = BTreeSet::from([me, leader]);
        world.with(leader, |log, now| log.change_voters(now, kept.clone())).unwrap();
        world.run(ms(2000));
        let all = Membership::of([me, leader, gone]);
        let wanted = if proven { Membership::of(kept) } else { all };
        assert_eq!(world.nodes[&me].log.membership(), wanted);
        if !proven {
            // The proofs come later.
            world.with(me, |log, _| log.loses_only([gone].into()));
            world.with(gone, |log, _| log.loses_only([gone].into()));
            world.run(ms(2000));
            assert_eq!(world.nodes[&me].log.membership(), Membership::of([me, leader]));
        }
    }
}

/// The liar claims to lead, and that all the others are gone, or that others came.
#[test]
fn who_says_that_it_is_alone_is_not_believed() {
    for entries in 1..3 {
        let (mut world, me, leader) = follower();
        world.liar = true;
        let liar = (1..=3).map(peer).find(|peer| ![me, leader].contains(peer)).unwrap();
        for to in [me, leader] {
            world.with(to, |log, _| log.loses_only(BTreeSet::new()));
            let status = world.nodes[&to].log.status();
            let term = status.term + 1;
            let alone = [Membership::of([liar]), Membership::of((1..=6).map(peer))].map(Entry::Membership);
            let entries: Vec<Entry> = [Entry::Term(term)].into_iter().chain(alone.into_iter().take(entries)).collect();
            let packet = Packet::Append { term, commit: 1000, prev: status.last, entries };
            let _ = world.with(to, |log, now| log.on_packet(now, liar, &encode(&packet)));
            let membership = Membership::of([liar]);
            let position = Position { term, index: status.last.index + 50 };
            let offer = Packet::Offer { term, offer: Offer { position, membership, bytes: 1, digest: [1; 32] } };
            let refused = world.with(to, |log, now| log.on_packet(now, liar, &encode(&offer)));
            assert!(matches!(refused, Err(Refused::Impossible(_))), "{refused:?}");
        }
        for to in [me, leader] {
            assert_eq!(world.nodes[&to].log.membership(), Membership::of((1..=3).map(peer)));
        }
        world.crash(liar);
        assert!(goes_on(&mut world));
    }
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
        (1..=3).for_each(|n| world.with(peer(n), |log, _| log.loses_only(BTreeSet::new())));
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
        prop_assert!(goes_on(&mut world), "it still elects and commits");
    }
}
