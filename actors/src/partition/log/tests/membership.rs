//! Participants come and go through the log.

use std::collections::BTreeSet;

use super::world::{World, ms, peer};
use super::*;

fn stored_of(world: &World) -> Stored {
    // A new node begins with who takes part now, and does not itself.
    Stored::new(world.nodes[&peer(1)].log.membership())
}

#[test]
fn a_new_participant_learns_then_votes_and_an_old_one_leaves() {
    let mut world = World::new(3, 11);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    for n in 0..60 {
        world.propose(leader, &n.to_string()).unwrap();
        world.run(ms(10));
    }
    let stored = stored_of(&world);
    world.start(peer(4), stored);
    world.with(leader, |log, now| log.change_learners(now, BTreeSet::from([peer(4)]))).unwrap();
    world.run(ms(3000));
    world.assert_converged();
    let gone = (1..=3).map(peer).find(|peer| *peer != leader).unwrap();
    let voters: BTreeSet<_> = (1..=4).map(peer).filter(|peer| *peer != gone).collect();
    world.with(leader, |log, now| log.change_voters(now, voters.clone())).unwrap();
    assert_eq!(
        world.with(leader, |log, now| log.change_voters(now, (1..=4).map(peer).collect())),
        Err(ProposeError::Changing)
    );
    world.run(ms(3000));
    assert_eq!(world.nodes[&peer(4)].members, Some(Membership::of(voters)));
    // Without the one that left, two of three are a majority, the new one included.
    world.crash(gone);
    let third = (1..=3).map(peer).find(|peer| *peer != leader && *peer != gone).unwrap();
    world.crash(third);
    let id = world.propose(leader, "by two").unwrap();
    world.run(ms(2000));
    assert_eq!(world.nodes[&leader].log.fate(id), Fate::Committed);
}

#[test]
fn a_leader_that_is_taken_out_goes_when_it_is_through() {
    let mut world = World::new(4, 12);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    let voters: BTreeSet<_> = (1..=4).map(peer).filter(|peer| *peer != leader).collect();
    world.with(leader, |log, now| log.change_voters(now, voters.clone())).unwrap();
    world.run(ms(8000));
    let next = world.leader().unwrap();
    assert_ne!(next, leader);
    assert_eq!(world.nodes[&next].log.membership(), Membership::of(voters));
    world.propose(next, "x").unwrap();
    world.run(ms(20_000));
    assert_eq!(world.leader(), Some(next), "the one that left disturbs nobody");
    assert_eq!(world.committed.len(), 1);
}

#[test]
fn participants_that_cannot_be_are_refused() {
    let mut world = World::new(3, 13);
    world.run(ms(4000));
    let leader = world.leader().unwrap();
    let all = |count: u8| (1..=count).map(peer).collect::<BTreeSet<_>>();
    let mut change = |voters| world.with(leader, |log, now| log.change_voters(now, voters));
    assert_eq!(change(all(0)), Err(ProposeError::Participants));
    assert_eq!(change(all(3)), Err(ProposeError::Participants));
    assert_eq!(change(all(100)), Err(ProposeError::Participants));
    let voter = BTreeSet::from([peer(2)]);
    let learner = world.with(leader, |log, now| log.change_learners(now, voter));
    assert_eq!(learner, Err(ProposeError::Participants));
}
