//! States that came apart become one, and what was committed stays.
#![allow(clippy::unwrap_used)]
#![allow(clippy::wildcard_enum_match_arm, reason = "tests look for one variant")]

mod adversary;
mod sheet;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::choice::choose;
use super::clock::ClockFull;
use super::*;
use sheet::{Room, at, ms, peer};

/// Five nodes with three committed lines each. 1, 2, 3 were on one side and committed two more; 4 and 5 have a line that was never committed.
fn split(seed: u64) -> Room {
    let mut room = Room::new(5, seed);
    for number in 1..=5 {
        for index in 1..=3 {
            room.sheet(number).commit(at(1, index), &format!("{index} {}", "x".repeat(700)));
        }
    }
    for number in 1..=3 {
        room.sheet(number).commit(at(2, 5), "4");
        room.sheet(number).commit(at(2, 6), "5");
    }
    for number in 4..=5 {
        room.sheet(number).change(peer(4), "hope");
    }
    room
}

#[test]
fn the_losing_side_takes_the_committed_state_and_proposes_what_it_had_hoped_for() {
    for (seed, loss) in [(1, 0.0), (2, 0.3)] {
        let mut room = split(seed);
        room.loss = loss;
        room.start();
        room.run(ms(8000));
        let done = room.outcomes().unwrap();
        let expected: BTreeMap<_, _> =
            (1..=5).map(|number| (peer(number), if number <= 3 { Outcome::Same } else { Outcome::Adopted })).collect();
        assert_eq!(done, expected);
        let states: Vec<Bytes> = room.nodes.values().map(|(_, sheet)| sheet.snapshot()).collect();
        assert!(states.iter().all(|state| *state == states[0]));
        assert_eq!(room.proposals(), ["hope", "hope"], "of each that had it");
    }
}

#[test]
fn of_what_was_never_committed_the_longer_history_counts() {
    let mut room = Room::new(5, 3);
    (1..=2).for_each(|number| room.sheet(number).change(peer(1), "a"));
    for number in 3..=4 {
        room.sheet(number).change(peer(3), "b");
        room.sheet(number).change(peer(3), "c");
    }
    room.start();
    room.run(ms(3000));
    for (_, sheet) in room.nodes.values() {
        assert_eq!(sheet.open(), ["b", "c"]);
    }
    assert_eq!(room.proposals(), ["a", "a"]);
}

#[test]
fn the_choice_goes_by_commit_then_descent_then_changes_then_side() {
    let clock = |peers: &[u8]| {
        let mut clock = VectorClock::default();
        peers.iter().for_each(|number| clock.tick(peer(*number), 9).unwrap());
        clock
    };
    let summary = |committed, sequence, side, of: &[u8], digest| Summary {
        version: Version { committed, committed_digest: [0; 32], sequence, clock: clock(of) },
        bytes: 1,
        digest: [digest; 32],
        side,
    };
    let chosen = |list: Vec<Summary>| choose(&(1..).map(peer).zip(list).collect());
    assert_eq!(chosen(vec![]), None);
    // More sequence and a larger side count nothing against a later term or index.
    let list =
        vec![summary(at(2, 9), 1, 1, &[], 1), summary(at(1, 99), 500, 4, &[1], 2), summary(at(2, 8), 9, 4, &[], 3)];
    assert_eq!(chosen(list), Some(peer(1)));
    // A state that the other came from is stale, whatever it says of its changes.
    let list = vec![summary(at(1, 1), 9, 4, &[1], 1), summary(at(1, 1), 3, 1, &[1, 2], 2)];
    assert_eq!(chosen(list), Some(peer(2)));
    let list = vec![summary(at(1, 1), 3, 4, &[1], 1), summary(at(1, 1), 4, 1, &[2], 2)];
    assert_eq!(chosen(list), Some(peer(2)));
    let list = vec![summary(at(1, 1), 3, 1, &[1], 1), summary(at(1, 1), 3, 2, &[2], 0)];
    assert_eq!(chosen(list), Some(peer(2)));
    let list =
        vec![summary(at(1, 1), 3, 2, &[1], 1), summary(at(1, 1), 3, 2, &[2], 2), summary(at(1, 1), 3, 2, &[2], 2)];
    assert_eq!(chosen(list), Some(peer(2)));
}

#[test]
fn a_failure_to_take_over_goes_back_and_is_tried_again() {
    let mut room = split(4);
    room.sheet(4).apply_fails = 1;
    room.sheet(5).apply_fails = 99;
    let before = room.sheet(5).snapshot();
    room.start();
    room.run(ms(8000));
    let done = room.outcomes().unwrap();
    assert_eq!(done[&peer(5)], Outcome::RolledBack);
    assert_eq!(room.sheet(4).snapshot(), room.sheet(1).snapshot());
    assert_eq!(room.sheet(5).snapshot(), before);
    assert_eq!(room.rollback(5), Some(RollbackReason::Apply("not today".to_owned())));
}

#[test]
fn a_state_that_becomes_something_else_is_given_up() {
    let mut room = split(5);
    room.sheet(5).becomes_else = true;
    let before = room.sheet(5).snapshot();
    room.start();
    room.run(ms(8000));
    assert_eq!(room.rollback(5), Some(RollbackReason::Different));
    assert_eq!(room.sheet(5).snapshot(), before);
    assert_eq!(room.sheet(4).snapshot(), room.sheet(1).snapshot());
}

#[test]
fn when_going_back_fails_too_it_is_said() {
    let mut room = split(6);
    room.sheet(5).apply_fails = 99;
    room.sheet(5).restore_fails = true;
    room.start();
    room.run(ms(8000));
    assert_eq!(room.rollback(5), Some(RollbackReason::InDoubt("the disk is full".to_owned())));
}

#[test]
fn pieces_damaged_on_their_way_change_nothing() {
    let mut room = split(7);
    room.damages = Some(peer(1));
    let before = room.sheet(5).snapshot();
    room.start();
    room.run(ms(8000));
    assert_eq!(room.rollback(5), Some(RollbackReason::Transfer(transfer::TransferError::Damaged)));
    assert_eq!(room.sheet(5).snapshot(), before);
}

#[test]
fn a_majority_is_enough_and_less_is_not() {
    let mut room = split(8);
    room.away = [peer(2), peer(5)].into();
    room.start();
    room.run(ms(40_000));
    assert_eq!(room.outcomes().unwrap().len(), 3);
    let mut room = split(8);
    room.away = [peer(2), peer(3), peer(5)].into();
    let round = room.start();
    room.run(ms(40_000));
    let failed = ResolutionOutput::Failed { round, reason: ResolutionError::NoMajority };
    assert!(room.outputs.contains(&(peer(1), failed)));
    // Who seeks one asks again and again.
    room.nodes.get_mut(&peer(1)).unwrap().0.seek_at = None;
    room.run(ms(40_000));
    assert!(!room.nodes[&peer(1)].0.is_coordinating());
    assert_eq!(room.nodes[&peer(4)].0.deadline(), None, "nothing is kept for a leader that went silent");
}

#[test]
fn a_node_that_the_log_brought_further_is_not_set_back() {
    let mut room = split(9);
    room.start();
    room.run(ms(90));
    // Before the choice reaches it, the log does.
    room.sheet(4).commit(at(2, 5), "4");
    room.sheet(4).commit(at(2, 6), "5");
    room.sheet(4).commit(at(2, 7), "6");
    let committed = room.sheet(4).committed().to_vec();
    room.run(ms(8000));
    assert_eq!(room.sheet(4).committed()[..committed.len()], committed[..]);
    assert!(room.outcomes().is_some());
}

#[test]
fn whoever_seeks_a_resolution_gets_one_whatever_is_lost() {
    for seed in 0..20 {
        let mut room = split(seed);
        room.loss = 0.3;
        room.seek(4);
        room.run(ms(30));
        room.seek(5);
        room.run(ms(10_000));
        for number in 4..=5 {
            let over = room.outputs.iter().find(|(of, output)| {
                *of == peer(number) && matches!(output, ResolutionOutput::Resolved { outcome: Some(_), .. })
            });
            assert!(over.is_some(), "seed {seed}: node {number}");
        }
        let leader = room.sheet(1).committed().to_vec();
        assert_eq!(room.sheet(4).committed(), leader);
        assert!(room.nodes.values().all(|(resolution, _)| !resolution.is_coordinating()), "it comes to an end");
    }
}

#[test]
fn another_leader_ends_it_and_who_does_not_lead_starts_nothing() {
    let mut room = split(10);
    let round = room.start();
    let (resolution, _) = room.nodes.get_mut(&peer(1)).unwrap();
    resolution.on_leader(4, Some(peer(2)));
    room.pump(peer(1));
    assert_eq!(room.give(peer(1), peer(3), &encode(&Packet::Seek)), Err(Refused::Fenced));
    let failed = ResolutionOutput::Failed { round, reason: ResolutionError::Superseded };
    assert!(room.outputs.contains(&(peer(1), failed)));
}

fn any_clock() -> impl Strategy<Value = VectorClock> {
    proptest::collection::vec(0..4_u8, 0..12).prop_map(|ticks| {
        let mut clock = VectorClock::default();
        ticks.into_iter().for_each(|number| clock.tick(peer(number), 9).unwrap());
        clock
    })
}

#[test]
fn clocks_are_bounded() {
    let mut clock = VectorClock::default();
    (0..4).for_each(|number| clock.tick(peer(number), 4).unwrap());
    assert_eq!(clock.tick(peer(9), 4), Err(ClockFull(4)));
    assert_eq!((clock.len(), clock.of(&peer(9))), (4, 0));
    clock.tick(peer(0), 4).unwrap();
}

proptest! {
    #[test]
    fn clocks_tell_stale_from_concurrent(a in any_clock(), b in any_clock()) {
        let mut both = VectorClock::default();
        for peer in (0..4).map(peer) {
            (0..a.of(&peer).max(b.of(&peer))).for_each(|_| both.tick(peer, 9).unwrap());
        }
        prop_assert!(matches!(a.relation(&both), Relation::Before | Relation::Equal));
        prop_assert!(matches!(b.relation(&both), Relation::Before | Relation::Equal));
        let opposite = match a.relation(&b) {
            Relation::Before => Relation::After,
            Relation::After => Relation::Before,
            same => same,
        };
        prop_assert_eq!(b.relation(&a), opposite);
        prop_assert_eq!(a.relation(&b) == Relation::Concurrent, a.partial_cmp(&b).is_none());
        let back: VectorClock = postcard::from_bytes(&postcard::to_allocvec(&a).unwrap()).unwrap();
        prop_assert_eq!(back, a);
    }

    /// Whatever the order in which it is asked, all choose the same.
    #[test]
    fn a_choice_is_never_less_than_what_anybody_committed(
        states in proptest::collection::vec((0..3_u64, 0..4_u64, 0..4_u64, 0..3_u16, any_clock()), 1..7),
    ) {
        let said: BTreeMap<PeerId, Summary> = (1..).map(peer).zip(states.into_iter().map(|(term, index, sequence, side, clock)| {
            let version = Version { committed: at(term, index), committed_digest: [0; 32], sequence, clock };
            Summary { version, bytes: 1, digest: [side as u8; 32], side }
        })).collect();
        let chosen = &said[&choose(&said).unwrap()];
        for summary in said.values() {
            prop_assert!(chosen.version.committed >= summary.version.committed);
            let newer = chosen.version.clock.relation(&summary.version.clock) == Relation::Before;
            prop_assert!(!newer || chosen.version.committed > summary.version.committed);
        }
    }
}
