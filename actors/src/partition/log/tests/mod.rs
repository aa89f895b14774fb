//! What the log promises, on a network that keeps no promise.
#![allow(clippy::unwrap_used)]

mod adversary;
mod membership;
mod world;

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::RngExt as _;

use super::*;
use world::{Fate, World, ms, peer};

#[test]
fn one_leads_and_what_it_proposes_is_committed_everywhere() {
    let mut world = World::new(5, 1);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    let id = world.propose(leader, "bet 5").unwrap();
    world.run(ms(1000));
    world.assert_converged();
    assert_eq!(world.committed[&id.index], (id.term, Bytes::from_static(b"bet 5")));
    let other = world.nodes.keys().copied().find(|peer| *peer != leader).unwrap();
    assert_eq!(world.propose(other, "x"), Err(ProposeError::NotLeader { hint: Some(leader) }));
    assert_eq!(world.nodes[&leader].log.fate(id), Fate::Committed);
}

#[test]
fn a_minority_commits_nothing_steps_down_and_catches_up() {
    let mut world = World::new(5, 2);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    let number = leader.as_bytes()[0];
    world.cut_off(&[number, number % 5 + 1]);
    let lost = world.propose(leader, "never").unwrap();
    world.run(ms(5000));
    assert!(!world.nodes[&leader].log.is_leader(), "it hears no majority");
    let next = world.leader().expect("the majority has a leader");
    world.propose(next, "counts").unwrap();
    world.run(ms(1000));
    assert_eq!(world.committed.len(), 1);
    world.cut.clear();
    world.run(ms(5000));
    world.assert_converged();
    assert_eq!(world.nodes[&leader].log.fate(lost), Fate::Lost);
}

#[test]
fn a_node_that_cannot_hear_the_leader_disturbs_nobody() {
    let mut world = World::new(5, 3);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    let term = world.nodes[&leader].log.status().term;
    let deaf = world.nodes.keys().copied().find(|peer| *peer != leader).unwrap();
    world.cut.insert((leader, deaf));
    world.run(ms(20_000));
    assert_eq!((world.leader(), world.nodes[&leader].log.status().term), (Some(leader), term));
    world.cut.clear();
    world.run(ms(5_000));
    assert_eq!((world.leader(), world.nodes[&leader].log.status().term), (Some(leader), term), "nor when it is back");
}

#[test]
fn a_leader_that_is_heard_and_hears_nobody_makes_room() {
    let mut world = World::new(5, 4);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    for other in world.nodes.keys().copied().collect::<Vec<_>>() {
        world.cut.insert((other, leader));
    }
    world.run(ms(6000));
    let next = world.leader().unwrap();
    assert_ne!(next, leader);
    world.propose(next, "goes on").unwrap();
    world.run(ms(1000));
    assert_eq!(world.committed.len(), 1);
}

#[test]
fn who_fell_behind_the_log_gets_the_snapshot() {
    let mut world = World::new(3, 5);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    let behind = world.nodes.keys().copied().find(|peer| *peer != leader).unwrap();
    world.crash(behind);
    let text = "x".repeat(700);
    for n in 0..300 {
        world.propose(leader, &format!("{n} {text}")).unwrap();
        world.run(ms(20));
    }
    let status = world.nodes[&leader].log.status();
    assert!(status.snapshot.index > 200, "{status:?}");
    world.loss = 0.1;
    world.restart(behind);
    world.run(ms(20_000));
    assert!(world.nodes[&behind].log.status().snapshot.index > 200);
    world.assert_converged();
    // It survives the next crash, too.
    world.crash(behind);
    world.restart(behind);
    world.run(ms(5000));
    world.assert_converged();
}

/// Each of its answers shows that it is behind; the entries it lacks are sent once, and not with each of these.
#[test]
fn who_catches_up_over_a_slow_way_is_not_sent_the_same_again_and_again() {
    // It is to catch up by entries.
    let mut world = World::with_config(3, 7, |config| (config.snapshot_after, config.entries_max) = (1000, 4000));
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    let behind = world.nodes.keys().copied().find(|peer| *peer != leader).unwrap();
    world.crash(behind);
    let text = "x".repeat(100);
    let mut written = 0;
    let mut write = |world: &mut World, times: usize| {
        for _ in 0..times {
            world.propose(leader, &text).unwrap();
            written += text.len();
            world.run(ms(25));
        }
    };
    write(&mut world, 60);
    world.slow.insert(behind, ms(400));
    world.restart(behind);
    world.bytes_to.clear();
    write(&mut world, 240);
    world.run(ms(4000));
    world.assert_converged();
    let sent = world.bytes_to[&behind];
    assert!(sent < written * 5, "{sent} bytes were sent for {written}");
}

#[test]
fn a_log_without_a_majority_grows_only_to_its_bound() {
    let mut world = World::new(3, 6);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    world.cut_off(&[leader.as_bytes()[0]]);
    let refused = (0..1000).find_map(|n| world.propose(leader, &n.to_string()).err());
    assert_eq!(refused, Some(ProposeError::Full));
    let large = vec![0; world.config.entry_bytes_max as usize + 1];
    let refused = world.with(leader, |log, now| log.propose(now, large.into()));
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })));
    world.cut.clear();
    world.run(ms(8000));
    world.assert_converged();
}

/// Splits, crashes, losses and slow media for a while; then all is well, and everything that anybody saw committed is there.
fn ordeal(seed: u64) -> blake3::Hash {
    let mut world = World::new(5, seed);
    world.loss = 0.05;
    let mut proposed = 0;
    for _ in 0..60 {
        match world.rng.random_range(0..8) {
            0 => world.cut.clear(),
            1 => {
                let side: Vec<u8> = (1..=5).filter(|_| world.rng.random_bool(0.5)).collect();
                world.cut_off(&side);
            }
            2 => {
                let (a, b) = (world.rng.random_range(1..=5), world.rng.random_range(1..=5));
                world.cut.insert((peer(a), peer(b)));
            }
            3 => {
                let who = peer(world.rng.random_range(1..=5));
                world.crash(who);
            }
            4 => {
                let down: Vec<PeerId> =
                    world.nodes.iter().filter(|(_, node)| !node.up).map(|(peer, _)| *peer).collect();
                down.into_iter().for_each(|peer| world.restart(peer));
            }
            5 => world.disk = ms(world.rng.random_range(0..200)),
            _ => {}
        }
        for _ in 0..10 {
            let to = world.leader().unwrap_or(peer(1));
            if world.nodes[&to].up {
                proposed += u32::from(world.propose(to, &format!("entry {proposed}")).is_ok());
            }
            let pause = world.rng.random_range(0..200);
            world.run(ms(pause));
        }
    }
    world.cut.clear();
    (world.loss, world.disk) = (0.0, ms(1));
    let down: Vec<PeerId> = world.nodes.iter().filter(|(_, node)| !node.up).map(|(peer, _)| *peer).collect();
    down.into_iter().for_each(|peer| world.restart(peer));
    world.run(ms(10_000));
    let leader = world.leader().expect("somebody leads again");
    world.propose(leader, "the end").unwrap();
    world.run(ms(2000));
    world.assert_converged();
    assert!(world.committed.len() > 20, "seed {seed}: {} of {proposed}", world.committed.len());
    world.trace.finalize()
}

#[test]
fn nothing_committed_is_lost_whatever_happens() {
    for seed in 0..30 {
        ordeal(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(ordeal(7), ordeal(7));
    assert_ne!(ordeal(7), ordeal(8));
}

#[test]
fn what_was_stored_and_cannot_be_is_refused() {
    let config = PartitionLogConfig::default();
    let sound = Stored::new(Membership::of([peer(1), peer(2)]));
    let with = |change: fn(&mut Stored)| {
        let mut stored = sound.clone();
        change(&mut stored);
        Log::new(Instant::now(), peer(1), stored, config.clone(), 0).err()
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(with(|stored| stored.entries = vec![Entry::Term(9)]), Some(StoredError::Unsound));
    assert_eq!(with(|stored| stored.snapshot.membership.voters = BTreeSet::new()), Some(StoredError::Unsound));
    assert_eq!(with(|stored| stored.term = u64::MAX), Some(StoredError::Unsound));
    let mut stored = sound.clone();
    let gap = Persist::Append { prev: Position { term: 1, index: 1 }, entries: vec![] };
    assert_eq!(stored.apply(gap), Err(StoredError::Gap));
    assert_eq!(Persist::decode(&[9, 9]), Err(StoredError::Malformed));
}
