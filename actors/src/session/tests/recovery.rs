//! The record of a link that died: dialled again, recovered by another one, or not.

use bowline_messages::link::LinkStep;

use bowline_messages::EndpointAddress;

use super::*;

/// The steps of a link, with the link that stands for it where one is named.
fn steps(world: &World, id: LinkId) -> Vec<(LinkState, LinkStep, LinkState, Option<LinkId>)> {
    let step = |event: &EventKind| {
        let EventKind::LinkStep { link, from, to, step, successor, .. } = event else { return None };
        (*link == id).then_some((*from, *step, *to, *successor))
    };
    world.ends[0].events.iter().filter_map(step).collect()
}

fn dead() -> (World, LinkId) {
    let mut world = World::new();
    let one = world.link(1, "tcp", 5 * MS, 0);
    world.link(2, "ws", 8 * MS, 0);
    world.run(50 * MS);
    world.reset(one);
    (world, one)
}

fn address(text: &str) -> EndpointAddress {
    text.parse().unwrap()
}

#[test]
fn a_dial_of_its_address_is_the_attempt_and_a_new_link_the_recovery() {
    let (mut world, one) = dead();
    let failed = world.ends[0].session.failed();
    assert_eq!((failed[0].info.id, failed[0].state, failed[0].attempts), (one, LinkState::Failed, 0));
    for _ in 0..2 {
        world.ends[0].session.on_dialling(&address("tcp://b"));
        world.ends[0].session.on_dialling(&address("tcp://b"));
        assert_eq!(world.ends[0].session.failed()[0].state, LinkState::Recovering);
        world.ends[0].session.on_dial_failed(&address("tcp://b"), "refused");
    }
    assert_eq!(world.ends[0].session.failed()[0].attempts, 2);
    world.ends[0].session.on_dialling(&address("ws://b"));
    world.ends[0].session.on_dialling(&address("tcp://elsewhere"));
    assert_eq!(world.ends[0].session.failed()[0].state, LinkState::Failed, "these lead elsewhere");
    world.ends[0].session.on_dialling(&address("tcp://b"));
    let again = world.link(3, "tcp", 5 * MS, 0);
    world.pump();
    let attempt = (LinkState::Failed, LinkStep::RecoveryAttempt, LinkState::Recovering, None);
    let missed = (LinkState::Recovering, LinkStep::RecoveryFailed, LinkState::Failed, None);
    let recovered = (LinkState::Recovering, LinkStep::Recovered, LinkState::Active, Some(again));
    assert_eq!(steps(&world, one)[2..], [attempt, missed, attempt, missed, attempt, recovered]);
    assert!(world.ends[0].session.failed().is_empty());
}

#[test]
fn the_side_that_is_dialled_sees_the_recovery_too() {
    let (mut world, one) = dead();
    let again = world.link(3, "tcp", 5 * MS, 0);
    world.pump();
    world.run(50 * MS);
    let recovered = |event: &EventKind| {
        matches!(event, EventKind::LinkStep { link, step: LinkStep::Recovered, successor, .. }
            if *link == one && *successor == Some(again))
    };
    assert!(world.ends.iter().all(|end| end.events.iter().any(recovered)));
}

#[test]
fn what_was_closed_on_purpose_or_stands_over_another_link_has_no_record() {
    let mut world = World::new();
    let (one, two) = (world.link(1, "tcp", 5 * MS, 0), world.link(2, "ws", 8 * MS, 0));
    world.run(50 * MS);
    let now = world.now;
    let on_purpose = LinkFailure::ClosedHere("by hand".into());
    world.ends[0].with(|s, parts| s.on_link_down(now, two, on_purpose, parts));
    assert!(world.ends[0].session.failed().is_empty());
    let failed = LinkFailure::Transport("reset".into());
    world.ends[0].with(|s, parts| s.on_link_down(now, one, failed, parts));
    assert_eq!(world.ends[0].session.failed().len(), 1);
}

#[test]
fn links_that_die_again_and_again_leave_a_bounded_number_of_records() {
    let mut world = World::new();
    for number in 1..200 {
        let id = world.link(number, &format!("t{number}"), 5 * MS, 0);
        world.pump();
        world.reset(id);
    }
    assert_eq!(world.ends[0].session.failed().len(), 64);
}
